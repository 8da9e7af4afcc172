"""Newton's steps to the stationary point beside parameters, and the way off a saddle.

In the free coordinates of the active face, in units of what complete data would say; a step never lowers what is climbed.
"""

from typing import NamedTuple

import jax
import numpy as np

from jaxem.charts import Chart, params_at
from jaxem.faces import Face, height, inside
from jaxem.identified import Units, settled, spectrum, units_at
from jaxem.information import Curvature, Rows, curvature
from jaxem.model import Model, PyTree

MOST_STEPS = 50
MOST_HALVINGS = 30
ROUNDING = 64.0  # ulps of a value within which two may be the same, and of a slope, in standard errors, that are none
STRIDES = 2.0 ** np.arange(-6, 5)  # off a saddle, in units of its curvature
SHARES = 10.0 ** np.arange(-5, 0)  # off a bound


class Climb(NamedTuple):
    """Where Newton's steps led, the values on the way there, and what was left to be gained, in nats."""

    params: PyTree
    values: tuple[float, ...]
    remaining: float


def newton_step(curved: Curvature, units: Units) -> tuple[np.ndarray, float]:
    """Return the step (q,) to where a quadratic of this slope and of these sizes of curvature is highest, and its gain."""
    at = spectrum(curved.information, units)
    push, sizes = at.vectors.T @ (np.asarray(curved.slope) / units.scale), np.maximum(np.abs(at.sizes), at.least)
    stride = at.vectors @ (push / sizes) / units.scale
    return stride.astype(np.asarray(curved.slope).dtype), float(0.5 * (push**2 / sizes).sum())


class _Place(NamedTuple):
    """Where one is, the function there, and Newton's step from it with what that gains."""

    chart: Chart
    curved: Curvature
    stride: np.ndarray
    remaining: float


def polished(model: Model, face: Face, rows: Rows) -> Climb:
    """Take Newton's steps, each shortened until it does not go down, until the slope is rounding or no step is left."""
    units, values = units_at(model, face.chart, face.curvature, rows), [float(face.curvature.value)]
    here = _Place(face.chart, face.curvature, *newton_step(face.curvature, units))
    for _ in range(MOST_STEPS):
        if here.remaining <= (ROUNDING * units.eps) ** 2 * (abs(values[-1]) + 1):
            break
        there = _forward(model, here, units, rows)
        if there is None:
            break
        here = there
        values.append(float(here.curved.value))
    return Climb(params_at(model.constraints, here.chart, here.chart.place), tuple(values), here.remaining)


def _forward(model: Model, here: _Place, units: Units, rows: Rows) -> _Place | None:
    """Return where the longest sound part of Newton's step leads; None where there is none.

    Values within rounding of each other tell nothing: then what remains to be gained must shrink by half.
    """
    value, length = float(here.curved.value), 1.0
    noise = ROUNDING * units.eps * (abs(value) + 1)
    for _ in range(MOST_HALVINGS):
        chart = here.chart._replace(place=here.chart.place + (length * here.stride).astype(here.stride.dtype))
        curved = curvature(model, chart, rows)
        if np.isfinite(np.asarray(curved.information)).all():
            there = _Place(chart, curved, *newton_step(curved, units))
            rises = float(curved.value) > value + noise
            if rises or (float(curved.value) >= value - noise and there.remaining < here.remaining / 2):
                return there
        length /= 2
    return None


def way_off(curved: Curvature, units: Units) -> np.ndarray | None:
    """Return the direction (q,) in which a saddle bends up most, in units of that curvature; None where it is no saddle."""
    at = spectrum(curved.information, units)
    if not at.sizes.size or at.sizes[0] >= -at.least[0]:
        return None
    return (at.vectors[:, 0] / units.scale / np.sqrt(-at.sizes[0])).astype(np.asarray(curved.slope).dtype)


def beyond_saddle(model: Model, face: Face, rows: Rows) -> PyTree | None:
    """Return the highest params met along the way off a saddle, or off a bound from which it rises; None where it is none."""
    units = units_at(model, face.chart, face.curvature, rows)
    direction = way_off(settled(model, face.chart, face.curvature, rows, units), units)
    if direction is None:
        return inside(model, face, rows, SHARES)
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
