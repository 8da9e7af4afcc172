"""Gaussian components with full, tied, diagonal or spherical covariance.

Numerics. Statistics are taken about the old means, and products of rows about one point amid rows and means, so that rounding
grows with the distance between clusters in standard deviations, not with its square. Everything over rows is a matrix
product or a fused pass. From means far outside the data the first step finds means alone, and the next the variances.

Collapse. The likelihood of a mixture of Gaussians is unbounded: a component may shrink onto a few points. Each covariance is
therefore held at Σ_k ⪰ c diag(T), T the variances of all the data, c the `variance_floor`. The M-step is the exact maximizer
under that constraint, so the likelihood still never falls; away from a collapse it is the unconstrained one to the bit.
"""

import numbers
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.linalg import solve_triangular

from jaxem import constraints, initialize
from jaxem.boundary import as_floating, check_rank, column_ranges, is_traced
from jaxem.families.distances import Moments, amid, with_squares
from jaxem.model import Family, PyTree, Use, choose

LOG_2PI = 1.8378770664093453
LOST = 1e3  # ulps of the squares about old means far away, in which the variances of all the data are lost


class Gaussian(NamedTuple):
    """Parameters of k Gaussians in d dimensions.

    mean        (k, d)
    covariance  (k, d, d) full | (d, d) tied | (k, d) diag, variances | (k,) spherical, variances
    """

    mean: Any
    covariance: Any


class GaussianStats(NamedTuple):
    """Sums over rows with responsibilities r_nk, about the means μ_k of the E-step's parameters.

    counts   (k,)    N_k = Σ_n r_nk
    centre   (k, d)  N_k μ_k, so that the sums say what they are about and still add up over blocks
    shift    (k, d)  Σ_n r_nk (x_n - μ_k)
    scatter  Σ_n r_nk (x_n - μ_k)(x_n - μ_k)ᵀ: (k, d, d); summed over k (d, d); its diagonal (k, d); the mean of that (k,)
    """

    counts: Array
    centre: Array
    shift: Array
    scatter: Array


UseMoments = Callable[[Array, Moments], PyTree]  # what is done with log-densities (n, k) and the way to shift and scatter


class _Form(NamedTuple):
    """What sets one form of covariance apart from the others; S stands for a scatter in that form."""

    evaluate: Callable[[Gaussian, Array, UseMoments], PyTree]
    outer: Callable[[Array, Array], Array]  # a, b (k, d) -> the symmetric part of a_k b_kᵀ, as an S
    diagonal: Callable[[Array], Array]  # S -> its diagonal (k, d), (1, d) where tied, or the mean of that (k, 1)
    covariance: Callable[[Array, Array], Array]  # (S, count) -> the unconstrained maximizer
    hold: Callable[[Array, Array, float | None], tuple[Array, Array]]  # (covariance, T, c) -> maximizer at Σ ⪰ c T, held (k,)
    energy: Callable[[Array, Array, Array, int], Array]  # (covariance, S, count, d) -> Σ_k N_k log|Σ_k| + tr(Σ_k⁻¹ S_k)
    guess: Callable[[Array, int], Array]  # (variances (d,), k) -> a covariance to start from
    full: Callable[[Array, int, int], Array]  # (covariance, k, d) -> (k, d, d)
    domain: constraints.Constraint
    per_component: bool = True


def gaussian(covariance: str = "full", variance_floor: float | None = None) -> Family:
    """Return the Gaussian family, p(x | θ_k) = N(x; μ_k, Σ_k), for data (n, d).

    covariance: "full" (k, d, d), "tied" (d, d), "diag" (k, d) or "spherical" (k,).
    variance_floor: c in Σ_k ⪰ c diag(T), T the variances of all the data (their mean where spherical). None is 1e-10, and
    1e-6 for full and tied in float32, which can factor no matrix much nearer to singular; 0 switches the constraint off.

    Raises ValueError for another name, or a floor outside [0, 1).
    """
    _check_form(covariance)
    if variance_floor is not None and not (isinstance(variance_floor, numbers.Real) and 0 <= variance_floor < 1):
        raise ValueError(f"variance_floor is a share of the data's variances in [0, 1), got {variance_floor!r}.")
    return _gaussian(covariance, None if variance_floor is None else float(variance_floor))


def _check_form(covariance: str) -> None:
    if not isinstance(covariance, str) or covariance not in _FORMS:
        raise ValueError(f"covariance must be one of {', '.join(map(repr, _FORMS))}, got {covariance!r}.")


def full_covariances(covariance: str, params: Gaussian) -> Array:
    """Return the covariance matrix of each component, (k, d, d), from the named form.

    Raises ValueError for another name than `gaussian` takes.
    """
    _check_form(covariance)
    return _FORMS[covariance].full(params.covariance, *params.mean.shape)


@lru_cache
def _gaussian(covariance: str, variance_floor: float | None) -> Family:
    form = _FORMS[covariance]

    def evaluate(params: Gaussian, x: Array, use: Use) -> PyTree:
        def summarize(log_prob: Array, moments: Moments) -> PyTree:
            def statistics(responsibilities: Array) -> GaussianStats:
                counts = responsibilities.sum(0)
                return GaussianStats(counts, counts[:, None] * params.mean, *moments(responsibilities))

            return use(log_prob, statistics)

        return form.evaluate(params, x, summarize)

    def about(stats: GaussianStats, delta: Array) -> Array:
        """Return the scatter about means moved by delta (k, d): S - δsᵀ - sδᵀ + N δδᵀ, s the shift."""
        return stats.scatter - form.outer(2 * stats.shift - stats.counts[:, None] * delta, delta)

    def estimate(params: Gaussian, stats: GaussianStats) -> tuple[Gaussian, Array]:
        count = stats.counts
        delta = stats.shift / _positive(count)[:, None]
        total_mean = (count @ (params.mean - params.mean[:1]) + stats.shift.sum(0)) / count.sum() + params.mean[0]
        total = form.diagonal(about(stats, total_mean[None] - params.mean)).sum(0)
        least = LOST * jnp.finfo(count.dtype).eps * form.diagonal(stats.scatter).sum(0)
        free = form.covariance(about(stats, delta), count)
        new, held = form.hold(free, jnp.maximum(total, least) / count.sum(), variance_floor)
        if form.per_component:
            new, held = choose(count > 0, new, params.covariance), held & (count > 0)
        return Gaussian(params.mean + delta, new), jnp.any(held)

    def expected_log_prob(params: Gaussian, stats: GaussianStats) -> Array:
        dim = params.mean.shape[1]
        scatter = about(stats, params.mean - stats.centre / _positive(stats.counts)[:, None])
        return -0.5 * (stats.counts.sum() * dim * LOG_2PI + form.energy(params.covariance, scatter, stats.counts, dim))

    def init(key: Array, x: Array, weights: Array, num_components: int) -> Gaussian:
        mean = initialize.kmeans_plusplus(key, x, weights, num_components)
        variances = initialize.column_variances(x, weights) / num_components ** (2 / x.shape[1])
        return Gaussian(mean, form.guess(variances, num_components))

    def sample(key: Array, params: Gaussian, labels: Array) -> Array:
        noise = jax.random.normal(key, (labels.shape[0], params.mean.shape[1]), params.mean.dtype)
        factors = jnp.linalg.cholesky(full_covariances(covariance, params))

        def shape(k: Array, rows: Array) -> Array:
            return jnp.where((labels == k)[:, None], noise @ factors[k].T, rows)

        return params.mean[labels] + lax.fori_loop(0, len(factors), shape, noise)

    return Family(
        log_prob=lambda params, x: evaluate(params, x, lambda log_prob, _: log_prob),
        statistics=lambda params, x, r: evaluate(params, x, lambda _, statistics: statistics(r)),
        m_step=lambda params, stats: estimate(params, stats)[0],
        init=init,
        expected_log_prob=expected_log_prob,
        sample=sample,
        constraints=Gaussian(constraints.real, form.domain),
        validate=_validate,
        held=None if variance_floor == 0 else lambda params, stats: estimate(params, stats)[1],
        evaluate=evaluate,
    )


def _validate(data: Any, weights: Array | None) -> Array:
    x = as_floating(data)
    check_rank(x, (2,), "one row per observation, one column per dimension; data[:, None] makes one column.")
    if not is_traced(x, weights):
        low, high = column_ranges(x, weights)
        if (low == high).all():
            raise ValueError("data rows of positive weight are all equal, needs some spread to fit a covariance.")
        if (low == high).any():
            raise ValueError(f"data columns {np.flatnonzero(low == high).tolist()} are constant: drop them.")
    return x


def _like(x: Array, target: Array) -> Array:
    return jnp.broadcast_to(x, target.shape)


def _positive(count: Array) -> Array:
    return jnp.where(count > 0, count, 1)


def _log_normal(square_distance: Array, log_determinant: Array, dim: int) -> Array:
    """Return the log-density (n, k) from squared Mahalanobis distances (k, n) and log|Σ_k| (k,) or scalar."""
    return (-0.5 * (square_distance + jnp.atleast_1d(log_determinant)[:, None] + dim * LOG_2PI)).T


def _symmetric(matrix: Array) -> Array:
    return 0.5 * (matrix + matrix.mT)


def _factor(covariance: Array) -> tuple[Array, Array, Array]:
    """Return L with LLᵀ = Σ, its inverse, and log|Σ|."""
    lower = jnp.linalg.cholesky(covariance)
    inverse = solve_triangular(lower, jnp.broadcast_to(jnp.eye(lower.shape[-1], dtype=lower.dtype), lower.shape), lower=True)
    return lower, inverse, 2 * jnp.log(jnp.diagonal(lower, axis1=-2, axis2=-1)).sum(-1)


def _is_positive_definite(matrix: Array) -> Array:
    """Tell whether all pivots of Gaussian elimination are positive, (..., d, d) -> (...).

    Without LAPACK: two of its batched calls at once can lock up a CPU's thread pool, and this runs beside other steps.
    """

    def eliminate(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rest, positive = carry
        row = lax.dynamic_index_in_dim(rest, j, rest.ndim - 2, keepdims=True)
        pivot = lax.dynamic_index_in_dim(row, j, rest.ndim - 1, keepdims=True)
        return rest - row.mT * row / pivot, positive & (pivot[..., 0, 0] > 0)

    start = matrix, jnp.ones(matrix.shape[:-2], bool)
    return lax.fori_loop(0, matrix.shape[-1], eliminate, start)[1]


def _hold_matrix(covariance: Array, total: Array, floor: float | None) -> tuple[Array, Array]:
    """Return the maximizer of -log|Σ| - tr(Σ⁻¹ C) over Σ ⪰ c diag(T): the eigenvalues of C, scaled by T, raised to c."""
    if floor is None:
        floor = 1e-6 if jnp.finfo(covariance.dtype).bits == 32 else 1e-10
    if floor == 0:
        return covariance, jnp.zeros(covariance.shape[:-2], bool)
    scale = _like(jnp.sqrt(total)[:, None] * jnp.sqrt(total)[None], covariance)
    identity = _like(jnp.eye(covariance.shape[-1], dtype=covariance.dtype), covariance)
    held = ~_is_positive_definite(covariance / scale - floor * identity)

    def raised() -> Array:
        values, vectors = jnp.linalg.eigh(covariance / scale)
        lifted = (vectors * jnp.maximum(values, floor)[..., None, :]) @ vectors.mT * scale
        return jnp.where(held[..., None, None], lifted, covariance)

    return lax.cond(held.any(), raised, lambda: covariance), held


def _hold_variance(variance: Array, total: Array, floor: float | None) -> tuple[Array, Array]:
    least = _like((1e-10 if floor is None else floor) * total, variance)
    low = variance < least
    return jnp.where(low, least, variance), low.reshape(low.shape[0], -1).any(1)


def _full(params: Gaussian, x: Array, use: UseMoments) -> PyTree:
    """Whiten rows, z = L⁻¹ (x - μ), by one product for all components, of rows with a one at their end.

    With c amid rows and means, shift is L Σ r z and scatter L (Σ r z (x - c)ᵀ - Σ r z (μ - c)ᵀ): one more product with the same
    rows gives both sums, and as they take the same z its rounding cancels.
    """
    k, dim = params.mean.shape
    lower, inverse, log_determinant = _factor(params.covariance)
    centre = amid(x, params.mean)
    offset = params.mean - centre
    rows = jnp.concatenate([x - centre, jnp.ones_like(x[:, :1])], 1)
    whiten = jnp.concatenate([inverse, -inverse @ offset[:, :, None]], 2)
    z = (whiten.reshape(k * dim, dim + 1) @ rows.T).reshape(k, dim, -1)

    def moments(responsibilities: Array) -> tuple[Array, Array]:
        weighted = (responsibilities.T[:, None, :] * z).reshape(k * dim, -1)
        sums = (weighted @ rows).reshape(k, dim, dim + 1)
        first, second = sums[:, :, dim:], sums[:, :, :dim]
        return (lower @ first)[:, :, 0], _symmetric(lower @ (second - first * offset[:, None, :]))

    return use(_log_normal((z**2).sum(1), log_determinant, dim), moments)


def _full_energy(covariance: Array, scatter: Array, count: Array, dim: int) -> Array:
    _, inverse, log_determinant = _factor(covariance)
    return (count * log_determinant + ((inverse @ scatter) * inverse).sum((-2, -1))).sum()


def _tied(params: Gaussian, x: Array, use: UseMoments) -> PyTree:
    """Whiten rows and means by the common factor.

    The scatter is Σ_n w eeᵀ + ½ Σ_jk c_jk (μ_j - μ_k)(μ_j - μ_k)ᵀ, sums of squares that cannot cancel: w_n = Σ_k r_nk,
    e_n = x_n - Σ_k r_nk μ_k / w_n, and c_jk = Σ_n r_nj r_nk / w_n is how much components j and k overlap.
    """
    k, dim = params.mean.shape
    _, inverse, log_determinant = _factor(params.covariance)
    centre = amid(x, params.mean)
    rows, offset = x - centre, params.mean - centre

    def moments(responsibilities: Array) -> tuple[Array, Array]:
        weights = responsibilities.sum(1, keepdims=True)
        share = responsibilities / _positive(weights)
        residual = rows - share @ offset
        overlap = (responsibilities.T @ share).reshape(k * k, 1)
        between = (offset[:, None, :] - offset[None, :, :]).reshape(k * k, dim)
        scatter = (weights * residual).T @ residual + 0.5 * (overlap * between).T @ between
        shift = responsibilities.T @ rows - responsibilities.sum(0)[:, None] * offset
        return shift, scatter

    def density(distance: Array, _: Moments) -> PyTree:
        return use(_log_normal(distance, log_determinant, dim), moments)

    return with_squares(rows @ inverse.T, offset @ inverse.T, jnp.ones_like(offset), density)


def _tied_energy(covariance: Array, scatter: Array, count: Array, dim: int) -> Array:
    _, inverse, log_determinant = _factor(covariance)
    return count.sum() * log_determinant + ((inverse @ scatter) * inverse).sum()


def _diag(params: Gaussian, x: Array, use: UseMoments) -> PyTree:
    def density(distance: Array, moments: Moments) -> PyTree:
        return use(_log_normal(distance, jnp.log(params.covariance).sum(1), x.shape[1]), moments)

    return with_squares(x, params.mean, 1 / params.covariance, density)


def _spherical(params: Gaussian, x: Array, use: UseMoments) -> PyTree:
    def density(distance: Array, moments: Moments) -> PyTree:
        def averaged(responsibilities: Array) -> tuple[Array, Array]:
            shift, squares = moments(responsibilities)
            return shift, squares.mean(1)

        return use(_log_normal(distance, x.shape[1] * jnp.log(params.covariance), x.shape[1]), averaged)

    return with_squares(x, params.mean, jnp.broadcast_to(1 / params.covariance[:, None], params.mean.shape), density)


_FORMS = {
    "full": _Form(
        evaluate=_full,
        outer=lambda a, b: _symmetric(a[:, :, None] * b[:, None, :]),
        diagonal=lambda scatter: jnp.diagonal(scatter, axis1=1, axis2=2),
        covariance=lambda scatter, count: scatter / _positive(count)[:, None, None],
        hold=_hold_matrix,
        energy=_full_energy,
        guess=lambda variances, k: jnp.broadcast_to(jnp.diag(variances), (k, variances.size, variances.size)),
        full=lambda covariance, k, dim: covariance,
        domain=constraints.positive_definite,
    ),
    "tied": _Form(
        evaluate=_tied,
        outer=lambda a, b: _symmetric(a.T @ b),
        diagonal=lambda scatter: jnp.diagonal(scatter)[None],
        covariance=lambda scatter, count: scatter / count.sum(),
        hold=_hold_matrix,
        energy=_tied_energy,
        guess=lambda variances, k: jnp.diag(variances),
        full=lambda covariance, k, dim: jnp.broadcast_to(covariance, (k, dim, dim)),
        domain=constraints.positive_definite,
        per_component=False,
    ),
    "diag": _Form(
        evaluate=_diag,
        outer=jnp.multiply,
        diagonal=lambda scatter: scatter,
        covariance=lambda scatter, count: scatter / _positive(count)[:, None],
        hold=_hold_variance,
        energy=lambda covariance, scatter, count, dim: count @ jnp.log(covariance).sum(1) + (scatter / covariance).sum(),
        guess=lambda variances, k: jnp.broadcast_to(variances, (k, variances.size)),
        full=lambda covariance, k, dim: covariance[:, :, None] * jnp.eye(dim, dtype=covariance.dtype)[None],
        domain=constraints.positive,
    ),
    "spherical": _Form(
        evaluate=_spherical,
        outer=lambda a, b: (a * b).mean(1),
        diagonal=lambda scatter: scatter[:, None],
        covariance=lambda scatter, count: scatter / _positive(count),
        hold=_hold_variance,
        energy=lambda covariance, scatter, count, dim: dim * (count @ jnp.log(covariance) + (scatter / covariance).sum()),
        guess=lambda variances, k: jnp.full(k, variances.mean()),
        full=lambda covariance, k, dim: covariance[:, None, None] * jnp.eye(dim, dtype=covariance.dtype)[None],
        domain=constraints.positive,
    ),
}
