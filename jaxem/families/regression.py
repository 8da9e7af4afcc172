"""Rows of a regression: a response beside the columns that its distribution depends on."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import as_floating, column_ranges, is_traced
from jaxem.families.designs import Design, design, inward, named


class Regression(NamedTuple):
    """Data of a regression.

    x       (n, p) columns, which hold one of ones where an intercept is wanted
    y       (n,) responses: numbers, counts, or successes
    offset  (n,) what the linear predictor begins with, such as log exposures; None for zeros
    trials  (n,) of binomial responses; None for one each

    >>> from jaxem.families import Regression
    >>> Regression(x=[[1.0, 0.5], [1.0, 2.0]], y=[3.0, 1.0]).y
    [3.0, 1.0]
    """

    x: Any
    y: Any
    offset: Any = None
    trials: Any = None


class Responses(NamedTuple):
    """Rows of a regression that have been looked at; `base` (n,) is what the family makes of a response alone, or None."""

    design: Design
    y: Array
    offset: Array | None
    trials: Array | None
    base: Any = None


class Kind(NamedTuple):
    """What a family asks of responses: whether y, or trials, may be so (elementwise), in words what they must be."""

    legal: Callable[[Array, Array | None], Array]
    needs: str
    trials: bool = False


def prepare_regression(data: Any, weights: Array | None, kind: Kind, common: tuple[int, ...]) -> Responses:
    """Return rows that have been looked at; ValueError that names the field for what is no regression of that kind."""
    if isinstance(data, Responses):
        return data
    if not isinstance(data, Regression):
        raise ValueError(f"data must be families.Regression(x, y, offset=None, trials=None), got {type(data).__name__}.")
    if data.trials is not None and not kind.trials:
        raise ValueError("trials belong to binomial responses: leave them out, or take families.glm('binomial').")
    dtype = _dtype([leaf for leaf in data if leaf is not None])
    columns = design(_converted(data.x, dtype, "x"), weights, "x", common)
    y, offset, trials = (_one_each(getattr(data, name), columns, name) for name in ("y", "offset", "trials"))
    if y is None:
        raise ValueError("y is None, needs (n,): one response for each row of x.")
    return Responses(columns, _checked(y, trials, kind), offset, trials)


def _dtype(leaves: list[Any]) -> Any:
    """Return the widest float dtype of full precision among the leaves; the default one where there is none."""
    given = [np.dtype(leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype) for leaf in leaves]
    floats = [dtype for dtype in given if dtype in (np.dtype("float32"), np.dtype("float64"))]
    return jax.dtypes.canonicalize_dtype(max(floats, key=lambda dtype: dtype.itemsize, default=jnp.result_type(float)))


def _converted(values: Any, dtype: Any, name: str) -> Array:
    array = as_floating(values, name)
    if not is_traced(array) and not np.issubdtype(getattr(values, "dtype", np.dtype(float)), np.floating):
        if (np.asarray(array.astype(dtype)) != np.asarray(array)).any():
            raise ValueError(f"{name} has whole numbers that {dtype} cannot hold: rescale them, or take float64 for all.")
    return array.astype(dtype)


def _one_each(values: Any, columns: Design, name: str) -> Array | None:
    if values is None:
        return None
    array = _converted(values, columns.x.dtype, name)
    if array.shape != columns.x.shape[:1]:
        raise ValueError(f"{name} has shape {array.shape}, needs ({columns.x.shape[0]},): one for each row of x.")
    if not is_traced(array):
        named(name, column_ranges, array, None)
    return array


def _checked(y: Array, trials: Array | None, kind: Kind) -> Array:
    """Return responses, under a trace with NaN in the place of illegal ones."""
    legal = kind.legal(y, trials)
    if is_traced(y, trials):
        return jnp.where(legal, y, jnp.nan)
    bad = np.flatnonzero(~np.asarray(legal))
    if len(bad):
        raise ValueError(f"y needs {kind.needs}; got {float(y[int(bad[0])]):g} in row {int(bad[0])}.")
    return y


def predictor(coefficients: Array, rows: Responses) -> Array:
    """Return x_n β_k, and the offset, from coefficients (k, p): (k, n)."""
    return turned_predictor(inward(coefficients, rows.design.basis.value), rows)


def turned_predictor(turned: Array, rows: Responses) -> Array:
    """Return the same from coefficients of the orthogonal columns."""
    value = turned @ rows.design.z.T
    return value if rows.offset is None else value + rows.offset[None]


def as_common(common: Any) -> tuple[int, ...]:
    """Return the columns that all components share the coefficients of, in order; ValueError for what names none."""
    try:
        columns = sorted({operator.index(column) for column in common})
    except TypeError as error:
        raise ValueError(f"common must be a tuple of column numbers of x, such as (1, 2), got {common!r}.") from error
    if columns and columns[0] < 0:
        raise ValueError(f"common must name columns of x from 0 on, got {columns[0]}.")
    return tuple(columns)


def linear_predictor(coefficients: Array, labels: Array, like: Responses | None) -> Array:
    """Return x_n β_z, and the offset, of the component z (n,) that each row is of: (n,)."""
    if like is None:
        raise ValueError("like must be families.Regression data: responses depend on their columns, not on their number.")
    value = (inward(coefficients, like.design.basis.value)[labels] * like.design.z).sum(1)
    return value if like.offset is None else value + like.offset
