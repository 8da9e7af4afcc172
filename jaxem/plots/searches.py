"""Pictures of how fits were found: their climb, what many starts reached, and which of several models is preferred."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.boundary import check_model
from jaxem.choice import HELD_OUT, MAY_WIN, NAMES, Row, Selection
from jaxem.fitting import Fit, check_fit
from jaxem.model import Model, PyTree
from jaxem.plots.style import FAINT, INK, add_legend, axes_or_new, colour, dash, marker, plain, styled
from jaxem.restarts import Restarts
from jaxem.stopping import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # an optional dependency

WINNERS = {status.name for ends in MAY_WIN for status in ends}
ORDER = (Status.CONVERGED, Status.MAX_STEPS, Status.STALLED, Status.DEGENERATE, Status.NOT_CONTINUED, Status.NONFINITE)


def history(model: Model, fit: Fit, data: PyTree = None, *, ax: Axes | None = None) -> Axes:
    """Draw the log-likelihood, plus log-prior where there is one, at every step of a fit, and return the axes.

    `data` play no part; they are taken so that all pictures of a fit are called alike.
    Raises ValueError for what is no Fit, and for one whose history was not kept.

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.gaussian(), 2), jaxem.datasets.faithful()
    >>> ax = jaxem.plots.history(model, jaxem.fit(model, model.init(0, x), x), x)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('step', 'log-likelihood')
    """
    check_model(model)
    values = np.asarray(check_fit(fit).history, float)[: int(fit.num_steps) + 1]
    steps = np.flatnonzero(np.isfinite(values))
    if not steps.size:
        raise ValueError("fit has no history to draw: keep it by fit_restarts(…, keep_histories=True), or fit again.")
    status, name = Status(int(fit.status)), "log-likelihood + log-prior" if model.log_prior else "log-likelihood"
    with styled():
        axes = axes_or_new(ax)
        axes.plot(steps, values[steps], color=colour(0), marker="." if steps.size <= 60 else "", label=name)
        axes.plot(steps[-1:], values[steps[-1:]], "o", color=colour(1), label=f"{status.name}: {values[steps[-1]]:.6g}")
        axes.set_xlabel("step")
        axes.set_ylabel(name)
        axes.locator_params(axis="x", integer=True)
        add_legend(axes, outside=False)
    return axes


def restarts(search: Restarts, *, ax: Axes | None = None) -> Axes:
    """Draw the log-likelihood, plus log-prior, that each start reached, from the highest to the lowest, and return the axes.

    Colour and shape say how each ended; those that are not finite are counted in the legend alone.
    Raises ValueError for what `fit_restarts` does not return.

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.gaussian(), 2), jaxem.datasets.faithful()
    >>> ax = jaxem.plots.restarts(jaxem.fit_restarts(model, 0, x, num_restarts=8))
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['8 CONVERGED', 'best: -1130.26']
    """
    if not isinstance(search, Restarts) or np.ndim(search.fits.status) != 1:
        raise ValueError(f"search must be what fit_restarts returns, got {type(search).__name__}.")
    heights, statuses = np.asarray(search.fits.height, float), np.asarray(search.fits.status)
    order = np.argsort(-np.where(np.isfinite(heights), heights, -np.inf), kind="stable")
    ranks = np.empty(len(order))
    ranks[order] = np.arange(1, len(order) + 1)
    best = float(search.best.height)
    with styled():
        axes = axes_or_new(ax)
        for k, status in enumerate(ORDER):
            own = statuses == status
            if own.any():
                shown = own & np.isfinite(heights)
                label = f"{own.sum()} {status.name}{'' if shown.any() else ', not drawn'}"
                axes.plot(ranks[shown], heights[shown], marker(k), color=colour(k), markersize=5, label=label)
        axes.axhline(best, color=INK, linewidth=0.8, zorder=0, label=f"best: {best:.6g}")
        axes.set_xlabel("start, from the highest")
        axes.set_ylabel("log-likelihood + log-prior" if np.any(search.fits.log_prior != 0) else "log-likelihood")
        axes.locator_params(axis="x", integer=True)
        add_legend(axes, outside=ax is None)
    return axes


def selection(found: Selection, *, ax: Axes | None = None) -> Axes:
    """Draw the criterion of all candidates, over the number of components, a line for each family, and return the axes.

    A ring marks the best. Hollow marks are of candidates that may not win, as they ended neither CONVERGED nor unfinished.
    Candidates that are no `mixtures(…)`, and so have no numbers of components to be drawn over, stand side by side by name.
    The axis shows what is near the best half; what lies far beyond is cut off.
    Raises ValueError for what `select` does not return.

    >>> import jaxem
    >>> candidates = jaxem.mixtures({form: jaxem.families.gaussian(form) for form in ("E", "V")}, range(1, 4))
    >>> ax = jaxem.plots.selection(jaxem.select(candidates, 0, jaxem.datasets.galaxies(), num_restarts=4))
    >>> ax.get_ylabel(), [line.get_label() for line in ax.lines if not line.get_label().startswith("_")]
    ('bic', ['E', 'V', 'best: V, 3'])
    """
    if not isinstance(found, Selection):
        raise ValueError(f"found must be what select returns, got {type(found).__name__}.")
    criterion = next(name for name in NAMES if name in found.table[0])
    names = list(dict.fromkeys(row["name"] for row in found.table))
    by_number = len(names) < len(found.table) or len(names) == 1
    with styled():
        axes = axes_or_new(ax)
        axes.set_ylim(_reach([row[criterion] for row in found.table], -1 if criterion == HELD_OUT else 1))
        for k, name in enumerate(names):
            rows = [row for row in found.table if row["name"] == name]
            _line(axes, k, [row["num_components"] if by_number else k for row in rows], rows, criterion, name)
        _ring(axes, found, criterion, names, by_number)
        axes.set_ylabel(criterion)
        axes.set_title(f"{criterion}, {'larger' if criterion == HELD_OUT else 'smaller'} is better")
        axes.grid(axis="y", color=FAINT, linewidth=0.6)
        if by_number:
            axes.set_xlabel("components")
            axes.locator_params(axis="x", integer=True)
        else:
            axes.set_xticks(range(len(names)), [plain(name) for name in names])
        add_legend(axes, outside=ax is None)
    return axes


def _line(axes: Axes, k: int, places: list[Any], rows: list[Row], criterion: str, name: str) -> None:
    values = [row[criterion] if math.isfinite(row[criterion]) else math.nan for row in rows]
    style: dict[str, Any] = {"color": colour(k), "marker": marker(k), "markersize": 5}
    low, high = axes.get_ylim()
    beyond = "" if any(low <= value <= high for value in values) else " (beyond the axis)"
    axes.plot(places, values, linewidth=1.2, linestyle=dash(k), label=plain(name) + beyond, **style)
    out = [i for i, row in enumerate(rows) if row["status"] not in WINNERS]
    if out:
        hollow = style | {"markerfacecolor": "white", "label": f"_{name}"}
        axes.plot([places[i] for i in out], [values[i] for i in out], linestyle="", **hollow)


def _ring(axes: Axes, found: Selection, criterion: str, names: list[str], by_number: bool) -> None:
    best = found.best
    if best is None:
        return
    row = next(row for row in found.table if (row["name"], row["num_components"]) == (best.name, best.num_components))
    place: Any = best.num_components if by_number else names.index(best.name)
    label = f"best: {plain(best.name)}{f', {best.num_components}' if by_number else ''}"
    axes.plot(place, row[criterion], "o", color=INK, markersize=11, markerfacecolor="none", markeredgewidth=1.5, label=label)


def _reach(values: list[float], sign: int) -> tuple[float, float]:
    """Return limits of an axis that show the best, and three times as far as half of the candidates reach."""
    costs = np.sort([sign * value for value in values if math.isfinite(value)])
    if not costs.size:
        return 0.0, 1.0
    best, middle, worst = costs[0], costs[len(costs) // 2], costs[-1]
    far = min(worst, best + 3 * (middle - best)) if middle > best else worst
    margin = 0.06 * (far - best or 1.0)
    low, high = sorted((sign * (best - margin), sign * (far + margin)))
    return low, high
