"""Successes in so many trials, one each by default, with log-odds η."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from jaxem.families.counts import stirling_error
from jaxem.families.glm.responses import Response, Slopes
from jaxem.families.regression import Kind


def _log_mass_at_own_share(y: Array, trials: Array | None) -> Array:
    """Return log p(y | p = y/m), by Stirling's formula for what is neither 0 nor m (Loader 2000)."""
    if trials is None:
        return jnp.zeros_like(y)
    inner = (y > 0) & (y < trials)
    one, other, all_ = (jnp.where(inner, count, 2) for count in (y, trials - y, trials))
    error = stirling_error(all_) - stirling_error(one) - stirling_error(other)
    return jnp.where(inner, error - 0.5 * jnp.log(2 * math.pi * one * (other / all_)), 0)


def _log_prob(eta: Array, y: Array, trials: Array | None, base: Array, dispersion: None) -> Array:
    """Return log p = log p(y | q = y/m) - m (log(1 + q (e^t - 1)) - q t), t = η - log q/(1 - q).

    With a = 1 - q and u = t where t > 0, and a = q and u = -t elsewhere, the bracket is log(1 - a (1 - e^-u)) + a u; and
    log(1 + e^∓η) where q is 0 or 1.
    """
    edge = jax.nn.softplus(jnp.where((y > 0)[None], -eta, eta))
    if trials is None:
        return -edge
    inner = ((y > 0) & (y < trials))[None]
    share = jnp.where(inner, (y / trials)[None], 0.5)
    t = jnp.where(inner, eta - (jnp.log(share) - jnp.log1p(-share)), 0)
    above = t > 0
    side, length = jnp.where(above, 1 - share, share), jnp.where(above, t, -t)
    return base[None] - trials[None] * jnp.where(inner, jnp.log1p(side * jnp.expm1(-length)) + side * length, edge)


def _trials(y: Array, trials: Array | None) -> Array:
    return jnp.ones_like(y) if trials is None else trials


def _slopes(eta: Array, y: Array, trials: Array | None, dispersion: None) -> Slopes:
    share, other, count = jax.nn.sigmoid(eta), jax.nn.sigmoid(-eta), _trials(y, trials)
    return Slopes(y[None] * other - (count - y)[None] * share, count[None] * share * other)


def _gain(eta: Array, change: Array, y: Array, trials: Array | None, dispersion: None) -> Array:
    return y[None] * change - _trials(y, trials)[None] * jnp.log1p(jax.nn.sigmoid(eta) * jnp.expm1(change))


def _sample(key: Array, eta: Array, trials: Array | None, dispersion: None) -> Array:
    share = jax.nn.sigmoid(eta)
    if trials is None:
        return jax.random.bernoulli(key, share).astype(eta.dtype)
    return jax.random.binomial(key, trials, share, dtype=eta.dtype)


def _legal(y: Array, trials: Array | None) -> Array:
    count = _trials(y, trials)
    return (y >= 0) & (y <= count) & (y == jnp.floor(y)) & (count > 0) & (count == jnp.floor(count))


BINOMIAL = Response(
    kind=Kind(_legal, "successes, whole numbers from 0 to the row's trials (whole ones, 1 where none are given)", trials=True),
    base=_log_mass_at_own_share,
    log_prob=_log_prob,
    slopes=_slopes,
    gain=_gain,
    guess=lambda y, trials: jnp.log(y + 0.5) - jnp.log(_trials(y, trials) - y + 0.5),
    sample=_sample,
)
