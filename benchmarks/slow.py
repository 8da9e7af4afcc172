"""Where fits end on slow problems: `python -m benchmarks.slow [--seeds N]`.

Components that overlap make EM gain little at each step for thousands of steps. Each problem is fitted in float32 and float64
by EM and SQUAREM; how far an end lies below the maximum is told by going on from it in float64.
"""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxem
from jaxem import Fit, Mixture, Model, Status, families

NATS = 0.05  # how far below the maximum a fit in float32 may say CONVERGED
ULPS = 16  # or this many ulps of the log-likelihood, where that is more
DOUBLE = 1e-6  # in float64
MAX_STEPS = 10_000
ROUNDS = 20  # of MAX_STEPS steps of SQUAREM that a reference may take
PEER_TOL = 1e-3  # scikit-learn's default: the gain per row at which it ends


class Cell(NamedTuple):
    """A family, rows and components."""

    form: str
    n: int
    k: int


class End(NamedTuple):
    """Where one fit ended, and where scikit-learn's default rule would have ended it."""

    name: str
    status: Status
    gap: float
    ulps: float
    allowed: float
    steps: int
    peer_gap: float
    peer_steps: int

    @property
    def broken(self) -> bool:
        return self.status == Status.CONVERGED and self.gap > self.allowed


CELLS = [
    Cell("full", 1000, 3),
    Cell("full", 5000, 4),
    Cell("tied", 1000, 2),
    Cell("tied", 20_000, 3),
    Cell("diag", 5000, 6),
    Cell("diag", 200, 2),
    Cell("spherical", 5000, 5),
    Cell("spherical", 1000, 3),
    Cell("poisson", 5000, 3),
    Cell("poisson", 200, 2),
    Cell("bernoulli", 5000, 5),
    Cell("bernoulli", 1000, 3),
]
SOLVERS = {"em": jaxem.em(), "squarem": jaxem.squarem()}


def overlapping(cell: Cell, seed: int) -> np.ndarray:
    """Return float32 rows from components that overlap more or less."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(cell.k, cell.n, p=rng.dirichlet(np.full(cell.k, 5.0)))
    spread = (0.7, 1.0, 1.5, 2.0)[seed % 4]
    if cell.form == "poisson":
        return rng.poisson(4 * np.exp(0.25 * spread * rng.normal(size=(cell.k, 2)))[labels]).astype(np.float32)
    if cell.form == "bernoulli":
        p = 1 / (1 + np.exp(-0.7 * spread * rng.normal(size=(cell.k, 6))))
        return (rng.uniform(size=(cell.n, 6)) < p[labels]).astype(np.float32)
    mean = spread * rng.normal(size=(cell.k, 2))
    deviation = np.exp(0.3 * rng.normal(size=(cell.k, 2)))
    return (mean[labels] + deviation[labels] * rng.normal(size=(cell.n, 2))).astype(np.float32)


def family(form: str) -> jaxem.Family:
    return getattr(families, form)() if form in ("poisson", "bernoulli") else families.gaussian(form)


def to_double(params: Mixture) -> Mixture:
    """Return params in float64, matrices symmetric to its rounding."""

    def widen(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf, jnp.float64)
        square = leaf.ndim > 1 and leaf.shape[-1] == leaf.shape[-2]
        return 0.5 * (leaf + leaf.mT) if square and bool(jnp.allclose(leaf, leaf.mT, rtol=1e-4, atol=1e-6)) else leaf

    return jax.tree.map(widen, params)


def going_on(model: Model, params: Mixture, x: Any) -> tuple[float, float]:
    """Return the log-likelihood of params in float64, and what it comes to by going on from there."""
    fit = jaxem.fit(model, to_double(params), x, solver=jaxem.squarem(), tol=0, max_steps=MAX_STEPS)
    start = float(fit.history[0])
    for _ in range(ROUNDS):
        if fit.status != Status.MAX_STEPS:
            break
        fit = jaxem.fit(model, fit.params, x, solver=jaxem.squarem(), tol=0, max_steps=MAX_STEPS)
    return start, float(fit.log_likelihood)


def peer_steps(history: np.ndarray, n: int) -> int:
    """Return the step at which a gain of PEER_TOL per row first ends a fit."""
    small = np.flatnonzero(np.abs(np.diff(history)) < PEER_TOL * n)
    return int(small[0]) + 1 if small.size else len(history) - 1


def end_of(name: str, cell: Cell, fit: Fit, limit: float, start: float) -> End:
    steps = int(fit.num_steps)
    history = np.asarray(fit.history[: steps + 1], np.float64)
    ulp = float(np.finfo(fit.log_likelihood.dtype).eps) * abs(limit)
    allowed = max(NATS, ULPS * ulp) if fit.log_likelihood.dtype == jnp.float32 else DOUBLE
    peer = peer_steps(history, cell.n)
    return End(name, Status(int(fit.status)), limit - start, (limit - start) / ulp, allowed, steps, limit - history[peer], peer)


def sweep(num_seeds: int, report: Callable[[str], None]) -> dict[str, list[End]]:
    """Fit all problems; return the ends by dtype and solver."""
    ends: dict[str, list[End]] = {f"{dtype} {solver}": [] for dtype in ("float32", "float64") for solver in SOLVERS}
    for cell in CELLS:
        model = jaxem.mixture(family(cell.form), cell.k)
        for seed in range(num_seeds):
            name = f"{cell.form} n={cell.n} k={cell.k} seed={seed}"
            report(name)
            x = jnp.asarray(overlapping(cell, seed))
            start = model.init(jax.random.key(seed), x)
            for kind, kept in ends.items():
                dtype, solver = kind.split()
                params = jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), start)
                fit = jaxem.fit(model, params, x.astype(dtype), solver=SOLVERS[solver], max_steps=MAX_STEPS)
                here, limit = going_on(model, fit.params, x.astype("float64"))
                kept.append(end_of(name, cell, fit, limit, here))
    return ends


def lines(kind: str, ends: list[End], worst: int = 8) -> list[str]:
    """Return a summary and the worst ends that say CONVERGED."""
    converged = sorted((end for end in ends if end.status == Status.CONVERGED), key=lambda end: -end.gap / end.allowed)
    broken = sum(end.broken for end in converged)
    peer = sum(end.peer_gap > end.allowed for end in ends)
    steps, theirs = sum(end.steps for end in ends), sum(end.peer_steps for end in ends)
    title = (
        f"{kind}: {broken} of {len(converged)} CONVERGED beyond what is allowed ({len(ends)} problems); {steps} steps. "
        f"Rule of {PEER_TOL:g} a row: {peer}; {theirs} steps, worst {max(end.peer_gap for end in ends):.3g} nats."
    )
    others = [f"  {end.status.name}: {end.name}, {end.gap:.3g} nats short" for end in ends if end.status > Status.MAX_STEPS]
    each = [
        f"  {end.gap:10.3g} nats {end.ulps:9.3g} ulps {end.steps:6d} steps | {end.peer_gap:8.3g} nats {end.peer_steps:4d} steps"
        f" | {end.name}"
        for end in converged[:worst]
    ]
    return [title, *others, *each]


def main() -> None:
    """Run the sweep and print it, worst first."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slow", description="How far from the maximum slow fits end.")
    parser.add_argument("--seeds", type=int, default=4, help=f"problems for each of the {len(CELLS)} shapes (default 4)")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    for kind, ends in sweep(arguments.seeds, lambda name: print(f"{name} …", flush=True)).items():
        print("\n".join(lines(kind, ends)), flush=True)


if __name__ == "__main__":
    main()
