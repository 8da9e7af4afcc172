"""The filter and the smoother beside dense Gaussian algebra, on small problems of all kinds at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxem import kalman, kalman_in_parallel
from jaxem.kalman import Dynamics, Seen

PROBLEMS, MOST, STATES, SHOWN = 240, 6, 3, 2


def problem(seed):
    """A random model, and what was seen of it: of any length, with entries missing, states that do not matter, unit roots."""
    rng = np.random.default_rng(seed)
    length, s = 1 + seed % MOST, 1 + seed // MOST % STATES
    move, load = np.eye(STATES), np.zeros((MOST, SHOWN, STATES))
    move[:s, :s] = np.eye(s) if seed % 5 == 0 else rng.normal(size=(s, s)) / s**0.5
    load[:, :, :s] = rng.normal(size=(SHOWN, s))
    load[rng.random((MOST, SHOWN)) < 0.3] = 0
    noise, first = (np.tril(rng.normal(size=(STATES, STATES))) + 2 * np.eye(STATES) for _ in range(2))
    noise = noise * 10.0 ** rng.integers(-2, 2)
    noise[s:, :s] = noise[:s, s:] = first[s:, :s] = first[:s, s:] = 0
    first = first * (1e2 if seed % 7 == 0 else 1)
    z = np.where(load.any(2), rng.normal(size=(MOST, SHOWN)), 0)
    return rng.normal(size=STATES), first, move, noise, load, z, rng.normal(size=(MOST, STATES)), length


def dense(mean, first, move, noise, load, z, drift, length):
    """Return log p without constants, means and covariance of all states, and how many ulps dense algebra may lose."""
    s = mean.size
    centre, through = [mean], [np.eye(s)]
    for t in range(1, length):
        centre.append(move @ centre[-1] + drift[t])
        through.append(move @ through[-1])
    into = np.zeros((length * s, length * s))
    for t in range(length):
        for u in range(t + 1):
            into[t * s : (t + 1) * s, u * s : (u + 1) * s] = through[t - u] @ (noise if u else first)
    joint, centre = into @ into.T, np.concatenate(centre)
    show = np.zeros((length * load.shape[1], length * s))
    for t in range(length):
        show[t * load.shape[1] : (t + 1) * load.shape[1], t * s : (t + 1) * s] = load[t]
    seen, left = show @ joint @ show.T + np.eye(len(show)), z[:length].ravel() - show @ centre
    gain = np.linalg.solve(seen, show @ joint).T
    log_prob = -0.5 * (left @ np.linalg.solve(seen, left) + np.linalg.slogdet(seen)[1])
    return log_prob, (centre + gain @ left).reshape(length, s), joint - gain @ show @ joint, np.linalg.cond(seen)


@pytest.fixture(scope="module")
def all_problems():
    return [problem(seed) for seed in range(PROBLEMS)]


@pytest.mark.each_time(1)
@pytest.mark.parametrize("way", [kalman, kalman_in_parallel])
def test_moments_and_densities_are_those_of_the_joint_distribution(way, all_problems):
    @jax.jit
    @jax.vmap
    def run(mean, first, move, noise, load, z, drift, length):
        pattern = jnp.arange(MOST)[:, None]
        seen = Seen(jnp.moveaxis(load, 0, 2), pattern, z.T[:, :, None], drift.T[:, :, None], length[None])
        dynamics = Dynamics(mean, first.T, move, noise.T)
        forward = way.filtered(dynamics, seen)
        return forward.log_prob[:, 0], way.smoothed(dynamics, seen, forward)

    log_prob, moments = jax.device_get(run(*map(jnp.asarray, map(np.stack, zip(*all_problems, strict=True)))))
    for i, given in enumerate(all_problems):
        length, move, drift = given[-1], given[2], given[6]
        expected, means, joint, lost = dense(*given)
        found = type(moments)(*(x[i, ..., 0] for x in moments))
        size = np.abs(np.diag(joint)).max() + np.abs(means).max()
        near = {"rtol": 0, "atol": (1e-11 + 1e-15 * lost) * size}
        np.testing.assert_allclose(log_prob[i, :length].sum(), expected, rtol=0, atol=1e-11 + 1e-14 * lost)
        np.testing.assert_allclose(found.mean[:, :length].T, means, **near)
        blocks = joint.reshape(length, STATES, length, STATES)
        for t in range(length):
            here = blocks[t, :, t]
            np.testing.assert_allclose(found.covariance[..., t], here, **near)
            if t + 1 < length:
                lag, following = blocks[t + 1, :, t], blocks[t + 1, :, t + 1]
                noise = following - lag @ move.T - move @ lag.T + move @ here @ move.T
                np.testing.assert_allclose(found.lag[..., t], lag, **near)
                np.testing.assert_allclose(found.noise_lag[..., t], lag - move @ here, **near)
                np.testing.assert_allclose(found.noise_covariance[..., t], noise, **near)
                np.testing.assert_allclose(found.noise[:, t], means[t + 1] - move @ means[t] - drift[t + 1], **near)
