"""Sums of a regression, y = W z + noise, about the W that they were taken at; what maximizes it, all of it or in part.

Residuals are taken at the old coefficients, so that nothing is lost where these are near the new ones, and the sums say what
they are about: `centre` is that many times W.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.families.gaussian.floor import DROWNED, hold_matrices
from jaxem.families.newton import RIDGE
from jaxem.matrices import cholesky, diagonal, diagonal_matrix, log_det_and_trace
from jaxem.numerics import LOG_2PI, positive, symmetric


class LineSums(NamedTuple):
    """Expected sums of e = y - W z, (d,), and z, (p,).

    rows     ()         how many; (d,) where rows of y are regressions of their own, of uncorrelated noise
    centre   (d, p)     rows · W
    gram     (p, p)     Σ z zᵀ; (1, p, p) or (d, p, p) where they are
    cross    (d, p)     Σ e zᵀ
    scatter  (d, d)     Σ e eᵀ; its diagonal (d,) where they are
    """

    rows: Array
    centre: Array
    gram: Array
    cross: Array
    scatter: Array


def _about(sums: LineSums, coefficients: Array) -> Array:
    """Return the W that sums are about; where there are no rows, the given one."""
    count = jnp.broadcast_to(sums.rows.reshape(-1, 1), coefficients.shape)
    return jnp.where(count > 0, sums.centre / positive(count), coefficients)


def _grams(sums: LineSums, moved: Array) -> Array:
    """Return Δ G, (d, p), each row with its own G where there are several."""
    if sums.gram.ndim == 2:
        return moved @ sums.gram
    return (moved[:, None, :] @ sums.gram)[:, 0]


def left(sums: LineSums, coefficients: Array) -> Array:
    """Return Σ e eᵀ at other coefficients, or its diagonal: S - Δ cᵀ - c Δᵀ + Δ G Δᵀ."""
    moved = coefficients - _about(sums, coefficients)
    half = sums.cross - 0.5 * _grams(sums, moved)
    if sums.scatter.ndim == 1:
        return sums.scatter - 2 * (moved * half).sum(1)
    return symmetric(sums.scatter - 2 * moved @ half.T)


def expected_log_prob(sums: LineSums, coefficients: Array, covariance: Array) -> Array:
    """Return E[log p(y | z, W, Σ)], a scalar; Σ (d, d), or its diagonal (d,)."""
    squares = left(sums, coefficients)
    if covariance.ndim == 1:
        logs = jnp.broadcast_to(sums.rows, covariance.shape) * (jnp.log(covariance) + LOG_2PI)
        return -0.5 * (logs + squares / covariance).sum()
    log_determinant, trace = log_det_and_trace(covariance, squares)
    return -0.5 * (sums.rows * (log_determinant + covariance.shape[0] * LOG_2PI) + trace)


def coefficients(sums: LineSums, old: Array, held: np.ndarray) -> Array:
    """Return the W that is best given its columns (p,) that are `held`, which stay as they are in `old`.

    Of inputs that are the same, each takes a part; what nothing is known of stays as it was.
    """
    about, free = _about(sums, old), np.flatnonzero(~held)
    if not free.size:
        return old
    given = jnp.where(jnp.asarray(held)[None], old - about, 0)
    right = (sums.cross - _grams(sums, given))[:, free]
    gram = sums.gram[..., free, :][..., free]
    scale = jnp.sqrt(positive(diagonal(gram)))
    ridge = jnp.where(diagonal(gram) > 0, RIDGE * float(jnp.finfo(gram.dtype).eps), 1).astype(gram.dtype)
    inverse = cholesky(gram / (scale[..., :, None] * scale[..., None, :]) + diagonal_matrix(ridge))[1]
    right = right / jnp.broadcast_to(scale, right.shape)
    if gram.ndim == 3:
        moved = (inverse.mT @ (inverse @ right[..., None]))[..., 0]
    else:
        moved = right @ inverse.T @ inverse
    moved = moved / jnp.broadcast_to(scale, moved.shape)
    return jnp.where(jnp.asarray(held)[None], old, about.at[:, free].add(moved))


def covariance(sums: LineSums, coefficients: Array, old: Array, floor: Array | None = None) -> tuple[Array, Array]:
    """Return the Σ that is best at W, and whether it had to be held above `floor` (d,), variances, for it to have a root.

    Below what rounding leaves of the squares that it is the difference of, it is held unasked.
    """
    count = positive(sums.rows)
    found = left(sums, coefficients) / count
    squares = sums.scatter / count if found.ndim == 1 else diagonal(sums.scatter) / count
    rounding = DROWNED * float(jnp.finfo(found.dtype).eps) * squares
    least = rounding if floor is None else jnp.maximum(floor, rounding)
    if found.ndim == 1:
        held, some = found < least, jnp.broadcast_to(sums.rows > 0, found.shape)
        return jnp.where(some, jnp.where(held, least, found), old), (held & some).any()
    some = sums.rows > 0
    least = jnp.where(some, least, 1)
    raised, held = hold_matrices(jnp.where(some, found, old)[None], least, 1.0)
    return jnp.where(some, symmetric(raised[0]), old), held[0] & some
