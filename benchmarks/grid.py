"""A sweep of sizes beside scikit-learn, none of them tuned: single fits, and searches with default settings.

Single fits take the same number of steps from the same start. Searches are `fit_restarts` as it comes beside `n_init` to a
gain of `TOL` a row, and the best of both are told. Each beside scikit-learn at its better thread setting, after compilation.
"""

import math
import statistics
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxem
from benchmarks import peers
from benchmarks.measure import Timing, in_turn
from benchmarks.peers import Stop
from benchmarks.problems import Size, clusters, labelled_clusters, log_likelihood, start_at_rows, start_near_truth
from benchmarks.report import Row, nats, seconds, verdict
from benchmarks.restarts import as_solution, n_init, of_scikit_learn

PEER = "scikit-learn"
AT_LEAST, ON_AVERAGE = 1.5, 10.0
WORK = 1e9  # multiplications that a single fit's steps come to, where that makes a sensible number of steps
EACH = 30  # multiplications that a row's density and share in one component are taken for, besides those of its distance
FEWEST_STEPS, MOST_STEPS = 3, 100
TRUTH, ROWS = "near the truth", "on random rows"


class Cell(NamedTuple):
    """One size of one form; `start` of a single fit in words, or the number of starts of a search."""

    form: str
    size: Size
    start: str | int

    def __str__(self) -> str:
        return f"{self.form}, {self.size}, {self.start}{' starts' if isinstance(self.start, int) else ''}"


def _cells(*rows: tuple[str, int, int, int, Any]) -> list[Cell]:
    return [Cell(form, Size(n, d, k), start) for form, n, d, k, start in rows]


SINGLE = _cells(
    ("full", 272, 2, 2, TRUTH),
    ("full", 1_000, 1, 3, ROWS),
    ("full", 1_000, 2, 5, ROWS),
    ("full", 300, 32, 2, TRUTH),
    ("full", 500, 16, 4, ROWS),
    ("full", 2_000, 64, 2, TRUTH),
    ("full", 20_000, 8, 10, ROWS),
    ("full", 100_000, 16, 16, ROWS),
    ("full", 200_000, 2, 50, ROWS),
    ("full", 1_000_000, 2, 3, TRUTH),
    ("full", 1_000_000, 8, 4, TRUTH),
    ("full", 5_000, 256, 3, TRUTH),
    ("full", 3_000, 784, 1, ROWS),
    ("full", 20_000, 128, 4, ROWS),
    ("full", 50_000, 64, 8, ROWS),
    ("full", 10_000, 32, 64, ROWS),
    ("tied", 272, 2, 2, TRUTH),
    ("tied", 1_000, 16, 8, ROWS),
    ("tied", 50_000, 16, 16, ROWS),
    ("tied", 10_000, 128, 8, TRUTH),
    ("tied", 3_000, 784, 2, TRUTH),
    ("tied", 1_000_000, 4, 3, TRUTH),
    ("diag", 272, 2, 3, ROWS),
    ("diag", 1_000, 16, 8, ROWS),
    ("diag", 1_000, 64, 4, TRUTH),
    ("diag", 50_000, 64, 64, ROWS),
    ("diag", 5_000, 784, 10, TRUTH),
    ("diag", 20_000, 256, 20, ROWS),
    ("diag", 500_000, 32, 32, ROWS),
    ("diag", 1_000_000, 1, 4, TRUTH),
    ("diag", 200_000, 8, 64, ROWS),
    ("spherical", 272, 2, 3, TRUTH),
    ("spherical", 2_000, 32, 10, ROWS),
    ("spherical", 30_000, 128, 64, ROWS),
    ("spherical", 5_000, 784, 10, ROWS),
    ("spherical", 100_000, 16, 32, TRUTH),
    ("spherical", 1_000_000, 2, 8, ROWS),
)
SEARCHES = _cells(
    ("full", 272, 2, 2, 64),
    ("full", 1_000, 1, 3, 32),
    ("full", 1_000, 2, 5, 64),
    ("full", 500, 16, 4, 64),
    ("full", 300, 32, 2, 32),
    ("full", 5_000, 4, 6, 32),
    ("full", 20_000, 8, 10, 16),
    ("tied", 500, 4, 3, 64),
    ("tied", 1_000, 16, 8, 64),
    ("diag", 1_000, 16, 8, 64),
    ("diag", 1_000, 64, 8, 64),
    ("diag", 20_000, 8, 10, 16),
    ("spherical", 272, 2, 3, 64),
    ("spherical", 2_000, 32, 10, 32),
)


class Outcome(NamedTuple):
    """What came of a cell: median seconds, scikit-learn's at its better setting, and the log-likelihoods of both."""

    cell: Cell
    ours: float
    theirs: float
    log_likelihood: float
    peer_log_likelihood: float
    record: dict[str, Any]

    @property
    def ratio(self) -> float:
        return self.theirs / self.ours


def grid(repeats: int, cells: list[Cell], on_outcome: Callable[[Outcome], None]) -> list[Outcome]:
    """Return what came of each cell, the worst first."""
    outcomes = []
    for cell in cells:
        print(f"{cell} …", file=sys.stderr, flush=True)
        outcomes.append(_search(cell, repeats) if isinstance(cell.start, int) else _single(cell, repeats))
        on_outcome(outcomes[-1])
    return sorted(outcomes, key=lambda outcome: outcome.ratio)


def _single(cell: Cell, repeats: int) -> Outcome:
    form, size = cell.form, cell.size
    x, labels = labelled_clusters(0, size, spread=1.0)
    near = cell.start == TRUTH
    start = start_near_truth(x, labels, size.k, form) if near else start_at_rows(1, x, size.k, form)
    work = size.n * size.k * (EACH + size.d * (size.d if form in ("full", "tied") else 1))
    stop = Stop(int(np.clip(WORK / work, FEWEST_STEPS, MOST_STEPS)))
    runs = {"jaxem": peers.jaxem(x, form, [start], stop), PEER: peers.scikit_learn(x, form, [start], stop)}
    timings = in_turn(runs, repeats)
    ends = {name: log_likelihood(t.result[0].solution, x, form) for name, t in timings.items() if _ended(t)}
    return _outcome(cell, timings, ends, {"num_steps": stop.max_steps})


def _search(cell: Cell, repeats: int) -> Outcome:
    form, size, num_restarts = cell.form, cell.size, int(cell.start)
    x = clusters(0, size, spread=1.0)
    model = jaxem.mixture(jaxem.families.gaussian(form), size.k)
    data = jax.numpy.asarray(x)

    def ours() -> Any:
        return jax.block_until_ready(jaxem.fit_restarts(model, jax.random.key(0), data, num_restarts=num_restarts))

    timings = in_turn({"jaxem": ours, PEER: n_init(x, form, size.k, num_restarts)}, repeats)
    ends = {"jaxem": log_likelihood(as_solution(timings["jaxem"].result.best.params), x, form)}
    peer = {name: timing.result for name, timing in timings.items() if name != "jaxem" and not timing.failure}
    ends |= {name: log_likelihood(of_scikit_learn(found), x, form) for name, found in peer.items()}
    return _outcome(cell, timings, ends, {"num_restarts": num_restarts})


def _ended(timing: Timing) -> bool:
    return not timing.failure and timing.result[0].solution is not None


def _outcome(cell: Cell, timings: dict[str, Timing], ends: dict[str, float], more: dict[str, Any]) -> Outcome:
    peer = {name: timing.median for name, timing in timings.items() if name != "jaxem" and name in ends}
    best = min(peer, key=peer.__getitem__, default="")
    record = {
        "form": cell.form,
        "size": cell.size._asdict(),
        "start": cell.start,
        **more,
        "timings": {name: timing.record() for name, timing in timings.items()},
        "log_likelihood": ends,
    }
    return Outcome(cell, timings["jaxem"].median, peer.get(best, math.nan), ends["jaxem"], ends.get(best, math.nan), record)


def summary(outcomes: list[Outcome]) -> str:
    """Return worst, median, geometric mean and best of the ratios, and whether what was asked of them is met."""
    ratios = sorted(outcome.ratio for outcome in outcomes if outcome.ratio == outcome.ratio)
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    return (
        f"{len(ratios)} cells: worst {ratios[0]:.2f}×, median {statistics.median(ratios):.1f}×, "
        f"geometric mean {mean:.1f}×, best {ratios[-1]:.0f}×; "
        f"{verdict(f'≥ {AT_LEAST}× in each', ratios[0] >= AT_LEAST)}; {verdict(f'mean ≥ {ON_AVERAGE:g}×', mean >= ON_AVERAGE)}"
    )


def table(outcomes: list[Outcome]) -> str:
    """Return one line for each cell."""
    lines = ["| what | jaxem | scikit-learn | ratio | log-likelihood | beside |", "|---|---|---|---|---|---|"]
    for one in outcomes:
        apart = one.log_likelihood - one.peer_log_likelihood
        lines.append(
            f"| {one.cell} | {seconds(one.ours)} | {seconds(one.theirs)} | {one.ratio:.2f}× "
            f"| {nats(one.log_likelihood, 2)} | {apart:+.2f} |"
        )
    return "\n".join(lines)


def rows(repeats: int, quick: bool, on_row: Callable[[dict[str, Row]], None]) -> str:
    """Run both sweeps, keep what they found by `on_row` as they go, and return what is to be shown."""
    warnings.filterwarnings("ignore", category=UserWarning)  # that a peer stopped before its tolerance is meant
    shown, kept = [], {}
    for name, cells in (("single fits", SINGLE), ("searches", SEARCHES)):
        records: list[Any] = []

        def keep(outcome: Outcome, name: str = name, records: list[Any] = records) -> None:
            records.append(outcome.record)
            on_row(kept | {name: Row([], {"cells": records})})

        found = grid(repeats, [cell for cell in cells if not quick or cell.size.n <= 1_000], keep)
        kept[name] = Row([], {"cells": records, "summary": summary(found)})
        on_row(kept)
        shown.append(f"{name}: {summary(found)}\n\n{table(found)}")
    return "\n\n".join(shown)
