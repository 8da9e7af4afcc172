"""Functions of arrays that keep their digits: logarithms at zero, and shares of a sum."""

import math
from collections.abc import Callable
from functools import reduce, wraps
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

LOG_2PI = 1.8378770664093453


def in_full_precision(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` with float32 matrix products in float32, where an accelerator would take fewer digits by default."""

    @wraps(function)
    def precise(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return precise


def positive(count: Array) -> Array:
    """Return `count`, and one where it is zero: a divisor for sums that are zero there."""
    return jnp.where(count > 0, count, 1)


def within(lengths: Array, most: int) -> Array:
    """Tell which of `most` places each row has, (n, most), of which it fills the first lengths_n."""
    return jnp.arange(most, dtype=lengths.dtype)[None] < lengths[:, None]


def weighted_log(weight: Array, p: Array) -> Array:
    """Return weight · log p, zero and without gradient where the weight is zero or, by rounding, below."""
    some = weight > 0
    return jnp.where(some, weight * jnp.log(jnp.where(some, p, 1)), 0)


def log_share(p: Array) -> Array:
    """Return log p, and -inf without a slope where p is zero: what is absent changes nothing."""
    some = p > 0
    return jnp.where(some, jnp.log(jnp.where(some, p, 1)), jnp.where(p == 0, -jnp.inf, jnp.nan))


def weighted_sum(weights: Array, values: Array) -> Array:
    """Return Σ_n w_n v_n, in which rows of weight zero are absent whatever their value."""
    return jnp.where(weights > 0, weights * values, 0).sum()


def over_first(combine: Callable[[Array, Array], Array], x: Array) -> Array:
    """Return x (k, …) combined over its first axis, (…), in halves: XLA reduces over it many times as slowly on a CPU."""
    odd = []
    while len(x) > 1:
        half = len(x) // 2
        odd += [x[-1]] if len(x) % 2 else []
        x = combine(x[:half], x[half : 2 * half])
    return reduce(combine, odd, x[0])


def normalize(log_joint: Array) -> tuple[Array, Array]:
    """Return p(z = k | x_n) (k, n) and log p(x_n) (n,) from log p(x_n, z = k) (k, n), with one exponential per entry.

    An impossible row has log p = -inf and no responsibilities. One whose log-density is `lowest`, as its squares overflow, has
    log p = -inf too, and keeps its responsibilities.
    """
    peak = lax.stop_gradient(over_first(jnp.maximum, log_joint))
    peak = jnp.where(peak == -jnp.inf, 0, peak)
    below = log_joint - peak[None]
    below = below - lax.stop_gradient(jnp.maximum(below, 0))  # a fused log_joint may be rounded otherwise than its peak
    scaled = jnp.exp(below)
    total = over_first(jnp.add, scaled)
    possible = total != 0
    divisor = jnp.where(possible, total, 1)
    log_prob = peak + jnp.log(divisor)
    return scaled / divisor[None], jnp.where(possible, without_lowest(log_prob), -jnp.inf)


def lowest(dtype: jnp.dtype) -> float:
    """Return the log-density that stands for one too low to be held: a few of them can be added."""
    return float(jnp.finfo(dtype).min) / 1e3


def without_lowest(log_prob: Array) -> Array:
    """Return -inf in the place of log-densities at or below the lowest."""
    return jnp.where(log_prob <= lowest(log_prob.dtype) / 2, -jnp.inf, log_prob)


def symmetric(matrix: Array) -> Array:
    """Return the symmetric part of matrices (..., d, d)."""
    return 0.5 * (matrix + matrix.mT)


def geometric_mean(x: Array) -> Array:
    """Return the geometric means of positive numbers along the last axis, (..., d) -> (...)."""
    return jnp.exp(jnp.log(x).mean(-1))


def excess_of_exp(t: Array) -> Array:
    """Return e^t - 1 - t ≥ 0, right to its own last digits."""
    small = jnp.abs(t) < 0.5
    near = jnp.where(small, t, 0)
    series = jnp.full_like(near, 1 / math.factorial(16))
    for power in range(15, 1, -1):
        series = series * near + 1 / math.factorial(power)
    far = jnp.where(small, 1, t)
    return jnp.where(small, series * near * near, jnp.expm1(far) - far)
