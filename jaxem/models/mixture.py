"""Finite mixtures: one latent label per row, p(x) = Σ_k π_k p(x | θ_k), where π may depend on covariates by a gate."""

import operator
from collections.abc import Callable, Sequence
from functools import cache, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem import constraints, seeds
from jaxem.arrays import at_least_one, in_one_dtype, is_traced, prepared
from jaxem.families.priors import log_dirichlet, updated
from jaxem.families.subsets import shares_of_fits
from jaxem.model import Family, Model, PyTree, check_family, require
from jaxem.models.building import build
from jaxem.numerics import log_share, normalize, weighted_log
from jaxem.trees import Gated, map_rows, num_rows


class Mixture(NamedTuple):
    """Parameters of a mixture of k components.

    weights     (k,) mixing proportions, on the simplex; the gate's parameters where there is a gate
    components  the family's parameters

    >>> import jaxem
    >>> params = jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 3.0]))
    >>> print(params.components.rate)
    [1.0, 3.0]
    """

    weights: Any
    components: PyTree


class MixtureStats(NamedTuple):
    """Expected counts per component, (k,), the family's statistics, and the gate's, () where there is none."""

    counts: Array
    components: PyTree
    gate: PyTree = ()


def mixture(
    family: Family,
    num_components: int,
    gate: Family | None = None,
    concentration: float | Sequence[float] | None = None,
) -> Model:
    """Return the mixture of `num_components` components of `family`.

    r_nk ∝ π_k p(x_n | θ_k);  data (n, *event), weights (n,), posterior (n, k), latents of `sample` (n,) labels.
    With a `gate`, a Family whose k "components" are the labels, π_k is p(label k | gate data), and data are
    `families.Gated(gate, data)`: a mixture of experts (Jacobs, Jordan, Nowlan & Hinton 1991).
    A start weight of exactly 0 stays 0 under EM: that component is absent.
    `concentration` α ≥ 1, a number or one for each component, puts a Dirichlet prior on the weights, as if α - 1 rows of each
    component that is present had been seen; 1 is flat, of density Γ(k), and None no prior. Where they differ, components are
    told apart by that, so that their order means something: it is kept.
    Dempster, Laird & Rubin (1977), §4.3. Raises ValueError for fewer than one component, for what is no family, and for
    a concentration below one or beside a gate.

    >>> import numpy as np, jaxem
    >>> model = jaxem.mixture(jaxem.families.poisson(), 2)
    >>> params = jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 3.0]))
    >>> print(np.asarray(model.posterior(params, [0.0, 2.0, 5.0])).round(2))
    [[0.88 0.12]
     [0.45 0.55]
     [0.03 0.97]]
    """
    check_family(family)
    if gate is not None:
        check_family(gate, "gate")
    num_components = at_least_one("num_components", num_components)
    return _mixture(family, num_components, gate, _checked(concentration, num_components, gate))


@cache
def _mixture(
    family: Family, num_components: int, gate: Family | None, concentration: float | tuple[float, ...] | None
) -> Model:
    parts_of = (family,) if gate is None else (family, gate)

    def split(data: PyTree) -> tuple[PyTree, PyTree]:
        return (None, data) if gate is None else (data.gate, data.data)

    def labels(weights: PyTree, covariates: PyTree) -> tuple[Array, Callable[[Array], PyTree]]:
        """Return log π (k, n) or (k, 1), and the function that takes responsibilities (n, k) to the gate's statistics."""
        if gate is None:
            return log_share(weights)[:, None], lambda responsibilities: ()
        log_prob, statistics = gate.evaluate(weights, covariates)
        return log_prob.T, statistics

    def infer(params: Mixture, data: PyTree) -> tuple[Array, Array, Callable[[Array, Array], MixtureStats]]:
        """Take rows along the last axis, where arithmetic over them is fastest."""
        covariates, x = split(data)
        log_density, summarize = family.evaluate(params.components, x)
        log_weights, summarize_labels = labels(params.weights, covariates)
        shares, log_prob = normalize(log_density.T + log_weights)

        def statistics(weights: Array, posterior: Array) -> MixtureStats:
            responsibilities = weights[None] * posterior.T
            return MixtureStats(responsibilities.sum(1), summarize(responsibilities.T), summarize_labels(responsibilities.T))

        return shares.T, log_prob, statistics

    def m_step(params: Mixture, stats: MixtureStats) -> Mixture:
        components = updated(family, stats.counts, params.components, stats.components)
        if gate is None:
            return Mixture(shares_of(params.weights, stats.counts), components)
        return Mixture(gate.m_step(params.weights, stats.gate), components)

    def shares_of(weights: Array, counts: Array) -> Array:
        """Return the mode of the weights: under a prior that of rows seen before too, in components that are present."""
        if concentration is not None:
            counts = jnp.where(weights > 0, counts + (jnp.asarray(concentration, counts.dtype) - 1), 0)
        return counts / counts.sum()

    def log_prior_of_weights(weights: Array) -> Array:
        alpha = jnp.broadcast_to(jnp.asarray(concentration, weights.dtype), weights.shape)
        return log_dirichlet(alpha, weights, (weights > 0) | (alpha == 1))

    def expected_log_joint(params: Mixture, stats: MixtureStats) -> Array:
        if gate is None:
            log_labels = weighted_log(stats.counts, params.weights).sum()
        else:
            log_labels = gate.expected_log_prob(params.weights, stats.gate)
        return log_labels + family.expected_log_prob(params.components, stats.components)

    def begin(key: Array, data: PyTree, weights: Array) -> Mixture:
        """Draw seeds on the family's own scale, share the rows among them, and start from what those would say."""
        covariates, x, responsibilities = seeded(family, key, split(data), weights, num_components)
        components = family.init(x, responsibilities)
        if gate is not None:
            return Mixture(gate.init(covariates, responsibilities), components)
        return Mixture(jnp.full(num_components, 1 / num_components, weights.dtype), components)

    def draw(count: int, key: Array, params: Mixture, like: PyTree) -> tuple[PyTree, Array]:
        key_labels, key_data = jax.random.split(key)
        if gate is None:
            drawn = jax.random.categorical(key_labels, jnp.log(params.weights), shape=(count,))
            return require(family, "sample")(key_data, params.components, drawn, like), drawn
        if like is None:
            raise ValueError("like must be data: labels depend on the gate's covariates, which a number of rows has not.")
        drawn = jax.random.categorical(key_labels, gate.evaluate(params.weights, like.gate)[0])
        return Gated(like.gate, require(family, "sample")(key_data, params.components, drawn, like.data)), drawn

    def prepare(data: PyTree, weights: Array | None) -> PyTree:
        if gate is not None and not isinstance(data, Gated):
            raise ValueError(f"data must be families.Gated(gate, data) where there is a gate, got {type(data).__name__}.")
        covariates, x = split(data)
        x = prepared(family, x, weights)
        if weights is not None:
            _check_enough(num_rows(x), weights, num_components)
        return x if gate is None else in_one_dtype(Gated(prepared(gate, covariates, weights), x))

    def log_prior(params: Mixture) -> Array:
        """Return log p(θ), in nats: that of the weights or the gate, and that of the components."""
        priors = [(family.log_prior, params.components), (of_weights, params.weights)]
        return reduce(operator.add, [prior(theta) for prior, theta in priors if prior])

    def degenerate(params: Mixture, stats: MixtureStats) -> Array:
        floors = [(family.degenerate, params.components, stats.components), (gate_floor, params.weights, stats.gate)]
        return reduce(operator.or_, [floor(theta, sums) for floor, theta, sums in floors if floor])

    domains = Mixture(gate.constraints if gate else constraints.simplex, family.constraints)
    size, gate_floor = family.size, gate.degenerate if gate else None
    of_weights = gate.log_prior if gate else log_prior_of_weights if concentration is not None else None
    return build(
        infer,
        m_step,
        expected_log_joint,
        prepare=prepare,
        begin=begin,
        draw=draw,
        size=size and (lambda data: size(split(data)[1])),
        log_prior=log_prior if family.log_prior or of_weights else None,
        degenerate=degenerate if any(part.degenerate for part in parts_of) else None,
        constraints=constraints.told_apart(domains) if isinstance(concentration, tuple) else domains,
        additive=all(part.additive for part in parts_of),
        exact=all(part.exact for part in parts_of),
        parts=(mixture, (family, num_components, gate, concentration)),
    )


def _checked(concentration: Any, num_components: int, gate: Family | None) -> float | tuple[float, ...] | None:
    """Return the concentration, as one number unless it differs by component, None for none; else raise ValueError."""
    if concentration is None:
        return None
    if gate is not None:
        raise ValueError("concentration is a prior of weights, and a gate stands in their place: give the gate a prior.")
    alpha = np.asarray(concentration)
    if (
        alpha.dtype.kind not in "iuf"
        or alpha.shape not in ((), (num_components,))
        or not ((1 <= alpha) & (alpha < np.inf)).all()
    ):
        raise ValueError(
            f"concentration must be a number ≥ 1, or one for each of the {num_components} components, got {concentration!r}: "
            "below one the density has no mode, as it is infinite where a weight is zero."
        )
    numbers = alpha.astype(float).ravel().tolist()
    return numbers[0] if len(set(numbers)) == 1 else tuple(numbers)


def seeded(
    family: Family, key: Array, data: PyTree, weights: Array, num_components: int, present: Array | None = None
) -> tuple[PyTree, PyTree, Array]:
    """Return some rows of data, (covariates, x), and responsibilities (n, k) for them that follow from random seeds.

    Seeds are drawn once, by k-means++ on what the family embeds its data in, so that the factors of a product agree; where
    components are no places there, they are fits to a few rows each.
    Components that are not `present` (k,), one or zero, get all rows alike, and take none from the others.
    """
    key_rows, key_seeds = jax.random.split(key)
    if weights.shape[0] > seeds.MOST_ROWS:
        rows = seeds.systematic_rows(key_rows, weights, seeds.MOST_ROWS)
        data, weights = map_rows(lambda leaf: leaf[rows], data), jnp.ones(seeds.MOST_ROWS, weights.dtype)
    covariates, x = data
    present = jnp.ones(num_components, weights.dtype) if present is None else present
    if not family.places:
        return covariates, x, weights[:, None] * shares_of_fits(family, key_seeds, x, weights, present)
    points = family.embed(x) if family.embed else x
    points = points.reshape(points.shape[0], -1).astype(weights.dtype)
    centres = seeds.kmeans_plusplus(key_seeds, points, weights, num_components)
    return covariates, x, weights[:, None] * seeds.soft_assignments(points, weights, centres, present)


def _check_enough(rows: int, weights: Array, num_components: int) -> None:
    present = rows if is_traced(weights) else int((np.asarray(weights) > 0).sum())
    if present < num_components:
        raise ValueError(
            f"data has {present} rows of positive weight, needs at least one for each of the {num_components} components: "
            "lower num_components."
        )
