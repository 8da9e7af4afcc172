"""Exponential components: waiting times, in one dimension or in d independent ones."""

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
from jaxem.families.positives import along, checked, cube_root, overall_mean
from jaxem.families.priors import GammaPrior, by_column, checked_gamma, gamma_mode, log_gamma
from jaxem.model import Family
from jaxem.numerics import positive

MEAN_FLOOR = 1e-10


class Exponential(NamedTuple):
    """Parameters of k exponential components: rate (k, *event), one over the mean; event is () or (d,).

    >>> from jaxem.families import Exponential
    >>> Exponential(rate=[0.1, 2.0]).rate
    [0.1, 2.0]
    """

    rate: Any


class ExponentialStats(NamedTuple):
    """Sums over rows with responsibilities r_nk: counts Σ_n r_nk (k,), total Σ_n r_nk x_n (k, *event)."""

    counts: Array
    total: Array


class Times(NamedTuple):
    """Numbers ≥ 0 that have been looked at: (n, *event)."""

    x: Array


def exponential(prior: GammaPrior | None = None) -> Family:
    """Return the exponential family, log p(x | λ_k) = Σ_j log λ_kj - λ_kj x_j, for numbers ≥ 0, (n,) or (n, d).

    No mean 1/λ_k is below 1e-10 of that of all the data, which holds a component that shrinks onto zeros.
    With a `prior`, a `families.GammaPrior` of each rate, the M-step is the mode under it, and needs no floor.
    Raises ValueError for another prior, or one whose density is infinite at zero.

    >>> import jaxem
    >>> x = [1.0, 2.0, 6.0]
    >>> model = jaxem.single(jaxem.families.exponential())
    >>> print(jaxem.fit(model, model.init(0, x), x).params.rate.round(3))
    [0.333]
    """
    return _exponential(checked_gamma(prior))


@cache
def _exponential(prior: GammaPrior | None) -> Family:
    def m_step(params: Exponential, stats: ExponentialStats) -> Exponential:
        if prior is None:
            return Exponential(1 / _means(stats)[0])
        events = jnp.broadcast_to(along(stats.counts, stats.total), stats.total.shape)
        return Exponential(gamma_mode(prior, events, stats.total))

    def degenerate(params: Exponential, stats: ExponentialStats) -> Array:
        return (_means(stats)[1] & (along(stats.counts, stats.total) > 0)).any()

    def evaluate(params: Exponential, x: Times) -> tuple[Array, Callable[[Array], ExponentialStats]]:
        rate = independent.columns(params.rate)
        check_width(x.x, rate.shape[1], "rate")

        def statistics(responsibilities: Array) -> ExponentialStats:
            return ExponentialStats(responsibilities.sum(0), independent.weighted_sums(x.x, responsibilities))

        return jnp.log(rate).sum(1)[None] - independent.columns(x.x) @ rate.T, statistics

    def expected_log_prob(params: Exponential, stats: ExponentialStats) -> Array:
        return (along(stats.counts, params.rate) * jnp.log(params.rate) - params.rate * stats.total).sum()

    def init(x: Times, responsibilities: Array) -> Exponential:
        """The M-step from the responsibilities and one row more, the mean of all."""
        total = independent.weighted_sums(x.x, responsibilities) + overall_mean(x.x, responsibilities)
        return m_step(Exponential(total), ExponentialStats(responsibilities.sum(0) + 1, total))

    def sample(key: Array, params: Exponential, labels: Array, like: Any) -> Array:
        rate = params.rate[labels]
        return jax.random.exponential(key, rate.shape, rate.dtype) / rate

    family = Family(
        evaluate,
        m_step,
        expected_log_prob,
        init,
        constraints=Exponential(constraints.positive),
        sample=sample,
        embed=lambda data: cube_root(data.x),
        prepare=lambda data, weights: data if isinstance(data, Times) else Times(checked(data, zero=True)),
        log_prior=(lambda params: log_gamma(prior, params.rate)) if prior else None,
        degenerate=None if prior else degenerate,
        parts=(exponential, (prior,)),
    )
    return allowing_holes(family, mean=lambda params: 1 / params.rate, legal=1.0, column=by_column(_exponential, prior))


def _means(stats: ExponentialStats) -> tuple[Array, Array]:
    """Return the mean of each component, and whether it had to be held."""
    mean = stats.total / positive(along(stats.counts, stats.total))
    overall = stats.total.sum(0, keepdims=True) / stats.counts.sum()
    least = mean_floor(overall)
    return jnp.maximum(mean, least), mean < least


def mean_floor(overall: Array) -> Array:
    """Return the least mean of a component where that of all the data is `overall`; above zero where that is zero."""
    tiny = jnp.finfo(overall.dtype).tiny
    return jnp.where(overall > 0, jnp.maximum(MEAN_FLOOR * overall, tiny), jnp.sqrt(tiny))
