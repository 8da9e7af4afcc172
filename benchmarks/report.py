"""What is shown and kept: one Markdown table, and JSON with every raw figure and where it comes from."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import Timing, num_cores, on_one_thread
from benchmarks.peers import LIBRARIES
from benchmarks.problems import Size

PACKAGES = ("jaxem", "jax", "jaxlib", "numpy", "scipy", "scikit-learn", "gmmx", "torch", "pomegranate", "stepmix")


class Line(NamedTuple):
    """One line of the table: cells by library, what was to be reached, and what the runs ended with."""

    label: str
    cells: dict[str, str]
    target: str = ""
    ending: str = ""


class Options(NamedTuple):
    """How many repeats, and whether sizes are cut down."""

    repeats: int
    quick: bool

    def cut(self, size: Size) -> Size:
        """Return the size to run."""
        return size._replace(n=size.n // 20) if self.quick else size


class Row(NamedTuple):
    """One benchmark: its lines, and everything it measured."""

    lines: list[Line]
    record: dict[str, Any]


def seconds(value: float) -> str:
    """Return a time in the unit that reads best."""
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.3g} ms"


def against(value: float, base: float) -> str:
    """Return a peer's time and how many times jaxem's it is."""
    return f"{seconds(value)} ({value / base:.3g}×)"


def megabytes(value: float) -> str:
    return f"{value / 2**20:.3g} MiB" if value < 1000 * 2**20 else f"{value / 2**30:.3g} GiB"


def nats(value: float, digits: int = 1) -> str:
    """Return a log-likelihood."""
    return f"{value:.{digits}f}"


def ratios(timings: dict[str, Timing]) -> dict[str, float]:
    """Return each peer's median as a multiple of jaxem's."""
    ran = {name: timing for name, timing in timings.items() if not timing.failure}
    return {name: timing.median / ran["jaxem"].median for name, timing in ran.items() if name != "jaxem"}


def cells(timings: dict[str, Timing]) -> dict[str, str]:
    """Return what the table says of each library: its time, that it failed, or that it is not installed."""
    ours = timings["jaxem"].median
    peers = {name: cell(name, timings, ours) for name in LIBRARIES if name != "jaxem"}
    return {"jaxem": seconds(ours), **peers}


def cell(name: str, timings: dict[str, Timing], base: float) -> str:
    """Return a peer's time and its multiple of `base`, on all cores and, where it was timed there, on one thread."""
    if name not in timings:
        return "not installed"
    if timings[name].failure:
        return f"failed: {timings[name].failure}"
    alone = timings.get(on_one_thread(name))
    single = f"; one thread {against(alone.median, base)}" if alone and not alone.failure else ""
    return against(timings[name].median, base) + single


def target(multiples: dict[str, float], at_least: float | None) -> str:
    """Return whether scikit-learn takes `at_least` times as long, and whether every other peer takes longer."""

    def goal(name: str, times: float) -> str:
        if at_least and name.startswith("scikit-learn"):
            return verdict(f"≥ {at_least}× {name}", times >= at_least)
        return verdict(f"ahead of {name}", times > 1)

    return "; ".join(goal(name, times) for name, times in multiples.items())


def verdict(target: str, met: bool) -> str:
    """Return the target and, plainly, whether it was met."""
    return f"{target}: {'met' if met else '**missed**'}"


def table(lines: list[Line]) -> str:
    """Return the lines as a Markdown table, a column for each library."""
    heads = ["", *LIBRARIES, "target", "ended with"]
    body = [[line.label, *(line.cells.get(name, "") for name in LIBRARIES), line.target, line.ending] for line in lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [heads, ["---"] * len(heads), *body])


def provenance(repeats: int, quick: bool) -> dict[str, Any]:
    """Return versions, machine, date and load, without which a figure means nothing."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": num_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average_before": os.getloadavg(),
        "repeats": repeats,
        "quick": quick,
    }


def summary(origin: dict[str, Any]) -> str:
    """Return the provenance in one sentence under the table."""
    packages = ", ".join(f"{name} {number or '(not installed)'}" for name, number in origin["packages"].items())
    machine = f"{origin['cpu']}, {origin['cores']} cores, {megabytes(origin['memory_bytes'])}"
    method = (
        f"Medians of {origin['repeats']} runs in turn after a warm-up; in brackets, how many times jaxem's; "
        "libraries with thread pools on all cores, as they come, and on one thread."
    )
    return f"{method} {machine}; Python {origin['python']}, {packages}; {origin['date']}."


def write(path: Path, origin: dict[str, Any], rows: dict[str, Row]) -> None:
    """Write everything measured as JSON."""
    content = {"provenance": origin, "rows": {name: row.record for name, row in rows.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return _source_version() if package == "jaxem" else None


def _source_version() -> str | None:
    import tomllib

    path = Path(__file__).parents[1] / "pyproject.toml"
    return tomllib.loads(path.read_text())["project"]["version"] if path.exists() else None


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()
