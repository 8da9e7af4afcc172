"""Domains of numbers and of tables of them: real, positive, bounded, ordered, in part alike for all components."""

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.constraints.record import Constraint, is_finite, rows, size

_EVERYWHERE, _ABOVE_ZERO = (-math.inf, math.inf), (0.0, math.inf)

real = Constraint("real", lambda u: u, lambda x: x, is_finite, size, bounds=_EVERYWHERE)

positive = Constraint("positive", jnp.exp, jnp.log, lambda x: is_finite(x) & jnp.all(x > 0), size, bounds=_ABOVE_ZERO)

non_negative = Constraint("non-negative", jnp.exp, jnp.log, lambda x: is_finite(x) & jnp.all(x >= 0), size, bounds=_ABOVE_ZERO)


def interval(low: float, high: float) -> Constraint:
    """Return the bounded interval [low, high]: x = low + (high - low) / (1 + e^-u).

    Raises ValueError unless these are two numbers, low < high.

    >>> from jaxem import constraints
    >>> float(constraints.interval(0, 10).constrain(0.0))
    5.0
    """
    if not (np.ndim(low) == np.ndim(high) == 0 and low < high):
        raise ValueError(f"interval(low, high) needs low < high, two numbers, got ({low}, {high}).")
    return _interval(float(low), float(high))


@cache
def _interval(low: float, high: float) -> Constraint:
    return Constraint(
        f"in [{low:g}, {high:g}]",
        lambda u: low + (high - low) * jax.nn.sigmoid(u),
        lambda x: jnp.log(x - low) - jnp.log(high - x),
        lambda x: jnp.all((x >= low) & (x <= high)),
        size,
        bounds=(low, high),
        parts=(interval, (low, high)),
    )


ordered = Constraint(
    "increasing along the last axis",
    lambda u: jnp.cumsum(jnp.concatenate([u[..., :1], jnp.exp(u[..., 1:])], axis=-1), axis=-1),
    lambda x: jnp.concatenate([x[..., :1], jnp.log(jnp.diff(x, axis=-1))], axis=-1),
    lambda x: is_finite(x) & jnp.all(jnp.diff(x, axis=-1) >= 0),
    size,
)


def alike(columns: tuple[int, ...]) -> Constraint:
    """Return the domain of arrays (k, p) whose `columns` are the same for all components: k (p - c) + c free parameters.

    Unconstrained arrays are (k, p) too, and what such a column stands for is its mean. Raises ValueError unless these are
    distinct whole numbers from 0 on.

    >>> import jax.numpy as jnp
    >>> from jaxem import constraints
    >>> domain = constraints.alike((1,))
    >>> print(domain.constrain(jnp.array([[1.0, 4.0], [2.0, 6.0]])), domain.num_free((2, 2)))
    [[1. 5.]
     [2. 5.]] 3
    """
    if len(set(columns)) < len(columns) or not all(isinstance(column, int) and column >= 0 for column in columns):
        raise ValueError(f"alike(columns) needs distinct whole numbers from 0 on, got {columns}.")
    return _alike(tuple(columns))


@cache
def _alike(columns: tuple[int, ...]) -> Constraint:
    def shared(shape: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(np.isin(np.arange(shape[-1]), columns), shape)

    def mean(u: Array) -> Array:
        return jnp.where(shared(u.shape), u[:1] + (u - u[:1]).mean(0, keepdims=True), u)

    def contains(x: Array) -> Array:
        slack = 64 * float(jnp.finfo(jnp.float32).eps) * jnp.abs(x).max(0, keepdims=True)  # in float64 too, as in matrices
        return is_finite(x) & jnp.all(~shared(x.shape) | (jnp.abs(x - x[:1]) <= slack))

    return Constraint(
        f"the same for all components in columns {list(columns)}",
        mean,
        lambda x: x,
        contains,
        lambda shape: size(shape) - (shape[0] - 1) * len(columns),
        mend=lambda x: jnp.where(shared(x.shape), x[:1], x),
        shared=shared,
        parts=(alike, (columns,)),
    )


def _from_first_column(x: Array) -> Array:
    return x[..., 1:] - x[..., :1]


contrasts = Constraint(
    "zero in the first of the columns, one for each component",
    lambda u: jnp.concatenate([jnp.zeros_like(u, shape=(*u.shape[:-1], 1)), u], -1),
    _from_first_column,
    lambda x: is_finite(x) & jnp.all(jnp.abs(x[..., 0]) <= 64 * float(jnp.finfo(jnp.float32).eps) * jnp.abs(x).max()),
    lambda shape: rows(shape, 1) * (shape[-1] - 1),
    mend=lambda x: x - x[..., :1],
    component_axes=(1,),
)
