"""Bernoulli components: zeros and ones, in one dimension or in d independent ones."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxem import constraints
from jaxem.arrays import check_width
from jaxem.families import independent
from jaxem.families.holes import means
from jaxem.families.observed import Observed, check_columns, split, with_holes
from jaxem.families.priors import BetaPrior, checked_beta, log_beta, seen_before
from jaxem.model import Family
from jaxem.numerics import positive, weighted_log
from jaxem.trees import Shared


class Bernoulli(NamedTuple):
    """Parameters of k Bernoulli components: probs (k, *event), the probability of a one; event is () or (d,).

    >>> from jaxem.families import Bernoulli
    >>> Bernoulli(probs=[0.1, 0.9]).probs
    [0.1, 0.9]
    """

    probs: Any


class BernoulliStats(NamedTuple):
    """Sums over rows with responsibilities r_nk: ones Σ_n r_nk x_n and zeros Σ_n r_nk (1 - x_n), (k, *event) each."""

    ones: Array
    zeros: Array


class Binary(NamedTuple):
    """Zeros and ones that have been looked at, (n, *event), zeros in holes; which were observed, and the share of ones.

    `seen` (n, *event) and `typical` (*event), which stands in holes when seeds are drawn, are None where there are no holes.
    """

    x: Array
    seen: Array | None = None
    typical: Shared | None = None


def _finite_logs(probs: Array) -> tuple[Array, Array]:
    """Return log p and log(1 - p), and in the place of -inf a number so low that a sum with it is known again."""
    some, other = probs > 0, probs < 1
    log_one = jnp.where(some, jnp.log(jnp.where(some, probs, 1)), independent.IMPOSSIBLE)
    return log_one, jnp.where(other, jnp.log1p(-jnp.where(other, probs, 0)), independent.IMPOSSIBLE)


def bernoulli(prior: BetaPrior | None = None) -> Family:
    """Return the Bernoulli family, log p(x | p_k) = Σ_j x_j log p_kj + (1 - x_j) log(1 - p_kj), for data (n,) or (n, d).

    With a `prior`, a `families.BetaPrior` of each probability, the M-step is the mode under it.
    Raises ValueError for another prior, or one whose density is infinite at zero or one.

    >>> import jaxem
    >>> x = [1, 0, 1, 1]
    >>> model = jaxem.single(jaxem.families.bernoulli())
    >>> print(jaxem.fit(model, model.init(0, x), x).params.probs)
    [0.75]
    """
    return _bernoulli(checked_beta(prior))


@cache
def _bernoulli(prior: BetaPrior | None) -> Family:
    def evaluate(params: Bernoulli, x: Binary) -> tuple[Array, Callable[[Array], BernoulliStats]]:
        probs, ones = independent.columns(params.probs), independent.columns(x.x)
        check_width(x.x, probs.shape[1], "probs")
        log_one, log_zero = _finite_logs(probs)

        def statistics(responsibilities: Array) -> BernoulliStats:
            return BernoulliStats(*(independent.weighted_sums(each, responsibilities) for each in (x.x, _zeros(x))))

        zeros = independent.columns(_zeros(x))
        return independent.restore_impossible(ones @ log_one.T + zeros @ log_zero.T), statistics

    def m_step(params: Bernoulli, stats: BernoulliStats) -> Bernoulli:
        """Keep what a component has learnt nothing about: columns of which it has observed nothing, and no prior speaks."""
        ones, zeros = seen_before(prior, stats.ones, stats.zeros)
        return Bernoulli(jnp.where(ones + zeros > 0, share(ones, zeros), params.probs))

    def expected_log_prob(params: Bernoulli, stats: BernoulliStats) -> Array:
        zeros = jnp.where(stats.zeros > 0, stats.zeros * jnp.log1p(-jnp.where(stats.zeros > 0, params.probs, 0)), 0)
        return weighted_log(stats.ones, params.probs).sum() + zeros.sum()

    def init(x: Binary, responsibilities: Array) -> Bernoulli:
        """The M-step from the responsibilities and one more row, the mean of all: none is 0 or 1 unless all its data are."""
        everywhere = responsibilities.sum(1, keepdims=True) / responsibilities.sum()
        more = (
            independent.weighted_sums(each, responsibilities) + independent.weighted_sums(each, everywhere)
            for each in (x.x, _zeros(x))
        )
        return Bernoulli(share(*seen_before(prior, *more)))

    def sample(key: Array, params: Bernoulli, labels: Array, like: Any) -> Array | Observed:
        probs = params.probs[labels]
        return with_holes(jax.random.bernoulli(key, probs).astype(probs.dtype), like.seen if like is not None else None)

    return Family(
        evaluate,
        m_step,
        expected_log_prob,
        init,
        constraints=Bernoulli(constraints.interval(0, 1)),
        sample=sample,
        embed=lambda data: independent.columns(
            data.x if data.seen is None else jnp.where(data.seen, data.x, data.typical.value[None])
        ),
        prepare=_prepare,
        complete=lambda params, x, responsibilities, drawn: means(params.probs, responsibilities) if drawn is None else drawn,
        log_prior=(lambda params: log_beta(prior, params.probs)) if prior else None,
        parts=(bernoulli, (prior,)),
    )


def _zeros(x: Binary) -> Array:
    return 1 - x.x if x.seen is None else x.seen.astype(x.x.dtype) - x.x


def _prepare(data: Any, weights: Array | None) -> Binary:
    if isinstance(data, Binary):
        return data
    values, seen = split(data)
    if seen is None:
        return Binary(independent.checked(values, 1, "zeros and ones"))
    check_columns(seen, weights)
    x = independent.checked(jnp.where(seen, values, 0), 1, "zeros and ones")
    present = seen if weights is None else seen & (weights > 0).reshape(-1, *[1] * (seen.ndim - 1))
    return Binary(x, seen, Shared(jnp.where(present, x, 0).sum(0) / positive(present.sum(0).astype(x.dtype))))


def share(ones: Array, zeros: Array) -> Array:
    """Return ones / (ones + zeros): 1 only where there are no zeros, and 0 only where there are no ones.

    Rounding alone would make it 1 for one zero among 10⁸ ones in float32, and a zero impossible.
    """
    probs, limits = ones / positive(ones + zeros), jnp.finfo(ones.dtype)
    inside = jnp.clip(probs, limits.tiny, 1 - limits.epsneg)
    return jnp.where((ones > 0) & (zeros > 0), inside, probs)
