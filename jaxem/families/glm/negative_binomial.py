"""Counts with mean μ = e^η and variance μ + φ μ²: negative binomial of size 1/φ."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxem import constraints
from jaxem.families.counts import log_mass_at_mean, sample_poisson
from jaxem.families.glm.responses import COUNTS, Dispersion, Predict, Response, Slopes
from jaxem.families.negative_binomial import LEAST, MOST, log_mass_of
from jaxem.families.newton import over_rows
from jaxem.families.regression import Responses
from jaxem.numerics import positive
from jaxem.special import binet_curvature, binet_slope, excess, root

ROUNDING = 64.0  # ulps of each log-mass, within which one is not below another


def _log_prob(eta: Array, y: Array, trials: Any, base: Array, dispersion: Array) -> Array:
    return log_mass_of(jnp.broadcast_to(y[None], eta.shape), jnp.exp(eta), 1 / dispersion)


def _slopes(eta: Array, y: Array, trials: Any, dispersion: Array) -> Slopes:
    mean = jnp.exp(eta)
    wider = 1 + dispersion * mean
    return Slopes((y[None] - mean) / wider, mean * (1 + dispersion * y[None]) / wider**2)


def _gain(eta: Array, change: Array, y: Array, trials: Any, dispersion: Array) -> Array:
    size, mean = 1 / dispersion, jnp.exp(eta)
    return y[None] * change - (y[None] + size) * jnp.log1p(mean / (size + mean) * jnp.expm1(change))


def _estimate(predict: Predict, rows: Responses, responsibilities: Array, dispersion: Array) -> tuple[Array, Array]:
    """Return where the slope in log 1/φ falls through zero, or the end it has there; the old one where that is no gain."""
    r = jnp.where(responsibilities > 0, responsibilities, 0)
    typical = jnp.where(r > 0, r * rows.y[:, None], 0).sum(0) / positive(r.sum(0))
    low, high = math.log(LEAST), math.log(MOST)

    def slope(log_size: Array) -> tuple[Array, Array]:
        size = jnp.exp(log_size)[:, None]

        def of_rows(some: Responses, shares: Array) -> tuple[Array, Array]:
            first, second = _size_slopes(some.y[None], jnp.exp(predict(some)), size)
            first, second = (jnp.where(shares.T > 0, shares.T * each, 0).sum(1) for each in (first, second))
            return first, second

        first, second = over_rows(of_rows, rows, r)
        s = size[:, 0]
        return s * (s + typical) * first, s * (2 * s + typical) * first + s**2 * (s + typical) * second

    found = root(slope, -jnp.log(dispersion), low, high)
    size = jnp.clip(jnp.where(found >= high, MOST, jnp.exp(found)), LEAST, MOST)

    def gained(some: Responses, shares: Array) -> Array:
        y, mean = jnp.broadcast_to(some.y[None], shares.T.shape), jnp.exp(predict(some))
        each = log_mass_of(y, mean, size[:, None]) - log_mass_of(y, mean, 1 / dispersion[:, None])
        return jnp.where(shares.T > 0, shares.T * each, 0).sum(1)

    higher = over_rows(gained, rows, r) >= -ROUNDING * jnp.finfo(size.dtype).eps * r.sum(0)
    return jnp.where(higher, 1 / size, dispersion), jnp.zeros(size.shape, bool)


def _size_slopes(y: Array, mean: Array, size: Array) -> tuple[Array, Array]:
    """Return the first two derivatives of log p in the size s: y/2s(s + y) + μ'(s + y) - μ'(s) - D(1; ρ), ρ = (s + y)/(s + μ).

    μ(·) is Binet's function, and D(1; ρ) = ρ - 1 - log ρ.
    """
    total, rest = size + y, size + mean
    delta = (y - mean) / rest
    first = 0.5 * y / (size * total) + binet_slope(total) - binet_slope(size) - excess(delta, total / rest)
    second = binet_curvature(total) - binet_curvature(size) - 0.5 * y * (size + total) / (size * total) ** 2
    return first, second + delta * (y - mean) / (total * rest)


def _sample(key: Array, eta: Array, trials: Any, dispersion: Array) -> Array:
    key_rate, key_count = jax.random.split(key)
    log_rate = eta + jax.random.loggamma(key_rate, 1 / dispersion, dtype=eta.dtype) + jnp.log(dispersion)
    return sample_poisson(key_count, jnp.exp(log_rate))


NEGATIVE_BINOMIAL = Response(
    kind=COUNTS,
    base=lambda y, trials: log_mass_at_mean(y),
    log_prob=_log_prob,
    slopes=_slopes,
    gain=_gain,
    guess=lambda y, trials: jnp.log(y + 0.5),
    sample=_sample,
    dispersion=Dispersion(_estimate, separate=False, constraint=constraints.interval(1 / MOST, 1 / LEAST)),
)
