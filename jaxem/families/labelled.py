"""Rows whose component is known, or known to be one of several: the posterior keeps to what is allowed."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxem.arrays import is_traced, prepared
from jaxem.model import Family, PyTree, check_family, require
from jaxem.numerics import positive
from jaxem.trees import Shared


class Labelled(NamedTuple):
    """Data, and what is known of their labels: (n,) whole numbers, -1 where unknown, or (n, k) booleans, what is allowed.

    >>> from jaxem.families import Labelled
    >>> Labelled(data=[[1.0], [2.0]], labels=[0, -1]).labels
    [0, -1]
    """

    data: PyTree
    labels: Any


class _Numbered(NamedTuple):
    """Labels (n,) that have been looked at, -1 where unknown, and as many zeros as there are labels named, which all share."""

    labels: Array
    names: Shared


MOST_LABELS = 10_000  # beyond, numbers are no labels but names of something else


def labelled(family: Family) -> Family:
    """Return `family` for data `Labelled(data, labels)`: log p(x_n | θ_k), and -inf where row n may not be of component k.

    The log-likelihood is that of data and labels, Σ_n log Σ_{k allowed} π_k p(x_n | θ_k). Params are those of `family`.
    A row that may belong to no component is impossible. Raises ValueError for what is no Family.

    >>> import jaxem
    >>> from jaxem import families
    >>> model = jaxem.mixture(families.labelled(families.poisson()), 2)
    >>> x = families.Labelled([0, 1, 2, 7, 8, 9], [1, -1, -1, -1, -1, 0])
    >>> print(jaxem.fit_restarts(model, 0, x, num_restarts=8).best.params.components.rate.round(1))
    [7.9 1. ]
    """
    check_family(family)
    return _labelled(family)


@cache
def _labelled(family: Family) -> Family:
    def evaluate(params: PyTree, x: Labelled) -> tuple[Array, Callable[[Array], PyTree]]:
        log_prob, statistics = family.evaluate(params, x.data)
        return jnp.where(_allowed(x.labels, log_prob.shape[1]), log_prob, -jnp.inf), statistics

    def init(x: Labelled, responsibilities: Array) -> PyTree:
        """Give each seed the component whose known rows it is nearest to, and the known rows to their components."""
        k = responsibilities.shape[1]
        allowed = _allowed(x.labels, k)
        shares = responsibilities[:, matched(responsibilities, allowed)]
        total = responsibilities.sum(1, keepdims=True)
        shares = jnp.where(allowed, shares, 0)
        left = shares.sum(1, keepdims=True)
        either = allowed.astype(shares.dtype)
        even = either / positive(either.sum(1, keepdims=True))
        return family.init(x.data, total * jnp.where(left > 0, shares / positive(left), even))

    def sample(key: Array, params: PyTree, labels: Array, like: Any) -> Labelled:
        """Draw rows and say of each which component it is from, in the way that `like` says what is known."""
        drawn = require(family, "sample")(key, params, labels, None if like is None else like.data)
        if like is None or isinstance(like.labels, _Numbered) or like.labels.ndim == 1:
            return Labelled(drawn, labels)
        return Labelled(drawn, labels[:, None] == jnp.arange(like.labels.shape[1], dtype=labels.dtype)[None])

    def prepare(data: Any, weights: Array | None) -> Labelled:
        if not isinstance(data, Labelled):
            raise ValueError(f"data must be families.Labelled(data, labels), got {type(data).__name__}.")
        x = prepared(family, data.data, weights)
        return Labelled(x, data.labels if isinstance(data.labels, _Numbered) else _checked(data.labels))

    embed, size, complete = family.embed, family.size, family.complete
    return family._replace(
        evaluate=evaluate,
        init=init,
        sample=sample if family.sample else None,
        embed=lambda x: embed(x.data) if embed else x.data,
        prepare=prepare,
        size=size and (lambda x: size(x.data)),
        complete=complete and (lambda params, x, r, drawn: complete(params, x.data, r, None if drawn is None else drawn.data)),
        parts=(labelled, (family,)),
    )


def _checked(labels: Any) -> _Numbered | Array:
    """Return labels, numbers with how many are named; under a trace, where the highest cannot be looked at, as they are."""
    labels = labels if hasattr(labels, "dtype") else np.asarray(labels)
    dtype, rank = np.dtype(labels.dtype), np.ndim(labels)
    allowed, numbers = dtype.kind == "b" and rank == 2, dtype.kind in "iu" and rank == 1
    traced = is_traced(labels)
    if not (allowed or numbers) or (numbers and not traced and np.min(labels) < -1):
        raise ValueError(
            f"labels has dtype {dtype} and shape {np.shape(labels)}, needs whole numbers (n,), -1 where unknown, or "
            "booleans (n, k), what is allowed."
        )
    if allowed or traced:
        return jnp.asarray(labels)
    highest = int(np.max(labels))
    if highest >= MOST_LABELS:
        raise ValueError(f"labels go up to {highest}, needs the numbers of components, from 0 on, and -1 where unknown.")
    return _Numbered(jnp.asarray(labels), Shared(jnp.zeros(highest + 1, bool)))


def _allowed(labels: _Numbered | Array, num_components: int) -> Array:
    """Return which components each row may belong to: (n, k)."""
    if isinstance(labels, _Numbered):
        named, labels = labels.names.value.shape[0], labels.labels
    else:
        named = labels.shape[1] if labels.ndim == 2 else 0
    if named > num_components or (labels.ndim == 2 and named < num_components):
        raise ValueError(f"labels name {named} components, the model has {num_components}: these must agree.")
    if labels.ndim == 2:
        return labels
    return (labels[:, None] == jnp.arange(num_components, dtype=labels.dtype)[None]) | (labels == -1)[:, None]


def matched(responsibilities: Array, allowed: Array) -> Array:
    """Return for each component the column of `responsibilities` that stands for it: (k,), a permutation.

    In turn the pair that agrees most on the rows of known label, all columns weighed alike.
    """
    k = responsibilities.shape[1]
    known = allowed & (allowed.sum(1, keepdims=True) == 1)
    agreement = known.astype(responsibilities.dtype).T @ responsibilities
    agreement = agreement / jnp.maximum(responsibilities.sum(0), jnp.finfo(agreement.dtype).tiny)[None]

    places = jnp.arange(k, dtype=jnp.int32)

    def match(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        columns, left = carry
        component, column = jnp.divmod(left.argmax().astype(jnp.int32), k)
        taken = (places[:, None] == component) | (places[None] == column)
        return jnp.where(places == component, column, columns), jnp.where(taken, -1, left)

    return lax.fori_loop(0, k, match, (jnp.zeros(k, jnp.int32), agreement))[0]
