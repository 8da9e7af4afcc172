"""Matrices of orthonormal columns (..., d, d): the nearest one, and a chart of d(d-1)/2 numbers around each of them.

The chart is Cayley's, Q = (I - S)(I + S)⁻¹ with S skew, which has every rotation but those that turn some direction by π, and
no reflection. Any Q E with the right signs E = diag(±1) has one (Liebeck & Osborne 1991), so those that Q itself lacks get a
sheet of their own, which the place of the numbers on the real line tells: the chart is smooth on each sheet, there and back.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.matrices import cholesky, product
from jaxem.numerics import in_full_precision

SHEETS = 64.0  # how far apart the sheets lie; the numbers of a sheet are within half of that
WIDEST = 1.5  # times orthonormal, up to which a matrix is not scaled first
MOST_TURNS = 90  # in which a singular value of a rounding of the largest grows to it
REACH = 8.0  # the largest number up to which a rotation is on the sheet without signs


def identity_like(like: Array) -> Array:
    """Return an identity matrix for each of the matrices (..., d, d)."""
    return jnp.broadcast_to(jnp.eye(like.shape[-1], dtype=like.dtype), like.shape)


class _Polar(NamedTuple):
    found: Array
    off: Array  # (..., 1, 1) how far from orthonormal it was before the last turn
    turns: Array


@jax.custom_jvp
def nearest(matrix: Array) -> Array:
    """Return the nearest orthonormal matrices X (XᵀX)^-1/2, the polar factors; NaN where X is singular.

    X ← X (3I - XᵀX) / 2 to where that changes nothing: for singular values below √3, and so after scaling, they go to one,
    in the end squarely. Björck & Bowie (1971). Its derivative is that at orthonormal matrices.
    """
    size = jnp.sqrt(jnp.abs(product(matrix.mT, matrix)).sum(-1, keepdims=True).max(-2, keepdims=True))
    some = (size > 0) & ~((size >= 1 / WIDEST) & (size <= WIDEST))
    close = jnp.sqrt(jnp.finfo(matrix.dtype).eps)

    def turn(state: _Polar) -> _Polar:
        square = product(state.found.mT, state.found)
        off = jnp.abs(square - identity_like(square)).max((-2, -1), keepdims=True)
        return _Polar(product(state.found, 1.5 * identity_like(square) - 0.5 * square), off, state.turns + 1)

    start = _Polar(matrix / jnp.where(some, size, 1), jnp.full_like(size, jnp.inf), jnp.asarray(0))
    end = lax.while_loop(lambda state: (state.off > close).any() & (state.turns < MOST_TURNS), turn, start)
    return jnp.where(end.off <= close, end.found, jnp.nan)


@nearest.defjvp
@in_full_precision
def _(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """DQ = Q (QᵀdX - dXᵀQ) / 2: what of dX turns."""
    found, (change,) = nearest(*primals), tangents
    return found, 0.5 * (change - product(product(found, change.mT), found))


def polished(matrix: Array) -> Array:
    """Return X (3I - XᵀX) / 2, which is orthonormal to e² where X is so to e."""
    return product(matrix, 1.5 * identity_like(matrix) - 0.5 * product(matrix.mT, matrix))


def rotated(skew: Array) -> Array:
    """Return Cayley's rotation (I - S)(I + S)⁻¹ = (I - S)² (I + SᵀS)⁻¹ of skew matrices."""
    back = identity_like(skew) - skew
    inverse = cholesky(identity_like(skew) + product(skew.mT, skew))[1]
    return product(product(back, back), product(inverse.mT, inverse))


def skewed(rotation: Array) -> Array:
    """Return S of a rotation, (Cᵀ - C)(2I + C + Cᵀ)⁻¹; NaN where some direction is turned by π."""
    inverse = cholesky(2 * identity_like(rotation) + rotation + rotation.mT)[1]
    skew = product(rotation.mT - rotation, product(inverse.mT, inverse))
    return 0.5 * (skew - skew.mT)


def upright(matrix: Array) -> Array:
    """Return signs (..., d) by which the columns of an orthonormal matrix come to have a small S.

    Elimination without pivoting on Q + E, each sign that of the pivot it is added to, so that no pivot is below one.
    """
    dim = matrix.shape[-1]

    def eliminate(j: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        rest, signs = state
        pivot = rest[..., j, j]
        sign = jnp.where(pivot < 0, -1, 1).astype(matrix.dtype)
        factor = rest[..., :, j] / (pivot + sign)[..., None]
        below = jnp.broadcast_to(jnp.arange(dim) > j, factor.shape)
        return rest - jnp.where(below, factor, 0)[..., :, None] * rest[..., j, None, :], signs.at[..., j].set(sign)

    start = lax.stop_gradient(matrix), jnp.ones(matrix.shape[:-1], matrix.dtype)
    return lax.fori_loop(0, dim, eliminate, start)[1]


def _sheet(signs: Array) -> Array:
    """Return where the numbers of signs (..., d) lie: skew matrices' lower triangles, (..., d, d)."""
    bits = (1 - signs) / 2
    first = jnp.arange(signs.shape[-1]) == 1
    place = bits.at[..., :1].set(0) + 2 * jnp.where(jnp.broadcast_to(first, bits.shape), bits[..., :1], 0)
    below = jnp.eye(signs.shape[-1], k=-1, dtype=bool)
    table = jnp.broadcast_to(place[..., :, None], (*signs.shape, signs.shape[-1]))
    return SHEETS * jnp.where(jnp.broadcast_to(below, table.shape), table, 0)


def from_chart(numbers: Array) -> Array:
    """Return the orthonormal matrices (..., d, d) of any numbers (..., d(d-1)/2)."""
    dim = int((2 * numbers.shape[-1]) ** 0.5) + 1
    rows, columns = jnp.tril_indices(dim, -1)
    if dim == 1:
        return jnp.ones_like(numbers, shape=(*numbers.shape[:-1], 1, 1))
    lower = jnp.zeros_like(numbers, shape=(*numbers.shape[:-1], dim, dim)).at[..., rows, columns].set(numbers)
    code = jnp.clip(jnp.round(lax.stop_gradient(jnp.diagonal(lower, -1, -2, -1)) / SHEETS), 0, 1)
    first = jnp.clip(jnp.round(lax.stop_gradient(lower[..., 1, 0]) / SHEETS), 0, 3)
    code = code.at[..., 0].set(first % 2)
    signs = 1 - 2 * jnp.concatenate([(first >= 2)[..., None].astype(code.dtype), code], -1)
    lower = lower - _sheet(signs)
    return rotated(lower - lower.mT) * signs[..., None, :]


def to_chart(matrix: Array) -> Array:
    """Return the numbers (..., d(d-1)/2) of orthonormal matrices: those without signs where they are moderate."""
    dim = matrix.shape[-1]
    signs = upright(matrix)
    given = lax.stop_gradient(matrix)
    plain = skewed(given)
    off = jnp.abs(rotated(plain) - given).max((-2, -1))  # as where Q is symmetric, and rounding makes the inverse finite
    moderate = (jnp.abs(plain).max((-2, -1)) < REACH) & (off < jnp.sqrt(jnp.finfo(matrix.dtype).eps))
    safe = jnp.where(moderate[..., None], 1, signs)
    lower = skewed(matrix * safe[..., None, :]) + _sheet(safe)
    return lower[..., *jnp.tril_indices(dim, -1)]
