"""Poisson components: counts, in one dimension or in d independent ones."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxem import constraints
from jaxem.arrays import check_width
from jaxem.families import independent
from jaxem.families.counts import deviance, log_mass_at_mean, sample_poisson
from jaxem.model import Family
from jaxem.numerics import positive, weighted_sum


class Poisson(NamedTuple):
    """Parameters of k Poisson components: rate (k, *event), the expected count; event is () or (d,).

    >>> from jaxem.families import Poisson
    >>> Poisson(rate=[1.0, 3.0]).rate
    [1.0, 3.0]
    """

    rate: Any


class PoissonStats(NamedTuple):
    """Sums over rows with responsibilities r_nk, about the rates λ_k of the E-step's parameters.

    counts (k,)          N_k = Σ_n r_nk
    centre (k, *event)   N_k λ_k, so that the sums say what they are about and still add up over blocks
    shift (k, *event)    Σ_n r_nk (x_n - λ_k)
    log_mass ()          Σ_nk r_nk log p(x_n | λ_k)
    """

    counts: Array
    centre: Array
    shift: Array
    log_mass: Array


class Counts(NamedTuple):
    """Counts that have been looked at, (n, *event), and the log-mass of each row at rates equal to its counts, (n,)."""

    x: Array
    at_own_mean: Array


@cache
def poisson() -> Family:
    """Return the Poisson family, log p(x | λ_k) = Σ_j x_j log λ_kj - λ_kj - log x_j!, for counts (n,) or (n, d).

    Evaluated as log p(x | x) - D(x; λ), D = Σ_j x_j log(x_j / λ_j) + λ_j - x_j: both terms are of one sign, so nothing cancels
    at any rate (Loader 2000).

    >>> import numpy as np, jaxem
    >>> model = jaxem.mixture(jaxem.families.poisson(), 2)
    >>> best = jaxem.fit_restarts(model, 0, [0, 1, 2, 7, 8, 9], num_restarts=8).best
    >>> print(np.asarray(best.params.components.rate).round(1))
    [1.  7.9]
    """

    def evaluate(params: Poisson, x: Counts) -> tuple[Array, Callable[[Array], PoissonStats]]:
        rate, counts = independent.columns(params.rate), independent.columns(x.x)
        check_width(x.x, rate.shape[1], "rate")
        log_prob = x.at_own_mean[:, None] - deviance(counts.T[None], rate[:, :, None]).sum(1).T

        def statistics(responsibilities: Array) -> PoissonStats:
            number = responsibilities.sum(0)
            centre = _along(number, params.rate) * params.rate
            shift = independent.weighted_sums(x.x, responsibilities) - centre
            return PoissonStats(number, centre, shift, weighted_sum(responsibilities, log_prob))

        return log_prob, statistics

    def expected_log_prob(params: Poisson, stats: PoissonStats) -> Array:
        """Σ r log p(x | λ') less N λ' (δ - log(1 + δ)) - shift log(1 + δ), δ = (λ - λ')/λ', about λ' of the statistics."""
        about = stats.centre / positive(_along(stats.counts, stats.centre))
        change = jnp.where(about > 0, (params.rate - about) / positive(about), 0)
        log_change = jnp.log1p(change)
        moved = stats.centre * (change - log_change) - jnp.where(stats.shift == 0, 0, stats.shift * log_change)
        from_zero = jnp.where(about > 0, 0, _along(stats.counts, stats.centre) * params.rate)
        return stats.log_mass - (moved + from_zero).sum()

    def init(x: Counts, responsibilities: Array) -> Poisson:
        """The M-step from the responsibilities and half a count more: no rate is zero unless all counts are."""
        total = independent.weighted_sums(x.x, responsibilities)
        more = jnp.where(total.sum(0, keepdims=True) > 0, total + 0.5, 0)
        return Poisson(more / _along(responsibilities.sum(0) + 1, total))

    def sample(key: Array, params: Poisson, labels: Array, like: Any) -> Array:
        return sample_poisson(key, params.rate[labels])

    return Family(
        evaluate,
        _m_step,
        expected_log_prob,
        init,
        constraints=Poisson(constraints.non_negative),
        sample=sample,
        embed=lambda data: jnp.sqrt(independent.columns(data.x)),
        prepare=_prepare,
        parts=(poisson, ()),
    )


def _m_step(params: Poisson, stats: PoissonStats) -> Poisson:
    return Poisson(jnp.maximum((stats.centre + stats.shift) / positive(_along(stats.counts, stats.shift)), 0))


def _along(counts: Array, like: Array) -> Array:
    """Return counts (k,) with axes of length one for those of the event."""
    return counts.reshape(-1, *[1] * (like.ndim - 1))


def _prepare(data: Any, weights: Array | None) -> Counts:
    if isinstance(data, Counts):
        return data
    x = independent.checked(data, math.inf, "counts, whole numbers ≥ 0")
    return Counts(x, log_mass_at_mean(independent.columns(x)).sum(1))
