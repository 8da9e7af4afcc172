"""Hidden Markov models beside hmmlearn and dynamax: the same start, the same number of steps, all in float64.

hmmlearn is timed as it comes, in logarithms, and with `implementation="scaling"`, on one thread of BLAS, which suits it better.
dynamax pads nothing and takes sequences of one length only.
"""

import logging
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.measure import Timing, in_turn, on_threads, peak_beyond
from benchmarks.report import Options, Row, against, megabytes, seconds, verdict

HEAD = "| work | jaxem | hmmlearn | hmmlearn, scaling | dynamax | target | log-likelihoods |\n|---|---|---|---|---|---|---|"
PEERS = ("hmmlearn", "hmmlearn, scaling", "dynamax")


class Problem(NamedTuple):
    """Sequences, and a start: initial (k,), transition (k, k), and emissions by the names of their parameters."""

    sequences: list[np.ndarray]
    initial: np.ndarray
    transition: np.ndarray
    emissions: dict[str, np.ndarray]


def sticky(k: int, stay: float = 0.9) -> np.ndarray:
    return np.full((k, k), (1 - stay) / (k - 1)) + np.eye(k) * (stay - (1 - stay) / (k - 1))


def walk(rng: np.random.Generator, k: int, length: int) -> np.ndarray:
    """Return states that stay for ten steps in the mean."""
    leaves = np.flatnonzero(rng.random(length) < 0.1)
    states = rng.integers(k, size=len(leaves) + 1)
    return states[np.searchsorted(leaves, np.arange(length), side="right")]


def gaussian(num: int, length: int, k: int, d: int) -> Problem:
    rng = np.random.default_rng(0)
    means = 3 * rng.normal(size=(k, d))
    x = [means[walk(rng, k, length)] + rng.normal(size=(length, d)) for _ in range(num)]
    spread = np.broadcast_to(np.cov(np.concatenate(x[:20]).T).reshape(d, d), (k, d, d)).copy()
    emissions = {"mean": means + rng.normal(size=(k, d)), "covariance": spread}
    return Problem(x, np.full(k, 1 / k), sticky(k), emissions)


def categorical(num: int, k: int, codes: int) -> Problem:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(codes), k)
    lengths = rng.integers(10, 1001, num)
    u = [rng.random(length) for length in lengths]
    x = [(probs[walk(rng, k, len(each))].cumsum(1) < each[:, None]).sum(1).clip(max=codes - 1) for each in u]
    return Problem(x, np.full(k, 1 / k), sticky(k), {"probs": rng.dirichlet(np.full(codes, 5.0), k)})


def ours(problem: Problem, steps: int, parallel: bool | None = None) -> Callable[[], Any]:
    """Return what fits with this library."""
    import jax
    import jax.numpy as jnp

    import jaxem
    from jaxem import families

    k = len(problem.initial)
    named = {name: jnp.asarray(value) for name, value in problem.emissions.items()}
    if "probs" in named:
        family, components = families.categorical(named["probs"].shape[1]), families.Categorical(**named)
    else:
        family, components = families.gaussian(), families.Gaussian(**named)
    start = jaxem.HMM(jnp.asarray(problem.initial), jnp.asarray(problem.transition), components)
    model, data = jaxem.hmm(family, k, parallel=parallel), jaxem.sequences(problem.sequences)
    data = jax.tree.map(jnp.asarray, data)
    del problem
    return lambda: jax.block_until_ready(jaxem.fit(model, start, data, tol=-np.inf, max_steps=steps))


def hmmlearn(problem: Problem, steps: int, implementation: str = "log") -> Callable[[], float]:
    """Return what fits with hmmlearn, without its priors; it returns the log-likelihood before the last step."""
    from hmmlearn import hmm

    logging.disable(logging.CRITICAL)
    settings = {"n_iter": steps, "tol": -np.inf, "implementation": implementation, "init_params": ""}
    k, lengths = len(problem.initial), list(map(len, problem.sequences))
    rows = np.concatenate(problem.sequences)

    def fit() -> float:
        if "probs" in problem.emissions:
            model = hmm.CategoricalHMM(k, **settings)
            model.emissionprob_ = problem.emissions["probs"]
            model.n_features = model.emissionprob_.shape[1]
        else:
            model = hmm.GaussianHMM(k, "full", covars_prior=0, covars_weight=0, min_covar=0, **settings)
            model.means_, model.covars_ = problem.emissions["mean"], problem.emissions["covariance"]
        model.startprob_, model.transmat_ = problem.initial, problem.transition
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(rows.reshape(len(rows), -1), lengths)
        return float(model.monitor_.history[-1])

    return on_threads(fit, 1)


def dynamax(problem: Problem, steps: int) -> Callable[[], float]:
    """Return what fits with dynamax, whose weak priors stay, as its M-step needs them."""
    import jax
    import jax.numpy as jnp
    from dynamax.hidden_markov_model import GaussianHMM

    k, d = problem.emissions["mean"].shape
    model = GaussianHMM(k, d)
    emissions = {"emission_means": problem.emissions["mean"], "emission_covariances": problem.emissions["covariance"]}
    start = {"initial_probs": problem.initial, "transition_matrix": problem.transition, **emissions}
    params, properties = model.initialize(jax.random.key(0), **{name: jnp.asarray(value) for name, value in start.items()})
    data = jnp.asarray(np.stack(problem.sequences))
    return lambda: float(model.fit_em(params, properties, data, num_iters=steps, verbose=False)[1][-1])


class Found(NamedTuple):
    """Times by contender, and what was to be reached."""

    label: str
    timings: dict[str, Timing]
    goals: dict[str, float]
    ending: str

    def line(self) -> str:
        base = self.timings["jaxem"].median

        def cell(name: str) -> str:
            timing = self.timings.get(name)
            if timing is None or timing.failure:
                return f"failed: {timing.failure}" if timing else ""
            return against(timing.median, base)

        def goal(name: str, least: float) -> str:
            return verdict(f"≥ {least:g}× {name}", self.timings[name].median >= least * base)

        goals = "; ".join(goal(*each) for each in self.goals.items() if each[0] in self.timings)
        cells = [f"{seconds(base)}, first {seconds(self.timings['jaxem'].first_call)}", *map(cell, PEERS), goals, self.ending]
        return "| " + " | ".join([self.label, *cells]) + " |"


def steps_from_one_start(
    label: str, make: Callable[[], Problem], steps: int, goals: dict[str, float], peers: tuple[str, ...], options: Options
) -> Found:
    """Time so many EM steps; log-likelihoods are those before the last step."""
    problem, steps = make(), 2 if options.quick else steps
    runs = {"hmmlearn": hmmlearn, "hmmlearn, scaling": partial(hmmlearn, implementation="scaling"), "dynamax": dynamax}
    contenders = {"jaxem": ours(problem, steps), **{name: runs[name](problem, steps) for name in peers}}
    timings = in_turn(contenders, options.repeats)
    mine = float(timings["jaxem"].result.history[steps - 1])
    endings = [f"jaxem {mine:.10g}"] + [f"{name} {float(t.result):.10g}" for name, t in timings.items() if name in peers]
    return Found(label, timings, goals, ", ".join(endings))


def restarts(label: str, options: Options) -> Found:
    """Time 64 starts on the earthquakes, three states, warm and cold, beside a loop over hmmlearn's own starts."""
    import jax
    from hmmlearn import hmm

    import jaxem

    counts = np.genfromtxt("tests/data/earthquakes.csv", delimiter=",", skip_header=1)[:, 1]
    model, data = jaxem.hmm(jaxem.families.poisson(), 3), jaxem.sequences(counts)

    def loop() -> float:
        logging.disable(logging.CRITICAL)
        fits = (
            hmm.PoissonHMM(3, n_iter=1000, tol=1e-8, random_state=seed).fit(counts[:, None].astype(int)) for seed in range(64)
        )
        return max(each.monitor_.history[-1] for each in fits)

    def search() -> Any:
        return jax.block_until_ready(jaxem.fit_restarts(model, 0, data, num_restarts=64))

    timings = in_turn({"jaxem": search, "hmmlearn": on_threads(loop, 1)}, options.repeats)
    best = float(timings["jaxem"].result.best.log_likelihood)
    cold = verdict("≥ 1× at the first call", timings["hmmlearn"].median >= timings["jaxem"].first_call)
    return Found(label, timings, {"hmmlearn": 20}, f"jaxem {best:.4f}, hmmlearn {timings['hmmlearn'].result:.4f}; {cold}")


def memory(label: str, length: int, options: Options) -> Found:
    """Time two steps on one long sequence, and take the peak of memory beyond the data of a fit that is compiled."""
    problem, steps = gaussian(1, length // (20 if options.quick else 1), 4, 1), 2
    fit, peer = ours(problem, steps), hmmlearn(problem, steps)
    timings = in_turn({"jaxem": fit, "hmmlearn": peer}, options.repeats)
    peak = peak_beyond(fit)
    ending = f"{megabytes(peak)} beyond the data: {verdict('≤ 100 MiB', peak <= 100 * 2**20)}"
    return Found(label, timings, {"hmmlearn": 3}, ending)


def growth(label: str, small: tuple[int, ...], large: tuple[int, ...], options: Options) -> Found:
    """Time five steps on a small and on a large problem, arguments of `gaussian`."""
    sizes = {"jaxem": small if options.quick else large, "small": small}
    timings = in_turn({name: ours(gaussian(*size), 5) for name, size in sizes.items()}, options.repeats)
    small_time = timings["small"].median
    return Found(
        label, timings, {}, f"{timings['jaxem'].median / small_time:.1f} times the {seconds(small_time)} of the smaller"
    )


def at_once(label: str, size: tuple[int, ...], options: Options) -> Found:
    """Time five steps as the default goes about them beside all of time at once."""
    problem = gaussian(*size)
    contenders = {"jaxem": ours(problem, 5), "at once": ours(problem, 5, parallel=True)}
    timings = in_turn(contenders, options.repeats)
    ratio = timings["at once"].median / timings["jaxem"].median
    return Found(label, timings, {}, f"all at once {seconds(timings['at once'].median)}, {ratio:.1f} times as long")


BOTH = ("hmmlearn", "hmmlearn, scaling")
WORKS: dict[str, Callable[[Options], Found]] = {
    "gaussian": partial(
        steps_from_one_start,
        "Gaussian, 20 × 1 000, k = 5, d = 4, 20 steps",
        partial(gaussian, 20, 1000, 5, 4),
        20,
        {"hmmlearn": 5, "dynamax": 5},
        PEERS,
    ),
    "long": partial(
        steps_from_one_start,
        "Gaussian, one sequence of 20 000, k = 5, 20 steps",
        partial(gaussian, 1, 20_000, 5, 1),
        20,
        {"hmmlearn": 2.5},
        BOTH,
    ),
    "categorical": partial(
        steps_from_one_start,
        "categorical, 1 000 sequences of 10 to 1 000, k = 8, 20 steps",
        partial(categorical, 1000, 8, 12),
        20,
        {"hmmlearn": 8},
        BOTH,
    ),
    "earthquakes": partial(restarts, "64 starts, earthquakes, Poisson, k = 3"),
    "growth in t": partial(growth, "growth: 80 000 steps after 5 000, k = 5", (1, 5_000, 5, 2), (1, 80_000, 5, 2)),
    "growth in n": partial(growth, "growth: 320 sequences of 500 after 20, k = 5", (20, 500, 5, 2), (320, 500, 5, 2)),
    "growth in k": partial(growth, "growth: k = 64 after 16, 20 sequences of 500", (20, 500, 16, 2), (20, 500, 64, 2)),
    "at once, long": partial(at_once, "parallel=None beside True: 20 000 steps, k = 3", (1, 20_000, 3, 2)),
    "at once, many": partial(at_once, "parallel=None beside True: 100 sequences of 200, k = 8", (100, 200, 8, 2)),
    "at once, short": partial(at_once, "parallel=None beside True: 500 steps, k = 2", (1, 500, 2, 1)),
    "million": partial(memory, "Gaussian, one sequence of 1 000 000, k = 4, 2 steps", 1_000_000),
}


def rows(names: list[str], options: Options, keep: Callable[[dict[str, Row]], None]) -> str:
    """Run works in turn, in float64; `keep` is given all that was measured after each."""
    import jax

    jax.config.update("jax_enable_x64", True)
    lines, measured = [HEAD], {}
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        found = WORKS[name](options)
        lines.append(found.line())
        print(found.line(), file=sys.stderr, flush=True)
        timings = {name: timing.record() for name, timing in found.timings.items()}
        measured[name] = Row([], {"line": found.line(), "dtype": "float64", "timings": timings})
        keep(measured)
    return "\n".join(lines)
