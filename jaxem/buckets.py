"""Rows padded to one of a few numbers, so that data sets of about one size share their compiled programs.

By law 1 a row of weight zero is absent: padding changes nothing but rounding. It costs at most an eighth more rows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import numpy as np

from jaxem.arrays import is_on_host, is_traced
from jaxem.frames import has_rows_at_hand, is_frame, taken
from jaxem.trees import PyTree, map_rows, num_rows, rows_of

MOST_ROWS = 1 << 16  # above which compiling takes less than computing
SIZES_PER_DOUBLING = 8

_padding = ContextVar("padding", default=True)


@contextmanager
def exact_shapes() -> Iterator[None]:
    """Have data keep their number of rows meanwhile, and so compile anew for each.

    Otherwise data of up to 65 536 rows are padded by absent ones to the next of a few numbers of rows, eight between one
    power of two and the next, so that folds, subsets and data of about one size share their programs.

    >>> import jaxem
    >>> with jaxem.exact_shapes():
    ...     labels = jaxem.single(jaxem.families.poisson()).log_prob(jaxem.families.Poisson([2.0]), [0, 1, 3])
    """
    token = _padding.set(False)
    try:
        yield
    finally:
        _padding.reset(token)


def padded_size(count: int) -> int:
    """Return the number of rows that `count` rows are padded to."""
    if count > MOST_ROWS or not _padding.get():
        return count
    step = max(1, (1 << (count - 1).bit_length()) // (2 * SIZES_PER_DOUBLING))
    return -(-count // step) * step


def _extended(leaf: Any, size: int) -> Any:
    """Return a leaf with its first row again and again at its end; by NumPy, which compiles nothing."""
    count = len(leaf)
    if is_frame(leaf):
        return taken(leaf, np.minimum(np.arange(size), count) % count)
    rows = np.asarray(leaf)
    longer = np.concatenate([rows, np.broadcast_to(rows[:1], (size - count, *rows.shape[1:]))])
    return _at_hand_as(leaf, longer)


def _at_hand_as(leaf: Any, rows: np.ndarray) -> Any:
    """Return rows as an array of the kind that `leaf` is, at hand even while something else is being traced."""
    if not isinstance(leaf, jax.Array):
        return rows
    with jax.ensure_compile_time_eval():
        return jax.device_put(rows)


def _is_at_hand(leaf: Any) -> bool:
    """Tell whether a leaf can be copied by NumPy at no cost."""
    return is_on_host(leaf) and (not is_frame(leaf) or has_rows_at_hand(leaf))


def pad(data: PyTree, weights: Any = None) -> tuple[PyTree, Any]:
    """Return data, and weights if there are any, padded to a size that others share; as they are under a trace."""
    leaves = rows_of((data, () if weights is None else weights))
    if is_traced(data, weights) or not all(map(_is_at_hand, leaves)):
        return data, weights
    count = num_rows(data)
    size = padded_size(count)
    if size == count:
        return data, weights
    more = None if weights is None else _at_hand_as(weights, np.pad(np.asarray(weights), (0, size - count)))
    return map_rows(lambda leaf: _extended(leaf, size), data), more


def cut(rows: PyTree, count: int) -> PyTree:
    """Return the first `count` rows of each leaf."""

    def first(leaf: Any) -> Any:
        if leaf.shape[0] == count:
            return leaf
        return leaf[:count] if is_traced(leaf) else jax.device_put(np.asarray(leaf)[:count])

    return map_rows(first, rows)
