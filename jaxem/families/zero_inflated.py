"""Counts with more zeros than their distribution has: some are zero whatever it says."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem import constraints
from jaxem.arrays import prepared
from jaxem.families.binomial import Trials
from jaxem.families.observed import Observed, split
from jaxem.families.priors import updated
from jaxem.families.regression import Regression
from jaxem.model import Family, PyTree, check_family, require
from jaxem.numerics import positive, weighted_log


class ZeroInflated(NamedTuple):
    """Parameters of k components that may be zero apart from what they are otherwise.

    zero        (k,) how often they are
    components  the family's parameters

    >>> from jaxem.families import Poisson, ZeroInflated
    >>> ZeroInflated(zero=[0.2, 0.0], components=Poisson([1.0, 3.0])).zero
    [0.2, 0.0]
    """

    zero: Any
    components: PyTree


class ZeroInflatedStats(NamedTuple):
    """Sums over rows of responsibilities r_nk and the chance τ_nk that row n is zero whatever component k says.

    zeros (k,)   Σ_n r_nk τ_nk
    others (k,)  Σ_n r_nk (1 - τ_nk)
    components   the family's statistics, of r_nk (1 - τ_nk)
    entropy ()   Σ_nk r_nk of that of τ_nk
    """

    zeros: Array
    others: Array
    components: PyTree
    entropy: Array


class MaybeZero(NamedTuple):
    """The family's data, and which rows are zero, (n,); None of those that are drawn to fill the holes of others."""

    data: PyTree
    zero: Any


class Undecided(NamedTuple):
    """Rows drawn of the family, and a number in [0, 1) for each, below whose chance to be zero it is."""

    data: PyTree
    uniform: Array


def zero_inflated(family: Family) -> Family:
    """Return `family` with zeros of another origin: p(x | π_k, θ_k) = π_k [x = 0] + (1 - π_k) p(x | θ_k).

    Data are those of `family`: counts (n,) or rows (n, d), which are zero where all of their columns are, `Trials`, or a
    `Regression`, which makes zero-inflated Poisson regression; of rows with holes, what was observed is zero or not.
    Whether a zero is of the other origin is a latent variable of the family's own, so that the M-step is exact where that
    of `family` is. Lambert (1992).
    Raises ValueError for what is no Family.

    >>> import jaxem
    >>> from jaxem import families
    >>> model = jaxem.single(families.zero_inflated(families.poisson()))
    >>> x = [0, 0, 0, 0, 0, 3, 4, 5, 2, 6]
    >>> params = jaxem.fit(model, model.init(0, x), x).params
    >>> print(f"{params.zero[0]:.2f} {params.components.rate[0]:.2f}")
    0.49 3.92
    """
    check_family(family)
    return _zero_inflated(family)


@cache
def _zero_inflated(family: Family) -> Family:
    def evaluate(params: ZeroInflated, x: MaybeZero) -> tuple[Array, Callable[[Array], ZeroInflatedStats]]:
        log_prob, summarize = family.evaluate(params.components, x.data)
        total, chance = _mixed(params.zero, log_prob, x)

        def statistics(responsibilities: Array) -> ZeroInflatedStats:
            zeros = responsibilities * chance
            entropy = -(weighted_log(chance, chance) + weighted_log(1 - chance, 1 - chance))
            others = responsibilities - zeros
            return ZeroInflatedStats(zeros.sum(0), others.sum(0), summarize(others), (responsibilities * entropy).sum())

        return total, statistics

    def m_step(params: ZeroInflated, stats: ZeroInflatedStats) -> ZeroInflated:
        components = updated(family, stats.others, params.components, stats.components)
        return ZeroInflated(stats.zeros / positive(stats.zeros + stats.others), components)

    def expected_log_prob(params: ZeroInflated, stats: ZeroInflatedStats) -> Array:
        labels = weighted_log(stats.zeros, params.zero) + weighted_log(stats.others, 1 - params.zero)
        return labels.sum() + stats.entropy + family.expected_log_prob(params.components, stats.components)

    def init(x: MaybeZero, responsibilities: Array) -> ZeroInflated:
        """Begin with half of the zeros of the other origin, and a few more of each kind."""
        zeros = jnp.where(x.zero[:, None], 0.5 * responsibilities, 0)
        share = (zeros.sum(0) + 0.05) / (responsibilities.sum(0) + 1)
        return ZeroInflated(share, family.init(x.data, responsibilities - zeros))

    def sample(key: Array, params: ZeroInflated, labels: Array, like: MaybeZero | None) -> PyTree:
        key_zero, key_data = jax.random.split(key)
        drawn = require(family, "sample")(key_data, params.components, labels, None if like is None else like.data)
        if like is not None and like.zero is None:
            return Undecided(drawn, jax.random.uniform(key_zero, labels.shape, params.zero.dtype))
        return _with_zeros(drawn, jax.random.bernoulli(key_zero, params.zero[labels]))

    def prepare(data: Any, weights: Array | None) -> MaybeZero:
        if isinstance(data, MaybeZero):
            return data
        rows = prepared(family, data, weights)
        return MaybeZero(rows, _are_zero(data))

    def complete(params: ZeroInflated, x: MaybeZero, responsibilities: Array, drawn: Undecided | None) -> PyTree:
        """Fill by zeros as far as the row is zero whatever its component says, which one that is not zero is not."""
        chance = _mixed(params.zero, family.evaluate(params.components, x.data)[0], x)[1]
        fill = partial(require(family, "complete"), params.components, x.data)
        if drawn is None:
            return fill(responsibilities * (1 - chance), None)
        return _with_zeros(fill(responsibilities, drawn.data), drawn.uniform < (responsibilities * chance).sum(1))

    embed, size, prior, degenerate = family.embed, family.size, family.log_prior, family.degenerate
    return Family(
        evaluate=evaluate,
        m_step=m_step,
        expected_log_prob=expected_log_prob,
        init=init,
        constraints=ZeroInflated(constraints.interval(0, 1), family.constraints),
        sample=sample if family.sample else None,
        embed=lambda x: embed(x.data) if embed else x.data,
        prepare=prepare,
        size=size and (lambda x: size(x.data)),
        log_prior=prior and (lambda params: prior(params.components)),
        degenerate=degenerate and (lambda params, stats: degenerate(params.components, stats.components)),
        complete=complete if family.complete else None,
        parts=(zero_inflated, (family,)),
        additive=family.additive,
        exact=family.exact,
        places=family.places,
    )


def _mixed(share: Array, log_prob: Array, x: MaybeZero) -> tuple[Array, Array]:
    """Return log p of each row under each component, and the chance that it is zero whatever that says, (n, k)."""
    zero, share = x.zero[:, None], share[None]
    some = share > 0
    log_other = jnp.where(share < 1, jnp.log1p(-jnp.where(share < 1, share, 0)), -jnp.inf) + log_prob
    return _either(jnp.where(zero & some, jnp.log(jnp.where(some, share, 1)), -jnp.inf), log_other)


def _either(one: Array, other: Array) -> tuple[Array, Array]:
    """Return log(e^a + e^b), and the share of e^a in it, zero where both are zero."""
    peak = jax.lax.stop_gradient(jnp.maximum(one, other))
    peak = jnp.where(peak == -jnp.inf, 0, peak)
    first, second = jnp.exp(one - peak), jnp.exp(other - peak)
    total = first + second
    some = total > 0
    divisor = jnp.where(some, total, 1)
    return jnp.where(some, peak + jnp.log(divisor), -jnp.inf), first / divisor


def _are_zero(data: Any) -> Array:
    """Tell which rows are zero, (n,), in all that was observed of them."""
    if isinstance(data, Trials) and isinstance(data.trials, Observed):
        untried = ~jnp.asarray(data.trials.mask)
        return _are_zero(data.successes) | untried.reshape(untried.shape[0], -1).all(1)
    response = data.y if isinstance(data, Regression) else data.successes if isinstance(data, Trials) else data
    if isinstance(response, Observed):
        values, seen = split(response)
        return _are_zero(values if seen is None else jnp.where(seen, values, 0))
    if isinstance(response, dict) or hasattr(response, "_fields"):
        raise ValueError(
            f"data must be an array, Trials or a Regression, which are zero or not, got {type(response).__name__}: "
            "inflate the factors of a product one by one."
        )
    zero = (response if isinstance(response, jax.Array) else np.asarray(response)) == 0
    return jnp.asarray(zero if zero.ndim == 1 else zero.reshape(zero.shape[0], -1).all(1))


def _with_zeros(data: Any, zero: Array) -> Any:
    """Return drawn data with zeros in the rows told, where they have no holes."""
    if isinstance(data, Observed):
        return data._replace(values=jnp.where(data.mask, _with_zeros(data.values, zero), data.values))
    if isinstance(data, Regression):
        return data._replace(y=jnp.where(zero, 0, data.y))
    if isinstance(data, Trials):
        return data._replace(successes=_with_zeros(data.successes, zero))
    return jnp.where(zero.reshape(-1, *[1] * (data.ndim - 1)), 0, data)
