"""Counts as places in a table of those that occur, so that what is said of each count is computed once."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import is_traced
from jaxem.families.independent import columns
from jaxem.trees import Shared

SMALLEST = 64  # places of a table: data of about one range share their programs
TABLE = 512  # places up to which a table is cheaper than a pass over rows
PARTS = 8  # tables that a block of rows fills; one would be filled by all blocks in turn, and equal numbers are rounded alike


class Tallied(NamedTuple):
    """Counts that have been looked at, (n, *event), the place of each among its column's distinct ones, and these, (d, U).

    Places are in rising order, and of one of a few numbers; those that are not taken hold zeros.
    """

    x: Array
    places: Array
    values: Shared


def tallied(x: Array, weights: Array | None) -> Tallied:
    """Return counts (n,) or (n, d) with the table of those that occur in rows of positive weight; None for all rows."""
    if is_traced(x):
        places, values = _by_sorting(columns(x))
    else:
        known = weights is not None and not is_traced(weights)
        rows = np.asarray(columns(x))
        places, values = _at_hand(rows, np.asarray(weights) > 0 if known else np.ones(len(rows), bool))
    return Tallied(x, places.reshape(x.shape), Shared(values))


def _at_hand(x: np.ndarray, present: np.ndarray) -> tuple[Array, Array]:
    found = [np.unique(column[present]) for column in x.T]
    most = max(map(len, found))
    step = max(SMALLEST, (1 << most.bit_length()) // 16)
    size = -(-most // step) * step
    table = np.stack([np.pad(values, (0, size - len(values))) for values in found])
    places = [np.searchsorted(values, column).clip(0, len(values) - 1) for values, column in zip(found, x.T, strict=True)]
    with jax.ensure_compile_time_eval():
        return jnp.asarray(np.stack(places, 1), jnp.int32), jnp.asarray(table)


def _by_sorting(x: Array) -> tuple[Array, Array]:
    """Return places and a table as long as the data, as it must be where values cannot be looked at."""

    def of_column(column: Array) -> tuple[Array, Array]:
        order = jnp.argsort(column)
        rising = column[order]
        place = jnp.cumsum(jnp.concatenate([jnp.zeros(1, bool), rising[1:] != rising[:-1]]), dtype=jnp.int32)
        return jnp.zeros_like(place).at[order].set(place), jnp.zeros_like(column).at[place].set(rising)

    places, table = jax.vmap(of_column, in_axes=1)(x)
    return places.T, table


def table_pays(data: Tallied) -> bool:
    """Tell whether what is said of counts is better computed for the table than for each row."""
    return data.values.value.shape[1] <= TABLE


def tally(data: Tallied, responsibilities: Array) -> Array:
    """Return how much of each component each place holds, Σ_n r_nk [place of x_nj = u], and last Σ_nk r_nk x_nj there.

    (d, U, k + 1): by one scatter, and in the order in which it writes.
    """
    size, total = data.values.value.shape[1], responsibilities.sum(1)
    parts = PARTS if table_pays(data) else 1
    part = jnp.asarray(np.arange(len(total)) * parts // len(total), jnp.int32)

    def of_column(places: Array, x: Array) -> Array:
        rows = jnp.concatenate([responsibilities, (total * x)[:, None]], 1)
        return jnp.zeros((parts, size, rows.shape[1]), rows.dtype).at[part, places].add(rows).sum(0)

    return jax.vmap(of_column, in_axes=1)(columns(data.places), columns(data.x))


def looked_up(data: Tallied, table: Array) -> Any:
    """Return the entries of a table (k, d, U) for each row: (k, d, n)."""
    places = columns(data.places).T[None]
    return jnp.take_along_axis(table, jnp.broadcast_to(places, (table.shape[0], *places.shape[1:])), 2)
