"""Sequences as structures over time have them: rows of steps, checked and padded by what is legal."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import in_one_dtype, is_traced, prepared
from jaxem.chains import Chain
from jaxem.model import Family, PyTree
from jaxem.numerics import within
from jaxem.sequences import check_sequences
from jaxem.trees import Gated, by_row, filled, flat, map_rows, rows_of


class Steps(NamedTuple):
    """Sequences as the family has them, leaves (n, t, *event), and their lengths (n,)."""

    rows: PyTree
    lengths: Array


def most_steps(data: Steps) -> int:
    """Return t, the number of steps that all sequences are padded to."""
    return int(rows_of(data.rows)[0].shape[1])


def there(data: Steps) -> Array:
    """Tell which places hold a step: (n, t)."""
    return within(data.lengths, most_steps(data))


def by_step(log_transition: Array, shape: tuple[int, int]) -> Array:
    """Return transitions of all steps (n t, k, k) as (n, t, k, k), those that all share as they are."""
    return log_transition.reshape(*shape, *log_transition.shape[1:]) if log_transition.ndim == 3 else log_transition


def over_rows(function: Callable[..., Any], chain: Chain, log_density: PyTree, lengths: Array) -> Any:
    """Return function(chain, log_density (t, k), length) of each sequence, whose transitions are its own or those of all."""
    axes = Chain(None, 0 if chain.log_transition.ndim == 4 else None)  # type: ignore[arg-type]
    return jax.vmap(function, (axes, 0, 0))(chain, log_density, lengths)


def weigh(weights: Array, leaf: Array) -> Array:
    """Return rows times their weights, nothing where a weight is zero."""
    each = weights.reshape(-1, *[1] * (leaf.ndim - 1))
    return jnp.where(each > 0, leaf * each, 0)


def prepared_steps(family: Family, gate: Family | None, num_states: int, data: Any, weights: Array | None) -> Steps:
    """Return sequences as family and gate have their steps; ValueError for what is none, and for too few to learn from."""
    values, lengths = check_sequences(data)
    if gate is not None and not isinstance(values, Gated):
        raise ValueError(f"values must be families.Gated(gate, data) where there is a gate, got {type(values).__name__}.")
    if weights is not None:
        _check_enough(lengths, weights, num_states)
    lengths = lengths.astype(jnp.int32)
    shape = np.shape(rows_of(values)[0])[:2]
    present = within(lengths, shape[1])
    known = map_rows(lambda leaf: _filled(jnp.asarray(leaf), present), values)

    def ready(record: Family, part: PyTree, which: Array) -> PyTree:
        each = None if weights is None else (weights[:, None] * which.astype(weights.dtype)).ravel()
        return by_row(prepared(record, flat(part), each), shape)

    if gate is None:
        return in_one_dtype(Steps(ready(family, known, present), lengths))
    later = present.at[:, 0].set(False)
    moved = later if is_traced(later, weights) or bool(np.asarray(later).any()) else present
    driven = map_rows(lambda leaf: filled(leaf, moved), known.gate)
    return in_one_dtype(Steps(Gated(ready(gate, driven, moved), ready(family, known.data, present)), lengths))


@jax.jit
def _filled(leaf: Array, present: Array) -> Array:
    """Return steps with the first of its sequence in the place of those that are not there, whatever stands there."""
    return jnp.where(present.reshape(*present.shape, *[1] * (leaf.ndim - 2)), leaf, leaf[:, :1])


def _check_enough(lengths: Array, weights: Array, num_states: int) -> None:
    if is_traced(lengths, weights):
        return
    steps = int(np.asarray(lengths)[np.asarray(weights) > 0].sum())
    if steps < num_states:
        raise ValueError(
            f"data has {steps} steps in sequences of positive weight, needs at least one for each of the {num_states} states: "
            "lower num_states."
        )
