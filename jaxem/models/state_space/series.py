"""Data of a state space model, checked at the door: values, what was seen of them, and inputs."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import as_floating, in_one_dtype, is_traced
from jaxem.families.gaussian.missing import Gaps, gaps
from jaxem.families.observed import Observed, split
from jaxem.numerics import within
from jaxem.sequences import Sequences, check_sequences
from jaxem.trees import Gated, Shared


class Series(NamedTuple):
    """Sequences that have been looked at.

    values   (n, t, o)  zero in holes and beyond lengths
    lengths  (n,)
    inputs   (n, t, q)  zero beyond lengths; None where there are none
    gaps     what was observed, (n, t, o), and the place (n, t) of each step's pattern in a table (P, o); None without holes
    total    (o,)       variances of what was observed, which all rows share
    """

    values: Array
    lengths: Array
    inputs: Array | None
    gaps: Gaps | None
    total: Shared

    def within(self) -> Array:
        """Tell which steps there are, (n, t)."""
        return within(self.lengths, self.values.shape[1])


def series(data: Any, weights: Array | None, observation_dim: int, inputs: int) -> Series:
    """Return data as `Series`; ValueError, which names the field, for other shapes, for what is not finite, or says nothing."""
    if isinstance(data, Series):
        return data
    data = check_sequences(data)
    given, covariates = data.values, None
    if isinstance(given, Gated) != bool(inputs):
        needs = "families.Gated(inputs, values)" if inputs else "an array, or families.observed(x)"
        raise ValueError(f"values must be {needs} where the model has inputs={inputs}, got {type(given).__name__}.")
    if isinstance(given, Gated):
        given, covariates = given.data, _three(as_floating(given.gate, "inputs"), inputs, "inputs")
    values, seen = split(given)
    values = _three(values, observation_dim, "values")
    seen = None if seen is None else seen.reshape(values.shape)
    there = within(data.lengths, values.shape[1])[:, :, None]
    here = jnp.broadcast_to(there, values.shape)
    present = here if seen is None else here & seen
    covariates = None if covariates is None else jnp.where(jnp.broadcast_to(there, covariates.shape), covariates, 0)
    values = jnp.where(present, values, 0)
    if not is_traced(values, seen, data.lengths):
        _check(values, covariates, present, seen is not None, weights)
    holes = None if seen is None else _gaps(present)
    total = Shared(_variances(values, present, weights))
    return in_one_dtype(Series(values, data.lengths.astype(jnp.int32), covariates, holes, total))


def _three(x: Array, width: int, name: str) -> Array:
    """Return an array (n, t, width), of (n, t) where the width is one; else raise ValueError."""
    x = x[:, :, None] if x.ndim == 2 and width == 1 else x
    if x.ndim != 3 or x.shape[2] != width:
        raise ValueError(f"{name} has shape {x.shape}, needs (n, t, {width}): steps of {width} as the model was built for.")
    return x


def _gaps(present: Array) -> Gaps:
    n, t, dim = present.shape
    found = gaps(present.reshape(n * t, dim), by_pattern=True)
    assert found.pattern is not None
    return Gaps(present, found.pattern.reshape(n, t), found.table)


def _check(values: Array, covariates: Array | None, present: Array, holes: bool, weights: Array | None) -> None:
    x, some = np.asarray(values), np.asarray(present)
    if not np.isfinite(x).all():
        say = "" if holes else ": where NaN is missing, say so by families.observed"
        raise ValueError(f"values has NaN or infinite entries (columns {_where(~np.isfinite(x))}){say}.")
    if covariates is not None and not np.isfinite(np.asarray(covariates)).all():
        columns = _where(~np.isfinite(np.asarray(covariates)))
        raise ValueError(f"inputs has NaN or infinite entries (columns {columns}): fill them, inputs have to be known.")
    if weights is None or is_traced(weights):
        return
    some = some & (np.asarray(weights) > 0)[:, None, None]
    if not some.any((0, 1)).all():
        raise ValueError(
            f"values has nothing observed in columns {_where(~some.any((0, 1)))} of rows of positive weight: drop them."
        )
    flat = np.where(some, x, -np.inf).max((0, 1)) == np.where(some, x, np.inf).min((0, 1))
    if flat.any():
        raise ValueError(f"values are the same everywhere in columns {_where(flat)}, need some spread: drop those.")


def _where(bad: Any) -> list[int]:
    return np.flatnonzero(bad.reshape(-1, bad.shape[-1]).any(0)).tolist()


def _variances(values: Array, present: Array, weights: Array | None) -> Array:
    """Return the variance of what was observed in each column, (o,), over rows of positive weight."""
    some = present if weights is None else present & (weights > 0)[:, None, None]
    count = jnp.maximum(some.sum((0, 1)), 1).astype(values.dtype)
    mean = jnp.where(some, values, 0).sum((0, 1)) / count
    return (jnp.where(some, values - mean[None, None], 0) ** 2).sum((0, 1)) / count


def patterns_of(data: Series) -> Array:
    """Return the place of each step's pattern of holes, (n, t)."""
    assert data.gaps is not None and data.gaps.pattern is not None
    return data.gaps.pattern


def seen_in(data: Series) -> Array:
    """Tell which entries were observed, (n, t, o), none beyond lengths."""
    if data.gaps is not None:
        return data.gaps.seen
    return jnp.broadcast_to(data.within()[:, :, None], data.values.shape)


def like_data(values: Array, like: Series) -> Sequences:
    """Return drawn values (n, t, o) with the lengths, holes and inputs of others, as data are given."""
    where = None if like.gaps is None else like.gaps.seen
    drawn = values if where is None else Observed(jnp.where(where, values, jnp.nan), where)
    return Sequences(drawn if like.inputs is None else Gated(like.inputs, drawn), like.lengths)
