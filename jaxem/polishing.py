"""Newton's steps to the stationary point beside parameters, and the way off a saddle.

In the free coordinates of the active face, scaled to curvature one along each; a step never lowers log-likelihood + log_prior.
"""

from typing import NamedTuple

import jax
import numpy as np

from jaxem.charts import Chart, params_at
from jaxem.faces import Face, height
from jaxem.identified import least_curvature, least_size, settled, spectrum
from jaxem.information import Curvature, Rows, curvature
from jaxem.model import Model, PyTree

MOST_STEPS = 50
MOST_HALVINGS = 30
ROUNDING = 64.0  # ulps of a value within which two may be the same, and of a slope, in standard errors, that are none
STRIDES = 2.0 ** np.arange(-6, 5)  # off a saddle, in units of its curvature


class Climb(NamedTuple):
    """Where Newton's steps led, the values on the way there, and what was left to be gained, in nats."""

    params: PyTree
    values: tuple[float, ...]
    remaining: float


def newton_step(curved: Curvature, least: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the step (q,) to where a quadratic of this slope and of these sizes of curvature is highest, and its gain.

    `least` (q,) is what is little curvature in each coordinate.
    """
    at = spectrum(np.asarray(curved.information), least)
    push, sizes = at.vectors.T @ (np.asarray(curved.slope) / at.scale), np.maximum(np.abs(at.sizes), least_size(at.sizes))
    return at.vectors @ (push / sizes) / at.scale, float(0.5 * (push**2 / sizes).sum())


class _Place(NamedTuple):
    """Where one is, the function there, and Newton's step from it with what that gains."""

    chart: Chart
    curved: Curvature
    stride: np.ndarray
    remaining: float


def climb(model: Model, face: Face, rows: Rows) -> Climb:
    """Take Newton's steps, each shortened until it does not go down, until the slope is rounding or no step is left."""
    least, values = least_curvature(model, face.chart, rows), [float(face.curvature.value)]
    here = _Place(face.chart, face.curvature, *newton_step(face.curvature, least))
    eps = float(np.finfo(here.stride.dtype).eps)
    for _ in range(MOST_STEPS):
        if here.remaining <= (ROUNDING * eps) ** 2 * (abs(values[-1]) + 1):
            break
        there = _forward(model, here, least, rows)
        if there is None:
            break
        here = there
        values.append(float(here.curved.value))
    return Climb(params_at(model.constraints, here.chart, here.chart.place), tuple(values), here.remaining)


def _forward(model: Model, here: _Place, least: np.ndarray, rows: Rows) -> _Place | None:
    """Return where the longest sound part of Newton's step leads; None where there is none.

    Values within rounding of each other tell nothing: then what remains to be gained must shrink by half.
    """
    value, length = float(here.curved.value), 1.0
    noise = ROUNDING * float(np.finfo(here.stride.dtype).eps) * (abs(value) + 1)
    for _ in range(MOST_HALVINGS):
        chart = here.chart._replace(place=here.chart.place + (length * here.stride).astype(here.stride.dtype))
        curved = curvature(model, chart, rows)
        if np.isfinite(np.asarray(curved.information)).all():
            there = _Place(chart, curved, *newton_step(curved, least))
            rises = float(curved.value) > value + noise
            if rises or (float(curved.value) >= value - noise and there.remaining < here.remaining / 2):
                return there
        length /= 2
    return None


def way_off(curved: Curvature, least: np.ndarray) -> np.ndarray | None:
    """Return the direction (q,) in which a saddle bends up most, in units of that curvature; None where it is no saddle."""
    at = spectrum(np.asarray(curved.information), least)
    if not at.sizes.size or at.sizes[0] >= -least_size(at.sizes):
        return None
    return at.vectors[:, 0] / at.scale / np.sqrt(-at.sizes[0])


def beyond_saddle(model: Model, face: Face, rows: Rows) -> PyTree | None:
    """Return the highest params met along the way off a saddle; None where it is none."""
    direction = way_off(settled(model, face.chart, face.curvature, rows), least_curvature(model, face.chart, rows))
    if direction is None:
        return None
    strides = np.concatenate([-STRIDES, STRIDES])
    met = [
        params_at(model.constraints, face.chart, face.chart.place + (t * direction).astype(direction.dtype)) for t in strides
    ]
    heights = np.array([height(model, some, rows) for some in met])
    best = int(np.argmax(np.where(np.isfinite(heights), heights, -np.inf)))
    return met[best] if heights[best] > float(face.curvature.value) else None


def in_dtypes_of(old: PyTree, params: PyTree) -> PyTree:
    """Return params, which may be of double precision here, in the dtypes of others."""
    return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), params, old)
