"""Factors of positive definite matrices (..., d, d).

Small ones are factored by arithmetic over all of a batch at once, which costs no call. Larger ones go to LAPACK, on a CPU one
after another whatever vmap says, as a batched call there takes threads from a pool, and two such calls at once can lock it
up; and in pieces so small that BLAS stays on one thread, as its others would spin on for tens of milliseconds, on cores that
the products need.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.linalg import solve_triangular

from jaxem.numerics import in_full_precision, symmetric

MOST_UNROLLED = 4  # columns up to which arithmetic is faster than a call, and soon compiled
MOST_MULTIPLIED = 6  # columns up to which a product costs less by arithmetic over a batch than by a call for each matrix
MOST_SOLVED = 16  # columns of a triangle that BLAS solves on one thread
MOST_FACTORED = 128  # columns of a matrix that LAPACK factors on one thread
MOST_CALLS = 8  # matrices that are factored by calls written out, which XLA can tell to be the same
MOST_CONSTANT = 1024  # columns of a mask that is written into a program


def _on_diagonal(dim: int) -> Any:
    """Return the mask of a diagonal, as a constant where small: of what else is the same in each step XLA makes copies."""
    return np.eye(dim, dtype=bool) if dim <= MOST_CONSTANT else jnp.eye(dim, dtype=bool)


def diagonal(matrix: Array) -> Array:
    """Return the diagonals of matrices, (..., d, d) -> (..., d)."""
    return jnp.where(jnp.broadcast_to(_on_diagonal(matrix.shape[-1]), matrix.shape), matrix, 0).sum(-1)


def diagonal_matrix(values: Array) -> Array:
    """Return matrices with values on their diagonals, (..., d) -> (..., d, d)."""
    dim = values.shape[-1]
    shape = *values.shape, dim
    return jnp.where(jnp.broadcast_to(_on_diagonal(dim), shape), jnp.broadcast_to(values[..., None], shape), 0)


def product(a: Array, b: Array) -> Array:
    """Return the products of square matrices (..., d, d), small ones by arithmetic over all of a batch at once."""
    dim = a.shape[-1]
    if dim > MOST_MULTIPLIED:
        return a @ b
    if dim > MOST_UNROLLED:
        return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)
    return sum((a[..., :, j, None] * b[..., j, None, :] for j in range(1, dim)), start=a[..., :, 0, None] * b[..., 0, None, :])


def _one_at_a_time(function: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """Return a function of one matrix (d, d) over any leading axes, those of vmap among them: on a CPU in one loop over all."""

    @jax.custom_batching.custom_vmap
    def over(matrix: Array) -> Any:
        leading = matrix.shape[:-2]
        flat = matrix.reshape(-1, *matrix.shape[-2:])
        if jax.default_backend() != "cpu":
            found = jax.vmap(function)(flat)
        elif 0 < len(flat) <= MOST_CALLS:
            found = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(function, flat))
        else:
            found = lax.map(function, flat)
        return jax.tree.map(lambda leaf: leaf.reshape(*leading, *leaf.shape[1:]), found)

    @over.def_vmap
    def _(axis_size: int, in_batched: Any, matrix: Array) -> tuple[Any, Any]:
        found = over(matrix)
        return found, jax.tree.map(lambda leaf: True, found)

    return over


@_one_at_a_time
def _cholesky_by_lapack(matrix: Array) -> Array:
    return jnp.linalg.cholesky(matrix)


@_one_at_a_time
def _invert_by_lapack(lower: Array) -> Array:
    return solve_triangular(lower, _on_diagonal(lower.shape[-1]).astype(lower.dtype), lower=True)


@_one_at_a_time
def _eigh_by_lapack(matrix: Array) -> tuple[Array, Array]:
    values, vectors = jnp.linalg.eigh(matrix)
    return values, vectors


def _by_lapack(matrix: Array) -> tuple[Array, Array]:
    """Return L and L⁻¹, of large matrices by halves: with Σ = [A Bᵀ; B C], B Lₐ⁻ᵀ stands below Lₐ, and C - B A⁻¹ Bᵀ is next."""
    dim = matrix.shape[-1]
    if jax.default_backend() != "cpu" or dim <= MOST_FACTORED:
        lower = _cholesky_by_lapack(matrix)
        return lower, _invert_triangle(lower)
    half = dim // 2
    first, first_inverse = _by_lapack(matrix[..., :half, :half])
    below = matrix[..., half:, :half] @ first_inverse.mT
    last, last_inverse = _by_lapack(matrix[..., half:, half:] - below @ below.mT)
    return _lower(first, below, last), _lower(first_inverse, -last_inverse @ (below @ first_inverse), last_inverse)


def _lower(first: Array, below: Array, last: Array) -> Array:
    """Return [A 0; B C]; zeros of their own would be moved out of the loop of a fit, one for each time that they are needed."""
    widened = jnp.pad(first, [(0, 0)] * (first.ndim - 1) + [(0, last.shape[-1])])
    return jnp.concatenate([widened, jnp.concatenate([below, last], -1)], -2)


def _in_blocks(matrix: Array, num: int) -> Array:
    """Return a matrix with ones added down its diagonal so that it falls into `num` equal blocks."""
    dim = matrix.shape[-1]
    whole = -(-dim // num) * num
    if whole == dim:
        return matrix
    padded = jnp.pad(matrix, [(0, 0)] * (matrix.ndim - 2) + [(0, whole - dim)] * 2)
    return padded + jnp.broadcast_to(np.diag(np.arange(whole) >= dim).astype(matrix.dtype), padded.shape)


def _invert_triangle(lower: Array) -> Array:
    """Return L⁻¹ from those of its diagonal blocks, two by two: [A 0; B C]⁻¹ = [A⁻¹ 0; -C⁻¹ B A⁻¹ C⁻¹]."""
    dim = lower.shape[-1]
    if dim <= MOST_SOLVED or jax.default_backend() != "cpu":
        return _invert_by_lapack(lower)
    num = 1 << math.ceil(math.log2(dim / MOST_SOLVED))
    lower = _in_blocks(lower, num)
    size = lower.shape[-1] // num

    def stacked(places: list[tuple[int, int]]) -> Array:
        return jnp.stack([lower[..., i * size : (i + 1) * size, j * size : (j + 1) * size] for i, j in places], -3)

    inverse = _invert_by_lapack(stacked([(i, i) for i in range(num)]))
    while num > 1:
        num //= 2
        first, last = inverse[..., 0::2, :, :], inverse[..., 1::2, :, :]
        below = -last @ (stacked([(2 * i + 1, 2 * i) for i in range(num)]) @ first)
        inverse = _lower(first, below, last)
        size *= 2
    return inverse[..., 0, :dim, :dim]


def _by_entries(matrix: Array) -> tuple[Array, Array]:
    """Return L, column by column, and its inverse, row by row, from Cholesky's formulas written out entry by entry."""
    dim, matrix = matrix.shape[-1], symmetric(matrix)
    zero = jnp.zeros_like(matrix[..., 0, 0])
    lower = [[zero] * dim for _ in range(dim)]
    inverse = [[zero] * dim for _ in range(dim)]
    for j in range(dim):
        for i in range(j, dim):
            rest = matrix[..., i, j] - sum((lower[i][m] * lower[j][m] for m in range(j)), start=zero)
            lower[i][j] = jnp.sqrt(jnp.where(rest > 0, rest, jnp.nan)) if i == j else rest / lower[j][j]
    for j in range(dim):
        for i in range(j, dim):
            known = sum((lower[i][m] * inverse[m][j] for m in range(j, i)), start=zero)
            inverse[i][j] = ((1 if i == j else 0) - known) / lower[i][i]
    return _stacked(lower), _stacked(inverse)


def _stacked(rows: list[list[Array]]) -> Array:
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


@jax.custom_jvp
@in_full_precision
def cholesky(matrix: Array) -> tuple[Array, Array]:
    """Return L with LLᵀ = Σ and its inverse; NaN where Σ is not positive definite."""
    return _by_entries(matrix) if matrix.shape[-1] <= MOST_UNROLLED else _by_lapack(matrix)


@cholesky.defjvp
@in_full_precision
def _(primals: Any, tangents: Any) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """DL = L Φ, dL⁻¹ = -Φ L⁻¹, with Φ the lower triangle of L⁻¹ dΣ L⁻ᵀ, its diagonal halved (Smith 1995)."""
    lower, inverse = cholesky(*primals)
    (change,) = tangents
    whole = product(product(inverse, symmetric(change)), inverse.mT)
    half = 0.5 * (jnp.tril(whole) + jnp.tril(whole, -1))
    return (lower, inverse), (product(lower, half), -product(half, inverse))


@jax.custom_jvp
def eigh(matrix: Array) -> tuple[Array, Array]:
    """Return eigenvalues, in rising order, and eigenvectors, in columns, of symmetric matrices."""
    return _eigh_by_lapack(matrix)


@eigh.defjvp
@in_full_precision
def _(primals: Any, tangents: Any) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """dλ_i = v_iᵀ dA v_i, dv_i = Σ_j≠i v_j v_jᵀ dA v_i / (λ_i - λ_j), without the terms of equal eigenvalues."""
    values, vectors = eigh(*primals)
    (change,) = tangents
    turned = product(product(vectors.mT, symmetric(change)), vectors)
    gaps = values[..., None, :] - values[..., :, None]
    mixing = jnp.where(gaps == 0, 0, turned / jnp.where(gaps == 0, 1, gaps))
    return (values, vectors), (diagonal(turned), product(vectors, mixing))


def factor(covariance: Array) -> tuple[Array, Array, Array]:
    """Return L with LLᵀ = Σ, its inverse, and log|Σ|, of matrices (..., d, d)."""
    lower, inverse = cholesky(covariance)
    return lower, inverse, 2 * jnp.log(diagonal(lower)).sum(-1)


def is_positive_definite(matrix: Array) -> Array:
    """Tell whether matrices have a Cholesky factor, (..., d, d) -> (...)."""
    return jnp.isfinite(cholesky(matrix)[0]).all((-2, -1))


@jax.custom_jvp
@in_full_precision
def log_det_and_trace(covariance: Array, scatter: Array) -> tuple[Array, Array]:
    """Return log|Σ| and tr(Σ⁻¹ S) of matrices (..., d, d)."""
    _, inverse, log_determinant = factor(covariance)
    return log_determinant, (product(inverse, scatter) * inverse).sum((-2, -1))


@log_det_and_trace.defjvp
@in_full_precision
def _(primals: Any, tangents: Any) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """With P = Σ⁻¹, d log|Σ| = ⟨P, dΣ⟩ and d tr(P S) = ⟨P, dS⟩ - ⟨P S P, dΣ⟩: three products; the factor's rule takes more."""
    covariance, scatter = primals
    inverse = cholesky(covariance)[1]
    precision = product(inverse.mT, inverse)
    d_covariance, d_scatter = map(symmetric, tangents)
    trace_of = product(product(precision, scatter), precision)
    change = (precision * d_scatter - trace_of * d_covariance).sum((-2, -1))
    return log_det_and_trace(covariance, scatter), ((precision * d_covariance).sum((-2, -1)), change)
