"""Poisson components: counts, in one dimension or in d independent ones."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import gammaln

from jaxem import constraints, initialize
from jaxem.families import independent
from jaxem.model import Family, weighted_log


class Poisson(NamedTuple):
    """Parameters of k Poisson components: rate (k, *event), the expected count; event is () or (d,)."""

    rate: Any


class PoissonStats(NamedTuple):
    """Sums over rows with responsibilities r_nk.

    counts (k,)         Σ_n r_nk
    total (k, *event)   Σ_n r_nk x_n
    log_factorial ()    Σ_nk r_nk Σ_j log x_nj!
    """

    counts: Array
    total: Array
    log_factorial: Array


@lru_cache
def poisson() -> Family:
    """Return the Poisson family, log p(x | λ_k) = Σ_j x_j log λ_kj - λ_kj - log x_j!, for counts (n,) or (n, d).

    The terms of that sum are large where counts are, and cancel. With c the mean count, and ℓ = log λ/c, it is taken as
    (x - c) ℓ + (c ℓ - (λ - c)) + log p(x | c), of which only the last is large, and that depends on no parameter.
    """

    def log_prob(params: Poisson, x: Array) -> Array:
        rate, counts = independent.columns(params.rate), independent.columns(x)
        mean = counts.mean(0, keepdims=True)
        mean = jnp.where(mean > 0, mean, 1)
        log_ratio = jnp.log1p(jnp.where(rate > 0, (rate - mean) / mean, 0))
        log_mass = (counts - mean) @ log_ratio.T + (mean * log_ratio - (rate - mean)).sum(1)[None]
        at_mean = (counts * jnp.log(mean) - mean - gammaln(counts + 1)).sum(1)
        impossible = counts @ jnp.where(rate > 0, 0, independent.IMPOSSIBLE).astype(rate.dtype).T
        return independent.restore_impossible(log_mass + at_mean[:, None] + impossible)

    def statistics(params: Poisson, x: Array, responsibilities: Array) -> PoissonStats:
        log_factorial = gammaln(independent.columns(x) + 1).sum(1)
        return PoissonStats(
            responsibilities.sum(0),
            independent.weighted_sums(x, responsibilities),
            (responsibilities.sum(1) * log_factorial).sum(),
        )

    def m_step(params: Poisson, stats: PoissonStats) -> Poisson:
        return Poisson(independent.average(stats.total, stats.counts, params.rate))

    def expected_log_prob(params: Poisson, stats: PoissonStats) -> Array:
        rate = independent.columns(params.rate)
        return weighted_log(stats.total, params.rate).sum() - stats.counts @ rate.sum(1) - stats.log_factorial

    def init(key: Array, x: Array, weights: Array, num_components: int) -> Poisson:
        """Rates half way from the mean to k-means++ centres: none is zero unless all its counts are."""
        mean = jnp.tensordot(weights / weights.sum(), x, 1)
        return Poisson(0.5 * (mean[None] + initialize.kmeans_plusplus(key, x, weights, num_components)))

    def sample(key: Array, params: Poisson, labels: Array) -> Array:
        rate = params.rate[labels]
        return jax.random.poisson(key, rate).astype(rate.dtype)

    return Family(
        log_prob,
        statistics,
        m_step,
        init,
        expected_log_prob,
        sample,
        constraints=Poisson(constraints.non_negative),
        validate=lambda data, weights: independent.validate_counts(data, weights, math.inf, "counts, whole numbers ≥ 0"),
    )
