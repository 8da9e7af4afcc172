"""What there is to draw of a fit: rows and their components, densities along columns, ellipses that hold a share of each."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import families
from jaxem.arrays import as_params
from jaxem.boundary import check_model, check_weights
from jaxem.families.censored import censored
from jaxem.families.labelled import labelled
from jaxem.fitting import Fit, check_fit
from jaxem.marginal import marginal
from jaxem.model import Family, Model, PyTree, require
from jaxem.models.mixture import Mixture, mixture
from jaxem.models.parts import built, family_of
from jaxem.plots.tables import Columns, chosen, columns_of
from jaxem.trees import dtype_of_weights

BY_COLUMN = (
    families.bernoulli,
    families.beta,
    families.exponential,
    families.gamma,
    families.log_normal,
    families.negative_binomial,
    families.poisson,
    families.weibull,
)
"""Families of independent columns, whose parameters are (k, d)."""
ALONG, ACROSS = 400, 80  # places of a grid over one column, and over each of two
MARGIN = 0.08  # of the range of a column, beyond its ends


class Scene(NamedTuple):
    """Rows of positive weight: some columns of them (n, d), and what share of each is whose, (n, k)."""

    model: Model
    params: PyTree
    columns: Columns  # all that there are, of all rows
    places: list[int]  # which of them are drawn
    x: np.ndarray
    weights: np.ndarray  # (n,)
    shares: np.ndarray

    @property
    def names(self) -> list[str]:
        """Of the columns that are drawn."""
        return [self.columns.names[place] for place in self.places]

    @property
    def labels(self) -> np.ndarray:
        """The component that each row most likely belongs to, (n,)."""
        return self.shares.argmax(1)

    def captions(self) -> list[str]:
        """Return what a legend says of each component: its number, from 1, and its share of the rows."""
        sizes = self.weights @ self.shares / self.weights.sum()
        return [f"component {k + 1}: {100 * size:.1f} %" for k, size in enumerate(sizes)]


class Density(NamedTuple):
    """π_k p(x | θ_k) of each component at places along one column: values (m, k); bars where the places are whole numbers."""

    grid: np.ndarray
    parts: np.ndarray
    is_discrete: bool


class Surface(NamedTuple):
    """p(x) over two columns: at places across (m,) and up (m,), values (m, m), the first index up; and at rows without holes.

    at_rows, weights  (n,) of those rows
    """

    across: np.ndarray
    up: np.ndarray
    values: np.ndarray
    at_rows: np.ndarray
    weights: np.ndarray


class Ellipses(NamedTuple):
    """Centres (k, d) and scales (k, d, d) of components, and degrees of freedom (k,), infinite of Gaussian ones."""

    centre: np.ndarray
    scale: np.ndarray
    dof: np.ndarray

    def half_axes(self, component: int, plane: tuple[int, int], share: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the half axes (2,) of the ellipse that holds a share of a component in two columns, and their directions.

        (x-μ)ᵀΣ⁻¹(x-μ) ≤ -2 log(1-s), and for Student-t ν ((1-s)^(-2/ν) - 1), where Σ is that of the two columns.
        """
        values, vectors = np.linalg.eigh(self.scale[component][np.ix_(plane, plane)])
        rest, nu = -2 * math.log1p(-share), self.dof[component]
        square = rest if math.isinf(nu) else nu * math.expm1(rest / nu)
        return np.sqrt(np.maximum(values, 0) * square), vectors


def scene_of(model: Model, fit: Fit, data: PyTree, columns: Any, weights: Any) -> Scene:
    """Return what is drawn of a fit; ValueError for what is no table, no Fit, or has no shares of components."""
    check_model(model)
    params, found = as_params(check_fit(fit).params), columns_of(data)
    places, count = chosen(found, columns), len(found.values)
    counted = np.ones(count) if weights is None else np.asarray(check_weights(weights, count), float)
    shares = np.asarray(require(model, "posterior")(params, data), float)
    if shares.ndim != 2:
        raise ValueError("model's posterior is no responsibilities (n, k): there are no components to draw.")
    if not np.isfinite(shares).all():
        raise ValueError("fit gives rows no finite shares, as where it ended NONFINITE: there are no components to draw.")
    kept = counted > 0
    return Scene(model, params, found, places, found.values[kept][:, places], counted[kept], shares[kept])


def ellipses(scene: Scene) -> Ellipses | None:
    """Return what the components are where they are Gaussian or Student-t, in the columns of the scene; else None."""
    try:
        model, params = marginal(scene.model, scene.params, scene.places)
    except ValueError:
        return None
    family, theta = family_of(model, params, "a picture")[:2]
    form, k = parts_of(family)[1][0], len(theta[0])
    full = np.asarray(families.full_covariances(form, families.Gaussian(theta[0], theta[1])), float)
    fixed = parts_of(family)[1][1] if hasattr(theta, "location") else math.inf
    dof = fixed if getattr(theta, "dof", None) is None else theta.dof
    return Ellipses(np.asarray(theta[0], float), full, np.broadcast_to(np.asarray(dof, float), (k,)))


def parts_of(record: Family | Model) -> tuple[Any, tuple[Any, ...]]:
    """Return how a record was made; () for one written by hand."""
    return record.parts or (None, ())


def along(scene: Scene, column: int, margin: float = MARGIN) -> Density | None:
    """Return the density of each component along one column of the scene; None where the model does not say what it is.

    margin: how far beyond the rows, in their range.
    """
    density, x = _density(scene, [column]), scene.x[:, column]
    if density is None:
        return None
    for grid, is_discrete in _grids(x[np.isfinite(x)], ALONG, margin):
        parts = density(grid[:, None])
        if parts is not None:
            return Density(grid, parts, is_discrete)
    return None


def over(scene: Scene, across: int, up: int) -> Surface | None:
    """Return the density over two columns of the scene; None where the model does not say what it is, or it is of counts."""
    density, rows = _density(scene, [across, up]), scene.x[:, [across, up]]
    whole = np.isfinite(rows).all(1)
    if density is None or not whole.any():
        return None
    rows = rows[whole]
    for (first, _), (second, is_discrete) in zip(*(_grids(x, ACROSS) for x in rows.T), strict=False):
        mesh = np.stack(np.meshgrid(first, second), 2)
        parts = None if is_discrete else density(mesh.reshape(-1, 2))
        at_rows = None if parts is None else density(rows)
        if parts is not None and at_rows is not None:
            return Surface(first, second, parts.sum(1).reshape(mesh.shape[:2]), at_rows.sum(1), scene.weights[whole])
    return None


def _grids(x: np.ndarray, num: int, share: float = MARGIN) -> Iterator[tuple[np.ndarray, bool]]:
    """Give places where a density may be looked at, the widest first, as it may end at zero or anywhere before the data."""
    low, high = x.min(), x.max()
    margin = share * (high - low or 1.0)
    least = 0.0 if low >= 0 else low
    for ends in ((low - margin, high + margin), (least, high + margin), (low, high + margin), (low, high)):
        yield np.linspace(*ends, num), False
    if (x == np.floor(x)).all():
        for start, end in ((max(least, low - margin // 1), high + margin // 1), (low, high)):
            yield np.arange(start, end + 1)[:: int(max(1, (end - start) // num))], True


def _density(scene: Scene, columns: list[int]) -> Callable[[np.ndarray], np.ndarray | None] | None:
    """Return the function from rows (m, c) of these columns to π_k p(x | θ_k), (m, k); its value is None for illegal rows."""
    some = _of_columns(scene, [scene.places[j] for j in columns])
    if some is None:
        return None
    model, params, is_flat = some

    def density(rows: np.ndarray) -> np.ndarray | None:
        x = jnp.asarray(rows[:, 0] if is_flat else rows, dtype_of_weights(params))
        try:
            log_prob, shares = require(model, "log_prob")(params, x), require(model, "posterior")(params, x)
        except ValueError:
            return None
        return np.nan_to_num(np.exp(np.asarray(log_prob, float))[:, None] * np.asarray(shares, float))

    return density


def _of_columns(scene: Scene, places: list[int]) -> tuple[Model, PyTree, bool] | None:
    """Return the model of some columns alone, its params, and whether it takes them as (n,); None where there is none."""
    model, params, columns = scene.model, scene.params, scene.columns
    is_whole = places == list(range(len(columns.names)))
    try:
        family, theta, gate = family_of(model, params, "a picture")
    except ValueError:
        return (model, params, columns.is_flat) if is_whole else None
    if gate is not None:
        return None
    weights = getattr(built(model, params, "a picture")[1], "weights", np.ones(1))
    taken = _taken(family, theta, [columns.origins[j] for j in places], is_whole, columns.is_flat, len(weights))
    return None if taken is None else (mixture(taken[0], len(weights)), Mixture(weights, taken[1]), taken[2])


def _taken(
    family: Family, theta: PyTree, origins: list[tuple[str | None, int]], is_whole: bool, is_flat: bool, k: int
) -> tuple[Family, PyTree, bool] | None:
    """Return a family of some columns alone and its params, where it says what these are, or these are all."""
    constructor, arguments = parts_of(family)
    some = [place for _, place in origins]
    if constructor in (labelled, censored):
        return _taken(arguments[0], theta, origins, is_whole, is_flat, k)
    if isinstance(theta, Mapping) and constructor is not None:
        (name, *others) = {part for part, _ in origins}
        factor = None if others else dict(zip(*arguments, strict=True)).get(name)
        return None if factor is None else _taken(factor, theta[name], [(None, j) for j in some], False, False, k)
    if constructor in (families.gaussian, families.student_t):
        model, params = marginal(mixture(family, k), Mixture(np.full(k, 1 / k), theta), some)
        return parts_of(model)[1][0], params.components, False
    if constructor in BY_COLUMN:
        return constructor(), jax.tree.map(lambda leaf: leaf.reshape(len(leaf), -1)[:, some], theta), False
    return (family, theta, is_flat) if is_whole else None
