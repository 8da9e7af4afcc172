"""The domain of a parameter, declared once.

A `Constraint` is a pair of smooth maps between a parameter's domain and unconstrained space. Gradient M-steps, the domain
test of accelerated steps, the number of free parameters and gradient checks all read the same declaration: a pytree of
constraints shaped like the parameters, in which one constraint may stand for a whole subtree.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

PyTree = Any


class Constraint(NamedTuple):
    """A domain and its chart.

    `constrain` maps unconstrained arrays onto the domain and `unconstrain` back; `contains` tells whether an array lies in
    the closed domain (a scalar bool, usable inside jit); `num_free` counts the free parameters in an array from its shape.
    `mend` takes an array that `contains` lets pass to the domain itself, where rounding has left it a little outside.
    """

    name: str
    constrain: Callable[[Array], Array]
    unconstrain: Callable[[Array], Array]
    contains: Callable[[Array], Array]
    num_free: Callable[[tuple[int, ...]], int]
    mend: Callable[[Array], Array] = lambda x: x


def _size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)


def _rows(shape: tuple[int, ...], trailing: int) -> int:
    return _size(shape[: len(shape) - trailing])


def _is_finite(x: Array) -> Array:
    return jnp.all(jnp.isfinite(x))


real = Constraint("real", lambda u: u, lambda x: x, _is_finite, _size)

positive = Constraint("positive", jnp.exp, jnp.log, lambda x: _is_finite(x) & jnp.all(x > 0), _size)

non_negative = Constraint("non-negative", jnp.exp, jnp.log, lambda x: _is_finite(x) & jnp.all(x >= 0), _size)


@lru_cache
def interval(low: float, high: float) -> Constraint:
    """Return the bounded interval [low, high]: x = low + (high - low) / (1 + e^-u).

    Raises ValueError unless low < high.
    """
    if not low < high:
        raise ValueError(f"interval(low, high) needs low < high, got ({low}, {high}).")
    return Constraint(
        f"in [{low}, {high}]",
        lambda u: low + (high - low) * jax.nn.sigmoid(u),
        lambda x: jnp.log(x - low) - jnp.log(high - x),
        lambda x: jnp.all((x >= low) & (x <= high)),
        _size,
    )


def _to_simplex(u: Array) -> Array:
    return jax.nn.softmax(jnp.concatenate([u, jnp.zeros_like(u, shape=(*u.shape[:-1], 1))], axis=-1), axis=-1)


def _from_simplex(p: Array) -> Array:
    """Take logarithms against the last entry; an entry that is zero counts as the least positive number."""
    log_p = jnp.where(p >= 0, jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny)), jnp.nan)
    return log_p[..., :-1] - log_p[..., -1:]


def _in_simplex(p: Array) -> Array:
    slack = 16 * p.shape[-1] * float(jnp.finfo(jnp.float32).eps)  # in float64 too: starts are written in few digits
    return jnp.all(p >= 0) & jnp.all(jnp.abs(p.sum(-1) - 1) <= slack)


simplex = Constraint(
    "on the simplex (non-negative, last axis summing to one)",
    _to_simplex,
    _from_simplex,
    _in_simplex,
    lambda shape: _rows(shape, 1) * (shape[-1] - 1),
    mend=lambda p: p / p.sum(-1, keepdims=True),
)


def _to_positive_definite(u: Array) -> Array:
    dim = int((2 * u.shape[-1]) ** 0.5)
    lower = jnp.zeros_like(u, shape=(*u.shape[:-1], dim, dim)).at[..., *jnp.tril_indices(dim)].set(u)
    diagonal = jnp.eye(dim, dtype=bool)
    factor = jnp.where(diagonal, jnp.exp(jnp.where(diagonal, lower, 0)), lower)
    return jnp.matmul(factor, factor.mT, precision="highest")


def _from_positive_definite(x: Array) -> Array:
    dim = x.shape[-1]
    factor = jnp.linalg.cholesky(x)
    diagonal = jnp.eye(dim, dtype=bool)
    logged = jnp.where(diagonal, jnp.log(jnp.where(diagonal, factor, 1)), factor)
    return logged[..., *jnp.tril_indices(dim)]


def _is_positive_definite(x: Array) -> Array:
    slack = 64 * jnp.finfo(x.dtype).eps * jnp.abs(x).max()
    return jnp.all(jnp.abs(x - x.mT) <= slack) & _is_finite(jnp.linalg.cholesky(x))


positive_definite = Constraint(
    "positive definite",
    _to_positive_definite,
    _from_positive_definite,
    _is_positive_definite,
    lambda shape: _rows(shape, 2) * shape[-1] * (shape[-1] + 1) // 2,
)

ordered = Constraint(
    "increasing along the last axis",
    lambda u: jnp.cumsum(jnp.concatenate([u[..., :1], jnp.exp(u[..., 1:])], axis=-1), axis=-1),
    lambda x: jnp.concatenate([x[..., :1], jnp.log(jnp.diff(x, axis=-1))], axis=-1),
    lambda x: _is_finite(x) & jnp.all(jnp.diff(x, axis=-1) >= 0),
    _size,
)


def is_constraint(node: object) -> bool:
    """Tell whether `node` is a Constraint: the leaves of a tree of constraints."""
    return isinstance(node, Constraint)


def broadcast(constraints: PyTree, params: PyTree) -> list[Constraint]:
    """Return one constraint per leaf of `params`; None means real, for a subtree or everywhere.

    Raises ValueError where `constraints` is not shaped like `params`.
    """

    def spread(constraint: Constraint | None, subtree: PyTree) -> list[Constraint]:
        return [constraint or real] * len(jax.tree.leaves(subtree))

    try:
        each = jax.tree.map(spread, constraints, params, is_leaf=lambda node: node is None or is_constraint(node))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"constraints has structure {jax.tree.structure(constraints, is_leaf=is_constraint)}, needs that of params, "
            f"{jax.tree.structure(params)}; one constraint, or None for real, may stand for a subtree."
        ) from error
    return jax.tree.leaves(each, is_leaf=is_constraint)


def _leaf_by_leaf(function: Callable[[Constraint, Array], Array], constraints: PyTree, tree: PyTree) -> PyTree:
    """Apply `function` to each leaf of `tree` and the constraint that stands for it."""
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, map(function, broadcast(constraints, tree), leaves))


def constrain(constraints: PyTree, unconstrained: PyTree) -> PyTree:
    """Map unconstrained values onto the domain, leaf by leaf."""
    return _leaf_by_leaf(lambda c, u: c.constrain(u), constraints, unconstrained)


def unconstrain(constraints: PyTree, params: PyTree) -> PyTree:
    """Map parameters to unconstrained space, leaf by leaf; infinite on the boundary of a domain."""
    return _leaf_by_leaf(lambda c, x: c.unconstrain(x), constraints, params)


def retract(constraints: PyTree, params: PyTree) -> PyTree:
    """Return params after a round trip through unconstrained space.

    That mends rounding (a simplex sums to one again) and turns what lies outside its domain into NaN.
    """
    return constrain(constraints, unconstrain(constraints, params))


def mend(constraints: PyTree, params: PyTree) -> PyTree:
    """Return params that lie in their domain but for rounding, in the domain."""
    return _leaf_by_leaf(lambda c, x: c.mend(x), constraints, params)
