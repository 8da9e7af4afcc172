"""Weibull components: lifetimes, in one dimension or in d independent ones."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem import constraints
from jaxem.arrays import check_width
from jaxem.families import independent
from jaxem.families.holes import allowing_holes
from jaxem.families.positives import along, checked, cube_root, sharpest, weighed, with_mean_row
from jaxem.model import Family
from jaxem.numerics import positive, weighted_sum
from jaxem.special import root

LEAST = 1e-10  # of a shape
EULER = 0.5772156649015329  # minus the mean of log x for shape and scale one, where its variance is π²/6


class Weibull(NamedTuple):
    """Parameters of k Weibull components, P(X > x) = exp(-(x / scale)^shape): shape and scale (k, *event).

    >>> from jaxem.families import Weibull
    >>> Weibull(shape=[1.0, 3.0], scale=[2.0, 5.0]).scale
    [2.0, 5.0]
    """

    shape: Any
    scale: Any


class Lifetimes(NamedTuple):
    """Numbers > 0 that have been looked at, and their logarithms: (n, *event)."""

    x: Array
    log_x: Array


class WeibullStats(NamedTuple):
    """The rows and their responsibilities (k, n): Σ_n r_nk x_n^c is needed for more than one shape c."""

    rows: Lifetimes
    responsibilities: Array


@cache
def weibull() -> Family:
    """Return the Weibull family, log p(x | c, λ) = Σ_j log c + c log x/λ - (x/λ)^c - log x, for numbers > 0, (n,) or (n, d).

    No shape is above 1e5, in float32 1e4, which holds a component that shrinks onto one value. The M-step solves
    Σ r x^c log x / Σ r x^c - 1/c = mean log x, whose one root c Newton's method finds from the old shape in a few passes
    over the rows: statistics carry those along (`additive` is False).

    >>> import jaxem
    >>> x = [1.0, 2.0, 6.0]
    >>> model = jaxem.single(jaxem.families.weibull())
    >>> params = jaxem.fit(model, model.init(0, x), x).params
    >>> print(params.shape.round(1), params.scale.round(1))
    [1.5] [3.3]
    """

    def init(x: Lifetimes, responsibilities: Array) -> Weibull:
        """Moments of log x over the responsibilities and one row more, the mean of all."""
        more, y = with_mean_row(responsibilities), x.log_x
        mean = independent.weighted_sums(y, more) / along(more.sum(0), y)
        apart = independent.columns(y).T[None] - independent.columns(mean)[:, :, None]
        variance = weighed(more, apart**2, mean) / along(more.sum(0), mean)
        shape = jnp.minimum(math.pi / jnp.sqrt(6 * positive(variance)), sharpest(y.dtype))
        shape = jnp.where(variance > 0, shape, sharpest(y.dtype))
        return Weibull(shape, jnp.exp(mean + EULER / shape))

    def sample(key: Array, params: Weibull, labels: Array, like: Any) -> Array:
        shape = params.shape[labels]
        draws = params.scale[labels] * jax.random.exponential(key, shape.shape, shape.dtype) ** (1 / shape)
        return jnp.maximum(draws, jnp.finfo(shape.dtype).tiny)

    family = Family(
        _evaluate,
        _m_step,
        _expected_log_prob,
        init,
        constraints=Weibull(constraints.positive, constraints.positive),
        sample=sample,
        embed=lambda data: cube_root(data.x),
        prepare=_prepare,
        degenerate=_degenerate,
        parts=(weibull, ()),
        additive=False,
    )
    return allowing_holes(family, mean=lambda params: params.scale * jnp.exp(lax.lgamma(1 + 1 / params.shape)), legal=1.0)


def _prepare(data: Any, weights: Array | None) -> Lifetimes:
    if isinstance(data, Lifetimes):
        return data
    x = checked(data)
    return Lifetimes(x, jnp.log(x))


def log_ratio(x: Array, log_x: Array, scale: Array) -> Array:
    """Return log x/λ, (k d, n), right to its own last digits where x is near λ.

    Its slopes are those of log x and log λ, so that none go through the choice between two formulas. Over (k d, n) sums and
    slopes are ten times as fast on a CPU as over (k, 1, n).
    """
    each = scale.reshape(-1, 1)
    rows, logs = (jnp.tile(independent.columns(leaf).T, (scale.shape[0], 1)) for leaf in (x, log_x))
    far = logs - jnp.log(each)
    delta = lax.stop_gradient((rows - each) / each)
    near = jnp.abs(delta) < 0.5
    value = jnp.where(near, jnp.log1p(jnp.where(near, delta, 0)), lax.stop_gradient(far))
    return value + (far - lax.stop_gradient(far))


def _log_prob(params: Weibull, x: Lifetimes) -> Array:
    """Return log p of each number, (k d, n)."""
    check_width(x.x, independent.columns(params.shape).shape[1], "shape")
    each = params.shape.reshape(-1, 1)
    power = each * log_ratio(x.x, x.log_x, params.scale)
    most = 0.5 * math.log(jnp.finfo(power.dtype).max)  # beyond, a finite density has finite slopes, and is none all the same
    density = jnp.log(each) + power - jnp.exp(jnp.minimum(power, most))
    return density - jnp.tile(independent.columns(x.log_x).T, (params.shape.shape[0], 1))


def _evaluate(params: Weibull, x: Lifetimes) -> tuple[Array, Callable[[Array], WeibullStats]]:
    log_prob = _log_prob(params, x).reshape(params.shape.shape[0], -1, x.x.shape[0])
    return log_prob.sum(1).T, lambda responsibilities: WeibullStats(x, responsibilities.T)


def _weights(stats: WeibullStats, like: Array) -> Array:
    """Return responsibilities for each of the k d numbers per row: (k d, n)."""
    return jnp.repeat(stats.responsibilities, like.shape[0] // stats.responsibilities.shape[0], axis=0)


def _expected_log_prob(params: Weibull, stats: WeibullStats) -> Array:
    log_prob = _log_prob(params, stats.rows)
    return weighted_sum(_weights(stats, log_prob), log_prob)


class _Powers(NamedTuple):
    """Rows about the old scales, u = log x/λ less the largest of each component, for each of the m = k d numbers per row."""

    shares: Array  # r_nk / N_k, (m, n)
    largest: Array  # (m,)
    below: Array  # (m, n)
    mean: Array  # of `below`, (m,)


def _powers(params: Weibull, stats: WeibullStats) -> _Powers:
    log_x = log_ratio(*stats.rows, params.scale)
    weights = _weights(stats, log_x)
    largest = jnp.where(weights > 0, log_x, -jnp.inf).max(1)
    largest = jnp.where(largest > -jnp.inf, largest, 0)
    shares, below = weights / positive(weights.sum(1))[:, None], jnp.minimum(log_x - largest[:, None], 0)
    return _Powers(shares, largest, below, (shares * below).sum(1))


def _tilted(powers: _Powers, shape: Array) -> tuple[Array, Array, Array]:
    """Return Σ r x^c, and by how much the mean of log x with weights r x^c exceeds that with r, and its variance: (m,).

    One pass over the rows: `below` lies about as near to zero as it spreads wherever these weights count.
    """
    weights = powers.shares * jnp.exp(shape[:, None] * powers.below)
    total, first, second = (each.sum(1) for each in (weights, weights * powers.below, weights * powers.below**2))
    mean = first / positive(total)
    variance = jnp.maximum(second / positive(total) - mean**2, 0)
    return positive(total), jnp.maximum(mean - powers.mean, jnp.finfo(total.dtype).tiny), variance


def _m_step(params: Weibull, stats: WeibullStats) -> Weibull:
    """Solve c · excess(c) = 1 between logarithms, which are nearly on a line: the excess is c times a variance for small c."""
    powers = _powers(params, stats)
    most = sharpest(powers.mean.dtype)

    def function(log_shape: Array) -> tuple[Array, Array]:
        shape = jnp.exp(log_shape)
        _, excess, variance = _tilted(powers, shape)
        return -(log_shape + jnp.log(excess)), -(1 + shape * variance / excess)

    found = root(function, jnp.log(params.shape.ravel()), math.log(LEAST), math.log(most))
    shape = jnp.where(found >= math.log(most), most, jnp.exp(found))
    log_mean = jnp.log(_tilted(powers, shape)[0]) / shape + powers.largest
    event = params.shape.shape
    return Weibull(shape.reshape(event), params.scale * jnp.exp(log_mean).reshape(event))


def _degenerate(params: Weibull, stats: WeibullStats) -> Array:
    powers = _powers(params, stats)
    most = jnp.full_like(powers.mean, sharpest(powers.mean.dtype))
    return ((_tilted(powers, most)[1] * most <= 1) & (powers.shares.sum(1) > 0)).any()
