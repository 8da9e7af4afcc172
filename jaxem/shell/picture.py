"""A picture of a fitted Gaussian mixture: points by component, ellipses that hold half and 95 % of each, ΔBIC beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxem.shell.candidates import Candidate, centres
from jaxem.shell.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # an optional dependency

COLOURS = ("#2a6f97", "#e07a2f", "#4d908e", "#b5446e", "#8a6fb0", "#c9a227", "#5b7b3a", "#7a4b3a", "#3d5a80", "#999999")
INK, FAINT = "#333333", "#d9d9d9"
STYLE: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.dpi": 150,
    "font.size": 10,
    "savefig.dpi": 150,
    "xtick.color": INK,
    "ytick.color": INK,
}
MOST_PAIRED = 5  # columns up to which all pairs are drawn; beyond, the first two principal axes
MOST_POINTS = 20_000
SHARES = (0.5, 0.95)
ROUND_TENS = (0, 2, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
MOST_NAMED = 5  # forms whose ΔBIC has a colour and a name; the others are faint


class _Scene(NamedTuple):
    """What is drawn: some rows of x (m, d) with their labels, and the mixture in the same coordinates."""

    names: Sequence[str]
    x: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    means: np.ndarray  # (k, d)
    covariances: np.ndarray  # (k, d, d)


def draw(table: Table, source: str, candidates: Sequence[Candidate], chosen: Candidate, labels: np.ndarray) -> Figure:
    """Return a figure of the chosen mixture with a legend; with several candidates, of what their BIC is above its own too.

    One column: densities over a histogram; two: points and ellipses; up to five: all pairs; more: principal axes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    scene = _scene(table, chosen, labels)
    k, size, several = chosen.num_components, len(scene.names), len(candidates) > 1
    title = f"{source}: {len(labels)} rows, {k} component{'s' if k > 1 else ''}"
    with matplotlib.rc_context(STYLE):
        width = (9.7 if several else 6.5) if size <= 2 else 2.1 * max(size, 4)
        figure = Figure(figsize=(width, 5.4 if size <= 2 else 2.0 * max(size, 4)), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", color=INK, weight="bold")
        beside = _pairs(figure, scene) if size > 2 else _single(figure, scene, several)
        if several:
            _criterion(figure.add_subplot(beside), candidates, chosen)
        handles = _legend(scene)
        figure.legend(handles=handles, loc="outside lower left", ncols=min(int(width / 2.5), len(handles)), frameon=False)
        figure.canvas.draw()  # lays out while the style holds
    return figure


def _scene(table: Table, chosen: Candidate, labels: np.ndarray) -> _Scene:
    rows = np.linspace(0, len(labels) - 1, min(len(labels), MOST_POINTS)).astype(int)
    params, x = chosen.best.params, table.values[rows].astype(np.float64)
    means = centres(params.components).astype(np.float64)
    scene = _Scene(
        [_plain(name) for name in table.names],
        np.where(np.isnan(x), means[labels[rows]], x),  # a row with holes still has a place to be seen at
        labels[rows],
        np.asarray(params.weights, np.float64),
        means,
        np.asarray(chosen.covariances, np.float64),
    )
    return scene if len(table.names) <= MOST_PAIRED else _principal(scene)


def _plain(name: str) -> str:
    """Return `name` with nothing in it that matplotlib would read as mathematics."""
    return name.replace("$", r"\$")


def _principal(scene: _Scene) -> _Scene:
    """Return the scene seen along its two widest directions, columns in units of their standard deviations."""
    centre, scale = scene.x.mean(0), scene.x.std(0)
    standard = (scene.x - centre) / scale
    _, values, axes = np.linalg.svd(standard, full_matrices=False)
    share = values**2 / (values**2).sum()
    project = axes[:2].T / scale[:, None]
    return scene._replace(
        names=[f"principal axis {i + 1} ({share[i]:.0%} of variance)" for i in range(2)],
        x=(scene.x - centre) @ project,
        means=(scene.means - centre) @ project,
        covariances=project.T @ scene.covariances @ project,
    )


def _colour(component: int) -> str:
    return COLOURS[component % len(COLOURS)]


def _densities(x: np.ndarray, scene: _Scene, column: int) -> np.ndarray:
    """Return π_k times the marginal density of each component at x (m,): (k, m)."""
    mean, variance = scene.means[:, column, None], scene.covariances[:, column, column, None]
    return scene.weights[:, None] * np.exp(-0.5 * (x - mean) ** 2 / variance) / np.sqrt(2 * math.pi * variance)


def _histogram(axes: Any, scene: _Scene, column: int) -> None:
    x = scene.x[:, column]
    axes.hist(x, bins=min(60, max(10, int(2 * len(x) ** 0.4))), density=True, color=FAINT, edgecolor="white", linewidth=0.5)
    margin = 0.08 * np.ptp(x)
    grid = np.linspace(x.min() - margin, x.max() + margin, 400)
    parts = _densities(grid, scene, column)
    for component, part in enumerate(parts):
        axes.fill_between(grid, part, color=_colour(component), alpha=0.25, linewidth=0)
        axes.plot(grid, part, color=_colour(component), linewidth=1.4)
    axes.plot(grid, parts.sum(0), color=INK, linewidth=1.1)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(scene.names[column])


def _plane(axes: Any, scene: _Scene, across: int, up: int) -> None:
    from matplotlib.patches import Ellipse

    m = len(scene.x)
    axes.scatter(
        scene.x[:, across],
        scene.x[:, up],
        s=min(16, max(2, 6000 / m)),
        c=[_colour(label) for label in scene.labels],
        alpha=0.75 if m < 2000 else 0.35,
        linewidths=0,
        rasterized=m > 2000,
        zorder=2,
    )
    plane = np.ix_((across, up), (across, up))
    for component, (mean, covariance) in enumerate(zip(scene.means, scene.covariances, strict=True)):
        values, vectors = np.linalg.eigh(covariance[plane])
        angle = math.degrees(math.atan2(vectors[1, 1], vectors[0, 1]))
        for share in SHARES:
            low, high = 2 * np.sqrt(np.maximum(values, 0) * -2 * math.log(1 - share))
            shape = {"xy": mean[[across, up]], "width": high, "height": low, "angle": angle}
            axes.add_patch(Ellipse(**shape, facecolor=_colour(component), alpha=0.12, linewidth=0, zorder=1))
            axes.add_patch(Ellipse(**shape, fill=False, edgecolor=_colour(component), linewidth=1.3, zorder=3))
    axes.autoscale_view()
    axes.set_xlabel(scene.names[across])
    axes.set_ylabel(scene.names[up])


def _legend(scene: _Scene) -> list[Any]:
    """Return what stands for each component, and for the lines."""
    from matplotlib.lines import Line2D

    dot: dict[str, Any] = {"linestyle": "", "marker": "o"}
    dots = [
        Line2D([], [], **dot, color=_colour(i), markersize=5, label=f"component {i + 1} ({weight:.0%})")
        for i, weight in enumerate(scene.weights)
    ]
    percent = " and ".join(f"{share:.0%}" for share in SHARES)
    ring = Line2D([], [], **dot, color=INK, markerfacecolor="none", markersize=9, label=f"{percent} of a component")
    curve = Line2D([], [], color=INK, linewidth=1.1, label="density of the mixture")
    size = len(scene.names)
    return [*dots, *([ring] if size > 1 else []), *([curve] if size != 2 else [])]


def _single(figure: Figure, scene: _Scene, several: bool) -> Any:
    """Draw one or two columns, and return the place beside them."""
    grid = figure.add_gridspec(1, 2, width_ratios=(6.5, 3.2)) if several else figure.add_gridspec(1, 1)
    axes = figure.add_subplot(grid[0, 0])
    if len(scene.names) == 1:
        _histogram(axes, scene, 0)
    else:
        _plane(axes, scene, 0, 1)
    return grid[0, -1]


def _pairs(figure: Figure, scene: _Scene) -> Any:
    """Draw all pairs of columns below a diagonal of single ones, and return the place in the empty corner."""
    size = len(scene.names)
    grid = figure.add_gridspec(size, size)
    for across in range(size):
        bottom = None
        for up in reversed(range(across, size)):
            axes = figure.add_subplot(grid[up, across], sharex=bottom)
            bottom = bottom or axes
            if across == up:
                _histogram(axes, scene, across)
            else:
                _plane(axes, scene, across, up)
            axes.label_outer()
    # a grid of its own: labels around it then move no axes of the others
    return grid[: size // 2, (size + 1) // 2 :].subgridspec(1, 1)[0, 0]


def _criterion(axes: Any, candidates: Sequence[Candidate], chosen: Candidate) -> None:
    """Draw what the BIC of each candidate is above that of the chosen one: evenly up to 10, by powers of ten beyond."""
    finite = [c for c in candidates if math.isfinite(c.bic)]
    forms = sorted({c.form for c in finite}, key=lambda form: min(c.bic for c in finite if c.form == form))
    for place, form in reversed(list(enumerate(forms))):
        points = [(c.num_components, c.bic - chosen.bic) for c in finite if c.form == form]
        named = place < MOST_NAMED
        colour = INK if len(forms) == 1 else _colour(place) if named else FAINT
        axes.plot(
            *zip(*points, strict=True), color=colour, linewidth=1.2, marker="o", markersize=4, label=form if named else "_"
        )
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
