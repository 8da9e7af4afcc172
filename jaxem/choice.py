"""Which of several models to believe: each is fitted, and an information criterion, or rows held out, choose."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from jaxem.arrays import at_least_one, check_progress, is_traced
from jaxem.boundary import as_key, check_model, check_weights
from jaxem.criteria import aic, aicc, bic, icl, num_free_parameters
from jaxem.fitting import Fit, check_control
from jaxem.model import Family, Model, PyTree, check_family
from jaxem.models.mixture import mixture
from jaxem.models.parts import num_components_of
from jaxem.progress import advance, progress_of
from jaxem.reports import aligned
from jaxem.restarts import fit_restarts
from jaxem.selection import search_counts
from jaxem.solvers import Solver, squarem
from jaxem.stopping import Status
from jaxem.validation import cross_validate

CRITERIA: dict[str, Callable[..., float]] = {"bic": bic, "aic": aic, "aicc": aicc, "icl": icl}
HELD_OUT = "cv"  # the criterion that is larger where better
NAMES = (*CRITERIA, HELD_OUT)
FAILED = "FAILED"  # in the place of a status, where there is no fit or no criterion of it
MAY_WIN: tuple[Set[Status], ...] = ({Status.CONVERGED}, {Status.MAX_STEPS, Status.STALLED})

Row = dict[str, Any]


class Mixtures(NamedTuple):
    """Mixtures of each of several families, by name, with each of several numbers of components: what `mixtures` returns.

    >>> import jaxem
    >>> jaxem.mixtures({"Poisson": jaxem.families.poisson()}, range(1, 4)).num_components
    (1, 2, 3)
    """

    families: Mapping[str, Family]
    num_components: tuple[int, ...]


class Chosen(NamedTuple):
    """The candidate that `select` prefers: its name, its model and its best Fit; its number of components, if it has one.

    >>> import jaxem
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> best = jaxem.select({"Poisson": model}, 0, [3.0, 1.0, 2.0, 6.0], num_restarts=1).best
    >>> print(best.name, best.fit.params.rate)
    Poisson [3.]
    """

    name: str
    model: Model
    fit: Fit
    num_components: int | None


class Selection(NamedTuple):
    """What comes back from `select`: the best candidate, None where none may win, and a dict of numbers for each.

    table holds, for each candidate, name, num_components, log_likelihood, num_free_parameters, the criterion under its own
    name, status (a `Status` by name, or "FAILED") and message, which says what that means.

    >>> import jaxem
    >>> x = jaxem.datasets.galaxies()
    >>> forms = {form: jaxem.families.gaussian(form) for form in ("tied", "full")}
    >>> jaxem.select(jaxem.mixtures(forms, range(1, 4)), 0, x, num_restarts=8)
    bic, smaller is better; * the best
    components        1        2         3
    tied        1622.52  1611.50   1584.67
    full        1622.52  1595.29  *1575.09
    best: full with 3 components, CONVERGED, log-likelihood -769.92, 8 free parameters
    """

    best: Chosen | None
    table: list[Row]

    def __repr__(self) -> str:
        """Return the criterion of all candidates, families by numbers of components, and a line on the best."""
        criterion = next(name for name in NAMES if name in self.table[0])
        better = "larger" if criterion == HELD_OUT else "smaller"
        return "\n".join([f"{criterion}, {better} is better; * the best", *aligned(_cells(self)), *_notes(self)])


def mixtures(families: Mapping[str, Family], num_components: Sequence[int]) -> Mixtures:
    """Return the candidates for `select` that are mixtures of each family with each number of components.

    Raises ValueError for no family and no number, for what is no Family, for a number below one, and for one given twice.

    >>> import jaxem
    >>> candidates = jaxem.mixtures({form: jaxem.families.gaussian(form) for form in ("EEE", "VVV")}, range(1, 10))
    >>> list(candidates.families), candidates.num_components[-1]
    (['EEE', 'VVV'], 9)
    """
    if not isinstance(families, Mapping) or not families:
        raise ValueError(f'families must be a dict of at least one, such as {{"VVV": families.gaussian()}}, got {families!r}.')
    for name, family in families.items():
        check_family(family, f"families[{name!r}]")
    counts = [num_components] if np.ndim(num_components) == 0 else num_components
    numbers = tuple(at_least_one("num_components", count) for count in counts)
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"num_components must be different numbers, at least one, got {num_components!r}.")
    return Mixtures(dict(families), numbers)


class _Tried(NamedTuple):
    """What came of a candidate: its best Fit and the criterion of it, or why there is none."""

    name: str
    model: Model
    fit: Fit | None = None
    value: float = math.nan
    error: str | None = None

    @property
    def status(self) -> Status | None:
        """How the best fit ended; None where the candidate failed."""
        return None if self.fit is None or self.error else Status(int(self.fit.status))


def select(
    candidates: Mapping[str, Model] | Mixtures,
    key: Any,
    data: PyTree,
    weights: Any = None,
    *,
    criterion: str = "bic",
    num_restarts: int = 64,
    num_folds: int = 10,
    solver: Solver = squarem(),
    tol: float = 1e-8,
    max_steps: int = 10_000,
    on_progress: Callable[[int], None] | None = None,
    progress: bool = False,
) -> Selection:
    """Fit each candidate from many random starts, and choose one by a criterion.

    candidates: a dict of models by name, or `mixtures(families, range of k)`, of which each family is searched by one program
    where it has no prior. criterion: "bic", "aic", "aicc", "icl", smaller where better, or "cv", the log-likelihood of rows
    that are left out in turn (`cross_validate` with the same key, `num_folds` and at most 8 starts), larger where better.
    The best is the best of those that CONVERGED, else of those that are unfinished (MAX_STEPS, STALLED). A candidate that
    is DEGENERATE, NONFINITE or FAILED, as its fit or criterion raised ValueError, stays in the table and never wins.
    `key`, `solver`, `tol` and `max_steps` are those of `fit_restarts`; `on_progress` is told how many candidates are done,
    and `progress` shows it on stderr. A best that is a saddle is left by candidates given as models, as `fit_restarts` does;
    of `mixtures` it is not looked for: `escape` leaves it.

    Raises ValueError for another criterion, for what are no candidates, as `fit_restarts` does, where all candidates fail,
    and under a trace.

    >>> import jaxem
    >>> x, weights = jaxem.datasets.london_times_deaths()
    >>> models = {f"{k} rates": jaxem.mixture(jaxem.families.poisson(), k) for k in (1, 2)}
    >>> found = jaxem.select(models, 0, x, weights, criterion="aic", num_restarts=4)
    >>> print(found.best.name, f"{found.table[1]['aic']:.1f}")
    2 rates 3985.9
    """
    if criterion not in NAMES:
        raise ValueError(f"criterion must be one of {', '.join(NAMES)}, got {criterion!r}.")
    if is_traced(key, data, weights):
        raise ValueError("select looks at values and runs programs of its own: call it outside jit and vmap.")
    check_progress(on_progress)
    key, num_restarts = as_key(key), at_least_one("num_restarts", num_restarts)
    max_steps, num_folds = check_control(solver, tol, max_steps), at_least_one("num_folds", num_folds)

    def alone(model: Model) -> Fit:
        found = fit_restarts(model, key, data, weights, num_restarts=num_restarts, solver=solver, tol=tol, max_steps=max_steps)
        return found.best

    def together(family: Family, counts: Sequence[int]) -> list[Fit]:
        found = search_counts(
            family, key, data, weights, counts=counts, num_restarts=num_restarts, solver=solver, tol=tol, max_steps=max_steps
        )
        return [search.best for search in found]

    def worth(model: Model, fit: Fit) -> float:
        if criterion != HELD_OUT:
            return CRITERIA[criterion](model, fit, data, weights)
        few = min(num_restarts, 8)
        heights = np.asarray(
            cross_validate(
                model, key, data, weights, num_folds=num_folds, num_restarts=few, solver=solver, tol=tol, max_steps=max_steps
            )
        )
        return float(heights.sum() if weights is None else heights @ np.asarray(check_weights(weights, len(heights))))

    tried: list[_Tried] = []
    candidates = _checked(candidates)
    with progress_of("candidates", _number_of(candidates), progress):
        for found in _fitted(candidates, alone, together):
            tried += [_judged(one, worth) for one in found]
            advance(len(found))
            if on_progress:
                on_progress(len(tried))
    return _selection(tried, criterion)


def _checked(candidates: Any) -> Mapping[str, Model] | Mixtures:
    if isinstance(candidates, Mixtures):
        return mixtures(*candidates)
    if not isinstance(candidates, Mapping) or not candidates:
        raise ValueError(f"candidates must be a dict of at least one Model, or jaxem.mixtures(…), got {candidates!r}.")
    for model in candidates.values():
        check_model(model)
    return candidates


def _number_of(candidates: Mapping[str, Model] | Mixtures) -> int:
    if isinstance(candidates, Mixtures):
        return len(candidates.families) * len(candidates.num_components)
    return len(candidates)


def _fitted(
    candidates: Mapping[str, Model] | Mixtures,
    alone: Callable[[Model], Fit],
    together: Callable[[Family, Sequence[int]], list[Fit]],
) -> Iterator[list[_Tried]]:
    """Fit candidates, in the order of the table; all numbers of components of a family are done at once."""
    if not isinstance(candidates, Mixtures):
        yield from ([_tried(name, model, alone)] for name, model in candidates.items())
        return
    for name, family in candidates.families.items():
        models = [mixture(family, k) for k in candidates.num_components]
        try:
            fits = together(family, candidates.num_components)
        except ValueError:  # a prior counts components, or rows are too few for the most: each says so for itself
            yield [_tried(name, model, alone) for model in models]
        else:
            yield [_Tried(name, model, fit) for model, fit in zip(models, fits, strict=True)]


def _tried(name: str, model: Model, alone: Callable[[Model], Fit]) -> _Tried:
    try:
        return _Tried(name, model, alone(model))
    except ValueError as error:
        return _Tried(name, model, error=str(error))


def _judged(tried: _Tried, worth: Callable[[Model, Fit], float]) -> _Tried:
    if tried.fit is None:
        return tried
    try:
        return tried._replace(value=worth(tried.model, tried.fit))
    except ValueError as error:
        return tried._replace(error=str(error))


def _selection(tried: Sequence[_Tried], criterion: str) -> Selection:
    if all(one.error for one in tried):
        raise ValueError(f"none of the candidates could be fitted and judged; {tried[0].name}: {tried[0].error}")
    sign = -1 if criterion == HELD_OUT else 1
    place = foremost([sign * one.value for one in tried], [one.status for one in tried])
    return Selection(None if place is None else _chosen(tried[place]), [_row(one, criterion) for one in tried])


def foremost(
    values: Sequence[float], statuses: Sequence[Status | None], may_win: Sequence[Set[Status]] = MAY_WIN
) -> int | None:
    """Return the place of the smallest finite value of those that ended in the first way of `may_win` that any did."""
    for ends in may_win:
        places = [i for i, status in enumerate(statuses) if status in ends and math.isfinite(values[i])]
        if places:
            return min(places, key=values.__getitem__)
    return None


def _chosen(one: _Tried) -> Chosen:
    assert one.fit is not None
    return Chosen(one.name, one.model, one.fit, num_components_of(one.model))


def _row(one: _Tried, criterion: str) -> Row:
    status = one.status
    return {
        "name": one.name,
        "num_components": num_components_of(one.model),
        "log_likelihood": math.nan if one.fit is None else float(one.fit.log_likelihood),
        "num_free_parameters": None if one.fit is None else num_free_parameters(one.model, one.fit.params),
        criterion: one.value,
        "status": FAILED if status is None else status.name,
        "message": one.error if status is None else status.message,
    }


def _cells(selection: Selection) -> list[list[str]]:
    """Return a line for each name and a column for each number of components; one column where no name has several."""
    table, best = selection.table, selection.best
    names = list(dict.fromkeys(row["name"] for row in table))
    cells = [
        _cell(row, best is not None and (row["name"], row["num_components"]) == (best.name, best.num_components))
        for row in table
    ]
    if len(names) == len(table):
        return [[str(name), cell] for name, cell in zip(names, cells, strict=True)]
    width = len(table) // len(names)
    heading = ["components", *(str(row["num_components"]) for row in table[:width])]
    return [heading, *([str(name), *cells[i * width : (i + 1) * width]] for i, name in enumerate(names))]


def _cell(row: Row, is_best: bool) -> str:
    value = next(row[name] for name in NAMES if name in row)
    if not math.isfinite(value):
        return "-"
    return f"{'*' if is_best else ''}{value:.2f}" if row["status"] in _names(MAY_WIN) else f"({value:.2f})"


def _names(ends: Sequence[Set[Status]]) -> list[str]:
    return [status.name for some in ends for status in some]


def _notes(selection: Selection) -> list[str]:
    """Return a line on those that did not converge, and one on the best."""
    counts: dict[str, int] = {}
    for row in selection.table:
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    others = [f"{count} {status}" for status, count in sorted(counts.items()) if status != Status.CONVERGED.name]
    notes = [f"not CONVERGED: {', '.join(others)}; what never wins stands in brackets"] if others else []
    by_number = len({row["name"] for row in selection.table}) < len(selection.table)
    return [*notes, _line_on(selection.best, by_number)]


def _line_on(best: Chosen | None, by_number: bool) -> str:
    if best is None:
        return "best: none, as no candidate ended sound"
    k, count = best.num_components, num_free_parameters(best.model, best.fit.params)
    name = best.name if k is None or not by_number else f"{best.name} with {k} component{'s'[: k != 1]}"
    status = Status(int(best.fit.status)).name
    return f"best: {name}, {status}, log-likelihood {float(best.fit.log_likelihood):.2f}, {count} free parameters"
