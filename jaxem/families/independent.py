"""What families of independent discrete coordinates share: one matrix product over rows, and events of probability zero."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxem.arrays import as_floating, check_rank, column_ranges, is_traced

IMPOSSIBLE = -1e30


def columns(x: Array) -> Array:
    """Return (n,) as (n, 1), and (n, d) as it is; likewise for parameters (k,) and (k, d)."""
    return x[:, None] if x.ndim == 1 else x


def restore_impossible(log_prob: Array) -> Array:
    """Return -inf where an impossible event entered the sum; 0 · log 0 = 0 has entered none."""
    return jnp.where(log_prob < 0.1 * IMPOSSIBLE, -jnp.inf, log_prob)


def weighted_sums(x: Array, responsibilities: Array) -> Array:
    """Return Σ_n r_nk x_n: (k, *event)."""
    return (responsibilities.T @ columns(x)).reshape(-1, *x.shape[1:])


def checked(data: Any, highest: float, kind: str) -> Array:
    """Return data (n,) or (n, d) as floats; ValueError unless they are whole numbers between 0 and `highest`.

    Under a trace what is no such number becomes NaN.
    """
    x = as_floating(data)
    check_rank(x, (1, 2), "one row per observation, independent columns.")
    if is_traced(x):
        return jnp.where((x == jnp.floor(x)) & (x >= 0) & (x <= highest) & (x < jnp.inf), x, jnp.nan)
    low, high, _, _, whole = column_ranges(x, None, counts=True)
    if low.min() < 0 or high.max() > highest or not whole:
        raise ValueError(f"data needs {kind}; got values from {low.min():g} to {high.max():g}, or fractions.")
    return x
