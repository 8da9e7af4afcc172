"""What families of independent discrete coordinates share: one matrix product over rows, and events of probability zero."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxem.boundary import as_floating, check_rank, column_ranges, is_traced, look

IMPOSSIBLE = -1e30


def columns(x: Array) -> Array:
    """Return (n,) as (n, 1), and (n, d) as it is; likewise for parameters (k,) and (k, d)."""
    return x[:, None] if x.ndim == 1 else x


def finite_log(p: Array) -> Array:
    """Return log p, and in place of -inf a number so low that `restore_impossible` knows it again."""
    return jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1)), IMPOSSIBLE)


def restore_impossible(log_prob: Array) -> Array:
    """Return -inf where an impossible event entered the sum; 0 · log 0 = 0 has entered none."""
    return jnp.where(log_prob < 0.1 * IMPOSSIBLE, -jnp.inf, log_prob)


def weighted_sums(x: Array, responsibilities: Array) -> Array:
    """Return Σ_n r_nk x_n: (k, *event)."""
    return (responsibilities.T @ columns(x)).reshape(-1, *x.shape[1:])


def average(total: Array, count: Array, old: Array) -> Array:
    """Return total / count, and the old value where a component has no responsibility; count (k,) or shaped like total."""
    count = count.reshape(*count.shape, *[1] * (total.ndim - count.ndim))
    return jnp.where(count > 0, total / jnp.where(count > 0, count, 1), old)


@jax.jit
def _all_whole(x: Array) -> Array:
    return (x == jnp.floor(x)).all()


def validate_counts(data: Any, weights: Array | None, highest: float, kind: str) -> Array:
    """Return data (n,) or (n, d) as floats; ValueError unless they are whole numbers between 0 and `highest`."""
    x = as_floating(data)
    check_rank(x, (1, 2), "one row per observation, independent columns.")
    if not is_traced(x, weights):
        low, high = column_ranges(x, None)
        if low.min() < 0 or high.max() > highest or not look(_all_whole, x):
            raise ValueError(f"data needs {kind}; got values from {low.min():g} to {high.max():g}, or fractions.")
    return x
