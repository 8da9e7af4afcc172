"""What is measured in processes of its own: peak memory, the first fit, and float64 beside a float32 run."""

import statistics
from typing import Any

from benchmarks import peers
from benchmarks.measure import in_fresh_process
from benchmarks.problems import Size
from benchmarks.report import Line, Options, Row, against, megabytes, nats, seconds, verdict

NUM_STEPS = 2
SMALLER = {"gmmx": 16}  # it holds several arrays of n·k·d numbers: at full size more than most machines have


def peak_memory(size: Size, share: float, options: Options) -> Row:
    """Measure each library's peak of resident memory beyond the data: of a second fit, and of a first that compiles."""
    size = options.cut(size)
    found = {}
    for name in peers.installed():
        n = size.n // SMALLER.get(name, 1)
        found[name] = in_fresh_process("peak_memory", library=name, n=n, d=size.d, k=size.k, steps=NUM_STEPS)
    ours = found["jaxem"]
    goal = ""
    if "failure" not in ours:
        data = f"{share:.0%} of the data's {megabytes(ours['data'])}"
        goal = verdict(f"≤ {data}", ours["second_fit"] <= share * ours["data"])
    lines = [
        Line(f"peak memory beyond the data, full, {size}, {NUM_STEPS} steps", _peaks(found, "second_fit"), goal),
        Line("… of a first fit, compilation included", _peaks(found, "first_fit")),
    ]
    return Row(lines, {"size": size._asdict(), "dtype": "float32", "num_steps": NUM_STEPS, "bytes": found})


def _peaks(found: dict[str, dict[str, Any]], which: str) -> dict[str, str]:
    def cell(name: str, peak: dict[str, Any]) -> str:
        if "failure" in peak:
            return f"failed: {peak['failure']}"
        smaller = f" at n / {SMALLER[name]}" if name in SMALLER else ""
        return f"{megabytes(peak[which])} ({peak[which] / peak['data']:.3g}× the data{smaller})"

    return {name: cell(name, peak) for name, peak in found.items()}


def first_fit(at_most: float, options: Options) -> Row:
    """Time import and first fit in new interpreters, in turn with scikit-learn, after one to warm the file cache."""
    import jaxem

    rows = jaxem.datasets.faithful().tolist()
    tasks: dict[str, tuple[str, dict[str, Any]]] = {"jaxem": ("first_fit_jaxem", {})}
    if "scikit-learn" in peers.installed():
        tasks["scikit-learn"] = ("first_fit_scikit_learn", {"rows": rows})
    rounds = [
        {name: in_fresh_process(task, **given) for name, (task, given) in tasks.items()} for _ in range(1 + options.repeats)
    ]
    runs = {name: [found[name] for found in rounds[1:] if "failure" not in found[name]] for name in tasks}
    median = {
        name: {part: statistics.median(run[part] for run in ran) for part in ("import", "fit", "total")}
        for name, ran in runs.items()
        if ran
    }
    ours = median["jaxem"]
    theirs = {name: against(parts["total"], ours["total"]) for name, parts in median.items() if name != "jaxem"}
    lines = [
        Line(
            f"import and first fit, Old Faithful, n = {len(rows)}",
            {"jaxem": seconds(ours["total"]), **theirs},
            verdict(f"≤ {at_most:g} s", ours["total"] <= at_most),
        ),
        Line("… of it the import", {name: seconds(parts["import"]) for name, parts in median.items()}),
    ]
    return Row(lines, {"n": len(rows), "dtype": "float32", "median": median, "runs": runs})


def acceleration(options: Options) -> Row:
    """Time em against squarem on a slow problem, in float64."""
    found = in_fresh_process("acceleration", repeats=options.repeats)
    if "failure" in found:
        return Row([Line("London Times deaths", {"jaxem": f"failed: {found['failure']}"})], found)
    lines = [
        Line(
            f"London Times deaths, 2 Poisson components, {name}, float64",
            {"jaxem": seconds(run["median"])},
            "",
            f"{nats(run['log_likelihood'], 9)} after {run['num_evaluations']} evaluations",
        )
        for name, run in found.items()
        if name != "process_seconds"
    ]
    return Row(lines, {"dtype": "float64", "solvers": found})
