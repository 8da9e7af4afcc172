"""What is checked before anything is compiled: every bad argument is a ValueError that says what to do.

Values can only be looked at outside jit; under a trace the shape checks remain, and a bad value shows in `Fit.status`.
"""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem import constraints
from jaxem.model import Model, PyTree, unit_weights

LOOKED_AT_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""What JAX raises for a function that cannot be traced, as it depends on values."""


def at_least_one(name: str, count: Any) -> int:
    """Return `count` as an int; raise ValueError unless it is a whole number of at least one."""
    try:
        count = operator.index(count)
    except TypeError as error:
        raise ValueError(f"{name} must be a whole number, got {count!r}.") from error
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {count}.")
    return count


def is_traced(*trees: PyTree) -> bool:
    """Tell whether any leaf is a tracer, so that its value cannot be looked at."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def look(function: Callable[..., Any], *args: Any) -> Any:
    """Return a function of values at hand as NumPy arrays, computed at once even while something else is being traced."""
    with jax.ensure_compile_time_eval():
        return jax.tree.map(np.asarray, function(*args))


def _is_single_or_double(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits >= 32


def as_floating(x: Any, name: str = "data") -> Array:
    """Return `x` as an array in its own float dtype, or the default one for half precision and integers that it can hold.

    Raises ValueError for what is no number, and for integers that would be rounded.
    """
    if is_traced(x):
        return x if _is_single_or_double(x) else x.astype(jnp.result_type(float))
    if not isinstance(x, jax.Array):
        x = np.asarray(x)
    if x.dtype.kind not in "biuf" and not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{name} has dtype {x.dtype}, needs numbers: convert it, e.g. np.asarray({name}, float).")
    if jnp.issubdtype(x.dtype, jnp.floating):
        return jnp.asarray(x) if _is_single_or_double(x) else jnp.asarray(x, jnp.result_type(float))
    converted = jnp.asarray(x, jnp.result_type(float))
    if np.any(np.asarray(converted).astype(x.dtype) != np.asarray(x)):
        raise ValueError(
            f"{name} has integers that {converted.dtype} cannot hold exactly (largest {np.abs(np.asarray(x)).max()}): "
            "rescale them, or enable jax_enable_x64."
        )
    return converted


@jax.jit
def _column_ranges(x: Array, weights: Array | None) -> tuple[Array, Array, Array, Array]:
    low, high = x.min(0), x.max(0)
    if weights is None:
        return low, high, low, high
    kept = (weights > 0).reshape(-1, *[1] * (x.ndim - 1))
    infinite = jnp.asarray(jnp.inf, x.dtype)
    return low, high, jnp.where(kept, x, infinite).min(0), jnp.where(kept, x, -infinite).max(0)


def column_ranges(x: Array, weights: Array | None) -> tuple[np.ndarray, np.ndarray]:
    """Return each column's smallest and largest value over rows of positive weight; ValueError for a non-finite value."""
    low, high, kept_low, kept_high = (np.atleast_1d(side) for side in look(_column_ranges, x, weights))
    bad = ~(np.isfinite(low) & np.isfinite(high))
    if bad.any():
        raise ValueError(
            f"data has NaN or infinite values (columns {np.flatnonzero(bad).tolist()}): drop or impute those rows; "
            "giving them weight 0 is not enough."
        )
    return kept_low, kept_high


def check_rank(x: Array, ranks: tuple[int, ...], hint: str) -> None:
    """Raise ValueError unless `x` has one of the ranks and at least one row."""
    if x.ndim not in ranks:
        needs = " or ".join({1: "(n,)", 2: "(n, d)"}[rank] for rank in ranks)
        raise ValueError(f"data has shape {x.shape}, needs {needs}: {hint}")
    if 0 in x.shape:
        raise ValueError(f"data has shape {x.shape}, needs at least one row and one column.")


@jax.jit
def _all_finite(x: Array) -> Array:
    return jnp.isfinite(x).all()


def check_rows(data: PyTree) -> PyTree:
    """Return data of any kind with all floats in one dtype of full precision, integers as they are.

    Raises ValueError for NaN, infinity, and what is no number.
    """
    for leaf in jax.tree.leaves(data):
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        if not floating and leaf.dtype.kind not in "biu":
            raise ValueError(f"data has dtype {leaf.dtype}, needs numbers: convert it, e.g. np.asarray(data, float).")
        if floating and not is_traced(leaf) and not look(_all_finite, leaf):
            raise ValueError("data has NaN or infinite values: drop or impute those rows.")
    dtype = unit_weights(data).dtype
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype if jnp.issubdtype(leaf.dtype, jnp.floating) else None), data)


def _num_rows(data: PyTree) -> int:
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(data)]
    if not shapes or () in shapes:
        raise ValueError("data needs arrays with one row per observation; got an empty tree or a scalar.")
    lengths = sorted({shape[0] for shape in shapes})
    if len(lengths) > 1:
        raise ValueError(f"data has arrays of {lengths} rows, needs the same leading axis n in each.")
    if lengths[0] == 0:
        raise ValueError("data has no rows, needs at least one.")
    return int(lengths[0])


def _check_weights(weights: Any, num_rows: int) -> Array:
    weights = as_floating(weights, "weights")
    if weights.shape != (num_rows,):
        raise ValueError(f"weights has shape {weights.shape}, needs ({num_rows},): one weight per row of data.")
    if not is_traced(weights):
        values = np.asarray(weights)
        if not np.isfinite(values).all() or (values < 0).any():
            raise ValueError("weights has NaN, infinite or negative values, needs finite weights ≥ 0: drop or mend those rows.")
        if not (values > 0).any():
            raise ValueError("weights are all zero, needs a positive weight for at least one row.")
    return weights


def as_arrays(data: PyTree) -> PyTree:
    """Return data with each leaf, or list of numbers, as an array."""
    return jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else np.asarray(leaf), data, is_leaf=_is_list)


def check_data(model: Model, data: PyTree, weights: Any) -> tuple[PyTree, Array]:
    """Return data and weights as arrays of one float dtype that `model` can be fitted to; else raise ValueError."""
    data = as_arrays(data)
    num_rows = _num_rows(data)
    if weights is not None:
        weights = _check_weights(weights, num_rows)
    data = model.validate(data, weights) if model.validate else check_rows(data)
    expected = unit_weights(data)
    return data, expected if weights is None else weights.astype(expected.dtype)


def _is_list(node: object) -> bool:
    """Whether `node` is a list of numbers, nested or not, which stands for an array; a list of arrays is a tree of them."""
    return isinstance(node, list) and all(isinstance(leaf, (bool, int, float, str)) for leaf in jax.tree.leaves(node))


def _check_shapes(model: Model, params: PyTree, data: PyTree, weights: Array) -> None:
    if model.init is None:
        return
    try:
        expected = jax.eval_shape(model.init, jax.random.key(0), data, weights)
    except LOOKED_AT_VALUES:
        return
    needed = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, weights.dtype), expected)
    _check_alike(params, needed, "params has", "start from model.init(key, data) or build that record")


def _check_alike(received: PyTree, needed: PyTree, what: str, cure: str) -> None:
    """Raise ValueError unless two trees have the same structure, shapes and dtypes."""
    structures = jax.tree.structure(received), jax.tree.structure(needed)
    if str(structures[0]) != str(structures[1]):
        raise ValueError(f"{what} structure {structures[0]}, needs {structures[1]}: {cure}.")
    for (path, one), other in zip(jax.tree.leaves_with_path(received), jax.tree.leaves(needed), strict=True):
        place = what.replace("params", f"params{jax.tree_util.keystr(path)}")
        if one.shape != other.shape:
            raise ValueError(f"{place} shape {one.shape}, needs {other.shape}: {cure}.")
        if one.dtype != other.dtype:
            raise ValueError(f"{place} dtype {one.dtype}, needs {other.dtype}: {cure}.")


@partial(jax.jit, static_argnums=0)
def _inside(domains: tuple[constraints.Constraint, ...], leaves: list[Array]) -> list[Array]:
    return [domain.contains(leaf) for domain, leaf in zip(domains, leaves, strict=True)]


def _check_domain(model: Model, params: PyTree) -> None:
    domains = constraints.broadcast(model.constraints, params)
    inside = look(_inside, tuple(domains), jax.tree.leaves(params))
    for (path, leaf), domain, ok in zip(jax.tree.leaves_with_path(params), domains, inside, strict=True):
        if not ok:
            raise ValueError(
                f"params{jax.tree_util.keystr(path)} must be finite and {domain.name}, got {np.asarray(leaf)}: "
                "mend it, or start from model.init(key, data)."
            )


def check_steps(model: Model, params: PyTree, data: PyTree, weights: Array) -> None:
    """Raise ValueError unless the E-step gives a scalar log-likelihood and the M-step params like those it was given."""
    stats, log_likelihood = jax.eval_shape(model.e_step, params, data, weights)
    if (log_likelihood.shape, log_likelihood.dtype) != ((), weights.dtype):
        raise ValueError(
            f"model.e_step returns a log-likelihood of shape {log_likelihood.shape} and dtype {log_likelihood.dtype}, "
            f"needs a scalar of {weights.dtype}, the dtype of the data."
        )
    received = jax.eval_shape(model.m_step, params, stats)
    _check_alike(received, params, "model.m_step returns params of", "return params like those it is given")


def check_key(key: Any) -> None:
    """Raise ValueError unless `key` is one random key, of the new style or the old."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    new = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    old = dtype == jnp.uint32 and shape is not None and len(shape) == 1
    if not (new or old):
        got = repr(key) if shape is None else f"an array of dtype {dtype} and shape {shape}"
        raise ValueError(f"key must be one random key, such as jax.random.key(0), got {got}.")


def check_params(model: Model, params: PyTree, data: PyTree, weights: Array) -> PyTree:
    """Return params in the dtype of the weights, those on a simplex summing to one; ValueError for a wrong shape or domain."""
    params = jax.tree.map(lambda leaf: as_floating(leaf, "params").astype(weights.dtype), params, is_leaf=_is_list)
    _check_shapes(model, params, data, weights)
    if not is_traced(params):
        _check_domain(model, params)
    return constraints.mend(model.constraints, params)
