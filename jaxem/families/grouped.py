"""Rows that are subjects, each measured several times, with one latent label for all its measurements."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import as_arrays, is_traced, prepared
from jaxem.model import Family, PyTree, check_family, require
from jaxem.numerics import positive, within
from jaxem.trees import by_row, dtype_of_weights, filled, flat, map_rows, num_rows


class Grouped(NamedTuple):
    """Measurements (n, m, *event), any tree of them, of which row n has the first count_n: count (n,) whole numbers.

    >>> from jaxem.families import Grouped
    >>> Grouped(values=[[1.0, 2.0], [3.0, 0.0]], count=[2, 1]).count
    [2, 1]
    """

    values: PyTree
    count: Any


class _Measured(NamedTuple):
    """Measurements as the family has them, leaves (n, m, *event), and how many there are of each row, (n,)."""

    rows: PyTree
    count: Array  # type: ignore[assignment]


def groups(values: PyTree, ids: Any) -> Grouped:
    """Return measurements in long format, leaves (N, *event), as one row for each id, in order of first appearance.

    ids: (N,) of any type that can be told apart. Places beyond a row's count repeat its first measurement.
    Raises ValueError for lengths that do not agree, and for ids that are no such.

    >>> from jaxem import families
    >>> x = families.groups([1.0, 2.0, 3.0], ["b", "a", "b"])
    >>> print(x.values.tolist(), x.count)
    [[1.0, 3.0], [2.0, 2.0]] [2 1]
    """
    ids = _told_apart(ids)
    leaves = jax.tree.map(np.asarray, as_arrays(values, "values"))
    lengths = {len(leaf) if leaf.ndim else 0 for leaf in jax.tree.leaves(leaves)}
    if lengths != {len(ids)} or not ids:
        raise ValueError(f"values has {sorted(lengths)} rows and ids {len(ids)}: needs the same number, at least one.")
    seen: dict[Any, int] = {}
    row = np.array([seen.setdefault(each, len(seen)) for each in ids])
    count = np.bincount(row)
    order = np.argsort(row, kind="stable")
    starts = np.cumsum(count) - count
    places = starts[:, None] + np.where(np.arange(count.max()) < count[:, None], np.arange(count.max()), 0)
    return Grouped(jax.tree.map(lambda leaf: leaf[order[places]], leaves), count)


def _told_apart(ids: Any) -> list[Any]:
    """Return ids as a list; ValueError for what is no list of them, and for what cannot be told apart."""
    needs = "needs one for each row of values, such as a number, a name or a tuple of these"
    if np.ndim(ids) != 1 if hasattr(ids, "shape") else isinstance(ids, str) or not hasattr(ids, "__iter__"):
        raise ValueError(f"ids has shape {np.shape(ids)}, {needs}.")
    given = ids.tolist() if hasattr(ids, "tolist") else list(ids)
    for row, each in enumerate(given):
        try:
            known = hash(each) is not None and bool(each == each)
        except (TypeError, ValueError):
            known = False
        if not known:
            raise ValueError(f"ids has {each!r} in row {row}, {needs}: others cannot be told apart.")
    return given


def grouped(family: Family) -> Family:
    """Return `family` for data `Grouped(values, count)`: log p(x_n | θ_k) = Σ_i log p(x_ni | θ_k) over a row's measurements.

    Measurements are independent given the row's label. Params are those of `family`, `size` counts measurements, and
    `sample` keeps the counts of `like`. What stands beyond a row's count is not looked at; a row of none says nothing.
    Raises ValueError for what is no Family.

    >>> import jaxem
    >>> from jaxem import families
    >>> x = families.groups([0, 1, 9, 8, 1, 7], ids=["ann", "ann", "bob", "bob", "ann", "bob"])
    >>> model = jaxem.mixture(families.grouped(families.poisson()), 2)
    >>> print(model.posterior(jaxem.Mixture([0.5, 0.5], families.Poisson([1.0, 8.0])), x).round(3))
    [[1. 0.]
     [0. 1.]]
    """
    check_family(family)
    return _grouped(family)


@cache
def _grouped(family: Family) -> Family:
    def evaluate(params: PyTree, x: _Measured) -> tuple[Array, Callable[[Array], PyTree]]:
        log_prob, statistics = family.evaluate(params, flat(x.rows))
        there = _there(x)[:, :, None]
        each = log_prob.reshape(*there.shape[:2], -1)
        return jnp.where(there, each, 0).sum(1), lambda responsibilities: statistics(_of_each(x, responsibilities))

    def init(x: _Measured, responsibilities: Array) -> PyTree:
        return family.init(flat(x.rows), _of_each(x, responsibilities))

    def sample(key: Array, params: PyTree, labels: Array, like: _Measured | None) -> Grouped:
        if like is None:
            raise ValueError("like must be data: rows have as many measurements as its, which a number of rows has not.")
        most = _most(like)
        drawn = require(family, "sample")(key, params, jnp.repeat(labels, most), flat(like.rows))
        return Grouped(by_row(drawn, (-1, most)), like.count)

    def embed(x: _Measured) -> Array:
        """Return the mean of a row's measurements, as the family embeds them."""
        rows = flat(x.rows)
        points = family.embed(rows) if family.embed else rows
        there = _there(x).astype(points.dtype)[:, :, None]
        mean = (points.reshape(*there.shape[:2], -1) * there).sum(1) / positive(there.sum(1))
        return jnp.where(there.sum(1) > 0, mean, mean.mean(0, keepdims=True))

    def size(data: _Measured) -> Array:
        if family.size is None:
            return data.count.astype(dtype_of_weights(data.rows))
        return jnp.where(_there(data), family.size(flat(data.rows)).reshape(_there(data).shape), 0).sum(1)

    def prepare(data: Any, weights: Array | None) -> _Measured:
        if isinstance(data, _Measured):
            return data
        if not isinstance(data, Grouped):
            raise ValueError(f"data must be families.Grouped(values, count), got {type(data).__name__}.")
        values, count, most = _checked(data)
        there = within(count, most)
        each = None if weights is None else (weights[:, None] * there.astype(weights.dtype)).ravel()
        rows = prepared(family, flat(map_rows(lambda leaf: filled(leaf, there), values)), each)
        return _Measured(by_row(rows, (-1, most)), count)

    def complete(params: PyTree, x: _Measured, responsibilities: Array, drawn: PyTree) -> PyTree:
        each = _of_each(x, responsibilities)
        filled = require(family, "complete")(params, flat(x.rows), each, None if drawn is None else flat(drawn.values))
        return by_row(filled, (-1, _most(x)))

    return family._replace(
        evaluate=evaluate,
        init=init,
        sample=sample if family.sample else None,
        embed=embed,
        prepare=prepare,
        size=size,
        complete=complete if family.complete else None,
        parts=(grouped, (family,)),
    )


def _most(x: _Measured) -> int:
    return num_rows(flat(x.rows)) // num_rows(x.rows)


def _there(x: _Measured) -> Array:
    """Tell which places hold a measurement: (n, m)."""
    return within(x.count, _most(x))


def _of_each(x: _Measured, responsibilities: Array) -> Array:
    """Return the responsibilities of rows for each of their measurements, zero where there is none: (n m, k)."""
    there = _there(x).astype(responsibilities.dtype)
    return (responsibilities[:, None] * there[:, :, None]).reshape(-1, responsibilities.shape[1])


def _checked(data: Grouped) -> tuple[PyTree, Array, int]:
    """Return values, counts and m; ValueError where their shapes, or the counts, are no such."""
    values, count = as_arrays(data.values), data.count if hasattr(data.count, "dtype") else np.asarray(data.count)
    shapes = {np.shape(leaf)[:2] for leaf in jax.tree.leaves(values)}
    if len(shapes) != 1 or len(min(shapes)) < 2 or np.shape(count) != min(shapes)[:1] or 0 in min(shapes):
        raise ValueError(f"values has leading axes {sorted(shapes)} and count {np.shape(count)}: needs (n, m) and (n,).")
    most = min(shapes)[1]
    if count.dtype.kind not in "iu":
        raise ValueError(f"count has dtype {count.dtype}, needs whole numbers from 0 to {most}.")
    if not is_traced(count) and not ((np.asarray(count) >= 0) & (np.asarray(count) <= most)).all():
        raise ValueError(f"count has values from {np.min(count)} to {np.max(count)}, needs whole numbers from 0 to {most}.")
    return jax.tree.map(jnp.asarray, values), jnp.asarray(count), most
