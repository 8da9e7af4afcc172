"""Many data sets: `fit_each` beside a loop, over scikit-learn for Gaussian mixtures, over EM in NumPy for Poisson ones.

Loops are timed over a few of the data sets, and what they would take over all is told from that.
"""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from scipy.special import gammaln, logsumexp

import jaxem
from benchmarks.measure import in_turn, on_one_thread
from benchmarks.report import Line, Options, Row, against, seconds, verdict

TOL = 1e-6  # nats per row, as for restarts
MAX_STEPS = 1_000
NUM_RESTARTS = 8
NUM_ROWS = 300


def gaussian_sets(rng: np.random.Generator, num_sets: int) -> np.ndarray:
    means = 2.5 * rng.standard_normal((num_sets, 2, 2))
    labels = rng.integers(2, size=(num_sets, NUM_ROWS))
    noise = rng.standard_normal((num_sets, NUM_ROWS, 2))
    return (means[np.arange(num_sets)[:, None], labels] + noise).astype(np.float32)


def poisson_sets(rng: np.random.Generator, num_sets: int) -> np.ndarray:
    rates = np.exp(rng.normal(1.5, 0.7, (num_sets, 2)))
    return rng.poisson(rates[np.arange(num_sets)[:, None], rng.integers(2, size=(num_sets, NUM_ROWS))]).astype(np.float32)


def scikit_learn_loop(x: np.ndarray) -> Callable[[], list[float]]:
    """Return scikit-learn's own restarts of each data set in turn; what it returns are log-likelihoods."""
    from sklearn.mixture import GaussianMixture

    def fits() -> list[float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # starts that did not converge in time
            settings = {"tol": TOL, "max_iter": MAX_STEPS, "n_init": NUM_RESTARTS, "random_state": 0}
            return [GaussianMixture(2, **settings).fit(rows).lower_bound_ * NUM_ROWS for rows in x]

    return fits


def numpy_loop(x: np.ndarray, starts: np.ndarray) -> Callable[[], list[float]]:
    """Return EM in NumPy of each data set in turn, from starts (m, NUM_RESTARTS, 2), each to its end."""

    def fit(rows: np.ndarray, rates: np.ndarray) -> float:
        weights, last, constant = np.full(2, 0.5), -np.inf, gammaln(rows + 1)
        for _ in range(MAX_STEPS):
            joint = np.log(weights) + rows[:, None] * np.log(rates) - rates - constant[:, None]
            log_prob = logsumexp(joint, axis=1)
            value = log_prob.sum()
            if value - last < TOL * NUM_ROWS:
                break
            last = value
            share = np.exp(joint - log_prob[:, None])
            counts = share.sum(0)
            weights, rates = counts / NUM_ROWS, share.T @ rows / counts
        return float(value)

    wide, wide_starts = x.astype(np.float64), starts.astype(np.float64)
    return lambda: [max(fit(rows, rates) for rates in each) for rows, each in zip(wide, wide_starts, strict=True)]


def each(kind: str, num_sets: int, at_least: float, options: Options) -> Row:
    """Time `num_sets` data sets, NUM_RESTARTS starts each, compiled and at the first call."""
    num_sets = num_sets // 20 if options.quick else num_sets
    few = min(num_sets, 50)
    x = (gaussian_sets if kind == "gaussian" else poisson_sets)(np.random.default_rng(0), num_sets)
    model = jaxem.mixture(getattr(jaxem.families, kind)(), 2)
    arguments = {"num_restarts": NUM_RESTARTS, "tol": TOL * NUM_ROWS, "max_steps": MAX_STEPS}
    if kind == "gaussian":
        peer, loop = "scikit-learn", scikit_learn_loop(x[:few])
    else:
        keys = jax.random.split(jax.random.key(0), num_sets)[:few]
        starts = [
            [model.init(k, rows).components.rate for k in jax.random.split(key, NUM_RESTARTS)]
            for key, rows in zip(keys, x[:few], strict=True)
        ]
        peer, loop = "NumPy", numpy_loop(x[:few], np.array(starts))
    timings = in_turn(
        {"jaxem": lambda: jax.block_until_ready(jaxem.fit_each(model, 0, x, **arguments)), peer: loop}, options.repeats
    )
    ours, scale = timings["jaxem"], num_sets / few
    theirs = min(timing.median for name, timing in timings.items() if name in (peer, on_one_thread(peer))) * scale
    short = np.asarray(timings[peer].result) - np.asarray(ours.result.best.log_likelihood[:few])
    record: dict[str, Any] = {
        "num_sets": num_sets,
        "loop_over": few,
        "dtype": "float32",
        "timings": {name: timing.record() for name, timing in timings.items()},
        "peer_seconds_for_all": theirs,
        "ratio": theirs / ours.median,
        "worst_shortfall_nats": float(short.max()),
        "sets_short": int((short > 0.1).sum()),
    }
    label = f"{num_sets} data sets of {NUM_ROWS} rows, {kind}, 2 components, {NUM_RESTARTS} starts each"
    goal = verdict(f"≥ {at_least:g}× a loop over {peer}", theirs / ours.median >= at_least)
    cells = {"jaxem": seconds(ours.median), "scikit-learn": f"{peer}: {against(theirs, ours.median)}"}
    ending = f"{record['sets_short']} of {few} more than 0.1 nats below the loop's best, worst {short.max():.2g}"
    return Row([Line(label, cells, goal, ending), Line("… at the first call", {"jaxem": seconds(ours.first_call)})], record)
