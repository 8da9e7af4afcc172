"""Many random starts, each to convergence: against scikit-learn's `n_init`, and every library from the same starts.

All stop by gain per row, `TOL`: the peers when a step gains less, jaxem when the estimated remaining gain is less, which is
the stricter where convergence is slow. The best log-likelihoods stand beside the times.
"""

import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxem
from benchmarks import peers
from benchmarks.measure import Timing, in_turn, on_one_thread, timed
from benchmarks.peers import Outcome, Stop
from benchmarks.problems import Size, Solution, clusters, log_likelihood
from benchmarks.report import Line, Options, Row, cell, cells, nats, ratios, seconds, target

TOL = 1e-6  # nats per row: about what float32 can tell
MAX_STEPS = 10_000
RIDGE = 1e-6  # the peers' guard against collapse, scikit-learn's default
ALL, SHORT, N_INIT = "jaxem", "jaxem, a quarter continued", "scikit-learn, n_init"


def restarts(
    size: Size, spread: float, num_restarts: int, at_least: float, at_least_cold: float | None, options: Options
) -> Row:
    """Time `num_restarts` starts, compiled and with compilation, and keep where each contender ended.

    spread: how far the clusters lie apart; chosen so that starts end at several maxima and all libraries find the same best.
    """
    size = options.cut(size) if size.n > 5_000 else size
    x, key = clusters(2, size, spread), jax.random.key(3)
    model = jaxem.mixture(jaxem.families.gaussian("full"), size.k)
    all_run, some_continued = (_search(model, key, x, num_restarts, continued) for continued in (num_restarts, None))
    starts = [as_solution(model.init(k, jnp.asarray(x))) for k in jax.random.split(key, num_restarts)]
    others = {name: fits for name, fits in peers.installed().items() if name != "jaxem"}
    same = {name: fits(x, "full", starts, Stop(MAX_STEPS, TOL, RIDGE)) for name, fits in others.items()}
    beside = {N_INIT: n_init(x, "full", size.k, num_restarts)} if "scikit-learn" in others else {}
    timings = in_turn({ALL: all_run, SHORT: some_continued, **beside, **same}, options.repeats)
    cold = [timed(all_run, jax.clear_caches)[0] for _ in range(options.repeats)]

    endings = {name: _searched(timings[name].result, x) for name in (ALL, SHORT)}
    endings |= {name: _initialized(timings[name].result, x) for name in beside if not timings[name].failure}
    endings |= {name: _fitted(timings[name].result, x) for name in same if not timings[name].failure}
    peer = {name: timings[name] for name in (N_INIT, on_one_thread(N_INIT)) if name in timings}
    columns = {name: timing for name, timing in timings.items() if name not in (SHORT, *peer)}
    compiled, short, first = timings[ALL].median, timings[SHORT].median, statistics.median(cold)
    record = {
        "size": size._asdict(),
        "dtype": "float32",
        "num_restarts": num_restarts,
        "tol_per_row": TOL,
        "timings": {name: timing.record() for name, timing in timings.items()},
        "with_compilation": cold,
        "endings": endings,
        "ratio": {
            "compiled": _multiples(peer, compiled),
            "with_compilation": _multiples(peer, first),
            "a_quarter_continued": _multiples(peer, short),
            "same_starts": ratios(columns),
        },
    }
    efficiency = endings[ALL]["lane_efficiency"]
    lines = [
        _line(f"{num_restarts} restarts, {size}, n_init beside it", compiled, peer, at_least, _both(endings, ALL)),
        _line("… compilation included", first, peer, at_least_cold, ""),
        _line("… short runs first, a quarter continued", short, peer, at_least, _both(endings, SHORT)),
        Line("… all from the same starts", cells(columns), target(ratios(columns), None), _all(endings, columns)),
        Line("… lane efficiency", {"jaxem": f"{efficiency:.0%}"}),
    ]
    return Row(lines, record)


def _search(model: Any, key: jax.Array, x: np.ndarray, num_restarts: int, num_continued: int | None) -> Callable[[], Any]:
    data, tol = jnp.asarray(x), TOL * len(x)
    counts = {"num_restarts": num_restarts, "num_continued": num_continued, "max_steps": MAX_STEPS}
    return lambda: jax.block_until_ready(jaxem.fit_restarts(model, key, data, tol=tol, **counts))


def as_solution(params: jaxem.Mixture) -> Solution:
    return jax.tree.map(np.asarray, Solution(params.weights, params.components.mean, params.components.covariance))


def of_scikit_learn(mixture: Any) -> Solution:
    return Solution(mixture.weights_, mixture.means_, mixture.covariances_)


def n_init(x: np.ndarray, covariance: str, num_components: int, num_restarts: int) -> Callable[[], Any]:
    """Return scikit-learn's own restarts from k-means, counting the steps of every one."""
    from sklearn.mixture import GaussianMixture

    class Counted(GaussianMixture):
        def _m_step(self, *args: Any, **kwargs: Any) -> None:
            self.steps = getattr(self, "steps", 0) + 1
            super()._m_step(*args, **kwargs)

    settings = {"tol": TOL, "max_iter": MAX_STEPS, "reg_covar": RIDGE, "n_init": num_restarts, "random_state": 0}
    return lambda: Counted(num_components, covariance_type=covariance, **settings).fit(x)


def _searched(found: jaxem.Restarts, x: np.ndarray) -> dict[str, Any]:
    """Return where jaxem's restarts ended."""
    names = [jaxem.Status(status).name for status in found.fits.status.tolist()]
    return {
        "log_likelihood": log_likelihood(as_solution(found.best.params), x, "full"),
        "steps": int(found.fits.num_steps.sum()),
        "lane_efficiency": float(found.lane_efficiency),
        "status": {name: names.count(name) for name in sorted(set(names))},
    }


def _initialized(mixture: Any, x: np.ndarray) -> dict[str, Any]:
    """Return where scikit-learn's n_init ended."""
    return {"log_likelihood": log_likelihood(of_scikit_learn(mixture), x, "full"), "steps": mixture.steps}


def _fitted(outcomes: list[Outcome], x: np.ndarray) -> dict[str, Any]:
    """Return where the fits of a peer from all starts ended."""
    ends = [log_likelihood(outcome.solution, x, "full") for outcome in outcomes if outcome.solution]
    steps = sum(outcome.num_steps for outcome in outcomes)
    return {"log_likelihood": max(ends, default=None), "steps": steps, "failed": len(outcomes) - len(ends)}


def _multiples(peer: dict[str, Timing], base: float) -> dict[str, float]:
    return {name: timing.median / base for name, timing in peer.items() if not timing.failure}


def _line(label: str, ours: float, peer: dict[str, Timing], at_least: float | None, ending: str) -> Line:
    goal = target(_multiples(peer, ours), at_least) if at_least else ""
    theirs = {"scikit-learn": cell(N_INIT, peer, ours)} if peer else {}
    return Line(label, {"jaxem": seconds(ours), **theirs}, goal, ending)


def _ending(end: dict[str, Any]) -> str:
    found = "no finite fit" if end["log_likelihood"] is None else nats(end["log_likelihood"])
    return f"{found} in {end['steps']} steps"


def _both(endings: dict[str, dict[str, Any]], name: str) -> str:
    theirs = f"; n_init {_ending(endings[N_INIT])}" if N_INIT in endings else ""
    return _ending(endings[name]) + theirs


def _all(endings: dict[str, dict[str, Any]], columns: dict[str, Timing]) -> str:
    return "; ".join(f"{name} {_ending(endings[name])}" for name in columns if name in endings)
