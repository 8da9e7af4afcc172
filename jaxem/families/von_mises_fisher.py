"""Von Mises-Fisher components: directions, rows of length one in d dimensions."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem import constraints
from jaxem.arrays import as_floating, check_rank, check_width, column_ranges, is_traced, look
from jaxem.bessel import log_scaled, ratio
from jaxem.families.gaussian.distances import moments, square_distances
from jaxem.families.positives import with_mean_row
from jaxem.model import Family
from jaxem.numerics import LOG_2PI, positive
from jaxem.special import root

MOST = 1e10  # of a concentration
SLACK = 1e-3  # by which the length of a row may be off
LOST = 1e3  # ulps of the spread about an old direction far away, in which that about the new one is lost
MOST_DRAWS = 1000


class VonMisesFisher(NamedTuple):
    """Parameters of k components: direction (k, d), of length one, and concentration (k,), 0 for the uniform.

    >>> from jaxem.families import VonMisesFisher
    >>> VonMisesFisher(direction=[[1.0, 0.0]], concentration=[4.0]).concentration
    [4.0]
    """

    direction: Any
    concentration: Any


class VonMisesFisherStats(NamedTuple):
    """Sums over rows with responsibilities r_nk, about the directions μ_k of the E-step's parameters.

    counts (k,)    N_k = Σ_n r_nk
    centre (k, d)  N_k μ_k, so that the sums say what they are about and still add up over blocks
    shift (k, d)   Σ_n r_nk (x_n - μ_k)
    spread (k,)    Σ_n r_nk ½ |x_n - μ_k|², which is 1 - μ_kᵀ x_n to all digits
    """

    counts: Array
    centre: Array
    shift: Array
    spread: Array


class Directions(NamedTuple):
    """Rows of length one that have been looked at: (n, d)."""

    x: Array


@cache
def von_mises_fisher() -> Family:
    """Return the von Mises-Fisher family, log p(x | μ_k, κ_k) = log C_d(κ_k) + κ_k μ_kᵀ x, for rows (n, d) of length one.

    There are at least two columns. The density is with respect to area on the sphere, with
    C_d(κ) = κ^(d/2 - 1) / ((2π)^(d/2) I_d/2-1(κ)). In terms of ½ |x - μ|² = 1 - μᵀx nothing cancels at any κ.
    Concentrations lie in [0, 1e10]: rows that are all equal have the upper end, where a fit converges as elsewhere. The
    M-step solves I_d/2(κ) / I_d/2-1(κ) = |mean of x| to all digits (Sra 2012).

    >>> import jaxem
    >>> x = [[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]]
    >>> model = jaxem.single(jaxem.families.von_mises_fisher())
    >>> params = jaxem.fit(model, model.init(0, x), x).params
    >>> print(params.direction.round(3), params.concentration.round(1))
    [[0.864 0.504]] [7.1]
    """

    def evaluate(params: VonMisesFisher, x: Directions) -> tuple[Array, Callable[[Array], VonMisesFisherStats]]:
        direction, sharp = params.direction, params.concentration[:, None]
        check_width(x.x, direction.shape[1], "direction")

        def statistics(responsibilities: Array) -> VonMisesFisherStats:
            counts = responsibilities.sum(0)
            shift, squares = moments(x.x, direction, sharp, responsibilities)
            return VonMisesFisherStats(counts, counts[:, None] * direction, shift, 0.5 * direction.shape[1] * squares[:, 0])

        log_prob = _peak(params)[:, None] - 0.5 * square_distances(x.x, direction, sharp)
        return log_prob.T, statistics

    def expected_log_prob(params: VonMisesFisher, stats: VonMisesFisherStats) -> Array:
        delta = params.direction - stats.centre / positive(stats.counts)[:, None]
        spread = _spread_about(stats, jnp.where(stats.counts[:, None] > 0, delta, 0))
        return (stats.counts * _peak(params) - params.concentration * spread).sum()

    def init(x: Directions, responsibilities: Array) -> VonMisesFisher:
        """The mean directions of the responsibilities and one row more, the mean of all, and κ by Banerjee et al. (2005)."""
        more = with_mean_row(responsibilities)
        resultant = more.T @ x.x
        size = jnp.sqrt((resultant**2).sum(1))
        first = jnp.zeros_like(resultant).at[:, 0].set(1)
        direction = jnp.where(size[:, None] > 0, resultant / positive(size)[:, None], first)
        short = size / more.sum(0)
        return VonMisesFisher(direction, jnp.clip(_guess(short, 1 - short, x.x.shape[1]), 0, 1e6))

    return Family(
        evaluate,
        _m_step,
        expected_log_prob,
        init,
        constraints=VonMisesFisher(constraints.unit_sphere, constraints.interval(0, MOST)),
        sample=_sample,
        embed=lambda data: data.x,
        prepare=_prepare,
        parts=(von_mises_fisher, ()),
    )


def _peak(params: VonMisesFisher) -> Array:
    """Return log C_d(κ) + κ, the log-density at the mean direction: (k,)."""
    dim = params.direction.shape[1]
    return -0.5 * dim * LOG_2PI - log_scaled(0.5 * dim - 1, params.concentration)


def _spread_about(stats: VonMisesFisherStats, delta: Array) -> Array:
    """Return Σ r ½ |x - μ - δ|², for directions moved by δ: (k,)."""
    return stats.spread - (stats.shift * delta).sum(1) + 0.5 * stats.counts * (delta**2).sum(1)


def _guess(short: Array, lack: Array, dim: int) -> Array:
    """Return about the κ at which the mean of rows has length R = 1 - lack: R (d - R²) / (1 - R²)."""
    squares = lack * (2 - lack)
    return jnp.where(squares > 0, short * (dim - short**2) / positive(squares), MOST)


def _m_step(params: VonMisesFisher, stats: VonMisesFisherStats) -> VonMisesFisher:
    count = positive(stats.counts)
    old = stats.centre / count[:, None]
    resultant = stats.centre + stats.shift
    size = jnp.sqrt((resultant**2).sum(1))
    direction = jnp.where(size[:, None] > 0, resultant / positive(size)[:, None], params.direction)
    direction = direction / jnp.sqrt((direction**2).sum(1, keepdims=True))
    least = LOST * jnp.finfo(size.dtype).eps * stats.spread
    lack = jnp.maximum(_spread_about(stats, direction - old), least) / count
    return VonMisesFisher(direction, _concentration(size / count, lack, params.direction.shape[1]))


def _concentration(short: Array, lack: Array, dim: int) -> Array:
    """Return the κ at which the mean of rows has length R: by what R lacks to one where that is less, else by R itself."""
    order, tiny = 0.5 * dim - 1, float(jnp.finfo(short.dtype).tiny)
    near = lack < 0.5
    target = jnp.log(jnp.maximum(jnp.where(near, lack, short), tiny))

    def function(log_kappa: Array) -> tuple[Array, Array]:
        kappa = jnp.exp(log_kappa)
        (less, length), (slope, _) = jax.jvp(lambda kappa: ratio(order, kappa), (kappa,), (jnp.ones_like(kappa),))
        value = jnp.where(near, jnp.log(less) - target, target - jnp.log(length))
        return value, kappa * slope / jnp.where(near, less, length)

    start = jnp.log(jnp.clip(_guess(short, lack, dim), tiny, MOST))
    found = root(function, start, math.log(tiny), math.log(MOST))
    kappa = jnp.where(found >= math.log(MOST), MOST, jnp.exp(found))
    return jnp.where(~near & (short <= tiny), 0, jnp.minimum(kappa, MOST))


def _sample(key: Array, params: VonMisesFisher, labels: Array, like: Any) -> Array:
    """Draw 1 - μᵀx by rejection, and the rest evenly around μ (Wood 1994)."""
    key_cosine, key_around = jax.random.split(key)
    direction = params.direction[labels]
    lack = _drawn_lack(key_cosine, params.concentration[labels], direction.shape[1])[:, None]
    around = jax.random.normal(key_around, direction.shape, direction.dtype)
    around = around - (around * direction).sum(1, keepdims=True) * direction
    around = around / jnp.sqrt((around**2).sum(1, keepdims=True))
    return (1 - lack) * direction + jnp.sqrt(lack * (2 - lack)) * around


def _drawn_lack(key: Array, kappa: Array, dim: int) -> Array:
    """Return draws of 1 - μᵀx, (n,), to their own last digits, until each row has accepted one."""
    half = 0.5 * (dim - 1)
    b = half / (kappa + jnp.sqrt(kappa**2 + half**2))
    peak = 2 * b / (1 + b)  # of the envelope, 1 - x_0

    def draw(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        turn, key, lack, waiting = state
        key, key_beta, key_accept = jax.random.split(key, 3)
        z = jax.random.beta(key_beta, half, half, kappa.shape, kappa.dtype)
        new = 2 * b * z / (1 - (1 - b) * z)
        gap = jnp.log((peak + (1 - peak) * new) / (peak * (2 - peak)))
        accepted = kappa * (peak - new) + 2 * half * gap >= jnp.log(jax.random.uniform(key_accept, kappa.shape, kappa.dtype))
        return turn + 1, key, jnp.where(waiting & accepted, new, lack), waiting & ~accepted

    start = jnp.zeros((), jnp.int32), key, jnp.zeros_like(kappa), jnp.ones(kappa.shape, bool)
    return lax.while_loop(lambda state: state[3].any() & (state[0] < MOST_DRAWS), draw, start)[2]


def _prepare(data: Any, weights: Array | None) -> Directions:
    if isinstance(data, Directions):
        return data
    x = as_floating(data)
    check_rank(x, (2,), "one row per direction, one column per dimension.")
    if x.shape[1] < 2:
        raise ValueError("data has 1 column, needs at least two: directions in d dimensions.")
    length = jnp.sqrt((x**2).sum(1, keepdims=True))
    if is_traced(x):
        return Directions(jnp.where(jnp.abs(length - 1) <= SLACK, x / length, jnp.nan))
    column_ranges(x, None)
    low, high = look(lambda: (length.min(), length.max()))
    if max(abs(low - 1), abs(high - 1)) > SLACK:
        raise ValueError(f"data rows have lengths from {low:g} to {high:g}, need length one: divide each row by its length.")
    return Directions(x / length)
