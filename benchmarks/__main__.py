"""Run the benchmarks: `python -m benchmarks [WHAT] [--only NAME ...] [--repeats N] [--quick] [--output DIR]`."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import grid, mixtures, report, sequences
from benchmarks.rows import ROWS


def main() -> None:
    """Run the chosen rows, print one table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Side-by-side timings with peers.")
    parser.add_argument(
        "what",
        nargs="?",
        choices=("table", "grid", "mixtures", "sequences"),
        default="table",
        help="rows, a sweep of sizes, peers in R, or hidden Markov models",
    )
    names = [*ROWS, *mixtures.WORKS, *sequences.WORKS]
    parser.add_argument("--only", action="append", choices=names, help="run this row alone; may be repeated")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each contender (default 5)")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results", help="folder for the JSON")
    arguments = parser.parse_args()
    works = {"mixtures": mixtures, "sequences": sequences}
    choices = {"table": ROWS, "grid": {}, **{name: module.WORKS for name, module in works.items()}}[arguments.what]
    if not set(arguments.only or ()) <= set(choices):
        parser.error(f"--only chooses among {', '.join(choices) or 'nothing'} there")

    origin = report.provenance(arguments.repeats, arguments.quick)
    kind = f"{'' if arguments.what == 'table' else f'-{arguments.what}'}{'-quick' * arguments.quick}"
    path = arguments.output / f"{datetime.now(UTC):%Y-%m-%dT%H%M}{kind}.json"
    if arguments.what in works:
        options = report.Options(arguments.repeats, arguments.quick)
        print(
            works[arguments.what].rows(arguments.only or list(choices), options, lambda rows: report.write(path, origin, rows))
        )
    elif arguments.what == "grid":
        print(grid.rows(arguments.repeats, arguments.quick, lambda rows: report.write(path, origin, rows)))
    else:
        print(_table(arguments, path, origin))
    print(f"\n{report.summary(origin)}\n")
    print(f"Every figure: {path}", file=sys.stderr)


def _table(arguments: argparse.Namespace, path: Path, origin: dict[str, Any]) -> str:
    rows = {}
    for name in arguments.only or ROWS:
        print(f"{name} …", file=sys.stderr, flush=True)
        rows[name] = ROWS[name](report.Options(arguments.repeats, arguments.quick))
        report.write(path, origin, rows)  # after each, so that none is lost if a later one fails
    return report.table([line for row in rows.values() for line in row.lines])


if __name__ == "__main__":
    main()
