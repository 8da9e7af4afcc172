"""The one door of all drivers: model, params, data and weights agree, or a ValueError says what to do.

Values can only be looked at outside jit; under a trace the shape checks remain, and a bad value shows in `Fit.status`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem import constraints
from jaxem.arrays import as_arrays, as_floating, as_params, as_rows, is_traced
from jaxem.buckets import pad
from jaxem.model import Family, Model, Prepare, PyTree, require
from jaxem.programs import compiled
from jaxem.trees import dtype_of_weights, map_rows, rows_of

LOOKED_AT_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""What JAX raises for a function that cannot be traced, as it depends on values."""


def check_model(model: Any) -> None:
    """Raise ValueError for what is no Model."""
    if not isinstance(model, Model):
        cure = "jaxem.mixture(family, k) or jaxem.single(family) makes a model of it" if isinstance(model, Family) else ""
        raise ValueError(f"model must be a Model, got {type(model).__name__}: {cure or 'call its constructor'}.")


def _count_rows(data: PyTree) -> int:
    shapes = [np.shape(leaf) for leaf in rows_of(data)]
    if not shapes or () in shapes:
        raise ValueError(
            "data needs arrays with one row per observation; got an empty tree or a scalar: mind the order of the arguments."
        )
    lengths = sorted({shape[0] for shape in shapes})
    if len(lengths) > 1:
        raise ValueError(f"data has arrays of {lengths} rows, needs the same leading axis n in each.")
    if lengths[0] == 0:
        raise ValueError("data has no rows, needs at least one.")
    return int(lengths[0])


def check_structure(domains: PyTree, params: PyTree) -> None:
    """Raise ValueError unless params are built like their constraints."""
    try:
        constraints.broadcast(domains, params)
    except ValueError as error:
        needed = jax.tree.structure(domains, is_leaf=constraints.is_constraint)
        raise ValueError(
            f"params has structure {jax.tree.structure(params)}, needs {needed}: pass what model.init returns, or fit.params."
        ) from error


def check_weights(weights: Any, num_rows: int) -> Array:
    """Return weights (n,) as floats; ValueError for another shape, and for what is not finite, negative or all zero."""
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


def ready(prepare: Prepare | None, data: PyTree) -> PyTree:
    """Return data as `prepare` has them, examined once, but not asked whether anything can be learnt from them."""
    data = as_arrays(data)
    _count_rows(data)
    return prepare(data, None) if prepare else as_rows(data)


def ready_to_look(prepare: Prepare | None, data: PyTree, padded: bool) -> tuple[PyTree, int]:
    """Return data as `prepare` has them, `padded` so that others share their program, and how many rows they had."""
    data = as_arrays(data)
    count = _count_rows(data)
    return ready(prepare, pad(data)[0] if padded else data), count


def may_be_padded(model: Model) -> bool:
    """Tell whether a model is known to obey law 1, as built ones do whose statistics are sums over rows."""
    return getattr(model.e_step, "in_blocks", False)


def ready_to_learn(prepare: Prepare | None, data: PyTree, weights: Any, padded: bool = False) -> tuple[PyTree, Array]:
    """Return data as `prepare` has them and weights in their dtype, one each for None; else raise ValueError.

    `padded` by absent rows, so that data of about one size share their programs.
    """
    data = as_arrays(data)
    num_rows = _count_rows(data)
    given = np.ones(num_rows, jnp.result_type(float)) if weights is None else check_weights(weights, num_rows)
    all_present = is_traced(given) or bool((np.asarray(given) > 0).all())
    if padded:
        data, given = pad(data, given)
    given = jnp.asarray(given)
    data = prepare(data, given) if prepare else as_rows(data)
    return data if all_present else _without_absent(data, given), given.astype(dtype_of_weights(data))


def check_data(model: Model, data: PyTree, weights: Any = None, padded: bool = False) -> tuple[PyTree, Array]:
    """Return data and weights as arrays of one float dtype that `model` can be fitted to; else raise ValueError.

    `padded` by absent rows, where the model may be.
    """
    check_model(model)
    return ready_to_learn(model.prepare, data, weights, padded and may_be_padded(model))


def _without_absent(data: PyTree, weights: Array) -> PyTree:
    """Return data with a present row in the place of absent ones: 0 · x is no zero where x² overflows."""
    first = int(np.argmax(np.asarray(weights) > 0))
    absent = weights <= 0
    return map_rows(lambda leaf: jnp.where(absent.reshape(-1, *[1] * (leaf.ndim - 1)), leaf[first : first + 1], leaf), data)


def are_weights(weights: Array) -> Array:
    """Tell whether weights are finite, none negative and some positive: what a trace cannot look at, as a value."""
    return jnp.isfinite(weights).all() & (weights >= 0).all() & (weights > 0).any()


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


@partial(compiled, static_argnums=0)
def _examined(domains: tuple[constraints.Constraint, ...], leaves: list[Array]) -> tuple[list[Array], list[Array]]:
    """Return whether each leaf lies in its domain, and the leaf with rounding at the edge mended: one program for both."""
    pairs = list(zip(domains, leaves, strict=True))
    return [domain.contains(leaf) for domain, leaf in pairs], [domain.mend(leaf) for domain, leaf in pairs]


def check_domain(model: Model, params: PyTree) -> PyTree:
    """Return params, whose values are looked at, with rounding at their domains' edges mended; ValueError for those outside."""
    domains = constraints.broadcast(model.constraints, params)
    leaves, structure = jax.tree.flatten(params)
    with jax.ensure_compile_time_eval():
        inside, mended = _examined(tuple(domains), leaves)
    for (path, leaf), domain, ok in zip(jax.tree.leaves_with_path(params), domains, jax.device_get(inside), strict=True):
        if not ok:
            got = " ".join(str(np.asarray(leaf)).split())
            raise ValueError(
                f"params{jax.tree_util.keystr(path)} must be finite and {domain.name}, got {got}: "
                "mend it, or start from model.init(key, data)."
            )
    return jax.tree.unflatten(structure, mended)


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


def as_key(key: Any) -> Array:
    """Return one random key of the new style: one given, of either style, or made of an int seed; else ValueError."""
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        return jax.random.key(int(key) % 2**32)
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    new = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    old = dtype == jnp.uint32 and shape == jax.eval_shape(jax.random.PRNGKey, 0).shape
    if not (new or old):
        got = repr(key) if shape is None else f"an array of dtype {dtype} and shape {shape}"
        raise ValueError(f"key must be one random key, such as jax.random.key(0), or an int seed, got {got}.")
    return jax.random.wrap_key_data(key) if old else key


def _check_made(model: Model, params: PyTree, data: PyTree, weights: Array) -> None:
    """Raise ValueError where params are made into what are no parameters of the model that this one was made of."""
    inner = _made_of(model)
    if inner is None or is_traced(params):
        return
    try:
        with jax.ensure_compile_time_eval():
            made = as_params(require(model, "whole")(params), weights.dtype)
        if model.init is None:
            _check_shapes(inner, made, data, weights)
        check_domain(inner, made)
    except ValueError as error:
        raise ValueError(f"params are made into what {inner!r} cannot take: {error}") from error


def _made_of(model: Model) -> Model | None:
    """Return the model whose parameters `whole` returns, where it is known."""
    while model.whole is not None and model.parts and model.parts[1] and isinstance(model.parts[1][0], Model):
        inner = model.parts[1][0]
        if inner.whole is not model.whole:
            return inner
        model = inner
    return None


def check_params(model: Model, params: PyTree, data: PyTree, weights: Array) -> PyTree:
    """Return params in the dtype of the weights, rounding at their domains' edges mended; ValueError for what is outside."""
    params = as_params(params, weights.dtype)
    if not jax.tree.leaves(params):
        raise ValueError(f"params has no arrays, got {params!r}: there is nothing to fit. Give each parameter a start.")
    _check_shapes(model, params, data, weights)
    _check_made(model, params, data, weights)
    return constraints.mend(model.constraints, params) if is_traced(params) else check_domain(model, params)
