"""Hostile but legal data, and whether every end of every start on them is true. `python -m benchmarks.hostile` runs them all.

Few shapes, so that little is compiled: 150 rows of three columns, three components, eight starts to their ends. An end is
true when its log-likelihood is that of its params in plain float64 NumPy, and its status is what EM in float64, gone on
with from there, bears out.
"""

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import gammaln, logsumexp

import jaxem
from jaxem import Status, families
from jaxem.families.gaussian.floor import DROWNED

ROWS, COLUMNS, COMPONENTS, STARTS = 150, 3, 3, 8
FURTHER = 1000  # steps of EM in float64 by which an end is judged
FORMS = ("full", "tied", "diag", "spherical")
CLOSE = {"float32": 0.05, "float64": 1e-5}  # nats within which EM in float64 may go on from a CONVERGED end
FLOOR = {"float32": 1e-6, "float64": 1e-10}  # the default floors of matrices, as shares of the data's variances


class Case(NamedTuple):
    """One data set: its family, float type, name, rows and weights."""

    family: str
    dtype: str
    name: str
    x: np.ndarray
    weights: np.ndarray


def _clouds(rng: np.random.Generator) -> np.ndarray:
    labels = rng.integers(COMPONENTS, size=ROWS)
    return rng.normal(size=(ROWS, COLUMNS)) * (0.5 + labels[:, None]) + 3 * rng.normal(size=(COMPONENTS, COLUMNS))[labels]


def _real(rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    x, ones = _clouds(rng), np.ones(ROWS)
    yield "plain", x, ones
    yield "columns of scale 1e-6, 1, 1e6", x * [1e-6, 1, 1e6], ones
    yield "columns of scale 1e-4, 10, 1e5", x * [1e-4, 10, 1e5], ones
    yield "all of scale 1e-6", x * 1e-6, ones
    yield "all of scale 1e6", x * 1e6, ones
    yield "offset of 1e3 sd", x + 1e3 * x.std(0), ones
    outlying = x.copy()
    outlying[:2] = 1e4
    yield "two outliers of 1e4", outlying, ones
    yield "ties", np.round(x), ones
    yield "half of the rows twice", x[np.r_[0:75, 0:75]], ones
    yield "Cauchy tails", rng.standard_cauchy((ROWS, COLUMNS)), ones
    yield "nearly collinear", x @ [[1, 1, 0], [0, 1e-3, 0], [0, 0, 1]], ones
    yield "zero weights", x, (rng.random(ROWS) < 0.6).astype(float)
    yield "weights from 1e-6 to 1", x, 10 ** rng.uniform(-6, 0, ROWS)
    yield "weights of 1e6", x, np.full(ROWS, 1e6)
    yield "one cloud, no clusters", rng.normal(size=(ROWS, COLUMNS)), ones


def _counts(rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    labels, ones = rng.integers(COMPONENTS, size=ROWS), np.ones(ROWS)
    for name, rates in {"few": (1, 4, 9), "wide": (1, 50, 1e3), "huge": (2, 8, 1e6), "all huge": (1e6, 1.01e6, 3e7)}.items():
        yield name, rng.poisson(np.array(rates)[labels][:, None], (ROWS, COLUMNS)).astype(float), ones
    few = rng.poisson(np.array([1, 4, 9])[labels][:, None], (ROWS, COLUMNS)).astype(float)
    yield "a column of zeros", few * [1, 1, 0], ones
    yield "mostly zeros", (few > 11) * few, ones
    yield "overdispersed", rng.negative_binomial(0.3, 0.01, (ROWS, COLUMNS)).astype(float), ones
    yield "zero weights", few, (rng.random(ROWS) < 0.6).astype(float)
    yield "weights from 1e-6 to 1", few, 10 ** rng.uniform(-6, 0, ROWS)
    yield "no clusters", rng.poisson(3, (ROWS, COLUMNS)).astype(float), ones


def _binary(rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    labels, ones = rng.integers(COMPONENTS, size=ROWS), np.ones(ROWS)
    x = (rng.random((ROWS, COLUMNS)) < rng.random((COMPONENTS, COLUMNS))[labels]).astype(float)
    yield "plain", x, ones
    yield "rare", (rng.random((ROWS, COLUMNS)) < 0.02).astype(float), ones
    yield "a column of ones", np.maximum(x, [0, 1, 0]), ones
    yield "a column of zeros", x * [0, 1, 1], ones
    yield "perfect classes", np.eye(COLUMNS)[labels], ones
    yield "zero weights", x, (rng.random(ROWS) < 0.6).astype(float)
    yield "weights from 1e-6 to 1", x, 10 ** rng.uniform(-6, 0, ROWS)
    yield "weights of 1e6", x, np.full(ROWS, 1e6)


KINDS = {**dict.fromkeys(FORMS, _real), "poisson": _counts, "bernoulli": _binary}


def cases(seeds: int = 2) -> list[Case]:
    """Return every case of every family in both float types, from as many seeds."""
    return [
        Case(family, dtype, f"{name} ({seed})", x, weights)
        for family, kind in KINDS.items()
        for dtype in ("float32", "float64")
        for seed in range(seeds)
        for name, x, weights in kind(np.random.default_rng(seed))
    ]


def model_of(family: str) -> jaxem.Model:
    """Return the mixture that a case is fitted by."""
    made = families.gaussian(family) if family in FORMS else getattr(families, family)()
    return jaxem.mixture(made, COMPONENTS)


def plain_log_prob(family: str, params: jaxem.Mixture, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log p(x_n) in float64 NumPy, and the size of the largest term that enters it, (n,) each."""
    with np.errstate(divide="ignore"):
        log_weights = np.log(params.weights)
    if family in FORMS:
        mean = params.components.mean
        terms = [_normal_terms(x - mean[k], covariance) for k, covariance in enumerate(_full(family, params.components))]
    elif family == "poisson":
        terms = [_poisson_terms(x, rate) for rate in params.components.rate]
    else:
        terms = [_bernoulli_terms(x, probs) for probs in params.components.probs]
    log_joint = np.stack([log_weights[k] + sum(parts) for k, parts in enumerate(terms)], 1)
    largest = np.stack([sum(np.abs(part) for part in parts) for parts in terms], 1)
    return logsumexp(log_joint, axis=1), largest[np.arange(len(x)), log_joint.argmax(1)]


def _full(form: str, components: families.Gaussian) -> np.ndarray:
    covariance, (k, dim) = components.covariance, components.mean.shape
    if form == "tied":
        return np.broadcast_to(covariance, (k, dim, dim))
    return covariance if form == "full" else covariance.reshape(k, -1, 1) * np.eye(dim)


def _normal_terms(rows: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, ...]:
    scale = np.sqrt(np.diagonal(covariance))
    factor = np.linalg.cholesky(covariance / np.outer(scale, scale))
    z = np.linalg.solve(factor, (rows / scale).T)
    logs = np.log(scale) + np.log(np.diagonal(factor)) + 0.5 * np.log(2 * np.pi)
    return -0.5 * (z**2).sum(0), *(np.full(len(rows), -log) for log in logs)


def _poisson_terms(x: np.ndarray, rate: np.ndarray) -> tuple[np.ndarray, ...]:
    some = np.maximum(x, 1)
    with np.errstate(divide="ignore"):
        deviance = np.where(x > 0, (rate - x) - some * np.log1p((rate - x) / some), rate)
    exactly = some * np.log(some) - some - gammaln(some + 1)
    by_stirling = -0.5 * np.log(2 * np.pi * some) - 1 / (12 * some) + 1 / (360 * some**3)
    at_mean = np.where(x > 0, np.where(x > 100, by_stirling, exactly), 0)
    return at_mean.sum(1), -deviance.sum(1)


def _bernoulli_terms(x: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, ...]:
    with np.errstate(divide="ignore"):
        return (np.where(x > 0, np.log(probs), np.log1p(-probs)).sum(1),)


def untrue(case: Case, fits: jaxem.Fit) -> list[str]:
    """Return what is untrue of the ends of stacked fits, a line each; empty where all are true."""
    x, weights = case.x.astype(case.dtype).astype(np.float64), case.weights.astype(case.dtype).astype(np.float64)
    ends = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), fits.params)
    further, saddles = _gone_on(case, x, weights, ends)
    eps, lines = float(np.finfo(case.dtype).eps), []
    for start in range(len(fits.status)):
        params = jax.tree.map(lambda leaf, start=start: leaf[start], ends)
        status, received = Status(int(fits.status[start])), float(fits.log_likelihood[start])
        log_prob, terms = plain_log_prob(case.family, params, x)
        expected = float(np.where(weights > 0, weights * log_prob, 0).sum())
        rounding = 64 * eps * float((weights * (terms + COLUMNS)).sum()) + _of_params(case, weights, params, eps)
        if not abs(received - expected) <= rounding:
            lines.append(
                f"start {start}: log-likelihood {received:.6f}, of its params {expected:.6f} (rounding {rounding:.1g})"
            )
        if status not in (Status.CONVERGED, Status.DEGENERATE, Status.MAX_STEPS):
            lines.append(f"start {start}: {status.name} on legal data")
        ahead = further[start] - expected
        if status == Status.CONVERGED and ahead > max(CLOSE[case.dtype], rounding) and not saddles[start]:
            lines.append(f"start {start}: CONVERGED, and EM in float64 goes on by {ahead:.3g} nats")
        if status == Status.DEGENERATE and not _rests_on_floor(case, x, weights, params):
            lines.append(f"start {start}: DEGENERATE, and no covariance rests on its floor")
    return lines


def _of_params(case: Case, weights: np.ndarray, params: jaxem.Mixture, eps: float) -> float:
    """Return the nats that rounding of the params themselves is worth: half an ulp of a covariance times its condition."""
    if case.family not in ("full", "tied"):
        return 0.0
    scales = [np.sqrt(np.outer(np.diagonal(c), np.diagonal(c))) for c in _full(case.family, params.components)]
    worst = [np.linalg.cond(c / s) for c, s in zip(_full(case.family, params.components), scales, strict=True)]
    return float(COLUMNS * eps * weights.sum() * (params.weights @ np.array(worst)))


def _gone_on(case: Case, x: np.ndarray, weights: np.ndarray, ends: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return where EM in float64 comes to from the ends, with the floors of the case's float type, and which are saddles.

    A saddle is where the gains of a hundred steps each stay under an ulp of the case's float type.
    """
    floor = FLOOR[case.dtype] if case.family in ("full", "tied") else None
    family = families.gaussian(case.family, floor) if case.family in FORMS else getattr(families, case.family)()
    model = jaxem.mixture(family, COMPONENTS)

    def run(params: jaxem.Mixture) -> jax.Array:
        return jaxem.fit(model, params, jnp.asarray(x), jnp.asarray(weights), tol=-np.inf, max_steps=FURTHER).history

    with jax.enable_x64(True):
        histories = np.asarray(jax.vmap(run)(jax.tree.map(jnp.asarray, ends)))
    ulp = float(np.finfo(case.dtype).eps) * np.abs(histories[:, :1])
    saddles = (np.diff(histories[:, :101], axis=1) < ulp).all(1) & (case.dtype == "float32")
    return np.nanmax(histories, axis=1), saddles


def _rests_on_floor(case: Case, x: np.ndarray, weights: np.ndarray, params: jaxem.Mixture) -> bool:
    mean = weights @ x / weights.sum()
    variances = weights @ (x - mean) ** 2 / weights.sum()
    if case.family == "spherical":
        variances = np.full(COLUMNS, variances.mean())
    scale = np.sqrt(np.outer(variances, variances))
    spectra = [np.linalg.eigvalsh(covariance / scale) for covariance in _full(case.family, params.components)]
    floor = FLOOR[case.dtype] if case.family in ("full", "tied") else 1e-10
    drowned = DROWNED * float(np.finfo(case.dtype).eps)
    return any(values.min() <= 2 * max(floor, drowned * values.sum()) for values in spectra)


def search(case: Case) -> jaxem.Restarts:
    """Fit a case from eight starts, all to their ends, in its float type."""
    with jax.enable_x64(case.dtype == "float64"):
        x, weights = case.x.astype(case.dtype), case.weights.astype(case.dtype)
        found = jaxem.fit_restarts(
            model_of(case.family), 0, x, weights, num_restarts=STARTS, num_continued=STARTS, max_steps=2000
        )
        return jax.tree.map(np.asarray, found)


def main() -> int:
    """Run every case, print what is untrue, and return how many cases are."""
    every, bad = cases(), 0
    for case in every:
        lines = untrue(case, search(case).fits)
        bad += bool(lines)
        for line in lines:
            print(f"{case.family}, {case.dtype}, {case.name}: {line}", flush=True)
    print(f"{len(every)} cases, {bad} with an untrue end")
    return bad


if __name__ == "__main__":
    sys.exit(min(main(), 1))
