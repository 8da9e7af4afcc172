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
from jaxem.families.holes import allowing_holes
from jaxem.families.priors import GammaPrior, by_column, checked_gamma, gamma_mode, log_gamma
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
    """Sums over rows with responsibilities r_nk, and how likely they are at the rates λ_k of the E-step's parameters.

    counts (k,)          N_k = Σ_n r_nk
    centre (k, *event)   N_k λ_k, so that the sums say what they are about and still add up over blocks; λ = 1 for a rate of 0
    total (k, *event)    Σ_n r_nk x_n
    log_mass ()          Σ_nk r_nk log p(x_n | λ_k)
    """

    counts: Array
    centre: Array
    total: Array
    log_mass: Array


class Counts(NamedTuple):
    """Counts that have been looked at, (n, *event), and the log-mass of each row at rates equal to its counts, (n,)."""

    x: Array
    at_own_mean: Array


def poisson(prior: GammaPrior | None = None) -> Family:
    """Return the Poisson family, log p(x | λ_k) = Σ_j x_j log λ_kj - λ_kj - log x_j!, for counts (n,) or (n, d).

    Evaluated as log p(x | x) - D(x; λ), D = Σ_j x_j log(x_j / λ_j) + λ_j - x_j: both terms are of one sign, so nothing cancels
    at any rate (Loader 2000). With a `prior`, a `families.GammaPrior` of each rate, the M-step is the mode under it.

    Raises ValueError for another prior, or one whose density is infinite at zero.

    >>> import numpy as np, jaxem
    >>> model = jaxem.mixture(jaxem.families.poisson(), 2)
    >>> best = jaxem.fit_restarts(model, 0, [10, 20, 30, 700, 800, 900], num_restarts=8).best
    >>> print(np.sort(best.params.components.rate).round(1))
    [ 20. 800.]
    """
    return _poisson(checked_gamma(prior))


@cache
def _poisson(prior: GammaPrior | None) -> Family:
    def evaluate(params: Poisson, x: Counts) -> tuple[Array, Callable[[Array], PoissonStats]]:
        counts, none = independent.columns(x.x), params.rate == 0
        about = jnp.where(none, 1, params.rate)
        rate = independent.columns(about)
        check_width(x.x, rate.shape[1], "rate")
        log_mass = x.at_own_mean[:, None] - deviance(counts.T[None], rate[:, :, None]).sum(1).T

        def statistics(responsibilities: Array) -> PoissonStats:
            number = responsibilities.sum(0)
            total = independent.weighted_sums(x.x, responsibilities)
            return PoissonStats(number, _along(number, about) * about, total, weighted_sum(responsibilities, log_mass))

        zero = independent.columns(none).astype(rate.dtype)
        possible = (counts > 0).astype(rate.dtype) @ zero.T == 0
        return jnp.where(
            possible, log_mass + (zero * (1 - independent.columns(params.rate))).sum(1)[None], -jnp.inf
        ), statistics

    def expected_log_prob(params: Poisson, stats: PoissonStats) -> Array:
        """Σ r log p(x | λ') - N λ' (δ - log(1 + δ)) + (total - N λ') log(1 + δ), δ = (λ - λ')/λ', λ' that of the statistics."""
        about = stats.centre / positive(_along(stats.counts, stats.centre))
        change = (params.rate - about) / positive(about)
        some = (stats.total > 0) & (params.rate > 0)
        log_change = jnp.log1p(jnp.where(some, change, 0))
        lost = stats.centre * (change - log_change) - jnp.where(some, stats.total - stats.centre, 0) * log_change
        return stats.log_mass - jnp.where((stats.total > 0) & ~some, jnp.inf, lost).sum()

    def init(x: Counts, responsibilities: Array) -> Poisson:
        """The M-step from the responsibilities and half a count more: no rate is zero unless all counts are."""
        total = independent.weighted_sums(x.x, responsibilities)
        more = jnp.where(total.sum(0, keepdims=True) > 0, total + 0.5, 0)
        return Poisson(gamma_mode(prior, more, jnp.broadcast_to(_along(responsibilities.sum(0) + 1, total), total.shape)))

    def m_step(params: Poisson, stats: PoissonStats) -> Poisson:
        return Poisson(gamma_mode(prior, stats.total, jnp.broadcast_to(_along(stats.counts, stats.total), stats.total.shape)))

    def sample(key: Array, params: Poisson, labels: Array, like: Any) -> Array:
        return sample_poisson(key, params.rate[labels])

    family = Family(
        evaluate,
        m_step,
        expected_log_prob,
        init,
        constraints=Poisson(constraints.non_negative),
        sample=sample,
        embed=lambda data: jnp.sqrt(independent.columns(data.x)),
        prepare=_prepare,
        log_prior=(lambda params: log_gamma(prior, params.rate)) if prior else None,
        parts=(poisson, (prior,)),
    )
    return allowing_holes(family, mean=lambda params: params.rate, column=by_column(_poisson, prior))


def _along(counts: Array, like: Array) -> Array:
    """Return counts (k,) with axes of length one for those of the event."""
    return counts.reshape(-1, *[1] * (like.ndim - 1))


def _prepare(data: Any, weights: Array | None) -> Counts:
    if isinstance(data, Counts):
        return data
    x = independent.checked(data, math.inf, "counts, whole numbers ≥ 0")
    return Counts(x, log_mass_at_mean(independent.columns(x)).sum(1))
