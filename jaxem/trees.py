"""Functions of trees: of data, whose leaves have one row per observation or are shared by all rows, and of parameters."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

PyTree = Any


class Shared(NamedTuple):
    """A part of the data that all rows share, such as a centre or a table: blocks, shards and lanes pass it whole.

    >>> import jax.numpy as jnp, jaxem
    >>> data = {"code": jnp.array([0, 1, 1]), "table": jaxem.Shared(jnp.array([0.2, 0.8]))}
    >>> print(data["table"].value[data["code"]])
    [0.2 0.8 0.8]
    """

    value: PyTree


class Gated(NamedTuple):
    """Data of a structure with a gate: what the gate looks at, such as covariates (n, q), and what the components do.

    >>> from jaxem.families import Gated
    >>> Gated(gate=[[1.0, 2.0]], data=[[3.0]]).data
    [[3.0]]
    """

    gate: PyTree
    data: PyTree


def is_shared(node: object) -> bool:
    """Tell whether `node` is Shared."""
    return isinstance(node, Shared)


def map_rows(function: Callable[..., Any], data: PyTree, *more: PyTree) -> PyTree:
    """Return `data` with `function` applied to each leaf that has rows (and its likes in `more`); Shared ones as they are."""
    return jax.tree.map(
        lambda leaf, *others: leaf if is_shared(leaf) else function(leaf, *others), data, *more, is_leaf=is_shared
    )


def flat(rows: PyTree) -> PyTree:
    """Return leaves (n, m, *event) as (n m, *event)."""
    return map_rows(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rows)


def by_row(rows: PyTree, shape: tuple[int, int]) -> PyTree:
    """Return leaves (n m, *event) as (n, m, *event), of that shape (n, m)."""
    return map_rows(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), rows)


@jax.jit
def filled(leaf: Array, there: Array) -> Array:
    """Return places (n, m, *event) with the first that is `there`, (n, m), in the place of those that are not."""
    one = leaf.reshape(-1, *leaf.shape[2:])[jnp.argmax(there.ravel())]
    return jnp.where(there.reshape(*there.shape, *[1] * (leaf.ndim - 2)), leaf, one)


def rows_of(data: PyTree) -> list[Any]:
    """Return the leaves of `data` that have one row per observation."""
    return [leaf for leaf in jax.tree.leaves(data, is_leaf=is_shared) if not is_shared(leaf)]


def num_rows(data: PyTree) -> int:
    """Return n, the leading axis of the leaves that are not Shared."""
    return int(rows_of(data)[0].shape[0])


def dtype_of_weights(data: PyTree) -> Any:
    """Return the widest float dtype of the data; the default one for half precision or none."""
    widths = [jnp.finfo(leaf.dtype).bits for leaf in jax.tree.leaves(data) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    widest = max(widths, default=0)
    return jax.dtypes.canonicalize_dtype(f"float{widest}") if widest >= 32 else jnp.result_type(float)


def choose(condition: Array, yes: PyTree, no: PyTree) -> PyTree:
    """Return leaves of `yes` where the condition holds, else of `no`: as wholes, or place by place along leading axes."""

    def pick(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b)

    return jax.tree.map(pick, yes, no)


def pick(tree: PyTree, places: Array) -> PyTree:
    """Return the entries of stacked leaves at `places` ≥ 0 of the leading axis; places beyond the end take the last."""
    return jax.tree.map(lambda leaf: jnp.take(leaf, places, axis=0, mode="clip"), tree)


class Packing(NamedTuple):
    """How trees of stacked leaves become one array (n, width) of each dtype, and trees again: few to take from and put into."""

    pack: Callable[[PyTree], list[Array]]
    unpack: Callable[[list[Array]], PyTree]


def packing(like: PyTree) -> Packing:
    """Return the packing of trees whose leaves are like these beyond their leading axis."""
    leaves, structure = jax.tree.flatten(like)
    dtypes = list(dict.fromkeys(leaf.dtype for leaf in leaves))
    places = [[i for i, leaf in enumerate(leaves) if leaf.dtype == dtype] for dtype in dtypes]
    sizes = [[math.prod(leaves[i].shape[1:]) for i in some] for some in places]

    def pack(tree: PyTree) -> list[Array]:
        given = jax.tree.leaves(tree)
        return [jnp.concatenate([given[i].reshape(given[i].shape[0], -1) for i in some], 1) for some in places]

    def unpack(arrays: list[Array]) -> PyTree:
        parts = [jnp.split(x, np.cumsum(size)[:-1], axis=1) for x, size in zip(arrays, sizes, strict=True)]
        found = {i: part for some, several in zip(places, parts, strict=True) for i, part in zip(some, several, strict=True)}
        rows = arrays[0].shape[0]
        return jax.tree.unflatten(structure, [found[i].reshape(rows, *leaf.shape[1:]) for i, leaf in enumerate(leaves)])

    return Packing(pack, unpack)


def inner(left: PyTree, right: PyTree) -> Array:
    """Return the inner product of two trees of one structure: a scalar."""
    return jax.tree.reduce(jnp.add, jax.tree.map(lambda a, b: (a * b).sum(), left, right))
