"""What a search found, in words and columns."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxem.restarts import SAME
from jaxem.shell.candidates import Candidate
from jaxem.shell.comparison import Comparison
from jaxem.shell.job import Job
from jaxem.shell.kinds import KINDS
from jaxem.shell.table import Table
from jaxem.stopping import Status

FEW = 3  # rows for each of its parameters, below which a component is said to rest on few
WIDEST = 6  # columns up to which whole covariance matrices are printed

Rows = Sequence[Sequence[str]]


def head_report(job: Job) -> str:
    """Return what is fitted, and how."""
    table, starts = job.table, job.num_restarts
    weighted = "" if table.weights is None else f", weighted (sum {table.weights.sum():g})"
    title = f"{job.source}: {len(table.values)} rows of {', '.join(table.names)}{weighted}"
    how = f"{_components_of(job)}; {starts} random start{'s'[: starts - 1]} each; {table.values.dtype}"
    return "\n".join([title, *table.notes, how])


def _components_of(job: Job) -> str:
    which = "" if job.kind == "gaussian" else f"{job.kind.replace('_', ' ')} components"
    if not job.forms[0]:
        return which
    form = f"{job.forms[0]} covariance" if len(job.forms) == 1 else f"{len(job.forms)} forms of covariance"
    return f"{which}, {form}" if which else form


def table_report(candidates: Sequence[Candidate], chosen: Candidate | None) -> str:
    """Return one line for each number of components, the chosen one marked, and what the columns mean.

    Of several forms, what BIC is above that of the chosen one for each first, and then the lines of the chosen form.
    """
    best = chosen or candidates[0]
    same_form = [candidate for candidate in candidates if candidate.form == best.form]
    heading = ("", "components", "log-likelihood", "BIC", "ΔBIC", "reached best", "steps", "starts ended")
    rows = [heading, *(_row(candidate, candidate is chosen, best.bic) for candidate in same_form)]
    same = max((candidate.same for candidate in same_form if math.isfinite(candidate.same)), default=SAME)
    notes = [
        "BIC: smaller is better; ΔBIC: how far above the chosen one.  steps: median of all starts, and most.",
        f"reached best: of the starts that ran to their end, those that converged within {same:.2g} of the highest.",
        *_explanations(same_form),
    ]
    several = len(same_form) < len(candidates)
    grid = [*_by_form(candidates, best), "", f"{best.form}:"] if several else []
    return "\n".join([*grid, *_aligned(rows, left=(0, 7)), "", *notes])


def _by_form(candidates: Sequence[Candidate], best: Candidate) -> list[str]:
    """Return lines of ΔBIC, forms by numbers of components; what did not converge stands in brackets."""
    counts = list(dict.fromkeys(c.num_components for c in candidates))
    cells = {(c.form, c.num_components): _gap(c, best) for c in candidates}
    forms = dict.fromkeys(c.form for c in candidates)
    rows = [("ΔBIC", *map(str, counts)), *((form, *(cells[form, k] for k in counts)) for form in forms)]
    bracketed = "; in brackets: not converged" if any("(" in cell for cell in cells.values()) else ""
    return [*_aligned(rows, left=(0,)), f"forms by numbers of components; * the chosen one{bracketed}."]


def _gap(candidate: Candidate, best: Candidate) -> str:
    if candidate is best:
        return "*0.00"
    gap = f"{candidate.bic - best.bic:.2f}"
    return gap if Status(int(candidate.best.status)) == Status.CONVERGED else f"({gap})"


def _row(candidate: Candidate, is_chosen: bool, lowest: float) -> tuple[str, ...]:
    return (
        "*" if is_chosen else "",
        f"{candidate.num_components}",
        f"{float(candidate.best.log_likelihood):.4f}",
        f"{candidate.bic:.2f}",
        f"{candidate.bic - lowest:.2f}",
        f"{candidate.reached}/{candidate.ended} ({candidate.reached / candidate.ended:.0%})",
        f"{np.median(candidate.steps):.0f}, {candidate.steps.max()}",
        ", ".join(f"{count} {_word(status)}" for status, count in candidate.statuses.items()),
    )


def _word(status: Status) -> str:
    return status.name.lower().replace("_", " ")


def _explanations(candidates: Sequence[Candidate]) -> list[str]:
    seen = {status for candidate in candidates for status in candidate.statuses} - {Status.CONVERGED}
    unsound = [c.num_components for c in candidates if Status(int(c.best.status)) != Status.CONVERGED]
    warning = f"No start converged with {_listed(unsound)} components: what stands there is no stationary point."
    return [f"{_word(status)}: {status.message}" for status in sorted(seen)] + ([warning] if unsound else [])


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def model_report(chosen: Candidate | None, job: Job, num_candidates: int) -> str:
    """Return the parameters of the chosen model, component by component."""
    if chosen is None:
        return "No start ended with a finite log-likelihood: there is nothing to report. Rescale the columns."
    k, status = chosen.num_components, Status(int(chosen.best.status))
    by = "BIC chooses" if num_candidates > 1 else "The fit:"
    form = f"{chosen.form} with " if len(job.forms) > 1 else ""
    ended = "" if status == Status.CONVERGED else f" ({_word(status)})"
    title = f"{by} {form}{k} component{'s' if k > 1 else ''}{ended}.{_beyond(k, job)}"
    return "\n\n".join([title, *_components(chosen, job), *_thin(chosen, job.table)])


def _beyond(chosen: int, job: Job) -> str:
    """Return a hint where the best number of components is at an end of the range, beyond which there may be a better one."""
    low, high, rows = job.counts[0], job.counts[-1], len(job.table.values)
    wider = (1 if chosen == low else low, min(2 * high, rows) if chosen == high else high)
    if low == high or wider == (low, high):
        return ""
    return f" The best is at the end of the range: try {wider[0]}-{wider[1]}."


def labels_report(comparison: Comparison) -> str:
    """Return a cross table of labels by components, and how well they agree."""
    components = range(1, comparison.counts.shape[1] + 1)
    body = [(label, *(f"{count:g}" for count in row)) for label, row in zip(comparison.labels, comparison.counts, strict=True)]
    unknown = comparison.unlabelled
    left_out = [f"{unknown} row{'s'[: unknown != 1]} without a label: not counted."] if unknown else []
    index = comparison.adjusted_rand
    told = f"adjusted Rand index {index:.4f} (1: the same groups; 0: as by chance)"
    agreement = "no two rows with labels: nothing to compare" if math.isnan(index) else told
    return "\n".join([*_aligned([("component", *map(str, components)), *body], left=(0,)), *left_out, agreement])


def _thin(chosen: Candidate, table: Table) -> list[str]:
    """Return a warning of components that rest on few rows, whose maxima are often spurious."""
    total = len(table.values) if table.weights is None else float(table.weights.sum())
    counts = total * np.asarray(chosen.best.params.weights)
    few = [(i, count) for i, count in enumerate(counts, 1) if count < FEW * chosen.own_parameters]
    if not few:
        return []
    which = " and ".join(f"component {i} on {count:.0f}" for i, count in few)
    return [f"Few rows for the {chosen.own_parameters} parameters that each has: {which}. Such a maximum may be spurious."]


def _components(chosen: Candidate, job: Job) -> list[str]:
    """Return a heading for each component, with its weight and what it has once, and a table of what it has by column."""
    components, weights = chosen.best.params.components, np.asarray(chosen.best.params.weights)
    found = {name: np.asarray(leaf) for name, leaf in components._asdict().items() if hasattr(leaf, "ndim")}
    spreads = chosen.covariances
    if spreads is None:
        own = {name: leaf for name, leaf in found.items() if leaf.ndim == 1}
        tables = _plain_tables({name: leaf for name, leaf in found.items() if leaf.ndim > 1}, components, job)
    else:
        centre, spread = components._fields[:2]
        means, own = found[centre], {name: leaf for name, leaf in found.items() if name not in (centre, spread)}
        names = job.table.names
        tables = [_moments(m, s, names, (centre, spread)) for m, s in zip(means, spreads, strict=True)]
    return [
        f"component {i + 1}, weight {weight:.4f}{''.join(f', {n} {leaf[i]:.4g}' for n, leaf in own.items())}\n"
        + "\n".join(_aligned(tables[i], left=(0,)))
        for i, weight in enumerate(weights)
    ]


def _plain_tables(parameters: Mapping[str, np.ndarray], components: Any, job: Job) -> list[Rows]:
    """Return a table for each component: a line for each column, with its mean and the parameters (k, d)."""
    mean = KINDS[job.kind].mean
    shown = ({} if mean is None else {"mean": mean(components)}) | dict(parameters)
    values = np.stack(list(shown.values()), axis=-1)  # (k, d, parameters)
    lines = [[[f"  {n}", *(f"{v:.5g}" for v in row)] for n, row in zip(job.table.names, one, strict=True)] for one in values]
    return [[["", *shown], *body] for body in lines]


def _moments(mean: np.ndarray, covariance: np.ndarray, names: Sequence[str], called: tuple[str, str]) -> Rows:
    """Return a line for each column; of Student-t components, whose scale is no covariance, its roots are no sd."""
    centre, spread = called
    narrow = len(names) <= WIDEST
    heading = ["", centre, "sd" if centre == "mean" else f"√{spread}", *([spread, *[""] * (len(names) - 1)] if narrow else [])]
    body = [
        [f"  {name}", _to_digits_of(v**0.5, m), f"{v**0.5:.4g}", *(f"{entry:.4g}" for entry in (row if narrow else ()))]
        for name, m, v, row in zip(names, mean, np.diagonal(covariance), covariance, strict=True)
    ]
    return [heading, *body]


def _to_digits_of(spread: float, value: float) -> str:
    """Return `value` to a thousandth of the leading digit of `spread`."""
    decimals = 3 - math.floor(math.log10(spread)) if spread > 0 else 3
    return f"{value:.{decimals}f}" if 0 <= decimals <= 12 else f"{value:.6g}"


def _aligned(rows: Rows, left: Sequence[int]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(_pad(cell, w, i in left) for i, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]


def _pad(cell: str, width: int, to_left: bool) -> str:
    return cell.ljust(width) if to_left else cell.rjust(width)
