"""Rows with a point amid them: what is checked at the door, and rows so far away that their squares overflow."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxem.arrays import check_rank, column_ranges, is_traced, look
from jaxem.families.gaussian.missing import Gaps, gaps
from jaxem.families.middles import median_of_observed, some_of, taken
from jaxem.families.observed import check_columns, split
from jaxem.numerics import lowest
from jaxem.trees import Shared

FAR = 100.0  # times the reach of all components, from where the nearest is the nearest from any farther


class Centred(NamedTuple):
    """Rows (n, d), and a point amid them, (1, d), which neither an outlying row nor an absent component moves.

    `far` (n,) tells the rows whose squares overflow, and is None where there are none. Rows with holes have the centre in
    them, and `gaps` to tell where; else it is None.
    """

    x: Array
    centre: Shared
    far: Array | None = None
    gaps: Gaps | None = None

    def about(self) -> Array:
        """Return rows about the centre, zero in holes."""
        rows = self.x - self.centre.value
        return rows if self.gaps is None else jnp.where(self.gaps.seen, rows, 0)

    def observed(self) -> Array | None:
        """Return how many columns were observed of each row, (n,); None where all were."""
        return None if self.gaps is None else self.gaps.seen.sum(1, dtype=jnp.int32)


def prepare(data: Any, weights: Array | None, by_pattern: bool = True) -> Centred:
    """Return checked rows and their centre; weights, where given, say which rows a covariance must be learnt from.

    `by_pattern` has rows with holes grouped by which columns were observed.
    """
    if isinstance(data, Centred):
        return data
    x, seen = split(data)
    check_rank(x, (1, 2), "one row per observation, one column per dimension.")
    x = x[:, None] if x.ndim == 1 else x
    if seen is not None:
        return _with_gaps(x, seen.reshape(x.shape), weights, by_pattern)
    if is_traced(x):
        return Centred(x, Shared(lax.stop_gradient(jnp.median(x[some_of(np.ones(x.shape[0], bool))], 0, keepdims=True))))
    known = weights is not None and not is_traced(weights)
    present = np.asarray(weights) > 0 if known else np.ones(x.shape[0], bool)
    low, high, kept_low, kept_high, _ = column_ranges(x, None if present.all() else weights)
    if weights is not None:
        _check_spread(kept_low, kept_high, x.shape[0], x.dtype)
    some = look(taken, x, some_of(present))
    centre = Shared(jnp.asarray(np.median(some, axis=0, keepdims=True), x.dtype))
    limit = float(np.sqrt(np.finfo(x.dtype).max)) / 4096
    overflows = weights is None and max(-low.min(), high.max()) > limit
    return Centred(x, centre, jnp.abs(x).max(1) > limit if overflows else None)


def _with_gaps(x: Array, seen: Array, weights: Array | None, by_pattern: bool) -> Centred:
    """Return rows with the median of what was observed of each column in its holes: so their ranges are those observed."""
    check_columns(seen, weights)
    present = seen if weights is None else seen & (weights > 0)[:, None]
    centre = lax.stop_gradient(median_of_observed(x, present))
    whole = prepare(jnp.where(seen, x, centre), weights)
    return Centred(whole.x, Shared(centre), whole.far, gaps(seen, by_pattern))


def brought_near(x: Centred, reach: Array) -> Centred:
    """Return rows, the far ones on their way to the centre at a hundred times the reach of the components."""
    rows, far = x.x - x.centre.value, jnp.broadcast_to(jnp.asarray(x.far)[:, None], x.x.shape)
    near = rows * (FAR / jnp.abs(rows).max(1, keepdims=True)) * reach
    return x._replace(x=jnp.where(far, near + x.centre.value, x.x), far=None)


def nearest_alone(log_prob: Array, far: Array) -> Array:
    """Return log-densities (n, k), of far rows `lowest` for the nearest component and -inf for the others."""
    nearest = jnp.arange(log_prob.shape[1])[None] == log_prob.argmax(1, keepdims=True)
    return jnp.where(far[:, None], jnp.where(nearest, lowest(log_prob.dtype), -jnp.inf), log_prob)


def _check_spread(low: np.ndarray, high: np.ndarray, count: int, dtype: Any) -> None:
    if (low == high).all():
        raise ValueError(
            f"data rows of positive weight are all equal, needs some spread to fit a covariance; if {dtype} cannot tell them "
            "apart, rescale them."
        )
    if (low == high).any():
        raise ValueError(f"data columns {np.flatnonzero(low == high).tolist()} are constant: drop them.")
    info = np.finfo(dtype)
    with np.errstate(over="ignore", under="ignore"):
        square = ((high - low).astype(dtype) ** 2 * count).astype(dtype)
    for bad, what in ((~np.isfinite(square), "overflow"), (square < info.tiny / info.eps, "underflow")):
        if bad.any():
            raise ValueError(
                f"data columns {np.flatnonzero(bad).tolist()} spread so that their squares {what} {dtype}: rescale them."
            )
