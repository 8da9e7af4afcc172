"""How things are measured: contenders in turn, wall times of all repeats, peaks of resident memory."""

import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SETTLE = 0.2  # seconds before each run, for the thread pools of the one before to stop spinning
PATIENCE = 900  # seconds that a process of its own may take
THREADED = ("scikit-learn", "pomegranate")  # timed on all cores, as they come, and on one thread, which often suits them better


class Timing(NamedTuple):
    """All wall times of one contender in seconds, the first (compiling) call apart, and what its last run returned."""

    first_call: float
    seconds: list[float]
    result: Any
    failure: str | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def record(self) -> dict[str, Any]:
        """Return what the JSON keeps."""
        if self.failure:
            return {"failure": self.failure}
        spread = {"median": self.median, "min": min(self.seconds), "max": max(self.seconds)}
        return {"first_call": self.first_call, "seconds": self.seconds, **spread}


def timed(run: Callable[[], Any], before: Callable[[], Any] = gc.collect) -> tuple[float, Any]:
    """Return the seconds that `run` took, and its result; `before` is called first, untimed."""
    before()
    time.sleep(SETTLE)
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def num_cores() -> int:
    """Return on how many cores this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_one_thread(name: str) -> str:
    """Return the name under which a contender with a thread pool is timed on one thread."""
    return f"{name}, one thread"


def in_turn(contenders: dict[str, Callable[[], Any]], repeats: int) -> dict[str, Timing]:
    """Warm every contender up with one call, then time them in turn, `repeats` rounds, so that drift meets all alike."""
    runs = {}
    for name, run in contenders.items():
        if name.startswith(THREADED):
            runs |= {name: on_threads(run, num_cores()), on_one_thread(name): on_threads(run, 1)}
        else:
            runs[name] = run
    timings = {name: _first_call(run) for name, run in runs.items()}
    for _ in range(repeats):
        for name, run in runs.items():
            if not timings[name].failure:
                seconds, result = timed(run)
                timings[name].seconds.append(seconds)
                timings[name] = timings[name]._replace(result=result)
    return timings


def _first_call(run: Callable[[], Any]) -> Timing:
    try:
        seconds, result = timed(run)
    except Exception as error:  # a peer that cannot do this problem must not end the run
        return Timing(0.0, [], None, f"{type(error).__name__}: {error}".splitlines()[0])
    return Timing(seconds, [], result)


def on_threads(run: Callable[[], Any], count: int) -> Callable[[], Any]:
    """Return `run` with the thread pools of BLAS, OpenMP and torch limited to `count` threads."""

    def limited() -> Any:
        from threadpoolctl import threadpool_limits

        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(count)
        with threadpool_limits(count):
            return run()

    return limited


def resident(field: str) -> int:
    """Return a field of this process's status in bytes: VmRSS, now, or VmHWM, the peak since `reset_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def reset_peak() -> int:
    """Give freed memory back, start the peak anew from what is resident, and return that."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else memory freed before could be reused unseen
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def peak_beyond(run: Callable[[], Any]) -> int:
    """Return by how many bytes `run` raised the peak of resident memory above what was resident before."""
    before = reset_peak()
    run()
    return resident("VmHWM") - before


def in_fresh_process(task: str, **arguments: Any) -> dict[str, Any]:
    """Run a function of `benchmarks.fresh` in a new interpreter; return what it measured, and the wall time of it all."""
    command = [sys.executable, "-m", "benchmarks.fresh", task, json.dumps(arguments)]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return {"failure": f"no end after {PATIENCE} s"}
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"])[-1]
        return {"failure": last}
    return {**json.loads(done.stdout.splitlines()[-1]), "process_seconds": seconds}
