"""What families of positive numbers share: the look at their data, and how sharp a component may be.

A density that narrows around values that are all equal rises without end. So no component may be sharper than the
likes of a standard deviation of 1e-5 of its mean, 1e-4 in float32; one that is held there is degenerate.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import as_floating, check_rank, column_ranges, is_traced
from jaxem.families.independent import columns


def sharpest(dtype: Any) -> float:
    """Return how many standard deviations the mean of a component may be away from zero."""
    return 1e5 if jnp.finfo(dtype).bits == 64 else 1e4


def checked(data: Any, zero: bool = False, below: float = np.inf) -> Array:
    """Return data (n,) or (n, d) as floats; ValueError unless they are above zero, or at it where `zero`, and `below`.

    Under a trace what is no such number becomes NaN.
    """
    x = as_floating(data)
    check_rank(x, (1, 2), "one row per observation, independent columns.")
    if is_traced(x):
        return jnp.where(((x >= 0) if zero else (x > 0)) & (x < below), x, jnp.nan)
    low, high, _, _, _ = column_ranges(x, None)
    bad = np.flatnonzero(((low < 0) if zero else (low <= 0)) | (high >= below))
    if bad.size:
        needs = f"numbers {'≥' if zero else '>'} 0" + ("" if below == np.inf else f" and < {below:g}")
        raise ValueError(
            f"data needs {needs}; got values from {low[bad].min():g} to {high[bad].max():g} (columns {bad.tolist()})."
        )
    return x


def along(counts: Array, like: Array) -> Array:
    """Return counts (k,) with axes of length one for those of the event."""
    return counts.reshape(-1, *[1] * (like.ndim - 1))


def weighed(responsibilities: Array, values: Array, like: Array) -> Array:
    """Return Σ_n r_nk v_kjn from values (k, d, n) or (k d, n), in the shape (k, *event) of `like`.

    Over (k d, n), in which XLA's CPU sums ten times as fast as in (k, 1, n).
    """
    each = values.reshape(-1, values.shape[-1])
    shares = jnp.repeat(responsibilities.T, each.shape[0] // responsibilities.shape[1], axis=0)
    return (shares * each).sum(1).reshape(like.shape)


def with_mean_row(responsibilities: Array) -> Array:
    """Return responsibilities with one row more for each component, the mean of all, shared out among the rows."""
    everywhere = responsibilities.sum(1, keepdims=True)
    return responsibilities + everywhere / everywhere.sum()


def overall_mean(x: Array, responsibilities: Array) -> Array:
    """Return the weighted mean of all rows: (1, *event)."""
    weights = responsibilities.sum(1)
    return ((weights / weights.sum()) @ columns(x)).reshape(1, *x.shape[1:])


def cube_root(x: Array) -> Array:
    """Return what is of about constant shape whatever the scale of gamma-like components, and finite at zero: ∛x (n, p).

    Wilson & Hilferty (1931).
    """
    return jnp.cbrt(columns(x))
