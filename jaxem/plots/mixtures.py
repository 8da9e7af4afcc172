"""Pictures of a fit beside its data: all pairs of columns, the density of one or two, and how sure it is of each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.fitting import Fit
from jaxem.model import Model, PyTree
from jaxem.plots import panels
from jaxem.plots.scenes import Ellipses, Scene, along, ellipses, over, scene_of
from jaxem.plots.style import add_legend, axes_or_new, plain, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # an optional dependency

MOST_PAIRED = 8


def pairs(model: Model, fit: Fit, data: PyTree, *, ax: Any = None, columns: Any = None, weights: Any = None) -> np.ndarray:
    """Draw all pairs of columns (scatter matrix), and return the axes, an array (d, d).

    On the diagonal histograms, with the density of each component and of all. Below it points, in the colour and shape of the
    component that each most likely belongs to, with ellipses that hold 50 % and 95 % of each component, where these are
    Gaussian or Student-t. Above it lines of equal density, which hold 25 %, 50 %, 75 % and 95 % of the rows, or points again
    where the model does not say what the density over two columns alone is.

    ax: an array (d, d) of axes, as `plt.subplots(d, d)` returns, to draw into; what is None there stays empty.
    columns: names or numbers of those to draw; weights (n,): rows of weight zero are left out.
    Raises ValueError for data that are no table of numbers, for more than 8 columns, and for a posterior that is not (n, k).

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.gaussian(), 2), jaxem.datasets.faithful()
    >>> fit = jaxem.fit(model, model.init(0, x), x)
    >>> jaxem.plots.pairs(model, fit, x).shape
    (2, 2)
    """
    scene = scene_of(model, fit, data, columns, weights)
    size = len(scene.places)
    if size > MOST_PAIRED:
        raise ValueError(f"data has {size} columns, and pairs of at most {MOST_PAIRED} can be told apart: choose by columns=.")
    if ax is not None and np.size(ax) != size**2:
        raise ValueError(f"ax must be an array of axes, as plt.subplots({size}, {size}) returns, got shape {np.shape(ax)}.")
    with styled():
        grid = _grid(size) if ax is None else np.asarray(ax, object).reshape(size, size)
        draw_pairs(grid, scene)
        drawn = [one for one in grid.T.flat if one is not None]
        add_legend(next(one for one in grid[0, ::-1] if one is not None), of=drawn)
    return grid


def _grid(size: int) -> np.ndarray:
    import matplotlib.pyplot as plt

    return plt.subplots(size, size, figsize=(2.4 + 2.1 * size, 0.4 + 2.0 * size), squeeze=False)[1]


def draw_pairs(grid: np.ndarray, scene: Scene) -> None:
    """Draw into an array (d, d) of axes, None where nothing is to be."""
    found = ellipses(scene)
    for (up, across), ax in np.ndenumerate(grid):
        if ax is None:
            continue
        if up == across:
            panels.histogram(ax, scene, up, along(scene, up))
            ax.set_ylabel(plain(scene.names[up]))
        else:
            draw_plane(ax, scene, found, across, up, contoured=up < across)
            ax.set_ylim(_range(scene.x[:, up]))
        ax.set_xlim(_range(scene.x[:, across]))
        ax.label_outer()


def draw_plane(ax: Axes, scene: Scene, found: Ellipses | None, across: int, up: int, contoured: bool = False) -> None:
    """Draw two columns: points with ellipses where there are such, or contours where these are known."""
    panels.name_axes(ax, scene, across, up)
    surface = over(scene, across, up) if contoured else None
    if surface is not None:
        panels.contours(ax, surface)
        return
    panels.points(ax, scene, scene.x[:, across], scene.x[:, up])
    if found is not None:
        panels.draw_ellipses(ax, found, across, up)


def _range(x: np.ndarray) -> tuple[float, float]:
    low, high = np.nanmin(x), np.nanmax(x)
    margin = 0.08 * (high - low or 1.0)
    return low - margin, high + margin


def density(model: Model, fit: Fit, data: PyTree, *, ax: Axes | None = None, columns: Any = None, weights: Any = None) -> Axes:
    """Draw the density of one column, or of two by contours, beside the data, and return the axes.

    One column: π_k p(x | θ_k) of each component and their sum over a histogram; bars where only whole numbers are possible.
    Two: rows in the colour of their component over lines of equal density, which hold 25 %, 50 %, 75 % and 95 % of the rows.
    columns: names or numbers of one or two of them, all for None; the density is that of these columns alone. weights (n,):
    rows count by these. Raises ValueError as `pairs` does, and where the model does not say what that density is.

    >>> import jaxem
    >>> x, weights = jaxem.datasets.london_times_deaths()
    >>> model = jaxem.mixture(jaxem.families.poisson(), 2)
    >>> fit = jaxem.fit(model, jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 3.0])), x, weights)
    >>> ax = jaxem.plots.density(model, fit, x, weights=weights)
    >>> len(ax.lines), ax.get_xlabel()
    (3, 'x')
    """
    scene = scene_of(model, fit, data, columns, weights)
    size = len(scene.places)
    if size > 2:
        raise ValueError(f"data has {size} columns, and a density is drawn of one or two: choose by columns=, or see pairs.")
    curve, surface = (along(scene, 0), None) if size == 1 else (None, over(scene, 0, 1))
    if curve is None and surface is None:
        raise ValueError(f"the density of {', '.join(scene.names)} cannot be drawn: {_why(scene)}.")
    with styled():
        axes = axes_or_new(ax)
        if surface is None:
            panels.histogram(axes, scene, 0, curve)
        else:
            panels.points(axes, scene, scene.x[:, 0], scene.x[:, 1])
            panels.contours(axes, surface)
            panels.name_axes(axes, scene, 0, 1)
        add_legend(axes, outside=ax is None)
    return axes


def _why(scene: Scene) -> str:
    if not np.isfinite(scene.x).all():
        return "no row has all of them, or the model does not say what it is of these columns alone"
    return f"{scene.model!r} does not say what it is at any other values, or of these columns alone"


def uncertainty(
    model: Model, fit: Fit, data: PyTree, *, ax: Axes | None = None, columns: Any = None, weights: Any = None
) -> Axes:
    """Draw 1 - max_k r_nk, how uncertain it is which component each row belongs to, and return the axes.

    One column: against that. Two: rows there, the larger the less certain. More: rows in the order of their uncertainty.
    columns and weights as in `density`. Raises ValueError as `pairs` does.

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.gaussian(), 2), jaxem.datasets.faithful()
    >>> fit = jaxem.fit(model, model.init(0, x), x)
    >>> jaxem.plots.uncertainty(model, fit, x, columns=1).get_ylabel()
    'uncertainty'
    """
    scene = scene_of(model, fit, data, columns, weights)
    unsure = np.sort(scene.shares, 1)[:, :-1].sum(1)
    with styled():
        axes = axes_or_new(ax)
        if len(scene.places) == 2:
            panels.points(axes, scene, scene.x[:, 0], scene.x[:, 1], sizes=4 + 120 * unsure)
            panels.name_axes(axes, scene, 0, 1)
        else:
            alone = len(scene.places) == 1
            panels.points(axes, scene, scene.x[:, 0] if alone else _ranks(unsure), unsure)
            axes.set_xlabel(plain(scene.names[0]) if alone else "row, from the surest")
            axes.set_ylabel("uncertainty")
        add_legend(axes, outside=ax is None)
    return axes


def _ranks(x: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(x, kind="stable"), kind="stable") + 1.0
