"""The shapes that scatters and covariances come in: a matrix for each component, one for all, variances, or one variance.

Everything over rows is a matrix product or a fused pass, about one point amid the data. A geometry knows densities and
sums; which covariance of its shape is the best one, a form knows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxem.families.gaussian.distances import moments as coordinate_moments
from jaxem.families.gaussian.distances import square_distances
from jaxem.families.gaussian.eigen import Turned
from jaxem.matrices import diagonal, diagonal_matrix, factor, log_det_and_trace, product
from jaxem.numerics import positive, symmetric
from jaxem.orthonormal import identity_like

Moments = Callable[[Array], tuple[Array, Array]]  # responsibilities (n, k) -> shift (k, d) and scatter


class Geometry(NamedTuple):
    """What depends on the shape of a covariance Σ or a scatter S, and on nothing else."""

    evaluate: Callable[[Any, Array, Array], tuple[Array, Array, Moments]]  # (Σ, x, μ) -> xᵀΣ⁻¹x about μ (k, n), log|Σ|, sums
    outer: Callable[[Array, Array], Array]  # a, b (k, d) -> the symmetric part of a_k b_kᵀ, as an S
    diagonal: Callable[[Array], Array]  # S -> its diagonal, (k, d), (1, d) of one for all, or (k, 1) its mean
    log_det_and_trace: Callable[[Any, Array], tuple[Array, Array]]  # (Σ, S) -> log|Σ_k| and tr(Σ_k⁻¹ S_k), (k,) or ()
    upright: Callable[[Array], Array]  # sums of squares (k, d) -> the S of columns that do not depend on each other
    guess: Callable[[Array, int], Array]  # (variances (d,), k) -> an S, of one row for each component
    spread: Callable[[Array], Any]  # S of one row for each component -> the Σ that it is
    widest: Callable[[Any], Array]  # Σ -> its largest variance along any axis
    full: Callable[[Any, int], Array]  # (Σ, k) -> (k, d, d)


def _whitened_by_each(covariance: Array, rows: Array, mean: Array) -> tuple[Array, Array, Moments]:
    return _whitened(*factor(covariance), rows, mean)


def _whitened_along_axes(covariance: Turned, rows: Array, mean: Array) -> tuple[Array, Array, Moments]:
    """Take L = D √v for the root of D diag(v) Dᵀ, which asks for no factor."""
    root, axes = jnp.sqrt(covariance.variances), covariance.orientation
    inverse = axes.mT / root[:, :, None]
    return _whitened(axes * root[:, None, :], inverse, jnp.log(covariance.variances).sum(1), rows, mean)


def _whitened(lower: Array, inverse: Array, log_determinant: Array, rows: Array, mean: Array) -> tuple[Array, Array, Moments]:
    """Whiten rows, z = L⁻¹ (x - μ), by one product for all components, of rows with a one at their end.

    Shift is L Σ r z and scatter L (Σ r z xᵀ - Σ r z μᵀ): one more product with the same rows gives both sums, and as they
    take the same z its rounding cancels.
    """
    k, dim = mean.shape
    ended = jnp.concatenate([rows, jnp.ones_like(rows[:, :1])], 1)
    whiten = jnp.concatenate([inverse, -(inverse * mean[:, None, :]).sum(2, keepdims=True)], 2)
    z = (whiten.reshape(k * dim, dim + 1) @ ended.T).reshape(k, dim, -1)

    def moments(responsibilities: Array) -> tuple[Array, Array]:
        weighted = (responsibilities.T[:, None, :] * z).reshape(k * dim, -1)
        sums = (weighted @ ended).reshape(k, dim, dim + 1)
        first, second = sums[:, :, dim:], sums[:, :, :dim]
        about_mean = second - first * mean[:, None, :]
        return (lower * first.mT).sum(2), symmetric(product(lower, about_mean))

    return (z**2).sum(1), log_determinant, moments


def _whitened_by_one(covariance: Array, rows: Array, mean: Array) -> tuple[Array, Array, Moments]:
    """Whiten rows and means by the common factor.

    The scatter is Σ_n w eeᵀ + ½ Σ_jk c_jk (μ_j - μ_k)(μ_j - μ_k)ᵀ, sums of squares that cannot cancel: w_n = Σ_k r_nk,
    e_n = x_n - Σ_k r_nk μ_k / w_n, and c_jk = Σ_n r_nj r_nk / w_n is how much components j and k overlap.
    """
    k, dim = mean.shape
    _, inverse, log_determinant = factor(covariance)
    distance = square_distances(rows @ inverse.T, mean @ inverse.T, jnp.ones_like(mean[:, :1]))

    def moments(responsibilities: Array) -> tuple[Array, Array]:
        weights = responsibilities.sum(1, keepdims=True)
        share = responsibilities / positive(weights)
        residual = rows - share @ mean
        overlap = (responsibilities.T @ share).reshape(k * k, 1)
        between = (mean[:, None, :] - mean[None, :, :]).reshape(k * k, dim)
        scatter = (weights * residual).T @ residual + 0.5 * (overlap * between).T @ between
        return responsibilities.T @ rows - responsibilities.sum(0)[:, None] * mean, scatter

    return distance, log_determinant, moments


def _by_coordinates(variances: Array, rows: Array, mean: Array) -> tuple[Array, Array, Moments]:
    log_determinant = jnp.log(variances).sum(1)
    return _by_precision(1 / variances, log_determinant, rows, mean)


def _by_norms(variances: Array, rows: Array, mean: Array) -> tuple[Array, Array, Moments]:
    """Take (x - μ)² over v from the squared norms of rows, where a component has one variance v for all coordinates."""
    one = variances[:, :1]
    return _by_precision(1 / one, rows.shape[1] * jnp.log(one[:, 0]), rows, mean)


def _by_precision(precision: Array, log_determinant: Array, rows: Array, mean: Array) -> tuple[Array, Array, Moments]:
    def moments(responsibilities: Array) -> tuple[Array, Array]:
        return coordinate_moments(rows, mean, precision, responsibilities)

    return square_distances(rows, mean, precision), log_determinant, moments


def _along_axes(covariance: Turned, scatter: Array) -> tuple[Array, Array]:
    along = (product(scatter, covariance.orientation) * covariance.orientation).sum(-2)
    return jnp.log(covariance.variances).sum(1), (along / covariance.variances).sum(1)


MATRICES = Geometry(
    evaluate=_whitened_by_each,
    outer=lambda a, b: symmetric(a[:, :, None] * b[:, None, :]),
    diagonal=diagonal,
    log_det_and_trace=log_det_and_trace,
    upright=diagonal_matrix,
    guess=lambda variances, k: jnp.broadcast_to(diagonal_matrix(variances), (k, variances.size, variances.size)),
    spread=lambda scatter: scatter,
    widest=lambda covariance: diagonal(covariance).max(),
    full=lambda covariance, k: covariance,
)

TURNED = MATRICES._replace(  # Σ is Turned, S (k, d, d)
    evaluate=_whitened_along_axes,
    log_det_and_trace=_along_axes,
    spread=lambda scatter: Turned(diagonal(scatter), identity_like(scatter)),
    widest=lambda covariance: covariance.variances.max(),
    full=lambda covariance, k: product(covariance.orientation * covariance.variances[:, None, :], covariance.orientation.mT),
)

ONE_MATRIX = Geometry(
    evaluate=_whitened_by_one,
    outer=lambda a, b: symmetric(a.T @ b),
    diagonal=lambda scatter: diagonal(scatter)[None],
    log_det_and_trace=log_det_and_trace,
    upright=lambda squares: diagonal_matrix(squares.sum(0)),
    guess=lambda variances, k: diagonal_matrix(variances),
    spread=lambda scatter: scatter,
    widest=lambda covariance: diagonal(covariance).max(),
    full=lambda covariance, k: jnp.broadcast_to(covariance, (k, *covariance.shape)),
)

VARIANCES = Geometry(
    evaluate=_by_coordinates,
    outer=jnp.multiply,
    diagonal=lambda scatter: scatter,
    log_det_and_trace=lambda variances, scatter: (jnp.log(variances).sum(1), (scatter / variances).sum(1)),
    upright=lambda squares: squares,
    guess=lambda variances, k: jnp.broadcast_to(variances, (k, variances.size)),
    spread=lambda scatter: scatter,
    widest=jnp.max,
    full=lambda variances, k: diagonal_matrix(variances),
)

ONE_VARIANCE = VARIANCES._replace(  # Σ (k, d) of equal columns, S (k, 1) the mean of the diagonal
    evaluate=_by_norms,
    outer=lambda a, b: (a * b).mean(1, keepdims=True),
    upright=lambda squares: squares.mean(1, keepdims=True),
    guess=lambda variances, k: jnp.full((k, 1), variances.mean()),
)
