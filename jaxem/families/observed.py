"""Rows with holes: values that are missing at random, which say nothing and are no error."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import as_floating, is_traced
from jaxem.frames import as_frame, column, is_frame
from jaxem.model import PyTree
from jaxem.sequences import Sequences


class Observed(NamedTuple):
    """Values with holes, and which of them were observed: True there, False in a hole, whatever stands in it.

    >>> from jaxem.families import Observed
    >>> Observed(values=[[1.0, 2.0], [3.0, 0.0]], mask=[[True, True], [True, False]]).mask[1]
    [True, False]
    """

    values: Any
    mask: Any


def observed(x: PyTree) -> PyTree:
    """Return `Observed(values, mask)` of x, where NaN, None and masked entries, and -1 among integers (codes), are missing.

    x: an array (n,) or (n, d), or a DataFrame; of a dict or record of parts, each so; of Sequences, the values. Holes are
    missing at random, and integrated out: log p(x_n | θ) is that of what was observed in row n, and zero where nothing was.
    Gaussian components fill them by what is known of the rest of their row (Little & Rubin 2019, §11.2).
    Raises ValueError for entries that are no numbers.

    >>> import numpy as np, jaxem
    >>> x = jaxem.families.observed([[1.0, 5.0], [3.0, np.nan], [2.0, 4.0]])
    >>> model = jaxem.single(jaxem.families.gaussian("diag"))
    >>> print(jaxem.fit(model, model.init(0, x), x).params.mean.round(2))
    [[2.  4.5]]
    """
    if isinstance(x, Observed):
        return x
    if isinstance(x, Sequences):
        return x._replace(values=observed(x.values))
    if isinstance(x, Mapping):
        return {name: observed(part) for name, part in x.items()}
    if hasattr(x, "_fields"):
        return type(x)(*map(observed, x))
    if is_frame(x):
        frame = as_frame(x, "x")
        return Observed(frame, np.stack([_present(_numbers(column(frame, name))) for name in frame.columns], 1))
    values = x if is_traced(x) else _numbers(x)
    return Observed(np.ma.getdata(values) if isinstance(values, np.ma.MaskedArray) else values, _present(values))


def _numbers(x: Any) -> Any:
    """Return x as an array of numbers, None as NaN."""
    array = x if hasattr(x, "dtype") and hasattr(x, "ndim") and not hasattr(x, "iloc") else np.asarray(x)
    if array.dtype != object:
        return array
    try:
        return array.astype(float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"x has entries that are no numbers ({error}): needs numbers, and NaN where missing.") from error


def _present(x: Any) -> Any:
    kind = np.dtype(x.dtype).kind
    if is_traced(x):
        return ~jnp.isnan(x) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.asarray(x) != -1
    data = np.asarray(np.ma.getdata(x))
    seen = data != -1 if kind == "i" else ~np.isnan(data.astype(float)) if kind not in "bu" else np.ones(data.shape, bool)
    return seen & ~np.ma.getmaskarray(x)


def split(data: Any) -> tuple[Array, Array | None]:
    """Return data as floats, and which were observed, (n, *event) booleans; None where all were, or all is said to be.

    Raises ValueError for a mask that does not fit the values.
    """
    if not isinstance(data, Observed):
        return as_floating(data), None
    values, mask = as_floating(data.values), data.mask if is_traced(data.mask) else np.asarray(data.mask)
    if mask.dtype != bool or mask.shape != values.shape:
        raise ValueError(
            f"mask has dtype {mask.dtype} and shape {mask.shape}, needs booleans {values.shape}, True where observed."
        )
    return values, None if not is_traced(mask) and mask.all() else jnp.asarray(mask)


def check_columns(seen: Array | None, weights: Array | None) -> None:
    """Raise ValueError for columns in which no row of positive weight has been observed."""
    if seen is None or weights is None or is_traced(seen, weights):
        return
    some = np.asarray(seen) & (np.asarray(weights) > 0).reshape(-1, *[1] * (seen.ndim - 1))
    empty = np.flatnonzero(~np.atleast_1d(some.any(0)))
    if empty.size:
        raise ValueError(f"data columns {empty.tolist()} have no observed value in rows of positive weight: drop them.")


def by_name(data: PyTree, names: tuple[str, ...]) -> PyTree:
    """Return data with holes whose columns bear names as a dict of parts with holes; other data as they are."""
    if not isinstance(data, Observed) or not is_frame(data.values):
        return data
    frame = as_frame(data.values)
    columns = list(frame.columns)
    return {name: Observed(column(frame, name), data.mask[:, columns.index(name)]) for name in names if name in columns}


def with_holes(drawn: Array, seen: Array | None) -> Array | Observed:
    """Return drawn rows with the holes of others: NaN, or -1 among whole numbers; as they are where there are none."""
    if seen is None:
        return drawn
    hole = jnp.nan if jnp.issubdtype(drawn.dtype, jnp.floating) else -1
    return Observed(jnp.where(seen.reshape(drawn.shape), drawn, jnp.asarray(hole, drawn.dtype)), seen.reshape(drawn.shape))


def without_holes(data: PyTree) -> PyTree:
    """Return prepared data all of which is said to be observed: what draws that have no holes are to be like."""

    def told(node: Any) -> list[str]:
        return [name for name in ("seen", "gaps", "zero") if name in getattr(node, "_fields", ())]

    def whole(node: Any) -> Any:
        """Return a record, and what its other fields hold, without what tells of holes, or of zeros beside them."""
        if not told(node):
            return node
        kept = {name: without_holes(part) for name, part in node._asdict().items() if name not in told(node)}
        return type(node)(**kept, **dict.fromkeys(told(node)))

    return jax.tree.map(whole, data, is_leaf=lambda node: bool(told(node)))


def has_holes(data: PyTree) -> bool:
    """Tell whether any part of data, as given or as prepared, may have holes."""
    if isinstance(data, Observed) or getattr(data, "seen", None) is not None:
        return True
    parts = data.values() if isinstance(data, Mapping) else data if isinstance(data, (tuple, list)) else ()
    return any(map(has_holes, parts))
