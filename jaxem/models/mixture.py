"""Finite mixtures: one latent label per row, p(x) = Σ_k π_k p(x | θ_k)."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem import constraints
from jaxem.boundary import as_arrays, as_floating, at_least_one, check_rows, is_traced
from jaxem.model import Family, Model, PyTree, Use, evaluate, in_full_precision, normalize, num_rows, unit_weights, weighted_log


class Mixture(NamedTuple):
    """Parameters of a mixture of k components.

    weights     (k,) mixing proportions, on the simplex
    components  the family's parameters
    """

    weights: Any
    components: PyTree


class MixtureStats(NamedTuple):
    """Expected counts per component, (k,), and the family's statistics."""

    counts: Array
    components: PyTree


def mixture(family: Family, num_components: int) -> Model:
    """Return the mixture of `num_components` components of `family`.

    r_nk ∝ π_k p(x_n | θ_k);  data (n, *event), weights (n,), posterior (n, k), latents of `sample` (n,) labels.
    Dempster, Laird & Rubin (1977), §4.3. Raises ValueError for fewer than one component, and for what is no family.
    """
    if not isinstance(family, Family):
        raise ValueError(f"family must be a Family, such as families.gaussian() with its parentheses, got {family!r}.")
    return _mixture(family, at_least_one("num_components", num_components))


@lru_cache
def _mixture(family: Family, num_components: int) -> Model:
    def with_joint(params: Mixture, data: PyTree, use: Use) -> PyTree:
        """Use log p(x_n, z = k) (k, n), and statistics of the same shape of responsibilities.

        Rows run along the last axis, where arithmetic over them is fastest.
        """

        def label(log_density: Array, statistics: Callable[[Array], PyTree]) -> PyTree:
            return use(
                log_density.T + jnp.log(params.weights)[:, None],
                lambda responsibilities: MixtureStats(responsibilities.sum(1), statistics(responsibilities.T)),
            )

        return evaluate(family, params.components, data, label)

    @jax.jit
    @in_full_precision
    def posterior(params: Mixture, data: PyTree) -> Array:
        return with_joint(params, data, lambda log_joint, _: normalize(log_joint)[0].T)

    @jax.jit
    @in_full_precision
    def log_prob(params: Mixture, data: PyTree) -> Array:
        return with_joint(params, data, lambda log_joint, _: normalize(log_joint)[1])

    @in_full_precision
    def statistics(params: Mixture, data: PyTree, weights: Array, posterior: Array) -> MixtureStats:
        return with_joint(params, data, lambda _, summarize: summarize(weights[None] * posterior.T))

    @jax.jit
    @in_full_precision
    def e_step(params: Mixture, data: PyTree, weights: Array) -> tuple[MixtureStats, Array]:
        def expect(log_joint: Array, summarize: Callable[[Array], MixtureStats]) -> tuple[MixtureStats, Array]:
            shares, log_probs = normalize(log_joint)
            return summarize(weights[None] * shares), jnp.where(weights > 0, weights * log_probs, 0).sum()

        return with_joint(params, data, expect)

    @jax.jit
    @in_full_precision
    def m_step(params: Mixture, stats: MixtureStats) -> Mixture:
        return Mixture(stats.counts / stats.counts.sum(), family.m_step(params.components, stats.components))

    def init(key: Array, data: PyTree, weights: Array | None = None) -> Mixture:
        weights = None if weights is None else as_floating(weights, "weights")
        data = validate(as_arrays(data), weights)
        weights = unit_weights(data) if weights is None else weights.astype(unit_weights(data).dtype)
        components = family.init(key, data, weights, num_components)
        return Mixture(jnp.full(num_components, 1 / num_components, weights.dtype), components)

    @in_full_precision
    def expected_log_joint(params: Mixture, stats: MixtureStats) -> Array:
        return weighted_log(stats.counts, params.weights).sum() + family.expected_log_prob(params.components, stats.components)

    @in_full_precision
    def sample(key: Array, params: Mixture, num_samples: int) -> tuple[PyTree, Array]:
        key_labels, key_data = jax.random.split(key)
        labels = jax.random.categorical(key_labels, jnp.log(params.weights), shape=(num_samples,))
        return family.sample(key_data, params.components, labels), labels

    def validate(data: PyTree, weights: Array | None) -> PyTree:
        data = family.validate(data, weights) if family.validate else jax.tree.map(as_floating, check_rows(data))
        present = num_rows(data) if weights is None or is_traced(weights) else int((np.asarray(weights) > 0).sum())
        if present < num_components:
            raise ValueError(
                f"data has {present} rows of positive weight, needs at least one for each of the {num_components} components: "
                "lower num_components."
            )
        return data

    held = family.held
    return Model(
        e_step=e_step,
        m_step=m_step,
        init=init,
        expected_log_joint=expected_log_joint,
        posterior=posterior,
        statistics=statistics,
        log_prob=log_prob,
        sample=sample,
        constraints=Mixture(constraints.simplex, family.constraints),
        validate=validate,
        held=held and in_full_precision(lambda params, stats: held(params.components, stats.components)),
    )
