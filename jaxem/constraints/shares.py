"""Domains of shares: non-negative and of a sum of one."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.constraints.record import Constraint, rows


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
    lambda shape: rows(shape, 1) * (shape[-1] - 1),
    mend=lambda p: p / jnp.abs(p.sum(-1, keepdims=True)),  # what lies outside stays there
    shares=True,
)


def simplexes(sizes: tuple[int, ...]) -> Constraint:
    """Return the domain of arrays (..., d, C) whose row j is on the simplex over its first sizes[j] entries, and zero beyond.

    Raises ValueError unless the sizes are whole numbers of at least one.

    >>> import jax.numpy as jnp
    >>> from jaxem import constraints
    >>> print(constraints.simplexes((2, 3)).constrain(jnp.zeros(3)).round(3))
    [[0.5   0.5   0.   ]
     [0.333 0.333 0.333]]
    """
    if not (len(sizes) and all(isinstance(size, int) and size >= 1 for size in sizes)):
        raise ValueError(f"simplexes(sizes) needs whole numbers of at least one, got {sizes}.")
    return _simplexes(tuple(sizes))


@cache
def _simplexes(sizes: tuple[int, ...]) -> Constraint:
    places = np.arange(max(sizes))[None]
    last = np.array(sizes)[:, None] - 1
    free, valid = np.nonzero(places < last), places <= last

    def to_shares(u: Array) -> Array:
        logits = jnp.zeros((*u.shape[:-1], *valid.shape), u.dtype).at[..., *free].set(u)
        return jax.nn.softmax(jnp.where(jnp.asarray(valid), logits, -jnp.inf), axis=-1)

    def from_shares(p: Array) -> Array:
        log_p = jnp.where(p >= 0, jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny)), jnp.nan)
        return log_p[..., *free] - log_p[..., free[0], last[free[0], 0]]

    return simplex._replace(
        name=f"on the simplex (non-negative, last axis summing to one, beyond {sizes} zero)",
        constrain=to_shares,
        unconstrain=from_shares,
        contains=lambda p: _in_simplex(p) & jnp.all(jnp.where(jnp.asarray(valid), 0, p) == 0),
        num_free=lambda shape: rows(shape, 2) * (sum(sizes) - len(sizes)),
        parts=(simplexes, (sizes,)),
    )
