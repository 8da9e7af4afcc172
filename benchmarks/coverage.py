"""How often 95 % intervals hold the truth: `python -m benchmarks.coverage [--sets N] [--seconds S]`.

Data of 1 000 rows are simulated from two components three standard deviations apart, fitted from the truth, and given
intervals by the observed information, estimate ± 1.96 errors, and by the weighted bootstrap, quantiles of 200 refits. A call
goes on where the one before it ended.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

import jaxem
from benchmarks import report
from jaxem import families

ROWS, SAMPLES, LEVEL, QUANTILE = 1000, 200, 0.95, 1.959963984540054
RESULT = Path(__file__).parent / "results" / "coverage.json"


class Case(NamedTuple):
    """A model, and the parameters that its data are drawn at."""

    model: jaxem.Model
    truth: Any


CASES = {
    "two Gaussians": Case(
        jaxem.mixture(families.gaussian(), 2),
        jaxem.Mixture(np.array([0.4, 0.6]), families.Gaussian(np.array([[0.0], [3.0]]), np.ones((2, 1, 1)))),
    ),
    "two Poissons": Case(
        jaxem.mixture(families.poisson(), 2),
        jaxem.Mixture(np.array([0.4, 0.6]), families.Poisson(np.array([4.0, 12.25]))),
    ),
}


def intervals(case: Case, number: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return (lower, upper) of all parameters by each method, for the data set of this number."""
    key, again = jax.random.split(jax.random.key(number))
    x = np.asarray(case.model.sample(key, case.truth, ROWS)[0])
    fit = jaxem.fit(case.model, case.truth, x, solver=jaxem.squarem())
    found = ravel_pytree(fit.params)[0]
    reach = QUANTILE * ravel_pytree(jaxem.standard_errors(case.model, fit, x).errors)[0]
    resampled = jaxem.bootstrap(case.model, again, fit, x, num_samples=SAMPLES, level=LEVEL).intervals
    ends = {"observed": (found - reach, found + reach), "bootstrap": tuple(ravel_pytree(end)[0] for end in resampled)}
    return {method: (np.asarray(lower), np.asarray(upper)) for method, (lower, upper) in ends.items()}


def go_on(record: dict[str, Any], name: str, sets: int, until: float) -> None:
    """Add data sets to the record of a case, up to so many or until the time is over."""
    case = CASES[name]
    names, truth = jaxem.parameter_names(case.model, case.truth), np.asarray(ravel_pytree(case.truth)[0])
    known = record.setdefault(name, {"sets": 0, "misses": {}})
    while known["sets"] < sets and time.monotonic() < until:
        for method, (lower, upper) in intervals(case, known["sets"]).items():
            misses = known["misses"].setdefault(method, {place: [] for place in names})
            for place in np.flatnonzero(~((lower <= truth) & (truth <= upper))):
                misses[names[place]].append(known["sets"])
        known["sets"] += 1


def table(record: dict[str, Any]) -> str:
    """Return coverage of each parameter, ± 2 Monte Carlo standard deviations, with what is outside 93-97 % marked."""
    lines = ["| data | method | parameter | coverage, % | ± 2 sd |", "|---|---|---|---|---|"]
    for name, known in record.items():
        for method, misses in known["misses"].items():
            for parameter, missed in misses.items():
                share = 1 - len(missed) / known["sets"]
                spread = 2 * np.sqrt(share * (1 - share) / known["sets"])
                mark = "" if 0.93 <= round(share, 6) <= 0.97 else " *"
                lines.append(f"| {name} | {method} | {parameter} | {100 * share:.1f}{mark} | {100 * spread:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Go on with the record, keep it, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description="Coverage of 95 % intervals.")
    parser.add_argument("--sets", type=int, default=1000, help="simulated data sets of each case (default 1000)")
    parser.add_argument("--seconds", type=float, default=np.inf, help="stop after so long; the next call goes on from there")
    parser.add_argument("--output", type=Path, default=RESULT, help="the JSON that is kept")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    until = time.monotonic() + arguments.seconds
    record = json.loads(arguments.output.read_text())["cases"] if arguments.output.exists() else {}
    for name in CASES:
        go_on(record, name, arguments.sets, until)
        kept = {"origin": report.provenance(1, False), "cases": record}
        arguments.output.write_text(json.dumps(kept, indent=1) + "\n")
    print(table(record))


if __name__ == "__main__":
    main()
