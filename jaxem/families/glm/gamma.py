"""Numbers > 0 with mean μ = e^η and variance φ μ²: gamma of shape 1/φ."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxem import constraints
from jaxem.families.glm.responses import Dispersion, Predict, Response, Slopes
from jaxem.families.newton import over_rows
from jaxem.families.positives import sharpest
from jaxem.families.regression import Kind, Responses
from jaxem.numerics import LOG_2PI, excess_of_exp, positive
from jaxem.special import binet, inverse_log_minus_digamma


def _log_prob(eta: Array, y: Array, trials: Any, base: Array, dispersion: Array) -> Array:
    """Return log p = g(1/φ) - (e^u - 1 - u)/φ - log y, u = log y/μ, where g(α) is about ½ log α/2π."""
    shape = 1 / dispersion
    peak = 0.5 * (jnp.log(shape) - LOG_2PI) - binet(shape)
    return peak - shape * excess_of_exp(base[None] - eta) - base[None]


def _slopes(eta: Array, y: Array, trials: Any, dispersion: Array) -> Slopes:
    u = jnp.log(y)[None] - eta
    return Slopes(jnp.expm1(u) / dispersion, jnp.exp(u) / dispersion)


def _gain(eta: Array, change: Array, y: Array, trials: Any, dispersion: Array) -> Array:
    return -(change + jnp.exp(jnp.log(y)[None] - eta) * jnp.expm1(-change)) / dispersion


def _estimate(predict: Predict, rows: Responses, responsibilities: Array, dispersion: Array) -> tuple[Array, Array]:
    """Solve log α - ψ(α) = mean of e^u - 1 - u, α = 1/φ, infinite for what shrinks onto a curve."""

    def deviances(some: Responses, shares: Array) -> Array:
        each = excess_of_exp(jnp.log(some.y)[None] - predict(some))
        return jnp.where(shares.T > 0, shares.T * each, 0).sum(1)

    counts = jnp.where(responsibilities > 0, responsibilities, 0).sum(0)
    deviance = over_rows(deviances, rows, responsibilities) / positive(counts)
    most = sharpest(deviance.dtype) ** 2
    held = ~(deviance > 0.5 / most)
    return 1 / jnp.where(held, most, inverse_log_minus_digamma(jnp.where(held, 1, deviance))), held & (counts > 0)


def _sample(key: Array, eta: Array, trials: Any, dispersion: Array) -> Array:
    log_draw = jax.random.loggamma(key, 1 / dispersion, dtype=eta.dtype) + jnp.log(dispersion) + eta
    return jnp.maximum(jnp.exp(log_draw), jnp.finfo(eta.dtype).tiny)


GAMMA = Response(
    kind=Kind(lambda y, trials: y > 0, "numbers > 0"),
    base=lambda y, trials: jnp.log(y),
    log_prob=_log_prob,
    slopes=_slopes,
    gain=_gain,
    guess=lambda y, trials: jnp.log(y),
    sample=_sample,
    dispersion=Dispersion(_estimate, separate=True, constraint=constraints.positive),
)
