"""Directions in which an information says something, and those in which it does not.

Curvature is measured in units of what complete data would say, I_c = -∂²(E_Q[log p(x, z | θ)] + log p(θ)): there it is one less
the share that is missing, whatever units and collinear covariates the parameters have. Where complete data say nothing, or
observed ones nothing of what complete data say, a direction is silent. Dempster, Laird & Rubin (1977), §3; Orchard & Woodbury
(1972). A model that cannot tell is measured by the diagonal of its own information.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxem.charts import Chart, jacobian, unitless
from jaxem.fitting import observations
from jaxem.information import Curvature, Rows, complete_information, curvature
from jaxem.model import Model

SHARP = 1e-3  # curvature above which Newton's step is to be trusted
LITTLE = 1e-4  # of what an observation says at most of a logarithm, near which rounding may be all
STEPS = 3  # of Newton's to the stationary point beside a fit
ROUNDING = 4.0  # times q ulps of what is added up, within which a curvature may be that of none


class Units(NamedTuple):
    """What curvature is measured in, for q coordinates.

    scale    (q,) what they are multiplied by first: the root of the information in each, or of what is little
    basis    (q, m) scaled directions in which the information is one, and none between them
    empty    (q, q - m) scaled directions, orthonormal, in which it is none
    noise    (q,) roots of what may be rounding, in scaled coordinates
    eps      of the arithmetic
    missing  whether the information is of complete data, so that one less curvature is the share that is missing
    """

    scale: np.ndarray
    basis: np.ndarray
    empty: np.ndarray
    noise: np.ndarray
    eps: float
    missing: bool


class Spectrum(NamedTuple):
    """An information in such units: sizes λ (m,), rising, of scaled directions (q, m), and what may be rounding of none."""

    sizes: np.ndarray
    vectors: np.ndarray
    least: np.ndarray


class Told(NamedTuple):
    """What an information says of p parameters in a chart of q coordinates.

    units   that it is measured in
    at      the information, direction by direction
    silent  (m,) the directions of `at` of which it says nothing
    slopes  (p, q) of the parameters along the coordinates
    lost    (p,) which parameters move in silent directions
    """

    units: Units
    at: Spectrum
    silent: np.ndarray
    slopes: np.ndarray
    lost: np.ndarray

    @property
    def all(self) -> bool:
        """Whether it says something of every direction."""
        return not (self.silent.any() or self.units.empty.size)


def told_by(model: Model, chart: Chart, information: Any, units: Units) -> Told:
    """Return what an information (q, q) says of the parameters, and of which it says nothing."""
    at, slopes = spectrum(information, units), np.asarray(jacobian(model, chart), float)
    silent = at.sizes <= at.least
    return Told(units, at, silent, slopes, loses(slopes, units, at, silent))


def units_at(model: Model, chart: Chart, curved: Curvature, rows: Rows) -> Units:
    """Return the units of curvature about a place: complete data's, where these bend down there, else its own diagonal."""
    count = np.where(unitless(model.constraints, chart), float(observations(model, rows.data, rows.weights)), 0)
    eps = float(np.finfo(np.asarray(curved.value).dtype).eps)
    if model.expected_log_joint is not None:
        units = _of_complete(np.asarray(complete_information(model, chart, rows), float), count, eps)
        if units is not None:
            return units
    scale, noise = _scales(np.diag(np.asarray(curved.information, float)), count, eps)
    return Units(scale, np.eye(scale.size), np.zeros((scale.size, 0)), noise, eps, False)


def _scales(diagonal: np.ndarray, count: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the scale of each coordinate (q,), and roots of what may be rounding in these units."""
    size = np.maximum(np.abs(diagonal), LITTLE * count)
    scale = np.sqrt(np.where(size > 0, size, 1))
    return scale, np.sqrt(ROUNDING * size.size * eps * np.maximum(size, count)) / scale


def _of_complete(information: np.ndarray, count: np.ndarray, eps: float) -> Units | None:
    """Return the units of an information of complete data; None where it is none, at a place far from its maximum."""
    if not np.isfinite(information).all():
        return None
    scale, noise = _scales(np.diag(information), count, eps)
    sizes, vectors = np.linalg.eigh(information / np.outer(scale, scale))
    rounding = ((noise[:, None] * vectors) ** 2).sum(0)
    if (sizes < -rounding).any():
        return None
    some = sizes > rounding
    return Units(scale, vectors[:, some] / np.sqrt(sizes[some]), vectors[:, ~some], noise, eps, True)


def spectrum(information: Any, units: Units) -> Spectrum:
    """Return an information (q, q) in the units given, direction by direction."""
    scaled = np.asarray(information, float) / np.outer(units.scale, units.scale)
    sizes, turned = np.linalg.eigh(units.basis.T @ scaled @ units.basis)
    vectors = units.basis @ turned
    rounding = ((units.noise[:, None] * vectors) ** 2).sum(0)
    return Spectrum(sizes, vectors, np.maximum(units.eps**0.6 if units.missing else 0, rounding))


def least_size(sizes: np.ndarray) -> float:
    """Return the eigenvalue below which it may be rounding of zero."""
    return float(np.finfo(sizes.dtype).eps ** 0.6 * sizes.max(initial=1))


def settled(model: Model, chart: Chart, curved: Curvature, rows: Rows, units: Units) -> Curvature:
    """Return the curvature at the stationary point beside a place that is near it.

    Along a ridge of equal likelihoods curvature is zero only where the slope is, and a fit ends a little before that. Where no
    curvature is small, or the place is far from stationary, it is that at the place.
    """
    for _ in range(STEPS):
        at = spectrum(curved.information, units)
        small = at.sizes <= np.maximum(SHARP, at.least)
        push = at.vectors.T @ (np.asarray(curved.slope) / units.scale) / np.sqrt(np.where(small, np.inf, at.sizes))
        distance = np.sqrt((push**2).sum())  # in standard errors
        if not small.any() or not units.eps**0.45 < distance < 1:
            break
        stride = at.vectors @ (push / np.sqrt(np.where(small, np.inf, at.sizes))) / units.scale
        chart = chart._replace(place=chart.place + stride.astype(chart.place.dtype))
        curved = curvature(model, chart, rows)
    return curved


def inverse_of(information: Any, told: Told) -> np.ndarray:
    """Return the inverse (q, q) of an information on the directions of which `told` has something to say."""
    heard = told.at.vectors[:, ~told.silent] / told.units.scale[:, None]
    return heard @ np.linalg.inv(heard.T @ np.asarray(information, float) @ heard) @ heard.T


def loses(slopes: np.ndarray, units: Units, at: Spectrum, silent: np.ndarray) -> np.ndarray:
    """Tell which parameters, of slopes (p, q) along coordinates, move in silent directions or in empty ones."""
    scaled = slopes / units.scale
    along, empty = (scaled @ at.vectors) ** 2, (scaled @ units.empty) ** 2
    some = counts(along[:, silent].sum(1), along.sum(1), units.eps)
    return some | counts(empty.sum(1), (scaled**2).sum(1), units.eps)


def counts(part: np.ndarray, whole: np.ndarray, eps: float) -> np.ndarray:
    """Tell which squares of shares of a parameter are more than rounding of none."""
    return part > eps**0.6 * whole
