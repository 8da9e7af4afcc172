"""Peers of state space models, in an environment of their own: `python state_space_peers.py PEER FILE STEPS`, JSON out.

FILE holds values (n, t, o), NaN in steps that are missing, and a start; all in float64. Each peer takes steps of EM from it:
dynamax its own, pykalman and statsmodels one sequence after another by their smoothers, and then an M-step in NumPy.
"""

import json
import sys
import time
from typing import Any

import numpy as np

NAMES = ("initial_mean", "initial_covariance", "transition", "transition_covariance", "emission", "emission_covariance")


def statsmodels_smoother(x: Any, mean: Any, first: Any, move: Any, noise: Any, load: Any, scatter: Any) -> Any:
    """Return log p, means (t, s), covariances (t, s, s) and lags (t - 1, s, s) of one sequence."""
    from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother

    model = KalmanSmoother(k_endog=x.shape[1], k_states=mean.size, k_posdef=mean.size)
    model.bind(np.ascontiguousarray(x))
    model["design"], model["obs_cov"], model["transition"], model["state_cov"] = load, scatter, move, noise
    model["selection"] = np.eye(mean.size)
    model.initialize_known(mean, first)
    found = model.smooth()
    covariances = np.moveaxis(found.smoothed_state_cov, 2, 0)
    lags = np.moveaxis(found.smoothed_state_autocov, 2, 0)[: len(x) - 1]
    return found.llf, found.smoothed_state.T, covariances, lags


def pykalman_smoother(x: Any, mean: Any, first: Any, move: Any, noise: Any, load: Any, scatter: Any) -> Any:
    """Return the same by pykalman's functions, which its `em` runs on one sequence."""
    from pykalman import standard as own

    z, zeros = np.ma.masked_invalid(x), (np.zeros(mean.size), np.zeros(x.shape[1]))
    ahead, spread, _, here, left = own._filter(move, load, noise, scatter, *zeros, mean, first, z)
    height = own._loglikelihoods(load, zeros[1], scatter, ahead, spread, z).sum()
    means, covariances, gains = own._smooth(move, here, left, ahead, spread)
    return height, means, covariances, own._smooth_pair(covariances, gains)[1:]


def stepped(smoother: Any, xs: Any, params: Any) -> Any:
    """Return log p at params, and the M-step, from each sequence's smoothed moments."""
    s, o = params[0].size, xs.shape[2]
    past, across, after, whole = (np.zeros((s, s)) for _ in range(4))
    starts, firsts, shown, squares, count, height = [], [], np.zeros((o, s)), np.zeros((o, o)), 0, 0.0
    for x in xs:
        value, m, c, lags = smoother(x, *params)
        height += value
        there = ~np.isnan(x).any(1)
        starts.append(m[0])
        firsts.append(c[0])
        past += c[:-1].sum(0) + m[:-1].T @ m[:-1]
        after += c[1:].sum(0) + m[1:].T @ m[1:]
        across += lags.sum(0) + m[1:].T @ m[:-1]
        whole += c[there].sum(0) + m[there].T @ m[there]
        shown += x[there].T @ m[there]
        squares += x[there].T @ x[there]
        count += there.sum()
    moves = len(xs) * (xs.shape[1] - 1)
    mean = np.mean(starts, 0)
    off = np.array(starts) - mean
    move, load = across @ np.linalg.inv(past), shown @ np.linalg.inv(whole)
    noise = (after - move @ across.T - across @ move.T + move @ past @ move.T) / moves
    scatter = (squares - load @ shown.T - shown @ load.T + load @ whole @ load.T) / count
    return height, (mean, np.mean(firsts, 0) + off.T @ off / len(xs), move, noise, load, scatter)


def by_smoother(smoother: Any, xs: Any, params: Any, steps: int) -> list[float]:
    """Return log p at the start of each of so many steps."""
    heights = []
    for _ in range(steps):
        height, params = stepped(smoother, xs, params)
        heights.append(float(height))
    return heights


def dynamax_steps(xs: Any, params: Any, steps: int) -> Any:
    """Return a function that takes so many steps of dynamax's own EM."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    from dynamax.linear_gaussian_ssm import LinearGaussianSSM

    model = LinearGaussianSSM(params[0].size, xs.shape[2], has_dynamics_bias=False, has_emissions_bias=False)
    named = ("mean", "covariance", "weights", "covariance", "weights", "covariance")
    given = {
        f"{part}_{name}": jnp.asarray(value)
        for part, name, value in zip(("initial",) * 2 + ("dynamics",) * 2 + ("emission",) * 2, named, params, strict=True)
    }
    theta, props = model.initialize(jax.random.key(0), **given)
    return lambda: [float(v) for v in model.fit_em(theta, props, jnp.asarray(xs), num_iters=steps, verbose=False)[1]]


def main() -> None:
    """Time a peer: two calls of dynamax, whose first compiles, one of the others."""
    peer, path, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    given = np.load(path)
    xs, params = given["values"], tuple(given[name] for name in NAMES)
    if peer == "dynamax":
        run = dynamax_steps(xs, params, steps)
        run()
    else:
        smoother = {"pykalman": pykalman_smoother, "statsmodels": statsmodels_smoother}[peer]

        def run() -> list[float]:
            return by_smoother(smoother, xs, params, steps)

    start = time.perf_counter()
    heights = run()
    print(json.dumps({"seconds_per_step": (time.perf_counter() - start) / steps, "log_likelihoods": heights}))


if __name__ == "__main__":
    main()
