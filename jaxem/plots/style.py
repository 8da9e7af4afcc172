"""How all pictures look: one style, colours that can be told apart by everybody, and a legend in each."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # an optional dependency

INK, FAINT = "#2b2f36", "#d9dbde"
MARKERS = "os^DvPX"  # as many as have no divisor in common with the colours, so that pairs of both recur late
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.2, 1.2, 1.2)))


@cache
def settings() -> Any:
    """Return the style of all pictures, as matplotlib takes it; `plt.style.use("jaxem.plots.quiet")` sets it for all others."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("jaxem.plots needs matplotlib: pip install 'jaxem[plot]'.") from error
    return matplotlib.rc_params_from_file(str(Path(__file__).with_name("quiet.mplstyle")), use_default_template=False)


def styled() -> AbstractContextManager[None]:
    """Have what is drawn inside look alike."""
    given = settings()
    import matplotlib

    return matplotlib.rc_context(given)


def colour(number: int) -> str:
    """Return the colour of a component, counted from 0; after the last comes the first."""
    colours = settings()["axes.prop_cycle"].by_key()["color"]
    return f"#{colours[number % len(colours)].lstrip('#')}"


def marker(number: int) -> str:
    """Return the shape of a component's points, counted from 0."""
    return MARKERS[number % len(MARKERS)]


def dash(number: int) -> Any:
    """Return the kind of a component's line, counted from 0: another where colours recur."""
    return DASHES[number // len(settings()["axes.prop_cycle"]) % len(DASHES)]


def axes_or_new(ax: Axes | None) -> Axes:
    """Return the axes given, or those of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots()[1]


def legend_entries(axes: Iterable[Axes]) -> dict[str, Any]:
    """Return what stands for each thing that is drawn in some axes, by its label: the first that bears it."""
    entries: dict[str, Any] = {}
    for one in axes:
        handles, labels = one.get_legend_handles_labels()
        entries |= {label: handle for label, handle in zip(labels, handles, strict=True) if label not in entries}
    return entries


def add_legend(ax: Axes, outside: bool = True, of: Iterable[Axes] | None = None) -> None:
    """Put the legend beside the axes, where it hides nothing, or inside; it tells what is drawn there, or in several axes."""
    from matplotlib.collections import PathCollection

    entries = legend_entries([ax] if of is None else of)
    place: dict[str, Any] = {"loc": "best"}
    if outside:
        place = {"loc": "upper left", "bbox_to_anchor": (1.02, 1.0), "borderaxespad": 0.0}
    legend = ax.legend(list(entries.values()), list(entries), ncols=1 + (len(entries) - 1) // 15, **place)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes(np.array([20.0]))


def plain(name: object) -> str:
    """Return a name with nothing in it that matplotlib would read as mathematics."""
    return str(name).replace("$", r"\$")
