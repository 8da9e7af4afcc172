"""What is drawn into one pair of axes: a histogram with densities, points with ellipses, contours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.plots.scenes import Density, Ellipses, Scene, Surface
from jaxem.plots.style import FAINT, INK, colour, dash, marker, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # an optional dependency

MOST_POINTS = 20_000
SHARES = (0.5, 0.95)  # of a component that its ellipses hold
INSIDE = (0.25, 0.5, 0.75, 0.95)  # shares of the rows that contours hold
SHADES = ["#e8ebef", "#9fb2c4"]  # of low and high density


def histogram(ax: Axes, scene: Scene, column: int, density: Density | None) -> None:
    """Draw a column: its histogram, and the density of each component, weighed, and of all."""
    seen = np.isfinite(scene.x[:, column])
    x, weights = scene.x[seen, column], scene.weights[seen]
    if density is not None and density.is_discrete:
        _bars(ax, x, weights, density)
    else:
        bins = min(60, max(10, int(2 * len(x) ** 0.4)))
        ax.hist(x, bins, weights=weights, density=True, color=FAINT, edgecolor="white", linewidth=0.5, label="rows")
    if density is not None:
        _densities(ax, scene, density)
    ax.set_xlabel(plain(scene.names[column]))
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)


def _bars(ax: Axes, x: np.ndarray, weights: np.ndarray, density: Density) -> None:
    step = density.grid[1] - density.grid[0] if len(density.grid) > 1 else 1.0
    edges = np.append(density.grid, density.grid[-1] + step)
    heights = np.histogram(x, edges, weights=weights)[0] / (weights.sum() * step)
    ax.bar(density.grid, heights, 0.9 * step, color=FAINT, label="rows")


def _densities(ax: Axes, scene: Scene, density: Density) -> None:
    dots: dict[str, Any] = {"marker": ".", "markersize": 5} if density.is_discrete and len(density.grid) <= 60 else {}
    for k, (part, caption) in enumerate(zip(density.parts.T, scene.captions(), strict=True)):
        ax.plot(density.grid, part, color=colour(k), linestyle=dash(k), linewidth=1.4, label=caption, **dots)
        ax.fill_between(density.grid, part, color=colour(k), alpha=0.2, linewidth=0)
    if density.parts.shape[1] > 1:
        ax.plot(density.grid, density.parts.sum(1), color=INK, linewidth=1.1, label="all")


def points(ax: Axes, scene: Scene, x: np.ndarray, y: np.ndarray, sizes: np.ndarray | None = None) -> None:
    """Draw rows at (x, y), those of each component in its colour and shape; only some where there are very many."""
    n = len(x)
    rows = np.linspace(0, n - 1, min(n, MOST_POINTS)).astype(int)
    usual = np.full(n, min(16.0, max(2.0, 6000 / n)))
    for k, caption in enumerate(scene.captions()):
        own = rows[scene.labels[rows] == k]
        ax.scatter(
            x[own],
            y[own],
            s=(usual if sizes is None else sizes)[own],
            color=colour(k),
            marker=marker(k),
            alpha=0.75 if n < 2000 else 0.35,
            linewidths=0,
            rasterized=n > 2000,
            zorder=2,
            label=caption,
        )


def name_axes(ax: Axes, scene: Scene, across: int, up: int) -> None:
    """Write the names of two columns along the axes."""
    ax.set_xlabel(plain(scene.names[across]))
    ax.set_ylabel(plain(scene.names[up]))


def draw_ellipses(ax: Axes, found: Ellipses, across: int, up: int) -> None:
    """Draw the ellipses that hold half and 95 % of each component in two columns."""
    from matplotlib.patches import Ellipse

    label = f"hold {_listed(SHARES)} of each"
    for k, centre in enumerate(found.centre):
        for share in SHARES:
            half, axes = found.half_axes(k, (across, up), share)
            angle = math.degrees(math.atan2(axes[1, 1], axes[0, 1]))
            shape = {"xy": centre[[across, up]], "width": 2 * half[1], "height": 2 * half[0], "angle": angle}
            ax.add_patch(Ellipse(**shape, facecolor=colour(k), alpha=0.12, linewidth=0, zorder=1))
            ax.add_patch(Ellipse(**shape, fill=False, edgecolor=colour(k), linestyle=dash(k), linewidth=1.3, zorder=3))
    ax.plot([], [], "o", markersize=8, markerfacecolor="none", markeredgecolor=INK, label=label)


def contours(ax: Axes, found: Surface) -> None:
    """Draw lines of equal density in two columns, which hold shares of the rows: of each, those where it is higher."""
    from matplotlib.colors import LinearSegmentedColormap

    order = np.argsort(found.at_rows)
    below = np.cumsum(found.weights[order]) / found.weights.sum()
    levels = np.unique([found.at_rows[order][np.searchsorted(below, 1 - share)] for share in INSIDE])
    shades = LinearSegmentedColormap.from_list("ink", SHADES)
    top = max(found.values.max(), levels[-1]) * 1.001
    ax.contourf(found.across, found.up, found.values, [*levels, top], cmap=shades, zorder=0)
    ax.contour(found.across, found.up, found.values, levels, colors=INK, linewidths=0.8, zorder=1)
    ax.plot([], [], "s", markersize=8, markerfacecolor=SHADES[1], markeredgecolor=INK, label=f"hold {_listed(INSIDE)} of rows")


def _listed(shares: tuple[float, ...]) -> str:
    return ", ".join(f"{100 * share:g}" for share in shares) + " %"
