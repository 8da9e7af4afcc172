"""Categorical components: codes 0 … C - 1, in one column or in d independent ones."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem import constraints
from jaxem.arrays import at_least_one, check_rank, check_width, is_traced
from jaxem.families import independent
from jaxem.families.holes import means
from jaxem.families.observed import Observed, check_columns, split, with_holes
from jaxem.families.positives import with_mean_row
from jaxem.families.priors import DirichletPrior, checked_dirichlet, log_dirichlet_prior, spread
from jaxem.model import Family
from jaxem.numerics import positive, weighted_log
from jaxem.trees import Shared


class Categorical(NamedTuple):
    """Parameters of k categorical components: probs (k, *event, C), on the simplex along the last axis; event is () or (d,).

    >>> from jaxem.families import Categorical
    >>> Categorical(probs=[[0.1, 0.2, 0.7], [0.4, 0.4, 0.2]]).probs[0]
    [0.1, 0.2, 0.7]
    """

    probs: Any


class Codes(NamedTuple):
    """Codes that have been looked at, (n, *event), -1 in holes; what stands in for those when seeds are drawn, or None.

    `seen` (n, *event) tells what was observed, and `typical` (d C,) is the share of each code; None where there are no holes.
    """

    x: Array
    seen: Array | None = None
    typical: Shared | None = None


def categorical(num_categories: int | Sequence[int], prior: DirichletPrior | None = None) -> Family:
    """Return the categorical family, log p(x | p_k) = Σ_j log p_kj[x_j], for whole codes 0 … C - 1, (n,) or (n, d).

    num_categories: C, or a tuple of the numbers C_j of d columns, where C is the largest and probabilities beyond a
    column's number are zero. Independent columns given the component: latent class analysis.
    With a `prior`, a `families.DirichletPrior` of the probabilities in each column, the M-step is the mode under it.
    Raises ValueError for what is no whole number of at least one, and for a prior whose density is infinite at zero.

    >>> import jaxem
    >>> x = [[0, 2], [1, 2], [1, 0], [1, 1]]
    >>> model = jaxem.single(jaxem.families.categorical((2, 3)))
    >>> print(jaxem.fit(model, model.init(0, x), x).params.probs)
    [[[0.25 0.75 0.  ]
      [0.25 0.25 0.5 ]]]
    """
    prior = checked_dirichlet(prior)
    if isinstance(num_categories, (tuple, list)):
        sizes = tuple(at_least_one("num_categories", size) for size in num_categories)
        return _categorical(at_least_one("the number of columns", len(sizes)) and max(sizes), sizes, prior)
    return _categorical(at_least_one("num_categories", num_categories), None, prior)


@cache
def _categorical(most: int, sizes: tuple[int, ...] | None, prior: DirichletPrior | None) -> Family:
    def present(like: Array) -> Array:
        """Tell which categories there are in each column."""
        known = np.ones(most, bool) if sizes is None else np.arange(most) < np.array(sizes)[:, None]
        return jnp.broadcast_to(known, like.shape)

    def with_prior(counts: Array) -> Array:
        """Return counts with those that the prior counts as."""
        return counts + jnp.where(present(counts), spread(prior.concentration, counts) - 1, 0) if prior else counts

    def one_hot(x: Codes) -> Array:
        """Return for each row which code it has, (n, d C)."""
        codes = independent.columns(x.x)[:, :, None]
        places = jnp.arange(most, dtype=codes.dtype)[None, None]
        return (codes == places).astype(codes.dtype).reshape(codes.shape[0], -1)

    def counted(x: Codes, responsibilities: Array) -> Array:
        return (responsibilities.T @ one_hot(x)).reshape(-1, *x.x.shape[1:], most)

    def evaluate(params: Categorical, x: Codes) -> tuple[Array, Callable[[Array], Array]]:
        probs = params.probs.reshape(params.probs.shape[0], -1)
        check_width(x.x, probs.shape[1] // most, "probs")
        some = probs > 0
        log_probs = jnp.where(some, jnp.log(jnp.where(some, probs, 1)), independent.IMPOSSIBLE)
        unknown = 0 * independent.columns(x.x).sum(1, keepdims=True)  # NaN has no code, and must show
        log_prob = independent.restore_impossible(one_hot(x) @ log_probs.T)
        return log_prob + unknown, lambda responsibilities: counted(x, responsibilities)

    def sample(key: Array, params: Categorical, labels: Array, like: Any) -> Array | Observed:
        drawn = jax.random.categorical(key, jnp.log(params.probs)[labels]).astype(params.probs.dtype)
        return with_holes(drawn, None if like is None else like.seen)

    def m_step(params: Categorical, stats: Array) -> Categorical:
        """Keep what a component has learnt nothing about: columns of which it has observed nothing, and no prior speaks."""
        counts = with_prior(stats)
        return Categorical(jnp.where(counts.sum(-1, keepdims=True) > 0, _shares(counts).probs, params.probs))

    def embed(x: Codes) -> Array:
        codes = one_hot(x)
        if x.seen is None or x.typical is None:
            return codes
        seen = jnp.repeat(independent.columns(x.seen), most, 1)
        return jnp.where(seen, codes, x.typical.value[None])

    def prepare(data: Any, weights: Array | None) -> Codes:
        if isinstance(data, Codes):
            return data
        values, seen = split(data)
        if seen is None:
            return Codes(_checked(values, most, sizes))
        check_columns(seen, weights)
        x = Codes(jnp.where(seen, _checked(jnp.where(seen, values, 0), most, sizes), -1))
        present = one_hot(x) if weights is None else jnp.where((weights > 0)[:, None], one_hot(x), 0)
        total = present.reshape(seen.shape[0], -1, most).sum((0, 2))
        return x._replace(seen=seen, typical=Shared(present.sum(0) / jnp.repeat(positive(total), most)))

    def complete(params: Categorical, x: Codes, responsibilities: Array, drawn: Array | None) -> Array:
        """Fill by the code that is likeliest: codes have no mean."""
        if drawn is not None:
            return drawn
        return means(params.probs, responsibilities).argmax(-1).astype(params.probs.dtype)

    return Family(
        evaluate,
        m_step,
        lambda params, stats: weighted_log(stats, params.probs).sum(),
        init=lambda x, responsibilities: _shares(with_prior(counted(x, with_mean_row(responsibilities)))),
        constraints=Categorical(constraints.simplex if sizes is None else constraints.simplexes(sizes)),
        sample=sample,
        embed=embed,
        prepare=prepare,
        complete=complete,
        log_prior=(lambda params: log_dirichlet_prior(prior, params.probs, present(params.probs))) if prior else None,
        parts=(categorical, (most if sizes is None else sizes, prior)),
    )


def _shares(counts: Array) -> Categorical:
    return Categorical(counts / positive(counts.sum(-1, keepdims=True)))


def _checked(data: Any, most: int, sizes: tuple[int, ...] | None) -> Array:
    x = independent.checked(data, most - 1, f"codes, whole numbers from 0 to {most - 1}")
    if sizes is None:
        return x
    check_rank(x, (2,), "one row per observation, one column for each number of categories.")
    if x.shape[1] != len(sizes):
        raise ValueError(f"data has {x.shape[1]} columns, needs {len(sizes)}: one for each of num_categories {sizes}.")
    highest = jnp.asarray(sizes, x.dtype) - 1
    if is_traced(x):
        return jnp.where(x <= highest[None], x, jnp.nan)
    bad = np.flatnonzero(np.asarray(x).max(0) >= np.array(sizes))
    if bad.size:
        raise ValueError(
            f"data has codes above {[sizes[j] - 1 for j in bad]} in columns {bad.tolist()}: num_categories is {sizes}."
        )
    return x
