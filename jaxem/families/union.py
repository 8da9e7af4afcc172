"""Components of several kinds in one structure: the first few of one family, the next of another."""

import operator
from collections.abc import Callable, Sequence
from functools import cache, partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxem.arrays import at_least_one, in_one_dtype, prepared
from jaxem.families.priors import updated
from jaxem.model import Family, PyTree, check_family, require
from jaxem.numerics import positive


class United(NamedTuple):
    """Data as each family has them."""

    parts: tuple[PyTree, ...]


class UnionStats(NamedTuple):
    """Expected counts (k_i,) and statistics of each family."""

    counts: tuple[Array, ...]
    parts: tuple[PyTree, ...]


def union(*parts: tuple[Family, int]) -> Family:
    """Return the family whose first components are of one family, the next of another, for data that all of them take.

    parts: (family, count) in turn. Params are a tuple, one entry for each part. The structure must ask for as many
    components as there are in all; components of several kinds have no order but this (`components.order` refuses).
    Raises ValueError for no part, for what is no Family, and for a count below one.

    >>> import jaxem
    >>> from jaxem import families
    >>> mixed = families.union((families.exponential(), 1), (families.gamma(), 1))
    >>> model = jaxem.mixture(mixed, 2)
    >>> x = [0.1, 0.5, 0.9, 1.6, 4.8, 5.0, 5.1, 5.2]
    >>> params = jaxem.fit_restarts(model, 0, x, num_restarts=8).best.params
    >>> [type(part).__name__ for part in params.components]
    ['Exponential', 'Gamma']
    """
    if not parts:
        raise ValueError("union needs at least one part: union((families.gaussian(), 2), (families.noise(1e-4), 1)).")
    for part in parts:
        if not (isinstance(part, tuple) and len(part) == 2):
            raise ValueError(f"union takes pairs (family, count), got {part!r}.")
        check_family(part[0])
    return _union(*((family, at_least_one("count", count)) for family, count in parts))


def counts_of_kinds(family: Family) -> tuple[int, ...] | None:
    """Return how many components of each kind there are in a union, or in what is made of one; None for another family."""
    constructor, arguments = family.parts or (None, ())
    if constructor is _union:
        return tuple(count for _, count in arguments)
    inner = arguments[0] if arguments else None
    return counts_of_kinds(inner) if isinstance(inner, Family) and inner.constraints is family.constraints else None


@cache
def _union(*parts: tuple[Family, int]) -> Family:
    families = [family for family, _ in parts]
    ends = [sum(count for _, count in parts[: i + 1]) for i in range(len(parts))]
    places = [slice(end - count, end) for end, (_, count) in zip(ends, parts, strict=True)]

    def of_each(function: Callable[..., Any], *trees: Sequence[Any]) -> list[Any]:
        return [function(family, *rest) for family, *rest in zip(families, *trees, strict=True)]

    def evaluate(params: PyTree, x: United) -> tuple[Array, Callable[[Array], UnionStats]]:
        found = of_each(lambda family, theta, rows: family.evaluate(theta, rows), params, x.parts)
        log_prob = [_wide(each, count) for (each, _), (_, count) in zip(found, parts, strict=True)]

        def statistics(responsibilities: Array) -> UnionStats:
            own = [responsibilities[:, place] for place in places]
            sums = [summarize(each) for (_, summarize), each in zip(found, own, strict=True)]
            return UnionStats(tuple(each.sum(0) for each in own), tuple(sums))

        return jnp.concatenate(log_prob, 1), statistics

    def m_step(params: PyTree, stats: UnionStats) -> PyTree:
        return tuple(of_each(updated, stats.counts, params, stats.parts))

    def expected_log_prob(params: PyTree, stats: UnionStats) -> Array:
        return sum(of_each(lambda family, theta, sums: family.expected_log_prob(theta, sums), params, stats.parts))

    def init(x: United, responsibilities: Array) -> PyTree:
        if responsibilities.shape[1] != ends[-1]:
            raise ValueError(
                f"the union has {ends[-1]} components, and {responsibilities.shape[1]} are asked for: make these agree."
            )
        return tuple(of_each(lambda family, rows, place: family.init(rows, responsibilities[:, place]), x.parts, places))

    def sample(key: Array, params: PyTree, labels: Array, like: United | None) -> PyTree:
        keys, drawn = jax.random.split(key, len(parts)), None
        for i, (family, count) in enumerate(parts):
            own = jnp.clip(labels - places[i].start, 0, count - 1)
            rows = require(family, "sample")(keys[i], params[i], own, None if like is None else like.parts[i])
            later = partial(_rows_where, labels >= places[i].start)
            drawn = rows if drawn is None else jax.tree.map(later, rows, drawn)
        return drawn

    def embed(x: United) -> Array:
        """Return points on the scale of the first family that has one of its own, as noise has not."""
        return next((f.embed(rows) for f, rows in zip(families, x.parts, strict=True) if f.embed), x.parts[0])

    def prepare(data: PyTree, weights: Array | None) -> United:
        if isinstance(data, United):
            return data
        return in_one_dtype(United(tuple(of_each(lambda family: prepared(family, data, weights)))))

    def complete(params: PyTree, x: United, responsibilities: Array, drawn: PyTree) -> PyTree:
        """Fill by what each kind says, given that the row is of it, weighed by how much it is."""
        own = [responsibilities[:, place] for place in places]
        chances = [each.sum(1) for each in own]
        given = [each / positive(chance)[:, None] for each, chance in zip(own, chances, strict=True)]
        filled = of_each(
            lambda family, theta, rows, r: require(family, "complete")(theta, rows, r, drawn), params, x.parts, given
        )
        return jax.tree.map(lambda *leaves: _weighed(chances, leaves), *filled)

    def log_prior(params: PyTree) -> Array:
        return reduce(operator.add, [f.log_prior(theta) for f, theta in zip(families, params, strict=True) if f.log_prior])

    def degenerate(params: PyTree, stats: UnionStats) -> Array:
        asked = zip(families, params, stats.parts, strict=True)
        return jnp.stack([f.degenerate(theta, sums) for f, theta, sums in asked if f.degenerate]).any()

    def size(data: United) -> Array:
        """Return the observations per row of the family that has them: all have the same."""
        return next(f.size(rows) for f, rows in zip(families, data.parts, strict=True) if f.size)

    return Family(
        evaluate,
        m_step,
        expected_log_prob,
        init,
        constraints=tuple(family.constraints for family in families),
        sample=sample if all(family.sample for family in families) else None,
        embed=embed,
        prepare=prepare,
        size=size if any(family.size for family in families) else None,
        log_prior=log_prior if any(family.log_prior for family in families) else None,
        degenerate=degenerate if any(family.degenerate for family in families) else None,
        complete=complete if all(family.complete for family in families) else None,
        parts=(_union, parts),
        additive=all(family.additive for family in families),
        exact=all(family.exact for family in families),
        places=all(family.places for family in families),
    )


def _wide(log_prob: Array, count: int) -> Array:
    """Return log-densities (n, k_i); a family without parameters has one column for all its components."""
    if log_prob.shape[1] not in (1, count):
        raise ValueError(f"params has {log_prob.shape[1]} components in a part of the union, needs {count}.")
    return jnp.broadcast_to(log_prob, (log_prob.shape[0], count))


def _rows_where(condition: Array, new: Array, old: Array) -> Array:
    return jnp.where(_column(condition, old), new.reshape(old.shape), old)  # one column is (n,) to some, and (n, 1) to others


def _column(rows: Array, like: Array) -> Array:
    return rows.reshape(-1, *[1] * (like.ndim - 1))


def _weighed(chances: Sequence[Array], leaves: Sequence[Array]) -> Array:
    """Return the mean of what each kind puts into a hole; where it is certain which one it is, that one's."""
    first, total = leaves[0], jnp.zeros_like(leaves[0])
    for chance, leaf in zip(chances, leaves, strict=True):
        chance = _column(chance, first)
        total = total + jnp.where(chance > 0, chance * leaf.reshape(first.shape), 0)
    return total
