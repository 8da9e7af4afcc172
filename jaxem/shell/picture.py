"""A picture of a fitted mixture: rows by component, ellipses or densities, and ΔBIC of what was tried beside them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.model import Model
from jaxem.plots import panels
from jaxem.plots.mixtures import draw_pairs, draw_plane
from jaxem.plots.scenes import Ellipses, Scene, along, ellipses
from jaxem.plots.style import FAINT, INK, colour, legend_entries, styled
from jaxem.plots.tables import Columns
from jaxem.shell.candidates import Candidate
from jaxem.shell.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # an optional dependency
    from matplotlib.figure import Figure

MOST_PAIRED = 5  # columns up to which all pairs are drawn; beyond, the first two principal axes
ROUND_TENS = (0, 2, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
MOST_NAMED = 5  # forms whose ΔBIC has a colour and a name; the others are faint


def draw(
    table: Table, source: str, model: Model, candidates: Sequence[Candidate], chosen: Candidate, shares: np.ndarray
) -> Figure:
    """Return a figure of the chosen mixture with a legend; with several candidates, of what their BIC is above its own too.

    One column: densities over a histogram; two: points and ellipses; up to five: all pairs; more: principal axes. `shares`
    (n, k) say what of each row is whose.
    """
    from matplotlib.figure import Figure

    scene = _scene(table, model, chosen, shares)
    k, size, several = chosen.num_components, min(len(table.names), MOST_PAIRED + 1), len(candidates) > 1
    paired = 2 < size <= MOST_PAIRED
    width = 2.1 * max(size, 4) if paired else 9.7 if several else 6.5
    with styled():
        figure = Figure(figsize=(width, 2.0 * max(size, 4) if paired else 5.4), layout="constrained", dpi=150)
        figure.suptitle(f"{source}: {len(shares)} rows, {k} component{'s' if k > 1 else ''}", x=0.01, ha="left", weight="bold")
        beside = _pairs(figure, scene) if paired else _single(figure, scene, several)
        entries = legend_entries(figure.axes)
        if several:
            _criterion(figure.add_subplot(beside), candidates, chosen)
        columns = min(int(width / 2.5), len(entries))
        figure.legend(list(entries.values()), list(entries), loc="outside lower left", ncols=columns)
        figure.canvas.draw()  # lays out while the style holds
    return figure


def _scene(table: Table, model: Model, chosen: Candidate, shares: np.ndarray) -> Scene:
    places, weights = list(range(len(table.names))), table.weights
    columns = Columns(tuple(table.names), table.values.astype(float), tuple((None, j) for j in places), False)
    counted = np.ones(len(shares)) if weights is None else np.asarray(weights, float)
    kept = counted > 0
    params = chosen.best.params
    return _filled(Scene(model, params, columns, places, columns.values[kept], counted[kept], shares[kept].astype(float)))


def _filled(scene: Scene) -> Scene:
    """Return the scene with something in each hole, so that its row has a place to be seen at."""
    holes = np.isnan(scene.x)
    if not holes.any():
        return scene
    found = ellipses(scene)
    typical = np.nanmean(scene.x, 0)[None] if found is None else found.centre[scene.labels]
    return scene._replace(x=np.where(holes, typical, scene.x))


def _single(figure: Figure, scene: Scene, several: bool) -> Any:
    """Draw one picture of all columns, and return the place beside it."""
    grid = figure.add_gridspec(1, 2, width_ratios=(6.5, 3.2)) if several else figure.add_gridspec(1, 1)
    axes = figure.add_subplot(grid[0, 0])
    size = len(scene.places)
    if size == 1:
        panels.histogram(axes, scene, 0, along(scene, 0))
    elif size == 2:
        draw_plane(axes, scene, ellipses(scene), 0, 1)
    else:
        _principal(axes, scene)
    return grid[0, -1]


def _principal(axes: Axes, scene: Scene) -> None:
    """Draw rows and ellipses along the two widest directions of the columns in units of their standard deviations."""
    centre, scale = scene.x.mean(0), scene.x.std(0)
    scale = np.where(scale > 0, scale, 1)
    _, values, directions = np.linalg.svd((scene.x - centre) / scale, full_matrices=False)
    share = values**2 / (values**2).sum()
    project = directions[:2].T / scale[:, None]
    panels.points(axes, scene, *((scene.x - centre) @ project).T)
    found = ellipses(scene)
    if found is not None:
        seen = Ellipses((found.centre - centre) @ project, project.T @ found.scale @ project, found.dof)
        panels.draw_ellipses(axes, seen, 0, 1)
    axes.set_xlabel(f"principal axis 1 ({share[0]:.0%} of variance)")
    axes.set_ylabel(f"principal axis 2 ({share[1]:.0%} of variance)")


def _pairs(figure: Figure, scene: Scene) -> Any:
    """Draw all pairs of columns below a diagonal of single ones, and return the place in the empty corner."""
    size = len(scene.places)
    grid = figure.add_gridspec(size, size)
    axes = np.full((size, size), None)
    for across, up in itertools.combinations_with_replacement(range(size), 2):
        axes[up, across] = figure.add_subplot(grid[up, across])
    draw_pairs(axes, scene)
    # a grid of its own: labels around it then move no axes of the others
    return grid[: size // 2, (size + 1) // 2 :].subgridspec(1, 1)[0, 0]


def _criterion(axes: Any, candidates: Sequence[Candidate], chosen: Candidate) -> None:
    """Draw what the BIC of each candidate is above that of the chosen one: evenly up to 10, by powers of ten beyond."""
    finite = [c for c in candidates if math.isfinite(c.bic)]
    forms = sorted({c.form for c in finite}, key=lambda form: min(c.bic for c in finite if c.form == form))
    for place, form in reversed(list(enumerate(forms))):
        points = [(c.num_components, c.bic - chosen.bic) for c in finite if c.form == form]
        named = place < MOST_NAMED
        tint = INK if len(forms) == 1 else colour(place) if named else FAINT
        axes.plot(*zip(*points, strict=True), color=tint, linewidth=1.2, marker="o", markersize=4, label=form if named else "_")
    axes.plot(chosen.num_components, 0, "o", markersize=10, color=INK, markerfacecolor="none", markeredgewidth=2)
    _by_what_matters(axes, [c.bic - chosen.bic for c in finite])
    axes.set_title("ΔBIC, above the chosen one", color=INK)
    axes.set_xlabel("components")
    axes.locator_params(axis="x", integer=True)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    if len(forms) > 1:
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], frameon=False, fontsize=8)


def _by_what_matters(axes: Any, gaps: Sequence[float]) -> None:
    low, high = min(gaps), max(*gaps, 10.0)
    axes.set_yscale("symlog", linthresh=10, linscale=1)
    ticks = sorted({sign * tick for tick in ROUND_TENS for sign in (-1, 1) if low <= sign * tick <= high})
    axes.set_yticks(ticks, [f"{tick:,}".replace(",", " ") for tick in ticks])
    axes.yaxis.set_minor_locator(_no_ticks())
    axes.set_ylim(1.3 * low - 1, 1.5 * high)


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()
