"""Values amid the rows that are present, looked up at the door: from some rows, which say enough and cost little."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import is_traced, look

LOOKED_AT = 512  # rows


@jax.jit
def taken(x: Array, places: Array) -> Array:
    """Return rows."""
    return x[places]


def some_of(present: np.ndarray) -> np.ndarray:
    """Return places of some rows that are present, evenly; how many hangs on the number of rows alone: that compiles once."""
    num = min(present.size, LOOKED_AT)
    evenly = np.arange(num) * np.count_nonzero(present) // num
    return evenly if present.all() else np.flatnonzero(present)[evenly]


def median_of_observed(x: Array, seen: Array) -> Array:
    """Return a value amid those seen in each column of x (n, *event), one of them, (1, *event); zero where none was.

    The median, or the next above, of some rows; of a column seen in none of these, what was seen first. Under a trace, where
    nothing can be looked at, of all rows.
    """
    if is_traced(x, seen):
        return _median_of_all(x, seen)
    present = np.asarray(seen).reshape(seen.shape[0], -1)
    if not present.any():
        return jnp.zeros((1, *x.shape[1:]), x.dtype)
    places = some_of(np.asarray(present.any(1)))
    known, first = present[places], look(_of_each, x, present.argmax(0))
    rows = look(taken, x, places).reshape(known.shape)
    middle = [np.sort(values[some])[some.sum() // 2] if some.any() else 0 for values, some in zip(rows.T, known.T, strict=True)]
    other = np.where(present.any(0), first, 0)
    return jnp.asarray(np.where(known.any(0), middle, other).reshape(1, *x.shape[1:]), x.dtype)


@jax.jit
def _of_each(x: Array, places: Array) -> Array:
    """Return the entry of each column at a place of its own."""
    return jnp.take_along_axis(x.reshape(x.shape[0], -1), places[None], 0)[0]


@jax.jit
def _median_of_all(x: Array, seen: Array) -> Array:
    in_order = jnp.sort(jnp.where(seen, x, jnp.inf), 0)
    middle = jnp.take_along_axis(in_order, seen.sum(0, keepdims=True) // 2, 0)
    return jnp.where(seen.any(0, keepdims=True), middle, 0)
