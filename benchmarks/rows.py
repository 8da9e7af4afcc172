"""The rows of the table: sizes, and what was to be reached."""

from collections.abc import Callable
from functools import partial

from benchmarks.each import each
from benchmarks.problems import Size
from benchmarks.processes import acceleration, first_fit, peak_memory
from benchmarks.report import Options, Row
from benchmarks.restarts import restarts
from benchmarks.steps import ten_steps

ROWS: dict[str, Callable[[Options], Row]] = {
    "full": partial(ten_steps, "full", Size(100_000, 16, 16), 10),
    "diag": partial(ten_steps, "diag", Size(500_000, 32, 32), 12),
    "restarts-small": partial(restarts, Size(1_000, 2, 5), 2.0, 64, 8, 2),
    "restarts-large": partial(restarts, Size(20_000, 8, 10), 1.0, 16, 20, None),
    "each-gaussian": partial(each, "gaussian", 5_000, 20),
    "each-poisson": partial(each, "poisson", 5_000, 20),
    "memory": partial(peak_memory, Size(4_000_000, 16, 32), 0.25),
    "first-fit": partial(first_fit, 3.0),
    "squarem": acceleration,
}
