"""What is left of the gamma function beside Stirling's formula, and of a logarithm beside its tangent: nothing cancels.

With log Γ(z) = (z - ½) log z - z + ½ log 2π + μ(z), μ being Binet's function, densities of large shape are written in terms
of μ and of deviances, both of which are small where their difference would be one of large numbers.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

# μ(z) = Σ_m B_2m / (2m (2m - 1) z^(2m - 1)), DLMF 5.11.1: from SHIFT on, eight terms leave less than 1e-16
BINET_SERIES = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400)
SHIFT = 8
MOST_TURNS = 100  # of a search for a root: halves alone leave nothing of any interval by then


def polynomial(coefficients: Sequence[float], x: Array) -> Array:
    """Return Σ_j c_j x^j, by Horner's rule."""
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


def artanh_series(dtype: Any) -> tuple[float, ...]:
    """Coefficients of (artanh v - v)/v³ in v², as many as |v| ≤ 1/3 needs."""
    return tuple(1 / (2 * j + 3) for j in range(15 if dtype == jnp.float64 else 6))


def excess(delta: Array, ratio: Array, log_ratio: Array | None = None) -> Array:
    """Return r - 1 - log r ≥ 0 elementwise, from r > 0 and δ = r - 1, each right to its own last digits; log r if at hand.

    With v = δ/(1 + r), where |v| ≤ 1/3, it is δ v - 2 v³ (1/3 + v²/5 + v⁴/7 + ...).
    """
    v = delta / (1 + ratio)
    square = v * v
    close = square <= 1 / 9
    near = v * (delta - 2 * square * polynomial(artanh_series(v.dtype), square))
    return jnp.where(close, near, delta - (jnp.log(jnp.where(close, 1, ratio)) if log_ratio is None else log_ratio))


def _shifted(z: Array) -> tuple[Array, Array, Array]:
    """Return which z lie below SHIFT, these (one elsewhere), and all moved up to where the series holds."""
    low = z < SHIFT
    return low, jnp.where(low, z, 1), jnp.where(low, z + SHIFT, z)


def _steps(z: Array) -> Array:
    """Return z, z + 1, … up to SHIFT places on, along a last axis."""
    return z[..., None] + jnp.arange(SHIFT, dtype=z.dtype).reshape(*[1] * z.ndim, SHIFT)


@jax.custom_jvp
def binet(z: Array) -> Array:
    """Return μ(z) = log Γ(z) - (z - ½) log z + z - ½ log 2π, for z > 0: about 1/(12 z) for large z."""
    low, near, far = _shifted(z)
    series = polynomial(BINET_SERIES, 1 / far**2) / far
    product = jnp.prod(_steps(near), -1)
    below = (near + (SHIFT - 0.5)) * jnp.log(near + SHIFT) - SHIFT - (near - 0.5) * jnp.log(near) - jnp.log(product)
    return jnp.where(low, series + below, series)


@jax.custom_jvp
def binet_slope(z: Array) -> Array:
    """Return μ'(z) = ψ(z) - log z + 1/(2 z), for z > 0: about -1/(12 z²) for large z."""
    low, near, far = _shifted(z)
    series = far_binet_slope(far)
    fall = 0.5 * SHIFT / (near * (near + SHIFT))
    return jnp.where(low, series + jnp.log1p(SHIFT / near) + fall - (1 / _steps(near)).sum(-1), series)


def binet_curvature(z: Array) -> Array:
    """Return μ''(z) = ψ'(z) - 1/z - 1/(2 z²), for z > 0: about 1/(6 z³) for large z."""
    low, near, far = _shifted(z)
    series = far_binet_curvature(far)
    rest = 0.5 / near**2 - 0.5 / (near + SHIFT) ** 2 + SHIFT / (near * (near + SHIFT))
    return jnp.where(low, series + (1 / _steps(near) ** 2).sum(-1) - rest, series)


def far_binet_slope(z: Array) -> Array:
    """Return μ'(z) for z ≥ SHIFT: the series alone, at a third of the cost."""
    return polynomial([-(2 * m + 1) * c for m, c in enumerate(BINET_SERIES)], 1 / z**2) / z**2


def far_binet_curvature(z: Array) -> Array:
    """Return μ''(z) for z ≥ SHIFT: the series alone."""
    return polynomial([(2 * m + 1) * (2 * m + 2) * c for m, c in enumerate(BINET_SERIES)], 1 / z**2) / z**3


@binet.defjvp
def _(primals: Any, tangents: Any) -> tuple[Array, Array]:
    return binet(*primals), binet_slope(*primals) * tangents[0]


@binet_slope.defjvp
def _(primals: Any, tangents: Any) -> tuple[Array, Array]:
    return binet_slope(*primals), binet_curvature(*primals) * tangents[0]


def log_minus_digamma(z: Array) -> Array:
    """Return log z - ψ(z) > 0, for z > 0: it falls from infinity to zero, about 1/(2 z) for large z."""
    return 0.5 / z - binet_slope(z)


def inverse_log_minus_digamma(y: Array) -> Array:
    """Return the z at which log z - ψ(z) = y, for y > 0.

    From a start right to 1.5 % (Minka 2002), by Newton steps between logarithms, of which the last gives all digits.
    """
    start = (3 - y + jnp.sqrt((y - 3) ** 2 + 24 * y)) / (12 * y)

    def closer(_: Any, log_z: Array) -> Array:
        z = jnp.exp(log_z)
        value, slope = log_minus_digamma(z), -0.5 / z**2 - binet_curvature(z)
        return log_z - jnp.log(value / y) * value / (z * slope)

    return jnp.exp(lax.fori_loop(0, 4, closer, jnp.log(start)))


class _Search(NamedTuple):
    turn: Array
    x: Array
    below: Array  # the largest x known to lie at or below the root
    above: Array  # the smallest known to lie at or above it
    length: Array  # of the last step
    tried: Array  # whether the upper end has been
    done: Array


def root(function: Callable[[Array], tuple[Array, Array]], start: Array, low: float, high: float) -> Array:
    """Return where a function that falls through zero does so, elementwise, between `low` and `high`; else the end it is at.

    `function` returns values and slopes. Newton's steps, and halves of what is left where these leave it; they end when the
    last one has doubled all digits, or rounding makes them no shorter.
    """
    eps = jnp.finfo(start.dtype).eps

    def step(state: _Search) -> _Search:
        x = state.x
        value, slope = function(x)
        below, above = jnp.where(value >= 0, x, state.below), jnp.where(value <= 0, x, state.above)
        newton = x - value / jnp.where(slope < 0, slope, -1)
        inside = (slope < 0) & (newton > below) & (newton < above)
        leap = (slope < 0) & (newton >= high) & ~state.tried
        after = jnp.where(inside, newton, jnp.where(leap, high, 0.5 * (below + above)))
        length = jnp.abs(after - x)
        settled = inside & ((length < 0.1 * jnp.sqrt(eps)) | ((length < 0.05) & (length > 0.5 * state.length)))
        after = jnp.where(state.done | (below >= above), x, after)
        done = state.done | settled | (jnp.abs(after - x) <= 2 * eps * jnp.abs(x))
        return _Search(state.turn + 1, after, below, above, length, state.tried | leap, done)

    no, ends = jnp.zeros(start.shape, bool), (jnp.full_like(start, low), jnp.full_like(start, high))
    begin = _Search(jnp.zeros((), jnp.int32), jnp.clip(start, *ends), *ends, jnp.full_like(start, jnp.inf), no, no)
    return lax.while_loop(lambda state: ~state.done.all() & (state.turn < MOST_TURNS), step, begin).x
