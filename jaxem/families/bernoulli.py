"""Bernoulli components: zeros and ones, in one dimension or in d independent ones."""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxem import constraints, initialize
from jaxem.families import independent
from jaxem.model import Family, weighted_log


class Bernoulli(NamedTuple):
    """Parameters of k Bernoulli components: probs (k, *event), the probability of a one; event is () or (d,)."""

    probs: Any


class BernoulliStats(NamedTuple):
    """Sums over rows with responsibilities r_nk: ones Σ_n r_nk x_n and zeros Σ_n r_nk (1 - x_n), (k, *event) each."""

    ones: Array
    zeros: Array


@lru_cache
def bernoulli() -> Family:
    """Return the Bernoulli family, log p(x | p_k) = Σ_j x_j log p_kj + (1 - x_j) log(1 - p_kj), for data (n,) or (n, d)."""

    def log_prob(params: Bernoulli, x: Array) -> Array:
        probs, ones = independent.columns(params.probs), independent.columns(x)
        log_one, log_zero = independent.finite_log(probs), independent.finite_log(1 - probs)
        return independent.restore_impossible(ones @ log_one.T + (1 - ones) @ log_zero.T)

    def statistics(params: Bernoulli, x: Array, responsibilities: Array) -> BernoulliStats:
        return BernoulliStats(*(independent.weighted_sums(value, responsibilities) for value in (x, 1 - x)))

    def m_step(params: Bernoulli, stats: BernoulliStats) -> Bernoulli:
        return Bernoulli(independent.average(stats.ones, stats.ones + stats.zeros, params.probs))

    def expected_log_prob(params: Bernoulli, stats: BernoulliStats) -> Array:
        return (weighted_log(stats.ones, params.probs) + weighted_log(stats.zeros, 1 - params.probs)).sum()

    def init(key: Array, x: Array, weights: Array, num_components: int) -> Bernoulli:
        """Probabilities half way from the mean to k-means++ centres: none is 0 or 1 unless all its data are."""
        mean = jnp.tensordot(weights / weights.sum(), x, 1)
        centres = initialize.kmeans_plusplus(key, x, weights, num_components)
        return Bernoulli(jnp.clip(0.5 * (mean[None] + centres), 0, 1))

    def sample(key: Array, params: Bernoulli, labels: Array) -> Array:
        probs = params.probs[labels]
        return jax.random.bernoulli(key, probs).astype(probs.dtype)

    return Family(
        log_prob,
        statistics,
        m_step,
        init,
        expected_log_prob,
        sample,
        constraints=Bernoulli(constraints.interval(0, 1)),
        validate=lambda data, weights: independent.validate_counts(data, weights, 1, "zeros and ones"),
    )
