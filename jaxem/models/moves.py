"""How states of a chain follow one another: rows of shares, the same at each step, or gates that look at covariates."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxem import constraints
from jaxem.constraints import Constraint
from jaxem.families.priors import log_dirichlet
from jaxem.model import Family, PyTree
from jaxem.numerics import log_share, weighted_log

Concentration = float | tuple[Any, ...] | None


class Moves(NamedTuple):
    """What a structure needs of its transitions.

    look               (transition, covariates) -> log p(z_t | z_t-1), (k, k) or (s, k, k), and from moves to statistics
    m_step             (transition, statistics) -> transition
    expected_log_prob  (transition, statistics) -> ()
    begin              (T (k, k), covariates, weights of steps (s,)) -> transition like T
    """

    look: Callable[[PyTree, PyTree], tuple[Array, Callable[[Array], PyTree]]]
    m_step: Callable[[PyTree, PyTree], PyTree]
    expected_log_prob: Callable[[PyTree, PyTree], Array]
    begin: Callable[[Array, PyTree, Array], PyTree]
    constraints: PyTree
    log_prior: Callable[[PyTree], Array] | None = None
    degenerate: Callable[[PyTree, PyTree], Array] | None = None


def of_shares(concentration: Concentration) -> Moves:
    """Return moves by rows of shares (k, k), whose statistics are expected numbers of moves (k, k)."""
    return Moves(
        look=lambda transition, covariates: (log_share(transition), lambda moved: moved.sum(0)),
        m_step=lambda transition, moved: mode(transition, moved, concentration),
        expected_log_prob=lambda transition, moved: weighted_log(moved, transition).sum(),
        begin=lambda transition, covariates, weights: transition,
        constraints=constraints.on_axes(constraints.simplex, (0, 1)),
        log_prior=None if concentration is None else lambda transition: log_prior_of(transition, concentration),
    )


def of_gate(gate: Family) -> Moves:
    """Return moves by gates, params stacked along an axis of the states that steps come from; so are statistics."""

    def look(transition: PyTree, covariates: PyTree) -> tuple[Array, Callable[[Array], PyTree]]:
        log_prob = jax.vmap(lambda params: gate.evaluate(params, covariates)[0])(transition)

        def statistics(moved: Array) -> PyTree:
            """Take moves (n, t - 1, k, k), none of which leads to a first step."""
            shares = jnp.pad(moved, ((0, 0), (1, 0), (0, 0), (0, 0))).reshape(-1, *moved.shape[2:])
            per_state = jax.vmap(lambda params, shares: gate.evaluate(params, covariates)[1](shares))
            return per_state(transition, jnp.moveaxis(shares, 1, 0))

        return jnp.moveaxis(log_prob, 0, 1), statistics

    def begin(transition: Array, covariates: PyTree, weights: Array) -> PyTree:
        return jax.vmap(lambda shares: gate.init(covariates, weights[:, None] * shares[None]))(transition)

    def stacked(constraint: Constraint) -> Constraint:
        return constraints.on_axes(constraint, (0, *(axis + 1 for axis in constraint.component_axes)))

    log_prior, degenerate = gate.log_prior, gate.degenerate
    return Moves(
        look=look,
        m_step=jax.vmap(gate.m_step),
        expected_log_prob=lambda transition, stats: jax.vmap(gate.expected_log_prob)(transition, stats).sum(),
        begin=begin,
        constraints=jax.tree.map(stacked, gate.constraints, is_leaf=constraints.is_constraint),
        log_prior=log_prior and (lambda transition: jax.vmap(log_prior)(transition).sum()),
        degenerate=degenerate and (lambda transition, stats: jax.vmap(degenerate)(transition, stats).any()),
    )


def mode(shares: Array, counts: Array, concentration: Concentration) -> Array:
    """Return the most probable shares (..., k) given counts: zeros stay zero, rows without counts as they were."""
    more = 0 if concentration is None else _spread(concentration, shares) - 1
    counts = jnp.where(shares > 0, counts + more, 0)
    total = counts.sum(-1, keepdims=True)
    return jnp.where(total > 0, counts / jnp.where(total > 0, total, 1), shares)


def log_prior_of(shares: Array, concentration: Concentration) -> Array:
    """Return Σ log p(q) over rows of shares, for those that are present."""
    alpha = _spread(concentration, shares)
    return log_dirichlet(alpha, shares, (shares > 0) | (alpha == 1))


def _spread(concentration: Concentration, shares: Array) -> Array:
    alpha = jnp.asarray(concentration, shares.dtype)
    return jnp.broadcast_to(alpha.reshape((1,) * (shares.ndim - alpha.ndim) + alpha.shape), shares.shape)


def checked_concentration(name: str, value: Any, num_states: int, rank: int) -> Concentration:
    """Return a concentration that has a hash, one number where all are the same and None where all are one.

    Raises ValueError for what is no number ≥ 1, one for each state or, of rank 2, (k, k).
    """
    alpha = np.asarray(value)
    shapes = [(num_states,) * ndim for ndim in range(rank + 1)]
    if alpha.dtype.kind not in "iuf" or alpha.shape not in shapes or not ((1 <= alpha) & (alpha < np.inf)).all():
        raise ValueError(
            f"{name} must be a number ≥ 1, or an array of them of shape {' or '.join(map(str, shapes[1:]))}, got "
            f"{str(value)!r}: below one the density has no mode, as it is infinite where a share is zero."
        )
    if (alpha == 1).all():
        return None
    numbers = alpha.astype(float)
    return float(numbers.flat[0]) if (numbers == numbers.flat[0]).all() else _nested(numbers)


def _nested(numbers: np.ndarray) -> tuple[Any, ...]:
    return tuple(map(tuple, numbers.tolist())) if numbers.ndim == 2 else tuple(numbers.tolist())


def treats_alike(concentration: Concentration) -> bool:
    """Tell whether a concentration says the same of all states, as where only staying differs from moving."""
    alpha = np.asarray(1.0 if concentration is None else concentration)
    if alpha.ndim < 2:
        return alpha.ndim == 0
    return all(len(np.unique(alpha[np.eye(len(alpha), dtype=bool) == stays])) <= 1 for stays in (True, False))


def sticky(key: Array, num_states: int, dtype: Any) -> Array:
    """Return random transitions (k, k) that stay with probability one half to nearly one, and else go anywhere."""
    key_stay, key_go = jax.random.split(key)
    stay = jax.random.uniform(key_stay, (num_states, 1), dtype, 0.5, 0.98)
    go = jax.random.dirichlet(key_go, jnp.ones(num_states, dtype), (num_states,), dtype)
    return stay * jnp.eye(num_states, dtype=dtype) + (1 - stay) * go


def walks(key: Array, log_initial: Array, log_transition: Array, shape: tuple[int, int]) -> Array:
    """Return states (n, t) of n chains, by log p(z_t | z_t-1) of shape (k, k) or (n, t, k, k)."""
    keys = jax.random.split(key, shape[1])
    each = jnp.moveaxis(log_transition, 1, 0)[1:] if log_transition.ndim == 4 else None
    first = jax.random.categorical(keys[0], log_initial, shape=shape[:1])

    def step(states: Array, given: Any) -> tuple[Array, Array]:
        key, moves = given
        rows = log_transition[states] if moves is None else jnp.take_along_axis(moves, states[:, None, None], 1)[:, 0]
        states = jax.random.categorical(key, rows)
        return states, states

    _, later = lax.scan(step, first, (keys[1:], each))
    return jnp.concatenate([first[:, None], later.T], 1)
