"""The Gaussian family over any form of covariance.

Statistics are taken about the old means, and products of rows about one point amid the data, found once at the door, so that
rounding grows with the distance between clusters in standard deviations, not with its square. From means far outside the
data the first step finds means alone, and the next the variances.
"""

import numbers
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxem import constraints
from jaxem.arrays import as_params, check_width
from jaxem.families.gaussian import missing, wishart
from jaxem.families.gaussian.centred import Centred, brought_near, nearest_alone, prepare
from jaxem.families.gaussian.forms import FORMS, form_name
from jaxem.families.gaussian.missing import Gaps, GapStats
from jaxem.families.gaussian.sums import begun, coloured, moved, total_variances
from jaxem.families.gaussian.wishart import NormalInverseWishart
from jaxem.families.observed import Observed, with_holes
from jaxem.model import Family, PyTree
from jaxem.numerics import LOG_2PI, positive


class Gaussian(NamedTuple):
    """Parameters of k Gaussians in d dimensions.

    mean        (k, d)
    covariance  (k, d, d) full | (d, d) tied | (k, d) diag, variances | (k,) spherical, variances | else `Eigen`

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
    gaps     of rows with holes, over which the others are expected sums; else None
    """

    counts: Array
    centre: Array
    shift: Array
    scatter: Array
    gaps: GapStats | None = None


def gaussian(form: str = "full", variance_floor: float | None = None, prior: NormalInverseWishart | None = None) -> Family:
    """Return the Gaussian family, p(x | θ_k) = N(x; μ_k, Σ_k), for data (n, d), or (n,) as one column.

    form: "full" (k, d, d), "tied" (d, d), "diag" (k, d) or "spherical" (k,), which are VVV, EEE, VVI and VII; or another
    one by three letters, for volume, shape and orientation in Σ_k = λ_k D_k A_k D_kᵀ: Equal for all components, Varying,
    or the Identity. Those have `Eigen(volume, axes, orientation)` for covariance: EII EEI VEI EVI VEE EVE VVE EEV VEV EVV.
    E and V are tied and full by the names they have for one column.
    variance_floor: c in Σ_k ⪰ c diag(T), T the variances of all the data (their mean where round, their least for the
    variances along axes that turn), which holds a component that shrinks onto a few points. None is 1e-10, and 1e-6 for
    matrices and turned axes in float32; 0 switches it off.
    prior: of means and covariances, a `families.NormalInverseWishart` such as `families.default_prior` makes: the M-step is
    the mode under it. Denominators, where one row has N_k: full ν + N_k + d + 2, tied ν + N + k + d + 1, diag ν + N_k + 3,
    spherical ν + (N_k + 1) d + 2 (Fraley & Raftery 2007).

    Banfield & Raftery (1993); Celeux & Govaert (1995); for a common orientation of shapes that vary, EVE and VVE, whose
    M-step ends in a stationary point above the old parameters, Flury & Gautschi (1986).

    Raises ValueError for another name, a floor outside [0, 1), and a prior that does not suit the form.

    >>> import jax, jaxem
    >>> x = jaxem.datasets.iris()
    >>> model = jaxem.mixture(jaxem.families.gaussian("tied"), 3)
    >>> print(f"{jaxem.fit_restarts(model, jax.random.key(0), x).best.log_likelihood:.2f}")
    -256.35
    """
    name = form_name(form)
    if variance_floor is not None and not (isinstance(variance_floor, numbers.Real) and 0 <= variance_floor < 1):
        raise ValueError(f"variance_floor is a share of the data's variances in [0, 1), got {variance_floor!r}.")
    return _gaussian(name, None if variance_floor is None else float(variance_floor), wishart.checked(prior, name))


def full_covariances(form: str, components: Gaussian) -> Array:
    """Return the covariance matrix of each component, (k, d, d), from the named form, in squares of the data's units.

    Raises ValueError for another name than `gaussian` takes.

    >>> import jax.numpy as jnp
    >>> from jaxem import families
    >>> print(families.full_covariances("spherical", families.Gaussian(jnp.zeros((1, 2)), jnp.array([4.0]))))
    [[[4. 0.]
      [0. 4.]]]
    """
    row, given = FORMS[form_name(form)], as_params(components)
    return row.geometry.full(row.expand(given.covariance, *given.mean.shape), given.mean.shape[0])


@cache
def _gaussian(name: str, variance_floor: float | None, prior: NormalInverseWishart | None) -> Family:
    form = FORMS[name]
    geometry = form.geometry

    def evaluate(params: Gaussian, x: Centred) -> tuple[Array, Callable[[Array], GaussianStats]]:
        check_width(x.x, params.mean.shape[1], "mean")
        spread = form.expand(params.covariance, *params.mean.shape)
        if x.far is None:
            return about_centre(spread, params.mean, x)
        reach = jnp.abs(params.mean - x.centre.value).max() + jnp.sqrt(geometry.widest(spread))
        log_prob, statistics = about_centre(spread, params.mean, brought_near(x, reach))
        return nearest_alone(log_prob, x.far), statistics

    def about_centre(spread: PyTree, mean: Array, x: Centred) -> tuple[Array, Callable[[Array], GaussianStats]]:
        centre = x.centre.value
        if x.gaps is not None:
            return about_holes(spread, mean, x, x.gaps)
        distance, log_determinant, moments = geometry.evaluate(spread, x.x - centre, mean - centre)
        log_scale = jnp.atleast_1d(log_determinant)[:, None] + mean.shape[1] * LOG_2PI

        def statistics(responsibilities: Array) -> GaussianStats:
            counts = responsibilities.sum(0)
            return GaussianStats(counts, counts[:, None] * mean, *moments(responsibilities))

        return (-0.5 * (distance + log_scale)).T, statistics

    def about_holes(spread: PyTree, mean: Array, x: Centred, gaps: Gaps) -> tuple[Array, Callable[[Array], GaussianStats]]:
        rows = x.about()
        distance, log_determinant, moments = missing.evaluate(geometry, spread, rows, mean - x.centre.value, gaps)
        log_scale = log_determinant + gaps.seen.sum(1).astype(rows.dtype)[None] * LOG_2PI

        def statistics(responsibilities: Array) -> GaussianStats:
            counts = responsibilities.sum(0)
            shift, scatter, entropy = moments(responsibilities, responsibilities)
            more = GapStats(entropy.sum(), *missing.observed_sums(rows, gaps.seen, responsibilities))
            return GaussianStats(counts, counts[:, None] * mean, shift, scatter, more)

        return (-0.5 * (distance + log_scale)).T, statistics

    def estimate(params: Gaussian, stats: GaussianStats) -> tuple[Gaussian, Array]:
        mean, count = params.mean, stats.counts
        sums = count, stats.shift, stats.scatter
        known = None if stats.gaps is None else missing.variances(*stats.gaps[1:])
        total = total_variances(geometry, mean, *sums, known)
        if prior is None:
            delta = stats.shift / positive(count)[:, None]
            scatter, rows = moved(geometry, *sums, delta), count
        else:
            delta = wishart.pulled(prior, mean, count, stats.shift)
            more = wishart.seen(form, prior, mean + delta)
            scatter, rows = moved(geometry, *sums, delta) + more.scatter, count + more.counts
        best, held = form.estimate(scatter, rows, total, variance_floor, params.covariance)
        return Gaussian(mean + delta, best), jnp.any(held & (count > 0))

    def expected_log_prob(params: Gaussian, stats: GaussianStats) -> Array:
        dim = params.mean.shape[1]
        delta = params.mean - stats.centre / positive(stats.counts)[:, None]
        scatter = moved(geometry, stats.counts, stats.shift, stats.scatter, delta)
        log_determinant, trace = geometry.log_det_and_trace(form.expand(params.covariance, *params.mean.shape), scatter)
        entropy = 0 if stats.gaps is None else stats.gaps.entropy
        return entropy - 0.5 * ((stats.counts * (dim * LOG_2PI + log_determinant)).sum() + trace.sum())

    def init(x: Centred, responsibilities: Array) -> Gaussian:
        return Gaussian(*begun(form, x, responsibilities))

    def sample(key: Array, params: Gaussian, labels: Array, like: Any) -> Array | Observed:
        noise = jax.random.normal(key, (labels.shape[0], params.mean.shape[1]), params.mean.dtype)
        drawn = params.mean[labels] + coloured(noise, full_covariances(name, params), labels)
        return with_holes(drawn, like.gaps.seen if like is not None and like.gaps is not None else None)

    def complete(params: Gaussian, x: Centred, responsibilities: Array, drawn: Array | None) -> Array:
        """Fill by conditional means; what was drawn is given those, of which it is the residual that is filled."""
        spread, centre = form.expand(params.covariance, *params.mean.shape), x.centre.value
        if x.gaps is None:
            return x.x
        if drawn is None:
            return centre + missing.completed(geometry, spread, x.about(), params.mean - centre, x.gaps, responsibilities)
        rest = jnp.where(x.gaps.seen, x.x - drawn, 0)
        return drawn + missing.completed(geometry, spread, rest, jnp.zeros_like(params.mean), x.gaps, responsibilities)

    return Family(
        evaluate=evaluate,
        m_step=lambda params, stats: estimate(params, stats)[0],
        expected_log_prob=expected_log_prob,
        init=init,
        constraints=Gaussian(constraints.real, form.domain),
        sample=sample,
        embed=lambda x: x.x,
        prepare=partial(prepare, by_pattern=not missing.has_upright_axes(geometry)),
        complete=complete,
        log_prior=(lambda params: wishart.log_density(form, prior, *params)) if prior else None,
        degenerate=None if variance_floor == 0 else lambda params, stats: estimate(params, stats)[1],
        parts=(gaussian, (name, variance_floor, prior)),
    )
