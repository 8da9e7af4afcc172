"""Squares of (x_n - μ_kj) for all n, k and j, summed over coordinates or over rows, without an (n, k, d) array.

Expanding the square makes matrix products of it, ten times as fast as a pass over n·k·d, but cancels: about a centre c the
error is one rounding of the squared distance from c to μ, in standard deviations. So components for which that leaves less
than half of the digits of a typical distance, the sharp ones, are done again in an exact pass each, of n·d. How many there
are is data, not a branch: where there are none, nothing more is paid, under `vmap` too.

Rows and means are given about one point amid the data, so that lanes share their rows. Where rows have holes, `seen` (n, d)
is one for what was observed and zero elsewhere, as the rows are there, and holes are left out of all sums.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.numerics import in_full_precision

FEW_COORDINATES = 4  # up to which an exact pass for all components at once is the faster one


def _few(rows: Array) -> bool:
    return rows.shape[1] <= FEW_COORDINATES


def _squares(rows: Array, precision: Array) -> Array:
    """Return the squares of rows, (n, d), or, where each component has one precision for all coordinates, their sums (n, 1)."""
    return rows**2 if precision.shape[1] == rows.shape[1] else (rows**2).sum(1, keepdims=True)


def _sharp(offset: Array, precision: Array) -> Array:
    """Tell for which components products lose too many digits: (k,)."""
    return (precision * offset**2).mean(1) > 0.25 / jnp.sqrt(jnp.finfo(offset.dtype).eps)


def _kept(table: Array, seen: Array | None) -> Array:
    """Return a table (k, d, n) with zeros in holes."""
    return table if seen is None else table * seen.T[None]


def _exactly(rows: Array, offset: Array, precision: Array, seen: Array | None) -> Array:
    return _kept((rows.T[None] - offset[:, :, None]) ** 2 * precision[:, :, None], seen).sum(1)


def _each_sharp(offset: Array, precision: Array, exact: Any, table: Array) -> Array:
    """Return `table` (k, m) with the rows of sharp components replaced by what `exact(k)` (m,) computes for them."""
    sharp = _sharp(offset, precision)
    order = jnp.argsort(~sharp)
    places = jnp.arange(sharp.size, dtype=order.dtype)[:, None]

    def replace(turn: Array, table: Array) -> Array:
        k = order[turn]
        return jnp.where(places == k, exact(k)[None], table)

    return lax.fori_loop(0, sharp.sum(dtype=jnp.int32), replace, table)


@jax.custom_jvp
def square_distances(rows: Array, offset: Array, precision: Array, seen: Array | None = None) -> Array:
    """Return Σ_j p_kj (x_nj - μ_kj)², (k, n), from rows (n, d), means `offset` (k, d) and precision p, (k, d) or (k, 1)."""
    if _few(rows):
        return _exactly(rows, offset, precision, seen)
    squares = precision @ _squares(rows, precision).T
    of_means = offset**2 * precision
    constant = of_means.sum(1)[:, None] if seen is None else of_means @ seen.T
    table = squares - (2 * offset * precision) @ rows.T + constant
    each = jnp.broadcast_to(precision, offset.shape)

    def exact(k: Array) -> Array:
        square = (rows - offset[k][None]) ** 2
        return (square if seen is None else square * seen) @ each[k]

    return _each_sharp(offset, precision, exact, table)


@square_distances.defjvp
@in_full_precision
def _(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """Differentiate the exact pass: the loop has no derivative of its own, and products would cancel."""
    return square_distances(*primals), jax.jvp(_exactly, primals, tangents)[1]


def _mean_if_one(table: Array, precision: Array) -> Array:
    """Return a table (k, d) as it is, or its means over coordinates (k, 1) where these share one precision."""
    return table if precision.shape[1] == table.shape[1] else table.mean(1, keepdims=True)


def _counts(responsibilities: Array, seen: Array | None) -> Array:
    """Return Σ_n r_nk, (k, 1), or, where there are holes, over what was observed of each column, (k, d)."""
    return responsibilities.sum(0)[:, None] if seen is None else responsibilities.T @ seen


def _exact_moments(
    rows: Array, offset: Array, precision: Array, responsibilities: Array, seen: Array | None
) -> tuple[Array, Array]:
    weights = responsibilities.T
    shift = weights @ rows - _counts(responsibilities, seen) * offset
    squares = _kept(weights[:, None, :] * (rows.T[None] - offset[:, :, None]) ** 2, seen).sum(2)
    return shift, _mean_if_one(squares, precision)


@jax.custom_jvp
def moments(
    rows: Array, offset: Array, precision: Array, responsibilities: Array, seen: Array | None = None
) -> tuple[Array, Array]:
    """Return Σ_n r_nk (x_n - μ_k), (k, d), and Σ_n r_nk (x_nj - μ_kj)², from responsibilities (n, k).

    The latter (k, d), or its mean over j (k, 1), as `precision` has columns, which else only tells who is sharp.
    """
    if _few(rows):
        return _exact_moments(rows, offset, precision, responsibilities, seen)
    count, share = _counts(responsibilities, seen), precision.shape[1] / rows.shape[1]
    shift = responsibilities.T @ rows - count * offset
    second = responsibilities.T @ _squares(rows, precision)
    table = share * second - _mean_if_one(offset * (2 * shift + count * offset), precision)

    def exact(k: Array) -> Array:
        square = (rows - offset[k][None]) ** 2
        return _mean_if_one((responsibilities[:, k] @ (square if seen is None else square * seen))[None], precision)[0]

    return shift, _each_sharp(offset, precision, exact, table)


@moments.defjvp
@in_full_precision
def _(primals: Any, tangents: Any) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    rows, offset, precision, responsibilities, seen = primals
    rows_dot, offset_dot, _, responsibilities_dot, _ = tangents

    def exactly(rows: Array, offset: Array, responsibilities: Array) -> tuple[Array, Array]:
        return _exact_moments(rows, offset, precision, responsibilities, seen)

    tangent = jax.jvp(exactly, (rows, offset, responsibilities), (rows_dot, offset_dot, responsibilities_dot))[1]
    return moments(*primals), tangent
