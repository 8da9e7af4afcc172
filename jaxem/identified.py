"""Directions in which an information says something, and those in which it does not."""

from typing import Any, NamedTuple

import numpy as np

from jaxem.charts import Chart, jacobian, unitless
from jaxem.fitting import observations
from jaxem.information import Curvature, Rows, curvature
from jaxem.model import Model

SHARP = 1e-3  # of the largest scaled curvature, above which Newton's step is to be trusted
LITTLE = 1e-4  # of what an observation says at most of a logarithm, near which rounding may be all
STEPS = 3  # of Newton's to the stationary point beside a fit


class Spectrum(NamedTuple):
    """A symmetric matrix in units that make its diagonal one, or less where that is small: A = S V diag(λ) Vᵀ S, λ rising."""

    scale: np.ndarray
    sizes: np.ndarray
    vectors: np.ndarray


class Told(NamedTuple):
    """What an information says of p parameters in a chart of q coordinates.

    at      the information in units of its own diagonal
    silent  (q, m) the scaled directions of which it says nothing
    slopes  (p, q) of the parameters along the coordinates
    lost    (p,) which parameters move in silent directions
    """

    at: Spectrum
    silent: np.ndarray
    slopes: np.ndarray
    lost: np.ndarray


def told_by(model: Model, chart: Chart, information: Any, rows: Rows) -> Told:
    """Return what an information (q, q) says of the parameters, and of which it says nothing."""
    at = spectrum(np.asarray(information), least_curvature(model, chart, rows))
    silent, slopes = silent_directions(at), np.asarray(jacobian(model, chart))
    return Told(at, silent, slopes, loses(slopes / at.scale, silent))


def least_curvature(model: Model, chart: Chart, rows: Rows) -> np.ndarray:
    """Return what is little curvature in each coordinate (q,): in logarithms, a share of the observations; zero in others."""
    count = float(observations(model, rows.data, rows.weights))
    return np.where(unitless(model.constraints, chart), LITTLE * count, 0).astype(chart.place.dtype)


def spectrum(matrix: np.ndarray, least: np.ndarray) -> Spectrum:
    """Return eigenvalues and -vectors of a matrix (q, q) in units of its own diagonal, or of what is little."""
    size = np.sqrt(np.maximum(np.abs(np.diag(matrix)), least))
    scale = np.where(size > 0, size, 1)
    return Spectrum(scale, *np.linalg.eigh(matrix / np.outer(scale, scale)))


def least_size(sizes: np.ndarray) -> float:
    """Return the eigenvalue below which it may be rounding of zero."""
    return float(np.finfo(sizes.dtype).eps ** 0.6 * sizes.max(initial=1))


def weight_that_counts(dtype: np.dtype) -> float:
    """Return the share of a parameter in a direction below which it may be rounding of none."""
    return float(np.finfo(dtype).eps ** 0.3)


def silent_directions(spectrum: Spectrum) -> np.ndarray:
    """Return the scaled directions (q, m) of no or negative curvature, orthonormal."""
    return spectrum.vectors[:, spectrum.sizes <= least_size(spectrum.sizes)]


def settled(model: Model, chart: Chart, curved: Curvature, rows: Rows) -> Curvature:
    """Return the curvature at the stationary point beside a place that is near it.

    Along a ridge of equal likelihoods curvature is zero only where the slope is, and a fit ends a little before that. Where no
    curvature is small, or the place is far from stationary, it is that at the place.
    """
    least = least_curvature(model, chart, rows)
    for _ in range(STEPS):
        at = spectrum(np.asarray(curved.information), least)
        small = at.sizes <= SHARP * at.sizes.max(initial=1)
        push = at.vectors.T @ (np.asarray(curved.slope) / at.scale) / np.sqrt(np.where(small, np.inf, at.sizes))
        distance = np.sqrt((push**2).sum())  # in standard errors
        if not small.any() or not np.finfo(push.dtype).eps ** 0.45 < distance < 1:
            break
        stride = at.vectors @ (push / np.sqrt(np.where(small, np.inf, at.sizes))) / at.scale
        chart = chart._replace(place=chart.place + stride.astype(push.dtype))
        curved = curvature(model, chart, rows)
    return curved


def inverse_without(matrix: np.ndarray, scale: np.ndarray, silent: np.ndarray) -> np.ndarray:
    """Return the inverse (q, q) of a matrix on the complement of scaled directions (q, m)."""
    heard = np.linalg.svd(silent, full_matrices=True)[0][:, silent.shape[1] :]
    within = heard.T @ (matrix / np.outer(scale, scale)) @ heard
    return heard @ np.linalg.inv(within) @ heard.T / np.outer(scale, scale)


def loses(slopes: np.ndarray, silent: np.ndarray) -> np.ndarray:
    """Tell which parameters, of slopes (p, q) along scaled coordinates, move in silent directions (q, m)."""
    size = np.sqrt((slopes**2).sum(1))
    return np.sqrt(((slopes @ silent) ** 2).sum(1)) > weight_that_counts(slopes.dtype) * size
