"""The active face: which parameters a fit has left on the boundary of their domain, where they are held.

Zeros in probabilities are a usual end of EM, which nears some of them forever; so what is within reach of its bound, and can
be put there without a loss of log-likelihood, lies on it. Covariances that a floor holds against collapse are held too.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import is_traced
from jaxem.boundary import check_data, check_params
from jaxem.charts import Chart, always_zero, chart_about, entries_of, names_of, on_bounds
from jaxem.constraints import Constraint, each
from jaxem.fitting import Fit, check_fit
from jaxem.information import Curvature, Rows, curvature, log_likelihood, rows_of_fit, sloped, widest
from jaxem.model import Model, PyTree
from jaxem.stopping import Status

NEAR = 1e-5  # how near to a bound an entry is put there to see what that costs: in shares of one, or of the range or scale
NOISE = 64.0  # ulps of a log-likelihood within which it is the same
PUSHED = 1e-3  # nats that a Newton step in one coordinate would gain beyond a floor which holds it


class Face(NamedTuple):
    """A fit's free coordinates, the curvature there, and the names of the parameters held on the boundary."""

    chart: Chart
    curvature: Curvature
    boundary: tuple[str, ...]


def examined(
    model: Model, fit: Fit, data: PyTree, weights: Any, who: str, padded: bool = True, most: int | None = None
) -> tuple[Face, Rows, Any]:
    """Return the active face at a fit, its rows and their dtype; raise ValueError as drivers do, and under a trace.

    `padded` by absent rows, where the model may be. Of more than `most` coordinates there is no information but by products.
    """
    params = check_fit(fit).params
    if is_traced(params, data, weights):
        raise ValueError(f"{who} looks at values: call it outside jit and vmap.")
    data, weights = check_data(model, data, weights, padded)
    params = widest(check_params(model, params, data, weights))
    rows = rows_of_fit(model, data, weights)
    return face_of(model, params, rows, bool(fit.status == Status.DEGENERATE), most), rows, weights.dtype


def face_of(model: Model, params: PyTree, rows: Rows, floored: bool = False, most: int | None = None) -> Face:
    """Return the active face at params, which a floor holds or not; values are looked at."""
    held = jax.tree.map(np.logical_or, on_bounds(model.constraints, params), _within_reach(model, params, rows))
    chart, curved = _about(model, params, held, rows, None if floored else most)
    if floored:
        held = jax.tree.map(np.logical_or, held, entries_of(model.constraints, chart, _pushed(curved)))
        chart, curved = _about(model, params, held, rows)
    told = jax.tree.map(lambda some, always: some & ~always, held, always_zero(model.constraints, params))
    return Face(chart, curved, named(params, told))


def named(params: PyTree, marked: PyTree) -> tuple[str, ...]:
    """Return the names of the entries that booleans shaped like params mark."""
    marks = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(marked)])
    return tuple(name for name, mark in zip(names_of(params), marks, strict=True) if mark)


def _about(model: Model, params: PyTree, held: PyTree, rows: Rows, most: int | None = None) -> tuple[Chart, Curvature]:
    """Return the chart and the curvature, where zeros have none with them lifted off zero by the least that can be squared.

    Raises ValueError where there is none at all.
    """
    chart = chart_about(model.constraints, params, held)
    look = curvature if most is None or chart.place.size <= most else sloped
    curved = look(model, chart, rows)
    if _is_finite(curved):
        return chart, curved
    chart = chart._replace(params=jax.tree.map(_lifted, params, held))
    curved = look(model, chart, rows)
    if not _is_finite(curved):
        raise ValueError("fit has params where the log-likelihood has no second derivatives: they are not finite.")
    return chart, curved


def _is_finite(curved: Curvature) -> bool:
    return bool(np.isfinite(np.asarray(curved.slope if curved.information is None else curved.information)).all())


def _lifted(x: Array, held: np.ndarray) -> Array:
    least = 2 * math.sqrt(jnp.finfo(x.dtype).tiny)
    return jnp.where((x == 0) & held, least, x)


def _pushed(curved: Curvature) -> np.ndarray:
    """Tell along which coordinates the log-likelihood rises yet, as where a floor is in its way."""
    slope, size = np.asarray(curved.slope), np.abs(np.diag(np.asarray(curved.information)))
    return slope**2 > 2 * PUSHED * size


def _within_reach(model: Model, params: PyTree, rows: Rows) -> PyTree:
    """Tell which entries near a bound may as well lie on it: all at once if that costs nothing, else each by itself."""
    close = each(_close, model.constraints, params)
    if not any(leaf.any() for leaf in jax.tree.leaves(close)):
        return close
    here, there = height(model, params, rows), height(model, _put(model, params, close), rows)
    if _no_lower(there, here):
        return close
    found = jax.tree.map(np.zeros_like, close)
    for one in _one_by_one(close):
        if _no_lower(height(model, _put(model, params, one), rows), here):
            found = jax.tree.map(np.logical_or, found, one)
    return found


def inside(model: Model, face: Face, rows: Rows, shares: Iterable[float]) -> PyTree | None:
    """Return the highest params with one of those that lie on bounds taken off it, by shares of its size; None: none rise."""
    params, held = face.chart.params, face.chart.held
    at_bounds = jax.tree.map(lambda stays, on: np.asarray(stays) & on, held, on_bounds(model.constraints, params))
    news = jax.tree.map(lambda some, always: some & ~always, at_bounds, always_zero(model.constraints, params))
    highest, best = height(model, params, rows), None
    noise = NOISE * np.finfo(highest.dtype).eps * abs(highest)
    for one in _one_by_one(news):
        for share in shares:
            there = _put(model, params, one, share)
            value = height(model, there, rows)
            if value > highest + noise:
                highest, best = value, there
    return best


def _one_by_one(marked: PyTree) -> Iterator[PyTree]:
    """Yield a tree with one mark for each that there is."""
    leaves, structure = jax.tree.flatten(marked)
    for number, leaf in enumerate(leaves):
        for place in np.argwhere(leaf):
            one = [np.zeros_like(other) for other in leaves]
            one[number][tuple(place)] = True
            yield jax.tree.unflatten(structure, one)


def _no_lower(there: np.ndarray, here: np.ndarray) -> bool:
    return bool(np.isfinite(there) and there >= here - NOISE * np.finfo(there.dtype).eps * abs(here))


def height(model: Model, params: PyTree, rows: Rows) -> np.ndarray:
    """Return log-likelihood + log_prior."""
    value = log_likelihood(model, params, rows)
    return np.asarray(value + model.log_prior(params) if model.log_prior else value)


def _bounds(domain: Constraint) -> tuple[float, float]:
    return (0.0, np.inf) if domain.shares else domain.bounds or (-np.inf, np.inf)


def _size(domain: Constraint, values: np.ndarray) -> float:
    """Return how large entries of an array may be, or are where that is not said."""
    low, high = _bounds(domain)
    return float(high - low if np.isfinite(high - low) else np.abs(values).max(initial=0)) if not domain.shares else 1.0


def _close(domain: Constraint, x: Array) -> np.ndarray:
    values, (low, high) = np.asarray(x), _bounds(domain)
    reach = NEAR * _size(domain, values)
    return ((values > low) & (values - low < reach)) | ((values < high) & (high - values < reach))


def _put(model: Model, params: PyTree, marked: PyTree, inside: float = 0.0) -> PyTree:
    """Return params with some entries on the bound that is nearer, or a share of their size inside."""

    def put(domain: Constraint, x: Array, marked: np.ndarray) -> Array:
        if not marked.any():
            return x
        low, high = _bounds(domain)
        off = inside * (_size(domain, np.asarray(x)) or 1.0)
        there = jnp.where(x - low <= high - x, low + off, high - off).astype(x.dtype)
        return domain.mend(jnp.where(marked, there, x))

    return each(put, model.constraints, params, marked)
