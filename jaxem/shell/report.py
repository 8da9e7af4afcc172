"""What a search found, in words and columns."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from jaxem.restarts import SAME
from jaxem.shell.candidates import Candidate
from jaxem.shell.table import Table
from jaxem.stopping import Status

FEW = 3  # rows for each of its parameters, below which a component is said to rest on few
WIDEST = 6  # columns up to which whole covariance matrices are printed

Rows = Sequence[Sequence[str]]


def table_report(candidates: Sequence[Candidate], chosen: Candidate | None) -> str:
    """Return one line for each number of components, the chosen one marked, and what the columns mean."""
    heading = ("", "components", "log-likelihood", "BIC", "reached best", "steps", "starts ended")
    rows = [heading, *(_row(candidate, candidate is chosen) for candidate in candidates)]
    same = max((candidate.same for candidate in candidates if math.isfinite(candidate.same)), default=SAME)
    notes = [
        "BIC: smaller is better.  steps: median of all starts, and most.",
        f"reached best: of the starts that ran to their end, those that converged within {same:.2g} of the highest.",
        *_explanations(candidates),
    ]
    return "\n".join([*_aligned(rows, left=(0, 6)), "", *notes])


def _row(candidate: Candidate, is_chosen: bool) -> tuple[str, ...]:
    return (
        "*" if is_chosen else "",
        f"{candidate.num_components}",
        f"{float(candidate.best.log_likelihood):.4f}",
        f"{candidate.bic:.2f}",
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


def model_report(chosen: Candidate | None, table: Table, num_candidates: int) -> str:
    """Return the parameters of the chosen model, component by component."""
    if chosen is None:
        return "No start ended with a finite log-likelihood: there is nothing to report. Rescale the columns."
    k, status = chosen.num_components, Status(int(chosen.best.status))
    by = "BIC chooses" if num_candidates > 1 else "The fit:"
    title = f"{by} {k} component{'s' if k > 1 else ''}" + ("." if status == Status.CONVERGED else f" ({_word(status)}).")
    return "\n\n".join([title, *_components(chosen, table.names), *_thin(chosen, len(table.values))])


def _thin(chosen: Candidate, num_rows: int) -> list[str]:
    """Return a warning of components that rest on few rows, whose maxima are often spurious."""
    counts = num_rows * np.asarray(chosen.best.params.weights)
    few = [(i, count) for i, count in enumerate(counts, 1) if count < FEW * chosen.own_parameters]
    if not few:
        return []
    which = " and ".join(f"component {i} on {count:.0f}" for i, count in few)
    return [f"Few rows for the {chosen.own_parameters} parameters that each has: {which}. Such a maximum may be spurious."]


def _components(chosen: Candidate, names: Sequence[str]) -> list[str]:
    weights, means = np.asarray(chosen.best.params.weights), np.asarray(chosen.best.params.components.mean)
    return [
        f"component {i}, weight {weight:.4f}\n" + "\n".join(_aligned(_moments(mean, covariance, names), left=(0,)))
        for i, (weight, mean, covariance) in enumerate(zip(weights, means, chosen.covariances, strict=True), 1)
    ]


def _moments(mean: np.ndarray, covariance: np.ndarray, names: Sequence[str]) -> Rows:
    narrow = len(names) <= WIDEST
    heading = ["", "mean", "sd", *(["covariance", *[""] * (len(names) - 1)] if narrow else [])]
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
