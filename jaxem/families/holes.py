"""Any family of independent columns on rows with holes: column by column, each on the rows in which it was observed.

log p(x_n | θ_k) = Σ_j observed in row n log p(x_nj | θ_kj), so that a column's statistics are those of the family in one
dimension with responsibilities of zero where it has a hole.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxem import constraints
from jaxem.arrays import check_rank, check_width, prepared
from jaxem.constraints import Constraint
from jaxem.families.middles import median_of_observed
from jaxem.families.observed import Observed, check_columns, split, with_holes
from jaxem.families.priors import updated
from jaxem.model import Family, PyTree, require
from jaxem.numerics import positive
from jaxem.programs import compiled
from jaxem.trees import Shared, is_shared, map_rows


class Holed(NamedTuple):
    """Columns with holes.

    columns  the family's prepared data in one dimension, stacked along axis 1, Shared parts along a first one; `Apart` where
             they do not stack; of rows (n,), the data themselves
    seen     (n, *event) booleans
    typical  the mean of each embedded column, (d, p), which stands in its holes when seeds are drawn
    """

    columns: PyTree
    seen: Array
    typical: Shared


class HoledStats(NamedTuple):
    """For each column, along a first axis, Σ_n r_nk over rows in which it was observed, (d, k), and the family's statistics."""

    counts: Array
    columns: PyTree


class Apart(NamedTuple):
    """What there is one of for each column, and does not stack."""

    columns: tuple[Any, ...]


def allowing_holes(
    family: Family,
    mean: Callable[[PyTree], Array],
    legal: float = 0.0,
    column: Callable[[int, int], Family] | None = None,
) -> Family:
    """Return `family`, of independent columns (n,) or (n, d), for `families.Observed(values, mask)` too.

    mean: the expected value of each entry, params -> (k, *event), which `impute` puts into holes.
    legal: a value that the family takes, for the holes of a column of which nothing was observed.
    column: the family of a column from its place and their number, where a prior is another for each; None: all are alike.
    """
    domains = family.constraints

    def of_families(function: Callable[..., Any], num: int, *trees: PyTree) -> Any:
        """Return what `function` gives for each column's family and parts of trees."""
        if column is None:
            return _over(partial(function, family), *trees)
        return _over(function, Apart(tuple(column(place, num) for place in range(num))), *trees)

    def evaluate(params: PyTree, x: Any) -> tuple[Array, Callable[[Array], Any]]:
        if not isinstance(x, Holed):
            return family.evaluate(params, x)
        theta, seen = _by_column(domains, params), _first(x.seen, x.seen.ndim)
        path, leaf = jax.tree.leaves_with_path(theta)[0]
        check_width(x.seen, leaf.shape[0], jax.tree_util.keystr(path).lstrip("."))
        columns = _columns(x)

        def density(theta: PyTree, column: PyTree, present: Array) -> Array:
            return jnp.where(present[:, None], family.evaluate(theta, column)[0], 0)

        def statistics(responsibilities: Array) -> HoledStats:
            def of_column(theta: PyTree, column: PyTree, present: Array) -> tuple[Array, PyTree]:
                r = jnp.where(present[:, None], responsibilities, 0)
                return r.sum(0), family.evaluate(theta, column)[1](r)

            return HoledStats(*_over(of_column, theta, columns, seen))

        return _over(density, theta, columns, seen).sum(0), statistics

    def m_step(params: PyTree, stats: Any) -> PyTree:
        """Keep what a component has learnt nothing about, column by column."""
        if not isinstance(stats, HoledStats):
            return family.m_step(params, stats)

        def of_column(own: Family, theta: PyTree, sums: PyTree, counts: Array) -> PyTree:
            return updated(own, counts, theta, sums)

        new = of_families(of_column, len(stats.counts), _by_column(domains, params), stats.columns, stats.counts)
        return constraints.each(lambda domain, leaf, old: _back(domain, leaf, _has_event(domain, old)), domains, new, params)

    def of_statistics(function: Callable[[PyTree, PyTree], Array], gather: Callable[[Array], Array]) -> Callable[..., Array]:
        def gathered(params: PyTree, stats: Any) -> Array:
            if not isinstance(stats, HoledStats):
                return function(params, stats)
            return gather(_over(function, _by_column(domains, params), stats.columns))

        return gathered

    def init(x: Any, responsibilities: Array) -> PyTree:
        if not isinstance(x, Holed):
            return family.init(x, responsibilities)
        present = _first(x.seen, x.seen.ndim)[:, :, None]
        shares = jnp.where(present, responsibilities[None], 0)
        start = of_families(lambda own, *rows: own.init(*rows), len(present), _columns(x), shares)
        return constraints.each(lambda domain, leaf: _back(domain, leaf, x.seen.ndim > 1), domains, start)

    def sample(key: Array, params: PyTree, labels: Array, like: Any) -> Any:
        holed = isinstance(like, Holed)
        drawn = require(family, "sample")(key, params, labels, None if holed else like)
        return with_holes(drawn, like.seen if holed else None)

    def embed(x: Any) -> Array:
        if not isinstance(x, Holed):
            return family.embed(x) if family.embed else x
        points = _over(_embedded(family), _columns(x))
        filled = jnp.where(_first(x.seen, x.seen.ndim)[:, :, None], points, x.typical.value[:, None])
        return jnp.moveaxis(filled, 0, 1).reshape(x.seen.shape[0], -1)

    def prepare(data: Any, weights: Array | None) -> Any:
        if isinstance(data, Holed):
            return data
        values, seen = split(data) if isinstance(data, Observed) else (data, None)
        if seen is None:
            return prepared(family, values, weights)
        check_rank(values, (1, 2), "one row per observation, independent columns.")
        check_columns(seen, weights)
        values = _filled(values, seen, weights, legal)
        whole = prepared(family, values, weights)
        columns = whole if values.ndim == 1 else _side_by_side([prepared(family, x, weights) for x in values.T])
        return Holed(columns, seen, Shared(_typical(family, Holed(columns, seen, Shared(())), weights)))

    def complete(params: PyTree, x: Any, responsibilities: Array, drawn: Any) -> Any:
        return means(mean(params), responsibilities) if drawn is None else drawn

    return family._replace(
        evaluate=evaluate,
        m_step=m_step,
        expected_log_prob=of_statistics(family.expected_log_prob, jnp.sum),
        init=init,
        sample=sample if family.sample else None,
        embed=embed,
        prepare=prepare,
        degenerate=of_statistics(family.degenerate, jnp.any) if family.degenerate else None,
        complete=complete,
    )


def means(table: Array, responsibilities: Array) -> Array:
    """Return what is expected of each entry, (n, *event), of component means (k, *event)."""
    return (responsibilities @ table.reshape(table.shape[0], -1)).reshape(-1, *table.shape[1:])


def _has_event(domain: Constraint, leaf: Array) -> bool:
    return leaf.ndim > len(domain.component_axes)


def _by_column(domains: PyTree, params: PyTree) -> PyTree:
    """Return params with the axis of columns first; one of length one where rows are (n,)."""

    def moved(domain: Constraint, leaf: Array) -> Array:
        return jnp.moveaxis(leaf, len(domain.component_axes), 0) if _has_event(domain, leaf) else leaf[None]

    return constraints.each(moved, domains, params)


def _back(domain: Constraint, leaf: Array, has_event: bool) -> Array:
    return jnp.moveaxis(leaf, 0, len(domain.component_axes)) if has_event else leaf[0]


def _first(rows: Array, rank: int) -> Array:
    """Return rows with the axis of columns first."""
    return rows[None] if rank == 1 else jnp.moveaxis(rows, 1, 0)


def _columns(x: Holed) -> PyTree:
    rank = x.seen.ndim
    if isinstance(x.columns, Apart):
        return x.columns
    if rank == 1:
        return jax.tree.map(lambda leaf: leaf[None], x.columns)
    return map_rows(lambda leaf: _first(leaf, rank), x.columns)


def _over(function: Callable[..., Any], *trees: PyTree) -> Any:
    """Return what `function` gives for each column, stacked along a first axis; `Apart` where it does not stack."""
    if not any(isinstance(tree, Apart) for tree in trees):
        return jax.vmap(function)(*trees)
    num = next(len(tree.columns) for tree in trees if isinstance(tree, Apart))

    def at(tree: PyTree, place: int) -> PyTree:
        return tree.columns[place] if isinstance(tree, Apart) else jax.tree.map(lambda leaf: leaf[place], tree)

    return _stacked([function(*(at(tree, place) for tree in trees)) for place in range(num)])


def _stacked(parts: list[Any]) -> Any:
    if isinstance(parts[0], tuple) and not hasattr(parts[0], "_fields"):
        return tuple(_stacked(list(each)) for each in zip(*parts, strict=True))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts) if _alike(parts) else Apart(tuple(parts))


def _side_by_side(parts: list[PyTree]) -> PyTree:
    """Return the prepared columns as one: rows along axis 1, what rows share along a first one."""
    if not _alike(parts):
        return Apart(tuple(parts))

    def joined(*leaves: Any) -> Any:
        if is_shared(leaves[0]):
            return jax.tree.map(lambda *values: jnp.stack(values), *leaves)
        return jnp.stack(leaves, 1)

    return jax.tree.map(joined, *parts, is_leaf=is_shared)


def _alike(parts: list[PyTree]) -> bool:
    return len({(str(jax.tree.structure(part)), *((leaf.shape) for leaf in jax.tree.leaves(part))) for part in parts}) == 1


def _filled(values: Array, seen: Array, weights: Array | None, legal: float) -> Array:
    """Return values with the median of those observed in the column in each hole: it is a legal one."""
    counted = seen if weights is None else seen & (weights > 0).reshape(-1, *[1] * (seen.ndim - 1))
    return jnp.where(seen, values, jnp.where(counted.any(0, keepdims=True), median_of_observed(values, counted), legal))


def _embedded(family: Family) -> Callable[[PyTree], Array]:
    """Return the function that embeds rows of one column, (n, p)."""

    def points(column: PyTree) -> Array:
        found = family.embed(column) if family.embed else column
        return found.reshape(found.shape[0], -1)

    return points


@partial(compiled, static_argnums=0)
def _typical(family: Family, x: Holed, weights: Array | None) -> Array:
    points, seen = _over(_embedded(family), _columns(x)), _first(x.seen, x.seen.ndim)
    counted = seen if weights is None else seen & (weights > 0)[None]
    share = counted[:, :, None].astype(points.dtype)
    return (jnp.where(counted[:, :, None], points, 0)).sum(1) / positive(share.sum(1))
