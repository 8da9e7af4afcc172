"""Anything a user has, as arrays of one dtype: the only converter, and the one look at values.

Values can only be looked at outside jit; under a trace shapes are checked, and the values speak for themselves later.
"""

import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.frames import as_frame, column, is_frame
from jaxem.model import Family, Model
from jaxem.trees import PyTree, dtype_of_weights

FEW = 1 << 16  # numbers that NumPy has looked at before a program is compiled


def at_least_one(name: str, count: Any) -> int:
    """Return `count` as an int; raise ValueError unless it is a whole number of at least one."""
    try:
        if isinstance(count, (bool, np.bool_)):
            raise TypeError
        count = operator.index(count)
    except TypeError as error:
        raise ValueError(f"{name} must be a whole number, got {count!r}.") from error
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {count}.")
    return count


def check_progress(on_progress: Any) -> None:
    """Raise ValueError unless `on_progress` is a function, or None."""
    if not (on_progress is None or callable(on_progress)):
        raise ValueError(f"on_progress must be a function of how many are done, got {on_progress!r}.")


def is_number(x: Any) -> bool:
    """Tell whether x is one number at hand, which may be NaN."""
    return not is_traced(x) and np.ndim(x) == 0 and np.asarray(x).dtype.kind in "biuf"


def is_traced(*trees: PyTree) -> bool:
    """Tell whether any leaf is a tracer, so that its value cannot be looked at."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def is_on_host(x: Any) -> bool:
    """Tell whether an array can be read by NumPy at no cost: not one on an accelerator, or spread over devices."""
    return not isinstance(x, jax.Array) or [device.platform for device in x.devices()] == ["cpu"]


def look(function: Callable[..., Any], *args: Any) -> Any:
    """Return a function of values at hand as NumPy arrays, computed at once even while something else is being traced."""
    with jax.ensure_compile_time_eval():
        return jax.tree.map(np.asarray, function(*args))


def _is_single_or_double(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits in (32, 64)


def _as_array(x: Any, name: str) -> Any:
    """Return `x` as an array of JAX or NumPy, in a dtype and byte order that both know."""
    if isinstance(x, jax.Array):
        return x
    if hasattr(x, "_fields"):
        raise ValueError(f"{name} is a record, {type(x).__name__}, where an array is needed: mind the order of the arguments.")
    if np.ma.is_masked(x):
        keep = ", or keep it by families.observed(data)" if name == "data" else ""
        raise ValueError(
            f"{name} is a masked array with masked entries: drop or impute those rows, as the mask would be lost{keep}."
        )
    try:
        x = np.asarray(x)
    except ValueError as error:
        raise ValueError(f"{name} is ragged: {error}. It needs rows of equal length.") from error
    if not x.dtype.isnative:
        raise ValueError(f"{name} has the byte order of another machine: use {name}.astype({name}.dtype.newbyteorder('=')).")
    if x.dtype.kind == "f" and x.dtype.itemsize > 8:
        raise ValueError(f"{name} has dtype {x.dtype}, which JAX does not know: use {name}.astype('float64').")
    return x


def as_floating(x: Any, name: str = "data") -> Array:
    """Return `x` as an array in its own float dtype, or the default one for half precision and integers that it can hold.

    Raises ValueError for what is no number, for integers that would be rounded, and for masked entries.
    """
    if is_traced(x):
        return x if _is_single_or_double(x) else x.astype(jnp.result_type(float))
    x = as_frame(x, name)
    columns = [str(each) for each in x.columns] if is_frame(x) else []
    x = _as_array(x, name)
    if x.dtype.kind not in "biuf" and not jnp.issubdtype(x.dtype, jnp.floating):
        of = f" (columns {', '.join(columns)})" if columns else ""
        raise ValueError(f"{name} has dtype {x.dtype}{of}, needs numbers: convert it, e.g. np.asarray({name}, float).")
    if jnp.issubdtype(x.dtype, jnp.floating):
        return jnp.asarray(x) if _is_single_or_double(x) else jnp.asarray(x, jnp.result_type(float))
    x = np.asarray(x)
    converted = x.astype(jnp.result_type(float))
    if np.any(converted.astype(x.dtype) != x):
        raise ValueError(
            f"{name} has integers that {converted.dtype} cannot hold exactly (largest {np.abs(x).max()}): "
            "rescale them, or enable jax_enable_x64."
        )
    return jnp.asarray(converted)


def _is_list(node: object) -> bool:
    """Whether `node` is a list of numbers, nested or not, which stands for an array; a list of arrays is a tree of them."""
    return isinstance(node, list) and all(
        isinstance(leaf, (bool, int, float, str, np.generic)) for leaf in jax.tree.leaves(node)
    )


def as_arrays(data: PyTree, name: str = "data") -> PyTree:
    """Return data with each leaf, or list of numbers, as an array; a DataFrame stays one, for the sake of its names."""
    return jax.tree.map(lambda leaf: as_frame(leaf, name) if is_frame(leaf) else _as_array(leaf, name), data, is_leaf=_is_list)


def as_params(params: PyTree, dtype: Any = None) -> PyTree:
    """Return parameters with each leaf, or list of numbers, as an array of `dtype`; None for its own.

    Raises ValueError for what holds parameters: a fit, or a search.
    """
    for field, place in {"best": "best.params", "params": "params"}.items():
        if field in getattr(params, "_fields", ()):
            raise ValueError(f"params is a {type(params).__name__}, which only holds them: pass its .{place}.")

    def converted(leaf: Any) -> Array:
        array = as_floating(leaf, "params")
        return array if dtype is None else array.astype(dtype)

    return jax.tree.map(converted, params, is_leaf=_is_list)


def as_mapping(data: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Return rows of several named parts as a dict: of a dict, a record, or a DataFrame whose columns bear the names.

    Raises ValueError that lists the names which are needed and those which are there.
    """
    frame = as_frame(data) if is_frame(data) else None
    given = list(frame.columns if frame is not None else getattr(data, "_fields", data if isinstance(data, Mapping) else ()))
    if not set(names) <= set(given):
        got = f"{', '.join(map(str, given))}" if given else f"{type(data).__name__} without names"
        raise ValueError(f"data needs {', '.join(names)}, as a dict of arrays, a record or a DataFrame; got {got}.")
    if isinstance(data, Mapping) and set(given) != set(names):
        raise ValueError(f"data has {', '.join(sorted(set(given) - set(names)))} beside {', '.join(names)}: leave that out.")
    if frame is not None:
        return {name: column(frame, name) for name in names}
    return {name: data[name] if not hasattr(data, "_fields") else getattr(data, name) for name in names}


def check_rank(x: Array, ranks: tuple[int, ...], hint: str) -> None:
    """Raise ValueError unless `x` has one of the ranks and at least one row."""
    if x.ndim not in ranks:
        needs = " or ".join({1: "(n,)", 2: "(n, d)"}[rank] for rank in ranks)
        raise ValueError(f"data has shape {x.shape}, needs {needs}: {hint}")
    if 0 in x.shape:
        raise ValueError(f"data has shape {x.shape}, needs at least one row and one column.")


def check_width(x: Array, width: int, place: str) -> None:
    """Raise ValueError unless rows `x` (n,) or (n, d) have as many columns as the parameters at `place` say."""
    received = x.shape[1] if x.ndim == 2 else 1
    if received != width:
        columns = f"{received} column{'s' if received != 1 else ''}"
        raise ValueError(f"data has {columns} (shape {x.shape}), expected {width}, as params.{place} has.")


def _column_ranges(xp: Any, x: Any, weights: Any, counts: bool) -> tuple[Any, Any, Any, Any, Any]:
    low, high, whole = x.min(0), x.max(0), (x == xp.floor(x)).all() if counts else xp.asarray(False)
    if weights is None:
        return low, high, low, high, whole
    kept = (weights > 0).reshape(-1, *[1] * (x.ndim - 1))
    infinite = xp.asarray(xp.inf, x.dtype)
    return low, high, xp.where(kept, x, infinite).min(0), xp.where(kept, x, -infinite).max(0), whole


def _all_finite(xp: Any, x: Any) -> Any:
    return xp.isfinite(x).all()


_COMPILED = {
    _column_ranges: jax.jit(partial(_column_ranges, jnp), static_argnames="counts"),
    _all_finite: jax.jit(partial(_all_finite, jnp)),
}


def _seen(function: Callable[..., Any], *given: Any, **options: bool) -> Any:
    """Return one of these functions of arrays at hand; by NumPy, which compiles nothing, where they hold few numbers."""
    if all(x is None or (x.size <= FEW and is_on_host(x)) for x in given):
        return function(np, *(x if x is None else np.asarray(x) for x in given), **options)
    return look(partial(_COMPILED[function], **options), *given)


def column_ranges(
    x: Array, weights: Array | None, counts: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, bool]:
    """Return each column's smallest and largest value, the same over rows of positive weight, and if `counts` are whole.

    Raises ValueError for a value that is not finite.
    """
    *ranges, whole = _seen(_column_ranges, x, weights, counts=counts)
    low, high, kept_low, kept_high = map(np.atleast_1d, ranges)
    bad = ~(np.isfinite(low) & np.isfinite(high))
    if bad.any():
        raise ValueError(
            f"data has NaN or infinite values (columns {np.flatnonzero(bad).tolist()}): where NaN is missing, say so by "
            "families.observed(data); else drop or mend those rows, giving them weight 0 is not enough. "
            f"Numbers that {x.dtype} cannot hold: rescale them."
        )
    return low, high, kept_low, kept_high, bool(whole)


def in_one_dtype(data: PyTree) -> PyTree:
    """Return data with all floats in the widest float dtype among them, the rest as it is."""
    dtype = dtype_of_weights(data)
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, data)


def prepared(record: Family | Model, data: PyTree, weights: Array | None) -> PyTree:
    """Return data as `record.prepare` has them, or checked for what is no finite number where it has no such function."""
    return record.prepare(data, weights) if record.prepare else as_rows(data)


def as_rows(data: PyTree) -> PyTree:
    """Return data of any kind with all floats in one dtype of full precision, integers as they are.

    Raises ValueError for NaN, infinity, and what is no number.
    """
    data = jax.tree.map(lambda leaf: _as_array(leaf, "data"), data)
    for leaf in jax.tree.leaves(data):
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        if not floating and leaf.dtype.kind not in "biu":
            raise ValueError(f"data has dtype {leaf.dtype}, needs numbers: convert it, e.g. np.asarray(data, float).")
        if floating and not is_traced(leaf) and not _seen(_all_finite, leaf):
            raise ValueError("data has NaN or infinite values: drop or impute those rows.")
    return in_one_dtype(jax.tree.map(jnp.asarray, data))
