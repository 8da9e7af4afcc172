"""The Gaussian family over any form of covariance.

Statistics are taken about the old means, and products of rows about one point amid the data, found once at the door, so that
rounding grows with the distance between clusters in standard deviations, not with its square. From means far outside the
data the first step finds means alone, and the next the variances.
"""

import numbers
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxem import constraints
from jaxem.arrays import as_floating, check_rank, check_width, column_ranges, is_traced, look
from jaxem.families.gaussian.forms import FORMS
from jaxem.matrices import cholesky
from jaxem.model import Family
from jaxem.numerics import LOG_2PI, lowest, positive
from jaxem.seeds import column_variances
from jaxem.trees import Shared

LOST = 1e3  # ulps of the squares about old means far away, in which the variances of all the data are lost
FAR = 100.0  # times the reach of all components, from where the nearest is the nearest from any farther
LOOKED_AT = 512  # rows of which the centre is the median


class Gaussian(NamedTuple):
    """Parameters of k Gaussians in d dimensions.

    mean        (k, d)
    covariance  (k, d, d) full | (d, d) tied | (k, d) diag, variances | (k,) spherical, variances

    >>> import numpy as np
    >>> from jaxem.families import Gaussian
    >>> Gaussian(mean=np.zeros((2, 3)), covariance=np.ones((2, 3))).mean.shape
    (2, 3)
    """

    mean: Any
    covariance: Any


class GaussianStats(NamedTuple):
    """Sums over rows with responsibilities r_nk, about the means μ_k of the E-step's parameters.

    counts   (k,)    N_k = Σ_n r_nk
    centre   (k, d)  N_k μ_k, so that the sums say what they are about and still add up over blocks
    shift    (k, d)  Σ_n r_nk (x_n - μ_k)
    scatter  Σ_n r_nk (x_n - μ_k)(x_n - μ_k)ᵀ: (k, d, d); summed over k (d, d); its diagonal (k, d); or the mean of that (k, 1)
    """

    counts: Array
    centre: Array
    shift: Array
    scatter: Array


class Centred(NamedTuple):
    """Rows (n, d), and a point amid them, (1, d), which neither an outlying row nor an absent component moves.

    `far` (n,) tells the rows whose squares overflow, and is None where there are none.
    """

    x: Array
    centre: Shared
    far: Array | None = None


def gaussian(covariance: str = "full", variance_floor: float | None = None) -> Family:
    """Return the Gaussian family, p(x | θ_k) = N(x; μ_k, Σ_k), for data (n, d).

    covariance: "full" (k, d, d), "tied" (d, d), "diag" (k, d) or "spherical" (k,).
    variance_floor: c in Σ_k ⪰ c diag(T), T the variances of all the data (their mean where spherical), which holds a
    component that shrinks onto a few points. None is 1e-10, and 1e-6 for full and tied in float32; 0 switches it off.

    Raises ValueError for another name, or a floor outside [0, 1).

    >>> import jax, jaxem
    >>> x = jaxem.datasets.iris()
    >>> model = jaxem.mixture(jaxem.families.gaussian("tied"), 3)
    >>> print(f"{jaxem.fit_restarts(model, jax.random.key(0), x).best.log_likelihood:.2f}")
    -256.35
    """
    _check_form(covariance)
    if variance_floor is not None and not (isinstance(variance_floor, numbers.Real) and 0 <= variance_floor < 1):
        raise ValueError(f"variance_floor is a share of the data's variances in [0, 1), got {variance_floor!r}.")
    return _gaussian(covariance, None if variance_floor is None else float(variance_floor))


def _check_form(covariance: str) -> None:
    if not isinstance(covariance, str) or covariance not in FORMS:
        raise ValueError(f"covariance must be one of {', '.join(map(repr, FORMS))}, got {covariance!r}.")


def full_covariances(covariance: str, params: Gaussian) -> Array:
    """Return the covariance matrix of each component, (k, d, d), from the named form, in squares of the data's units.

    Raises ValueError for another name than `gaussian` takes.

    >>> import jax.numpy as jnp
    >>> from jaxem import families
    >>> print(families.full_covariances("spherical", families.Gaussian(jnp.zeros((1, 2)), jnp.array([4.0]))))
    [[[4. 0.]
      [0. 4.]]]
    """
    _check_form(covariance)
    form, (k, dim) = FORMS[covariance], jnp.shape(params.mean)
    return form.geometry.full(form.expand(jax.tree.map(jnp.asarray, params.covariance), dim), k)


@cache
def _gaussian(covariance: str, variance_floor: float | None) -> Family:
    form = FORMS[covariance]
    geometry = form.geometry

    def evaluate(params: Gaussian, x: Centred) -> tuple[Array, Callable[[Array], GaussianStats]]:
        dim = params.mean.shape[1]
        check_width(x.x, dim, "mean")
        spread = form.expand(params.covariance, dim)
        if x.far is None:
            return about_centre(spread, params.mean, x)
        reach = jnp.abs(params.mean - x.centre.value).max() + jnp.sqrt(geometry.diagonal(spread).max())
        log_prob, statistics = about_centre(spread, params.mean, _brought_near(x, reach))
        return _nearest_alone(log_prob, x.far), statistics

    def about_centre(matrices: Array, mean: Array, x: Centred) -> tuple[Array, Callable[[Array], GaussianStats]]:
        centre = x.centre.value
        log_prob, moments = geometry.evaluate(matrices, x.x - centre, mean - centre)

        def statistics(responsibilities: Array) -> GaussianStats:
            counts = responsibilities.sum(0)
            return GaussianStats(counts, counts[:, None] * mean, *moments(responsibilities))

        return log_prob, statistics

    def about(stats: GaussianStats, delta: Array) -> Array:
        """Return the scatter about means moved by delta (k, d): S - δsᵀ - sδᵀ + N δδᵀ, s the shift."""
        return stats.scatter - geometry.outer(2 * stats.shift - stats.counts[:, None] * delta, delta)

    def estimate(mean: Array, stats: GaussianStats) -> tuple[Gaussian, Array]:
        count = stats.counts
        delta = stats.shift / positive(count)[:, None]
        total_mean = (count @ (mean - mean[:1]) + stats.shift.sum(0)) / count.sum() + mean[0]
        total = geometry.diagonal(about(stats, total_mean[None] - mean)).sum(0)
        least = LOST * jnp.finfo(count.dtype).eps * geometry.diagonal(stats.scatter).sum(0)
        variances = jnp.maximum(total, least) / count.sum()
        best, held = form.estimate(about(stats, delta), count, variances, variance_floor)
        return Gaussian(mean + delta, best), jnp.any(held & (count > 0))

    def expected_log_prob(params: Gaussian, stats: GaussianStats) -> Array:
        dim = params.mean.shape[1]
        scatter = about(stats, params.mean - stats.centre / positive(stats.counts)[:, None])
        energy = geometry.energy(form.expand(params.covariance, dim), scatter, stats.counts)
        return -0.5 * (stats.counts.sum() * dim * LOG_2PI + energy)

    def init(x: Centred, responsibilities: Array) -> Gaussian:
        """Return the M-step from the responsibilities, with one more row for each, spread as all: so no floor is needed."""
        rows, count = x.x - x.centre.value, responsibilities.sum(0)
        mean = responsibilities.T @ rows / positive(count)[:, None] + x.centre.value
        variances = column_variances(rows, responsibilities.sum(1))
        one_more = geometry.guess(variances, mean.shape[0])
        stats = about_centre(one_more, mean, x)[1](responsibilities)
        scatter = about(stats, stats.shift / positive(count)[:, None]) + one_more
        return Gaussian(mean, form.estimate(scatter, count + 1, variances, 0)[0])

    def sample(key: Array, params: Gaussian, labels: Array, like: Any) -> Array:
        noise = jax.random.normal(key, (labels.shape[0], params.mean.shape[1]), params.mean.dtype)
        factors = cholesky(full_covariances(covariance, params))[0]

        def shape(k: Array, rows: Array) -> Array:
            return jnp.where((labels == k)[:, None], noise @ factors[k].T, rows)

        return params.mean[labels] + lax.fori_loop(0, len(factors), shape, noise)

    return Family(
        evaluate=evaluate,
        m_step=lambda params, stats: estimate(params.mean, stats)[0],
        expected_log_prob=expected_log_prob,
        init=init,
        constraints=Gaussian(constraints.real, form.domain),
        sample=sample,
        embed=lambda x: x.x,
        prepare=_prepare,
        degenerate=None if variance_floor == 0 else lambda params, stats: estimate(params.mean, stats)[1],
        parts=(gaussian, (covariance, variance_floor)),
    )


def _prepare(data: Any, weights: Array | None) -> Centred:
    """Return checked rows and their centre; weights, where given, say which rows a covariance must be learnt from."""
    if isinstance(data, Centred):
        return data
    x = as_floating(data)
    check_rank(x, (2,), "one row per observation, one column per dimension; data[:, None] makes one column.")
    if is_traced(x):
        return Centred(x, Shared(lax.stop_gradient(jnp.median(x[_some(np.ones(x.shape[0], bool))], 0, keepdims=True))))
    known = weights is not None and not is_traced(weights)
    present = np.asarray(weights) > 0 if known else np.ones(x.shape[0], bool)
    low, high, kept_low, kept_high, _ = column_ranges(x, None if present.all() else weights)
    if weights is not None:
        _check_spread(kept_low, kept_high, x.shape[0], x.dtype)
    some = look(_taken, x, _some(present))
    centre = Shared(jnp.asarray(np.median(some, axis=0, keepdims=True), x.dtype))
    limit = float(np.sqrt(np.finfo(x.dtype).max)) / 4096
    overflows = weights is None and max(-low.min(), high.max()) > limit
    return Centred(x, centre, jnp.abs(x).max(1) > limit if overflows else None)


def _brought_near(x: Centred, reach: Array) -> Centred:
    """Return rows, the far ones on their way to the centre at a hundred times the reach of the components."""
    rows, far = x.x - x.centre.value, jnp.broadcast_to(jnp.asarray(x.far)[:, None], x.x.shape)
    near = rows * (FAR / jnp.abs(rows).max(1, keepdims=True)) * reach
    return Centred(jnp.where(far, near + x.centre.value, x.x), x.centre)


def _nearest_alone(log_prob: Array, far: Array) -> Array:
    """Return log-densities (n, k), of far rows `lowest` for the nearest component and -inf for the others."""
    nearest = jnp.arange(log_prob.shape[1])[None] == log_prob.argmax(1, keepdims=True)
    return jnp.where(far[:, None], jnp.where(nearest, lowest(log_prob.dtype), -jnp.inf), log_prob)


@jax.jit
def _taken(x: Array, places: Array) -> Array:
    return x[places]


def _some(present: np.ndarray) -> np.ndarray:
    """Return places of some rows that are present, evenly; how many hangs on the number of rows alone: that compiles once."""
    num = min(present.size, LOOKED_AT)
    evenly = np.arange(num) * np.count_nonzero(present) // num
    return evenly if present.all() else np.flatnonzero(present)[evenly]


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
