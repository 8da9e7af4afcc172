"""How far a fit is from the maximum, and what kind of point it stands at."""

from enum import Enum
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.charts import Chart, jacobian, params_at
from jaxem.errors import loses
from jaxem.faces import Face, examined, named, rises_inside
from jaxem.fitting import Fit
from jaxem.identified import Spectrum, least_curvature, least_size, settled, silent_directions, spectrum
from jaxem.information import Rows, complete_information
from jaxem.model import Model, PyTree
from jaxem.numerics import in_full_precision

ULPS = 4.0  # of a log-likelihood that may remain of it without being told


class Stationarity(Enum):
    """What kind of point a fit stands at; the value says it in a sentence.

    >>> import jaxem
    >>> print(jaxem.Stationarity.SADDLE.value)
    the log-likelihood is level here, and rises along some direction.
    """

    NOT_STATIONARY = "more remains to be gained than the tolerance."
    SADDLE = "the log-likelihood is level here, and rises along some direction."
    UNIDENTIFIED = "a maximum, of which the data do not tell some parameters: others are as high."
    BOUNDARY = "a maximum given parameters that lie on the boundary of their domain, and are held there."
    MAXIMUM = "a local maximum inside the domain."


class Certificate(NamedTuple):
    """What comes back from `certify`.

    kind           a `Stationarity`
    remaining      nats to the maximum of the quadratic here, ½ gᵀI⁻¹g, half the Newton decrement
    distance       the largest distance of a parameter from there, in its standard errors
    gradient_norm  |g|, g the slope of log-likelihood + log_prior in free coordinates
    rate           the largest eigenvalue of the EM map here: what a step of EM leaves of the error
    condition      the largest curvature by the least, of directions that have any, in units that make the diagonal one
    unidentified   names of parameters that the data do not tell, or along which the log-likelihood rises

    >>> import jaxem
    >>> model, x = jaxem.single(jaxem.families.poisson()), [3.0, 1.0, 2.0, 6.0]
    >>> print(jaxem.certify(model, jaxem.fit(model, model.init(0, x), x), x).kind.name)
    MAXIMUM
    """

    kind: Stationarity
    remaining: float
    distance: float
    gradient_norm: float
    rate: float
    condition: float
    unidentified: tuple[str, ...]


def certify(model: Model, fit: Fit, data: PyTree, weights: Any = None, *, tol: float = 1e-6) -> Certificate:
    """Tell what kind of point a fit stands at, and how far from the maximum, by slope and curvature there.

    In the free coordinates of the constraints, with what lies on the boundary held: NOT_STATIONARY where more than `tol` nats,
    or than rounding of the log-likelihood, remain along some direction; else SADDLE where curvature is negative along one, or
    where what is held at a bound would rather leave it; else UNIDENTIFIED where there is none; else BOUNDARY where something
    is held; else MAXIMUM. The rate is 1 less the least eigenvalue of observed by complete information (Dempster, Laird & Rubin
    1977, §3), or that of the derivative of the EM map where the model has no `expected_log_joint`.

    Raises ValueError as `standard_errors` does.

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.poisson(), 2), jaxem.datasets.london_times_deaths()
    >>> start = jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 3.0]))
    >>> early = jaxem.certify(model, jaxem.fit(model, start, *x, max_steps=50), *x)
    >>> print(early.kind.name, f"{early.remaining:.3f}")
    NOT_STATIONARY 0.063
    """
    face, rows, _ = examined(model, fit, data, weights, "certify")
    least = least_curvature(model, face.chart, rows)
    here = spectrum(np.asarray(face.curvature.information), least)
    beside = spectrum(np.asarray(settled(model, face.chart, face.curvature, rows).information), least)
    slope, slopes = np.asarray(face.curvature.slope), np.asarray(jacobian(model, face.chart))
    lost = loses(slopes / here.scale, silent_directions(beside))
    remaining = _remaining(here, slope)
    may_remain = max(tol, ULPS * float(np.finfo(here.sizes.dtype).eps * abs(face.curvature.value)))
    return Certificate(
        _kind(model, face, rows, beside, remaining > may_remain),
        remaining,
        _distance(here, slope, slopes, lost),
        float(np.linalg.norm(slope)),
        _rate(model, face, rows),
        _condition(here),
        named(face.chart.params, lost),
    )


def _kind(model: Model, face: Face, rows: Rows, beside: Spectrum, moving: bool) -> Stationarity:
    if moving:
        return Stationarity.NOT_STATIONARY
    least = least_size(beside)
    if (beside.sizes < -least).any() or rises_inside(model, face, rows):
        return Stationarity.SADDLE
    if (beside.sizes <= least).any():
        return Stationarity.UNIDENTIFIED
    return Stationarity.BOUNDARY if face.boundary else Stationarity.MAXIMUM


def _remaining(at: Spectrum, slope: np.ndarray) -> float:
    """Return ½ Σ_i (v_iᵀ g)² / |λ_i|, to a maximum, or from a saddle as far as to one that is as sharp."""
    push = at.vectors.T @ (slope / at.scale)
    return float(0.5 * (push**2 / np.maximum(np.abs(at.sizes), least_size(at))).sum())


def _distance(at: Spectrum, slope: np.ndarray, slopes: np.ndarray, lost: np.ndarray) -> float:
    """Return the largest Newton step of a parameter in its own standard errors; NaN where none is told."""
    heard = at.sizes > least_size(at)
    inverse = (at.vectors[:, heard] / at.sizes[heard]) @ at.vectors[:, heard].T / np.outer(at.scale, at.scale)
    errors = np.sqrt(np.einsum("pi,ij,pj->p", slopes, inverse, slopes))
    told = ~lost & (errors > 0)
    return float((np.abs(slopes @ inverse @ slope)[told] / errors[told]).max()) if told.any() else float("nan")


def _condition(at: Spectrum) -> float:
    heard = at.sizes[at.sizes > least_size(at)]
    return float(heard.max() / heard.min()) if heard.size else float("nan")


def _rate(model: Model, face: Face, rows: Rows) -> float:
    """Return the largest eigenvalue of the EM map in free coordinates."""
    if not face.chart.place.size:
        return 0.0
    if model.expected_log_joint is None:
        changes = np.asarray(_changes(model, face.chart, rows.data, rows.weights))
        slopes = np.asarray(jacobian(model, face.chart))
        return float(np.abs(np.linalg.eigvals(np.linalg.lstsq(slopes, changes)[0])).max())
    complete = spectrum(np.asarray(complete_information(model, face.chart, rows)), np.zeros(face.chart.place.size))
    known = complete.sizes > least_size(complete)
    half = complete.vectors[:, known] / np.sqrt(complete.sizes[known]) / complete.scale[:, None]
    observed = half.T @ np.asarray(face.curvature.information) @ half
    return float(1 - np.linalg.eigvalsh(observed).min(initial=1))


@partial(jax.jit, static_argnums=0)
@in_full_precision
def _changes(model: Model, chart: Chart, data: PyTree, weights: Array) -> Array:
    """Return the derivative (p, q) of the EM map along the coordinates."""

    def mapped(place: Array) -> Array:
        params = params_at(model.constraints, chart, place)
        leaves = jax.tree.leaves(model.m_step(params, model.e_step(params, data, weights)[0]))
        return jnp.concatenate([leaf.ravel() for leaf in leaves])

    return jax.jacfwd(mapped)(chart.place)
