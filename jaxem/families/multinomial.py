"""Multinomial components: rows of counts, of which only the shares differ between components, not the totals."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxem import constraints
from jaxem.arrays import check_rank, check_width
from jaxem.families import independent, shares
from jaxem.families.counts import log_mass_at_mean
from jaxem.families.positives import with_mean_row
from jaxem.families.priors import DirichletPrior, checked_dirichlet, log_dirichlet_prior, spread
from jaxem.families.shares import ShareStats
from jaxem.model import Family
from jaxem.numerics import positive


class Multinomial(NamedTuple):
    """Parameters of k multinomial components: probs (k, d), each row on the simplex.

    >>> from jaxem.families import Multinomial
    >>> Multinomial(probs=[[0.1, 0.9], [0.5, 0.5]]).probs
    [[0.1, 0.9], [0.5, 0.5]]
    """

    probs: Any


class Totalled(NamedTuple):
    """Counts that have been looked at, (n, d), and the log-mass of each row at its own shares, (n,)."""

    x: Array
    at_own_share: Array


def multinomial(prior: DirichletPrior | None = None) -> Family:
    """Return the multinomial family, log p(x | m, p_k) = log m! - Σ_j log x_j! + Σ_j x_j log p_kj, for counts (n, d).

    The totals m = Σ_j x_j are given, not modelled; `sample` keeps those of `like`.
    With a `prior`, a `families.DirichletPrior` of the shares, the M-step is the mode under it.
    Raises ValueError for another prior, or one whose density is infinite at zero.

    >>> import jaxem
    >>> x = [[1, 1, 0], [2, 5, 1]]
    >>> model = jaxem.single(jaxem.families.multinomial())
    >>> print(jaxem.fit(model, model.init(0, x), x).params.probs)
    [[0.3 0.6 0.1]]
    """
    return _multinomial(checked_dirichlet(prior))


@cache
def _multinomial(prior: DirichletPrior | None) -> Family:
    def mode(taken: Array) -> Multinomial:
        return _normalized(taken + (spread(prior.concentration, taken) - 1) if prior else taken)

    def evaluate(params: Multinomial, x: Totalled) -> tuple[Array, Callable[[Array], ShareStats]]:
        check_width(x.x, params.probs.shape[1], "probs")
        total = jnp.broadcast_to(x.x.sum(1, keepdims=True), x.x.shape)
        return shares.evaluate(x.x, total, x.at_own_share, params.probs)

    def init(x: Totalled, responsibilities: Array) -> Multinomial:
        """The M-step from the responsibilities and one more row, the mean of all: none is 0 unless all its column is."""
        return mode(with_mean_row(responsibilities).T @ x.x)

    def sample(key: Array, params: Multinomial, labels: Array, like: Any) -> Array:
        if like is None:
            raise ValueError("like must be data: counts depend on their total, which a number of rows has not.")
        return jax.random.multinomial(key, like.x.sum(1), params.probs[labels], dtype=like.x.dtype)

    return Family(
        evaluate,
        lambda params, stats: mode(stats.taken),
        lambda params, stats: shares.expected_log_prob(stats, params.probs),
        init,
        constraints=Multinomial(constraints.simplex),
        sample=sample,
        embed=lambda data: jnp.sqrt(data.x / positive(data.x.sum(1, keepdims=True))),
        prepare=_prepare,
        log_prior=(lambda params: log_dirichlet_prior(prior, params.probs)) if prior else None,
        parts=(multinomial, (prior,)),
    )


def _normalized(taken: Array) -> Multinomial:
    """Return shares; even ones where nothing was taken."""
    total = taken.sum(1, keepdims=True)
    return Multinomial(jnp.where(total > 0, taken / positive(total), 1 / taken.shape[1]))


def _prepare(data: Any, weights: Array | None) -> Totalled:
    if isinstance(data, Totalled):
        return data
    x = independent.checked(data, math.inf, "counts, whole numbers ≥ 0")
    check_rank(x, (2,), "one row per observation, one column per category.")
    return Totalled(x, log_mass_at_mean(x).sum(1) - log_mass_at_mean(x.sum(1)))
