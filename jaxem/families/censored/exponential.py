"""Exponential times of which some are censored.

Of one that is above a there is nothing latent to know: log p = -λ a. One in (a, b] is a + t, with t ≤ b - a a latent
exponential time again. So the M-step is the number of times that have ended, over the time that all have lived until then.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxem.arrays import check_width
from jaxem.families import independent
from jaxem.families.censored.kinds import Kind
from jaxem.families.censored.rows import EXACT, INTERVAL, LEFT, NON_NEGATIVE, RIGHT, UNKNOWN, Known
from jaxem.families.exponential import MEAN_FLOOR, Exponential, mean_floor
from jaxem.families.positives import along, weighed
from jaxem.families.priors import GammaPrior, gamma_mode
from jaxem.model import Family
from jaxem.numerics import positive
from jaxem.tails import early, log_less


class CensoredExponentialStats(NamedTuple):
    """Sums over rows with responsibilities r_nk.

    counts (k,)          Σ_n r_nk
    ended (k, *event)    Σ_n r_nk over times that are exact, or have an upper end
    lived (k, *event)    Σ_n r_nk E[x_n], of those without an upper end their lower one
    typical (k, *event)  Σ_n r_nk times a value that each may have, which says on what scale they are
    entropy ()           Σ_nk r_nk of that of the latent times, in nats
    """

    counts: Array
    ended: Array
    lived: Array
    typical: Array
    entropy: Array


def exponential_kind(family: Family) -> Kind:
    """Return what exponential times need: with the prior of the family, and without one with rates held within a range."""
    assert family.parts is not None
    prior: GammaPrior | None = family.parts[1][0]

    def m_step(params: Exponential, stats: CensoredExponentialStats) -> Exponential:
        if prior is None:
            return Exponential(_rates(params, stats)[0])
        return Exponential(gamma_mode(prior, stats.ended, stats.lived))

    def degenerate(params: Exponential, stats: CensoredExponentialStats) -> Array:
        return _rates(params, stats)[1]

    return Kind(NON_NEGATIVE, _evaluate, m_step, _expected_log_prob, None if prior else degenerate)


def _evaluate(params: Exponential, x: Known) -> tuple[Array, Callable[[Array], CensoredExponentialStats]]:
    rate = independent.columns(params.rate)[:, :, None]
    check_width(x.low, rate.shape[1], "rate")
    low, kind = (independent.columns(leaf).T[None] for leaf in (x.low, x.kind))
    high = low if x.high is None else independent.columns(x.high).T[None]
    latent = (kind == LEFT) | (kind == INTERVAL)
    start = jnp.where((kind == LEFT) | (kind == UNKNOWN), 0, low)
    width = jnp.where(latent, jnp.maximum(high - start, jnp.finfo(low.dtype).tiny), 1)
    turns = rate * width
    passed, log_mass = early(turns), log_less(turns)

    def statistics(responsibilities: Array) -> CensoredExponentialStats:
        has_end = (x.kind != RIGHT) & (x.kind != UNKNOWN)
        ended = independent.weighted_sums(has_end.astype(x.low.dtype), responsibilities)
        lived = start + jnp.where(latent, width * passed, 0)
        entropy = jnp.where(latent, log_mass - jnp.log(rate) + turns * passed, 0)
        return CensoredExponentialStats(
            responsibilities.sum(0),
            ended,
            weighed(responsibilities, lived, ended),
            independent.weighted_sums(x.typical.x, responsibilities),
            (responsibilities.T[:, None, :] * entropy).sum(),
        )

    at_end = jnp.where(latent, log_mass, jnp.where(kind == EXACT, jnp.log(rate), 0))
    return (at_end - rate * start).sum(1).T, statistics


def _expected_log_prob(params: Exponential, stats: CensoredExponentialStats) -> Array:
    return (stats.ended * jnp.log(params.rate) - stats.lived * params.rate).sum() + stats.entropy


def _rates(params: Exponential, stats: CensoredExponentialStats) -> tuple[Array, Array]:
    """Return the best rates within a range, and whether one with rows had to be held; where nothing is known, the old ones."""
    overall = stats.typical.sum(0, keepdims=True) / stats.counts.sum()
    least = mean_floor(overall)
    most = jnp.minimum(jnp.maximum(overall / MEAN_FLOOR, least), 0.1 * jnp.finfo(overall.dtype).max)
    some = stats.ended > 0
    mean = jnp.where(some, stats.lived / positive(stats.ended), jnp.where(stats.lived > 0, jnp.inf, 1 / params.rate))
    held = (mean < least) | (mean > most)
    return 1 / jnp.clip(mean, least, most), (held & (along(stats.counts, mean) > 0)).any()
