"""Factors of positive definite matrices (..., d, d).

Small ones are factored by arithmetic over all of a batch at once, which costs no call. Larger ones go to LAPACK, on a CPU one
after another whatever vmap says: a batched call there takes threads from a pool, and two such calls at once can lock it up.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import solve_triangular

from jaxem.numerics import in_full_precision, symmetric

MOST_UNROLLED = 4  # columns up to which arithmetic is faster than a call, and soon compiled


def _one_at_a_time(function: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """Return a function of one matrix (d, d) over any leading axes."""
    alone = jax.custom_batching.sequential_vmap(function)

    def over(matrix: Array) -> Any:
        each = alone if jax.default_backend() == "cpu" else function
        for _ in matrix.shape[:-2]:
            each = jax.vmap(each)
        return each(matrix)

    return over


@_one_at_a_time
def _by_lapack(matrix: Array) -> tuple[Array, Array]:
    lower = jnp.linalg.cholesky(matrix)
    return lower, solve_triangular(lower, jnp.eye(matrix.shape[-1], dtype=matrix.dtype), lower=True)


@_one_at_a_time
def _eigh_by_lapack(matrix: Array) -> tuple[Array, Array]:
    values, vectors = jnp.linalg.eigh(matrix)
    return values, vectors


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
def cholesky(matrix: Array) -> tuple[Array, Array]:
    """Return L with LLᵀ = Σ and its inverse; NaN where Σ is not positive definite."""
    return _by_entries(matrix) if matrix.shape[-1] <= MOST_UNROLLED else _by_lapack(matrix)


@cholesky.defjvp
@in_full_precision
def _(primals: Any, tangents: Any) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """DL = L Φ, dL⁻¹ = -Φ L⁻¹, with Φ the lower triangle of L⁻¹ dΣ L⁻ᵀ, its diagonal halved (Smith 1995)."""
    lower, inverse = cholesky(*primals)
    (change,) = tangents
    whole = inverse @ symmetric(change) @ inverse.mT
    half = 0.5 * (jnp.tril(whole) + jnp.tril(whole, -1))
    return (lower, inverse), (lower @ half, -half @ inverse)


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
    turned = vectors.mT @ symmetric(change) @ vectors
    gaps = values[..., None, :] - values[..., :, None]
    mixing = jnp.where(gaps == 0, 0, turned / jnp.where(gaps == 0, 1, gaps))
    return (values, vectors), (jnp.diagonal(turned, axis1=-2, axis2=-1), vectors @ mixing)


def factor(covariance: Array) -> tuple[Array, Array, Array]:
    """Return L with LLᵀ = Σ, its inverse, and log|Σ|, of matrices (..., d, d)."""
    lower, inverse = cholesky(covariance)
    return lower, inverse, 2 * jnp.log(jnp.diagonal(lower, axis1=-2, axis2=-1)).sum(-1)


def is_positive_definite(matrix: Array) -> Array:
    """Tell whether matrices have a Cholesky factor, (..., d, d) -> (...)."""
    return jnp.isfinite(cholesky(matrix)[0]).all((-2, -1))
