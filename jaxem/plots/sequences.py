"""Pictures of a sequence: the states that its steps are most probably in, and what is to be expected after its end."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxem.arrays import as_params
from jaxem.families.gaussian import Gaussian
from jaxem.fitting import Fit, check_fit
from jaxem.forecasting import forecast as foretold
from jaxem.forecasting import viterbi
from jaxem.model import Model, PyTree
from jaxem.models.hmm import of_states
from jaxem.models.mixture import Mixture, mixture
from jaxem.models.parts import built
from jaxem.plots.scenes import Scene, along
from jaxem.plots.style import FAINT, INK, add_legend, axes_or_new, colour, marker, plain, styled
from jaxem.plots.tables import Columns, chosen, columns_of
from jaxem.sequences import check_sequences

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # an optional dependency

BANDS = (0.95, 0.5)  # shares of what is to come


def states(model: Model, fit: Fit, data: PyTree, *, ax: Axes | None = None, sequence: int = 0, columns: Any = None) -> Axes:
    """Draw one column of a sequence step by step, each in the colour of its state on the most probable path; return the axes.

    data as `jaxem.hmm` takes them; sequence: which, counted from 0; columns: the name or number of one, None for the first.
    Raises ValueError for a model that was not built by `hmm`, and for a sequence or column that there is not.

    >>> import jaxem
    >>> model, x = jaxem.hmm(jaxem.families.poisson(), 2), jaxem.sequences([0, 1, 0, 0, 7, 9, 8, 8, 6, 1])
    >>> ax = jaxem.plots.states(model, jaxem.fit(model, model.init(0, x), x), x)
    >>> ax.get_xlabel(), len(ax.lines)
    ('step', 3)
    """
    params = check_fit(fit).params
    paths, _ = viterbi(model, params, data)
    found, column = _steps(data, sequence, columns)
    values = found.values[:, column]
    path, places = np.asarray(paths)[sequence][: len(values)], np.arange(1, len(values) + 1)
    with styled():
        axes = axes_or_new(ax)
        axes.plot(places, values, color=FAINT, linewidth=1.0, zorder=1)
        for k in range(_num_states(model, params)):
            own, caption = path == k, f"state {k + 1}: {100 * np.mean(path == k):.1f} % of steps"
            axes.plot(places[own], values[own], marker(k), color=colour(k), markersize=4, label=caption)
        axes.set_xlabel("step")
        axes.set_ylabel(plain(found.names[column]))
        add_legend(axes, outside=ax is None)
    return axes


def forecast(
    model: Model, fit: Fit, data: PyTree, *, steps: Any = 10, ax: Axes | None = None, sequence: int = 0, columns: Any = None
) -> Axes:
    """Draw one column of a sequence, and the median and bands of 50 % and 95 % of what follows it; return the axes.

    steps: how many to look ahead, or what drives them, as `jaxem.forecast` takes it; the other arguments are those of `states`.
    Raises ValueError as `jaxem.forecast` does, and where the family does not say what the density of one column is.

    >>> import jaxem
    >>> model, x = jaxem.hmm(jaxem.families.poisson(), 2), jaxem.sequences([0, 1, 0, 0, 7, 9, 8, 8, 6, 1])
    >>> ax = jaxem.plots.forecast(model, jaxem.fit(model, model.init(0, x), x), x, steps=5)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['seen', 'median', '95 % of what follows', '50 % of what follows']
    """
    params = check_fit(fit).params
    ahead = foretold(model, params, data, steps)
    found, column = _steps(data, sequence, columns)
    values, end = found.values[:, column], len(found.values)
    levels = [0.5, *(0.5 + sign * share / 2 for share in BANDS for sign in (-1, 1))]
    if isinstance(ahead.observations, Gaussian):
        middle, *ends = _normal_quantiles(ahead.observations, sequence, column, levels)
    else:
        middle, *ends = _quantiles(model, params, found, column, np.asarray(ahead.states)[sequence], levels)
    places = np.arange(end + 1, end + 1 + len(middle))
    with styled():
        axes = axes_or_new(ax)
        axes.plot(np.arange(1, end + 1), values, color=INK, linewidth=1.0, label="seen")
        axes.plot(places, middle, color=colour(0), label="median")
        for share, depth, low, high in zip(BANDS, (0.22, 0.45), ends[::2], ends[1::2], strict=True):
            label = f"{100 * share:g} % of what follows"
            axes.fill_between(places, low, high, color=colour(0), alpha=depth, linewidth=0, label=label)
        axes.set_xlabel("step")
        axes.set_ylabel(plain(found.names[column]))
        add_legend(axes, outside=ax is None)
    return axes


def _steps(data: PyTree, sequence: int, columns: Any) -> tuple[Columns, int]:
    """Return the columns of one sequence and the place of the one that is drawn."""
    given = check_sequences(data)
    lengths = np.asarray(given.lengths)
    if not hasattr(sequence, "__index__") or not 0 <= sequence < len(lengths):
        raise ValueError(f"sequence must be a whole number from 0 to {len(lengths) - 1}, got {sequence!r}.")
    found = columns_of(jax.tree.map(lambda leaf: np.asarray(leaf)[sequence][: lengths[sequence]], given.values))
    places = chosen(found, columns)
    if columns is not None and len(places) > 1:
        raise ValueError(f"columns must be the name or number of one column, got {columns!r}.")
    return found, places[0]


def _num_states(model: Model, params: PyTree) -> int:
    return len(built(model, as_params(params), "a picture", (of_states,), "hmm(family, k)")[1].initial)


def _normal_quantiles(seen: Gaussian, sequence: int, column: int, levels: list[float]) -> list[np.ndarray]:
    """Return those of one column of Gaussian observations to come, for each level those of all steps."""
    mean = np.asarray(seen.mean, float)[sequence][:, column]
    deviation = np.sqrt(np.asarray(seen.covariance, float)[sequence][:, column, column])
    return [mean + deviation * NormalDist().inv_cdf(level) for level in levels]


def _quantiles(
    model: Model, params: PyTree, found: Columns, column: int, states: np.ndarray, levels: list[float]
) -> list[np.ndarray]:
    """Return quantiles of one column, for each level those of all steps, from its density on a grid."""
    inner, theta = built(model, as_params(params), "a picture", (of_states,), "hmm(family, k)")
    k = states.shape[1]
    alike = Mixture(np.full(k, 1 / k), theta.components)
    x, one = found.values[:, [column]], np.ones(len(found.values))
    family = inner.parts[1][0]  # type: ignore[index]
    density = along(Scene(mixture(family, k), alike, found, [column], x, one, one[:, None]), 0, margin=1.0)
    if density is None:
        raise ValueError(f"{family!r} does not say what the density of {found.names[column]} alone is: it cannot be drawn.")
    mass = np.cumsum(density.parts @ states.T, axis=0)
    mass /= mass[-1]
    return [density.grid[(mass < level).sum(0)] for level in levels]
