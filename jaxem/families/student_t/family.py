"""Student-t components: Gaussian ones whose rows each have a precision of their own, drawn from a gamma distribution."""

import numbers
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxem import constraints
from jaxem.arrays import check_width
from jaxem.families.gaussian import missing
from jaxem.families.gaussian.centred import Centred, brought_near, nearest_alone, prepare
from jaxem.families.gaussian.forms import ALIASES, FORMS, Form
from jaxem.families.gaussian.sums import begun, coloured
from jaxem.families.observed import Observed, with_holes
from jaxem.families.student_t.density import LEAST_DOF, MOST_DOF, log_constant, log_density
from jaxem.families.student_t.freedom import better_dof
from jaxem.families.student_t.scatter import StudentTStats, bound, improved
from jaxem.model import Family
from jaxem.numerics import LOG_2PI

FIRST_DOF = 8.0  # of a start, where they are to be estimated
NAMES = ("full", "tied", "diag", "spherical")


class StudentT(NamedTuple):
    """Parameters of k Student-t components in d dimensions.

    location  (k, d)
    scale     (k, d, d) full | (d, d) tied | (k, d) diag | (k,) spherical: Σ, in squares of the data's units, no covariance
    dof       (k,) | () one for all | None where they are fixed, and no parameter

    >>> import numpy as np
    >>> from jaxem.families import StudentT
    >>> StudentT(location=np.zeros((2, 3)), scale=np.ones((2, 3))).dof is None
    True
    """

    location: Any
    scale: Any
    dof: Any = None


class StudentTRows(NamedTuple):
    """What an M-step needs where degrees of freedom are free: sums, and the rows again, with their responsibilities (n, k)."""

    sums: StudentTStats
    rows: Centred
    responsibilities: Array


def student_t(form: str = "full", dof: float | str | None = None, variance_floor: float | None = None) -> Family:
    """Return the Student-t family for data (n, d), or (n,) as one column.

    log p(x | θ_k) = log Γ((ν+d)/2) - log Γ(ν/2) - d/2 log(πν) - ½ log|Σ| - (ν+d)/2 log(1 + (x-μ)ᵀΣ⁻¹(x-μ) / ν)

    form: of the scale Σ_k, "full", "tied", "diag" or "spherical", by mclust's names too.
    dof: ν, a number that is fixed; "tied", one for all components; or None, one for each. Free ones stay within
    [1e-2, 1e8], and end there where the likelihood rises to the edge, as on Gaussian data.
    variance_floor: under the scales, as that of `gaussian` under covariances.

    With fixed ν the M-step is exact, in the model expanded by a scale of the rows' precisions, which `expected_log_prob` is
    maximized over: PX-EM (Liu, Rubin & Wu 1998). Else it is ECME, scale and location first, then the ν for which the rows
    are likeliest: not exact, and not additive (Liu & Rubin 1995; Peel & McLachlan 2000).

    Raises ValueError for another form, ν that is no positive number, or a floor outside [0, 1).

    >>> import jax, jaxem
    >>> model = jaxem.mixture(jaxem.families.student_t(dof=4.0), 2)
    >>> print(f"{jaxem.fit_restarts(model, jax.random.key(0), jaxem.datasets.faithful()).best.log_likelihood:.1f}")
    -1140.5
    """
    name = ALIASES.get(form, form) if isinstance(form, str) else form
    if name not in NAMES:
        raise ValueError(f"form must be one of {', '.join(map(repr, NAMES))}, got {form!r}.")
    is_number = isinstance(dof, numbers.Real) and not isinstance(dof, bool)
    given: Any = min(float(dof), MOST_DOF) if is_number else dof  # type: ignore[arg-type]
    if not (given > 0 if is_number else dof in (None, "tied")):
        raise ValueError(f"dof must be a positive number, 'tied' or None, got {dof!r}.")
    if variance_floor is not None and not (isinstance(variance_floor, numbers.Real) and 0 <= variance_floor < 1):
        raise ValueError(f"variance_floor is a share of the data's variances in [0, 1), got {variance_floor!r}.")
    return _student_t(name, given, None if variance_floor is None else float(variance_floor))


@cache
def _student_t(name: str, dof: float | str | None, variance_floor: float | None) -> Family:
    form, free = FORMS[name], not isinstance(dof, float)

    def dof_of(params: StudentT) -> Array:
        k = params.location.shape[0]
        return jnp.broadcast_to(jnp.asarray(params.dof if free else dof, params.location.dtype), (k,))

    def evaluate(params: StudentT, x: Centred) -> tuple[Array, Callable[[Array], Any]]:
        check_width(x.x, params.location.shape[1], "location")
        if x.far is None:
            return near(params, x)
        spread = form.expand(params.scale, *params.location.shape)
        reach = jnp.abs(params.location - x.centre.value).max() + jnp.sqrt(form.geometry.widest(spread))
        log_prob, statistics = near(params, brought_near(x, reach))
        return nearest_alone(log_prob, x.far), statistics

    def near(params: StudentT, x: Centred) -> tuple[Array, Callable[[Array], Any]]:
        log_prob, sums = _about(form, params.location, params.scale, dof_of(params), x)
        if not free:
            return log_prob, sums
        return log_prob, lambda responsibilities: StudentTRows(sums(responsibilities), x, responsibilities)

    def estimate(params: StudentT, stats: Any) -> tuple[StudentT, Array]:
        sums, nu = (stats.sums if free else stats), dof_of(params)
        location, scale, held = improved(form, params.location, params.scale, nu, sums, variance_floor)
        if not free:
            return StudentT(location, scale), held
        distance = _distances(form, location, scale, stats.rows)[0]
        better = better_dof(params.dof, distance, stats.responsibilities, location.shape[1], stats.rows.observed())
        return StudentT(location, scale, better), held

    def expected_log_prob(params: StudentT, stats: Any) -> Array:
        if not free:
            return bound(form, params.location, params.scale, dof_of(params), stats)
        log_prob = _about(form, params.location, params.scale, dof_of(params), stats.rows)[0]
        some = stats.responsibilities > 0
        return jnp.where(some, stats.responsibilities * jnp.where(some, log_prob, 0), 0).sum()

    def init(x: Centred, responsibilities: Array) -> StudentT:
        location, scale = begun(form, x, responsibilities)
        count = {"tied": ()}.get(str(dof), (location.shape[0],))
        return StudentT(location, scale, jnp.full(count, FIRST_DOF, location.dtype) if free else None)

    def sample(key: Array, params: StudentT, labels: Array, like: Any) -> Array | Observed:
        key_noise, key_precision = jax.random.split(key)
        k, dim = params.location.shape
        noise = jax.random.normal(key_noise, (labels.shape[0], dim), params.location.dtype)
        nu = dof_of(params)[labels]
        log_gamma = jax.random.loggamma(key_precision, 0.5 * nu, dtype=nu.dtype)
        full = form.geometry.full(form.expand(params.scale, k, dim), k)
        spread = jnp.exp(0.5 * (jnp.log(0.5 * nu) - log_gamma))[:, None]
        drawn = params.location[labels] + coloured(noise, full, labels) * spread
        return with_holes(drawn, like.gaps.seen if like is not None and like.gaps is not None else None)

    def complete(params: StudentT, x: Centred, responsibilities: Array, drawn: Array | None) -> Array:
        """Fill by conditional means; what was drawn is off those as t is that of ν + d degrees of freedom, scaled by distance.

        The residual of holes over √(ν + δ), δ the distance of what was observed, does not depend on that (Ding 2016).
        """
        spread, centre = form.expand(params.scale, *params.location.shape), x.centre.value

        def filled(rows: Centred) -> Array:
            if rows.gaps is None:
                return rows.x
            about = params.location - centre, rows.gaps, responsibilities
            return centre + missing.completed(form.geometry, spread, rows.about(), *about)

        def size(rows: Centred) -> Array:
            wide = dof_of(params)[:, None] + _distances(form, params.location, params.scale, rows)[0]
            return jnp.sqrt((responsibilities.T * wide).sum(0))[:, None]

        if drawn is None:
            return filled(x)
        other = x._replace(x=drawn)
        return filled(x) + size(x) / size(other) * (drawn - filled(other))

    inside = constraints.interval(LEAST_DOF, MOST_DOF)
    domain_of_dof = {None: inside, "tied": constraints.on_axes(inside, ())}
    return Family(
        evaluate=evaluate,
        m_step=lambda params, stats: estimate(params, stats)[0],
        expected_log_prob=expected_log_prob,
        init=init,
        constraints=StudentT(constraints.real, form.domain, domain_of_dof[dof] if free else None),  # type: ignore[index]
        sample=sample,
        embed=lambda x: x.x,
        prepare=partial(prepare, by_pattern=not missing.has_upright_axes(form.geometry)),
        complete=complete,
        degenerate=None if variance_floor == 0 else lambda params, stats: estimate(params, stats)[1],
        parts=(student_t, (name, dof, variance_floor)),
        additive=not free,
        exact=not free,
    )


def _distances(form: Form, location: Array, scale: Any, x: Centred) -> tuple[Array, Array, Any]:
    """Return squared distances (k, n), log-determinants that go with them, (k, 1) or (k, n), and moments."""
    spread, rows, mean = form.expand(scale, *location.shape), x.about(), location - x.centre.value
    if x.gaps is not None:
        return missing.evaluate(form.geometry, spread, rows, mean, x.gaps)
    distance, log_determinant, moments = form.geometry.evaluate(spread, rows, mean)
    return distance, jnp.atleast_1d(log_determinant)[:, None], moments


def _about(form: Form, location: Array, scale: Any, nu: Array, x: Centred) -> tuple[Array, Callable[[Array], StudentTStats]]:
    """Return log-densities (n, k), and the function that takes responsibilities to sums about these parameters."""
    dim, observed = location.shape[1], x.observed()
    distance, log_determinant, moments = _distances(form, location, scale, x)
    core = log_density(distance, nu, dim, observed)
    columns = dim if observed is None else observed.astype(nu.dtype)[None]

    def sums(responsibilities: Array) -> StudentTStats:
        r, wide = responsibilities.T, nu[:, None]
        weighted = r * ((wide + columns) / (wide + distance))
        counts, mass = r.sum(1), weighted.sum(1)
        if observed is None:
            heavy, (shift, scatter) = (r * jnp.log1p(distance / wide)).sum(1), moments(weighted.T)
        else:
            shift, scatter, entropy = moments(weighted.T, responsibilities)
            known = (r * (core - 0.5 * (dim - columns) * (LOG_2PI + 1))).sum(1) + entropy
            heavy = 2 * (counts * log_constant(nu, dim) - known) / (nu + dim)
        excess = (r * (distance - columns) / (1 + distance / wide)).sum(1)
        return StudentTStats(counts, mass, excess, heavy, mass[:, None] * location, shift, scatter)

    return (core - 0.5 * log_determinant).T, sums
