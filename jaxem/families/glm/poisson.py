"""Counts with mean e^η."""

import jax.numpy as jnp
from jax import Array

from jaxem.families.counts import log_mass_at_mean, sample_poisson
from jaxem.families.glm.responses import COUNTS, Response, Slopes
from jaxem.numerics import excess_of_exp


def _log_prob(eta: Array, y: Array, trials: Array | None, base: Array, dispersion: None) -> Array:
    """Return log p = log p(y | μ = y) - y (e^t - 1 - t), t = η - log y: neither term is ever positive."""
    some = (y > 0)[None]
    log_y = jnp.log(jnp.where(y > 0, y, 1))[None]
    lost = jnp.where(some, y[None] * excess_of_exp(jnp.where(some, eta - log_y, 0)), jnp.exp(jnp.where(some, 0, eta)))
    return base[None] - lost


def _slopes(eta: Array, y: Array, trials: Array | None, dispersion: None) -> Slopes:
    mean = jnp.exp(eta)
    return Slopes(y[None] - mean, mean)


def _gain(eta: Array, change: Array, y: Array, trials: Array | None, dispersion: None) -> Array:
    return y[None] * change - jnp.exp(eta) * jnp.expm1(change)


POISSON = Response(
    kind=COUNTS,
    base=lambda y, trials: log_mass_at_mean(y),
    log_prob=_log_prob,
    slopes=_slopes,
    gain=_gain,
    guess=lambda y, trials: jnp.log(y + 0.5),
    sample=lambda key, eta, trials, dispersion: sample_poisson(key, jnp.exp(eta)),
)
