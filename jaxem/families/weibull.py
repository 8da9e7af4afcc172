"""Weibull components: lifetimes, in one dimension or in d independent ones."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

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
    """Numbers > 0 that have been looked at, (n, *event), and the sum of the logarithms of each row, (n,)."""

    x: Array
    log_x: Array


class WeibullStats(NamedTuple):
    """The rows and their responsibilities (n, k): Σ_n r_nk x_n^c is needed for more than one shape c."""

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
        more, y = with_mean_row(responsibilities), jnp.log(x.x)
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
        lambda params, stats: weighted_sum(stats.responsibilities, _evaluate(params, stats.rows)[0]),
        init,
        constraints=Weibull(constraints.positive, constraints.positive),
        sample=sample,
        embed=lambda data: cube_root(data.x),
        prepare=_prepare,
        degenerate=_degenerate,
        parts=(weibull, ()),
        additive=False,
    )
    return allowing_holes(family, mean=lambda params: params.scale * jnp.exp(jax.lax.lgamma(1 + 1 / params.shape)), legal=1.0)


def _prepare(data: Any, weights: Array | None) -> Lifetimes:
    if isinstance(data, Lifetimes):
        return data
    x = checked(data)
    return Lifetimes(x, jnp.log(independent.columns(x)).sum(1))


def log_ratio(x: Array, scale: Array) -> Array:
    """Return log x/λ, (k, d, n), right to its own last digits where x is near λ."""
    rows, scale = independent.columns(x).T[None], independent.columns(scale)[:, :, None]
    delta = (rows - scale) / scale
    near = jnp.abs(delta) < 0.5
    return jnp.where(near, jnp.log1p(jnp.where(near, delta, 0)), jnp.log(rows / scale))


def _evaluate(params: Weibull, x: Lifetimes) -> tuple[Array, Callable[[Array], WeibullStats]]:
    shape = independent.columns(params.shape)[:, :, None]
    check_width(x.x, shape.shape[1], "shape")
    power = shape * log_ratio(x.x, params.scale)
    most = 0.5 * math.log(jnp.finfo(power.dtype).max)  # beyond, a finite density has finite slopes, and is none all the same
    log_prob = jnp.log(shape) + power - jnp.exp(jnp.minimum(power, most))
    return log_prob.sum(1).T - x.log_x[:, None], lambda responsibilities: WeibullStats(x, responsibilities)


class _Powers(NamedTuple):
    """Rows about the old scales, u = log x/λ less the largest of each component, (k, d, n), as powers of x need them."""

    shares: Array  # r_nk / N_k, (k, 1, n)
    largest: Array  # (k, d)
    below: Array
    mean: Array  # of `below`, (k, d)


def _powers(params: Weibull, stats: WeibullStats) -> _Powers:
    log_x, weights = log_ratio(stats.rows.x, params.scale), stats.responsibilities.T[:, None]
    largest = jnp.where(weights > 0, log_x, -jnp.inf).max(2)
    largest = jnp.where(largest > -jnp.inf, largest, 0)
    shares, below = weights / positive(weights.sum(2, keepdims=True)), jnp.minimum(log_x - largest[:, :, None], 0)
    return _Powers(shares, largest, below, (shares * below).sum(2))


def _tilted(powers: _Powers, shape: Array) -> tuple[Array, Array, Array]:
    """Return Σ r x^c, and by how much the mean of log x with weights r x^c exceeds that with r, and its variance: (k, d)."""
    weights = powers.shares * jnp.exp(shape[:, :, None] * powers.below)
    total = positive(weights.sum(2))
    mean = (weights * powers.below).sum(2) / total
    variance = (weights * (powers.below - mean[:, :, None]) ** 2).sum(2) / total
    return total, jnp.maximum(mean - powers.mean, jnp.finfo(total.dtype).tiny), variance


def _m_step(params: Weibull, stats: WeibullStats) -> Weibull:
    """Solve c · excess(c) = 1 between logarithms, which are nearly on a line: the excess is c times a variance for small c."""
    powers = _powers(params, stats)
    most = sharpest(powers.mean.dtype)

    def function(log_shape: Array) -> tuple[Array, Array]:
        shape = jnp.exp(log_shape)
        _, excess, variance = _tilted(powers, shape)
        return -(log_shape + jnp.log(excess)), -(1 + shape * variance / excess)

    found = root(function, jnp.log(independent.columns(params.shape)), math.log(LEAST), math.log(most))
    shape = jnp.where(found >= math.log(most), most, jnp.exp(found))
    log_mean = jnp.log(_tilted(powers, shape)[0]) / shape + powers.largest
    event = params.shape.shape
    return Weibull(shape.reshape(event), params.scale * jnp.exp(log_mean).reshape(event))


def _degenerate(params: Weibull, stats: WeibullStats) -> Array:
    powers = _powers(params, stats)
    most = jnp.full_like(powers.mean, sharpest(powers.mean.dtype))
    some = stats.responsibilities.sum(0)[:, None] > 0
    return ((_tilted(powers, most)[1] * most <= 1) & some).any()
