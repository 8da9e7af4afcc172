"""State space models beside dynamax, pykalman and statsmodels: `python -m benchmarks.state_space --peers PYTHON`.

PYTHON is an interpreter that has the peers. All start alike, in float64, and are compared at the same numbers of steps; those
that are slow take fewer of them.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import report
from benchmarks.report import Row

WORKS = {"one long": (1, 10_000, 4, 8, 0.0), "many short, holes": (200, 200, 3, 5, 0.2)}
STEPS = {"dynamax": 20, "pykalman": 1, "statsmodels": 2}
PEERS = Path(__file__).parent / "state_space_peers.py"


def problem(n: int, t: int, s: int, o: int, missing: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return values (n, t, o), NaN in steps that are missing, and a start."""
    rng = np.random.default_rng(0)
    move = 0.95 * np.linalg.qr(np.eye(s) + 0.3 * rng.normal(size=(s, s)))[0]
    load, states = rng.normal(size=(o, s)), np.zeros((n, t, s))
    for i in range(1, t):
        states[:, i] = states[:, i - 1] @ move.T + rng.normal(size=(n, s))
    values = states @ load.T + rng.normal(size=(n, t, o))
    values[rng.random((n, t)) < missing] = np.nan
    identity = np.eye(s)
    leaves = np.zeros(s), identity, 0.8 * move, 0.5 * identity, load + 0.3 * rng.normal(size=load.shape), 2 * np.eye(o)
    names = ("initial_mean", "initial_covariance", "transition", "transition_covariance", "emission", "emission_covariance")
    return values, dict(zip(names, leaves, strict=True))


def ours(values: np.ndarray, start: dict[str, np.ndarray], dtype: str, steps: int, repeats: int) -> dict[str, Any]:
    """Time a fit of so many steps, the first call apart, and return it beside its log-likelihoods."""
    import jaxem

    data = values.astype(dtype)
    rows = [jaxem.families.observed(x) for x in data] if np.isnan(data).any() else list(data)
    params = jaxem.LinearGaussian(**{name: leaf.astype(dtype) for name, leaf in start.items()})
    model, data = jaxem.linear_gaussian(start["initial_mean"].size, values.shape[2]), jaxem.sequences(rows)
    data = model.prepare(data, np.ones(len(values), dtype))
    seconds = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        fit = jax.block_until_ready(jaxem.fit(model, params, data, tol=-np.inf, max_steps=steps))
        seconds.append(time.perf_counter() - begun)
    heights = np.asarray(fit.history, float)
    return {"first_call": seconds[0], "seconds_per_step": min(seconds[1:]) / steps, "log_likelihoods": heights.tolist()}


def peer(python: str, name: str, values: np.ndarray, start: dict[str, np.ndarray], threads: int) -> dict[str, Any]:
    """Time a peer in its own interpreter, with so many threads of BLAS."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problem.npz"
        np.savez(path, values=values, **start)
        limits = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        command = [python, str(PEERS), name, str(path), str(STEPS[name])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | limits)
    if done.returncode:
        return {"failure": (done.stderr.strip().splitlines() or ["ended without a word"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def lines_of(work: str, python: str | None, peers: list[str], repeats: int) -> Iterator[str]:
    """Give a line for each contender: milliseconds of a step, times ours, and how far log-likelihoods are apart."""
    values, start = problem(*WORKS[work])
    here = {dtype: ours(values, start, dtype, 20, repeats) for dtype in ("float64", "float32")}
    for dtype, found in here.items():
        yield f"{work}, jaxem {dtype}: {1e3 * found['seconds_per_step']:.2f} ms a step, first {found['first_call']:.1f} s"
    expected, base = np.array(here["float64"]["log_likelihoods"]), here["float64"]["seconds_per_step"]
    for name in peers if python else ():
        if name == "dynamax" and np.isnan(values).any():
            continue  # it takes no holes
        for threads in (1, os.cpu_count() or 1) if name == "statsmodels" else (1,):
            found = peer(python, name, values, start, threads)
            if "failure" in found:
                yield f"{work}, {name}: {found['failure']}"
                continue
            heights, step = np.array(found["log_likelihoods"]), found["seconds_per_step"]
            apart = np.abs(heights / expected[: len(heights)] - 1).max()
            yield f"{work}, {name}, threads {threads}: {1e3 * step:.1f} ms, {step / base:.1f}×, {apart:.1e} apart"


def main() -> None:
    """Print the lines of each work, and write them to a JSON file beside the versions and the machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.state_space", description="State space models beside peers.")
    parser.add_argument("--peers", help="an interpreter that has dynamax, pykalman and statsmodels")
    parser.add_argument("--only", choices=[*WORKS], action="append")
    parser.add_argument("--against", choices=[*STEPS], action="append", help="peers, all by default")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results", help="folder for the JSON")
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    origin, rows = report.provenance(given.repeats, False), {}
    path = given.output / f"{datetime.now(UTC):%Y-%m-%dT%H%M}-state-space.json"
    for work in given.only or WORKS:
        lines: list[str] = []
        for line in lines_of(work, given.peers, given.against or [*STEPS], given.repeats):
            print(line, flush=True)
            lines.append(line)
            report.write(path, origin, rows | {work: Row([], {"lines": lines})})
        rows[work] = Row([], {"lines": lines})


if __name__ == "__main__":
    main()
