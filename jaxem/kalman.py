"""Linear-Gaussian chains: a filter and a smoother in square roots, for many sequences at once, one step of time after another.

    x_1 ~ N(μ, V),    x_t = A x_t-1 + b_t + w_t,  w_t ~ N(0, Q),    z_t = N_t x_t + v_t,  v_t ~ N(0, I)

Time comes first and lanes (sequences) last. What is observed comes whitened and turned, so that it has at most as many entries
as the state; of what is missing N_t and z_t are zero. Filter in arrays: Kaminski, Bryson & Schmidt (1971). Smoother by
x_t | x_t+1, z_1…t ~ N(x̂_t|t + J_t (x_t+1 - x̂_t+1|t), VᵀV), in sums that have no differences (Rauch, Tung & Striebel 1965).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxem.square_roots import apply, eliminate, in_lanes, inverse, log_size, solve_transposed, square, times, transposed


class Dynamics(NamedTuple):
    """How a state begins and moves: the roots are upper triangular, UᵀU the covariance."""

    mean: Array  # (s,)
    root: Array  # (s, s)
    transition: Array  # (s, s)
    noise: Array  # (s, s)


class Seen(NamedTuple):
    """What was seen at each step: N_t is `loads` (r, s, P) at place `pattern`, zero where not `active`; P = 1 without patterns.

    drift (t, s, n) is b_t, of which the first is not looked at; lengths (n,) say which steps there are.
    """

    loads: Array
    pattern: Array | None  # (t, n)
    z: Array  # (t, r, n), zero where nothing was seen
    drift: Array | None
    lengths: Array


class Gain(NamedTuple):
    """What one step does to a covariance, and what goes back through it: all (…, …, *lanes).

    size      (r, r)  upper triangular, of the covariance of z_t given the past
    cross     (r, s)  x̂_t|t = x̂_t|t-1 + crossᵀ size⁻ᵀ (z_t - N x̂_t|t-1)
    after     (s, s)  a root of the covariance of x_t given z_1…t
    back      (s, s)  J_t
    left      (s, s)  a root of the covariance of x_t given x_t+1 and z_1…t
    pull      (s, s)  Q Cov(x_t+1 | z_1…t)⁻¹ = I - A J_t: the part of a surprise at x_t+1 that is noise
    """

    size: Array
    cross: Array
    after: Array
    back: Array
    left: Array
    pull: Array


class Smoothed(NamedTuple):
    """Moments of states given all that was seen; those of the noise w_t+1 = x_t+1 - A x_t - b_t+1 stand at step t.

    Of the steps beyond a length, and of noise that leads there, all is zero.
    """

    mean: Array  # (t, s, n)
    covariance: Array  # (t, s, s, n)
    noise: Array  # (t, s, n)
    lag: Array  # (t, s, s, n), Cov(x_t+1, x_t)
    noise_covariance: Array  # (t, s, s, n)
    noise_lag: Array  # (t, s, s, n), Cov(w_t+1, x_t)


class Filtered(NamedTuple):
    """Moments of states given what was seen up to each step, and the log-density of that without its constants, (t, n)."""

    log_prob: Array
    predicted: Array  # (t, s, n)
    surprise: Array  # (t, s, n), x̂_t|t - x̂_t|t-1
    gain: Gain


def update(root: Array, load: Array) -> tuple[Array, Array, Array]:
    """Return size, cross and the root after z = N x + v was seen, of the root before."""
    r = load.shape[0]
    lanes = root.shape[2:]
    unit = jnp.broadcast_to(in_lanes(jnp.eye(r, dtype=root.dtype), lanes), (r, r, *lanes))
    nothing = jnp.zeros((r, root.shape[1], *lanes), root.dtype)
    array = jnp.concatenate([jnp.concatenate([unit, nothing], 1), jnp.concatenate([times(root, transposed(load)), root], 1)], 0)
    array = eliminate(array, r)
    return array[:r, :r], array[:r, r:], array[r:, r:]


def predict(dynamics: Dynamics, after: Array) -> tuple[Array, Array, Array, Array]:
    """Return the root of the next state's covariance, and back, left and pull."""
    s = after.shape[0]
    lanes = after.shape[2:]
    transition, noise = (in_lanes(matrix, lanes) for matrix in (dynamics.transition, dynamics.noise))
    noise = jnp.broadcast_to(noise, after.shape)
    top = jnp.concatenate([times(after, transposed(transition)), after], 1)
    array = eliminate(jnp.concatenate([top, jnp.concatenate([noise, jnp.zeros_like(after)], 1)]), s)
    root, left = array[:s, :s], array[s:, s:]
    backward = inverse(root)
    pull = times(times(square(noise), backward), transposed(backward))
    return root, transposed(times(backward, array[:s, s:])), left, pull


def filtered(dynamics: Dynamics, seen: Seen) -> Filtered:
    """Return the filter's moments, from which all others are made; memory linear in time."""
    steps, _, n = seen.z.shape
    s = dynamics.mean.shape[0]

    def step(
        carry: tuple[Array, Array], now: tuple[Array, Array, Array | None, Array | None]
    ) -> tuple[tuple[Array, Array], Filtered]:
        mean, root = carry
        time, z, drift, pattern = now
        active = (time < seen.lengths)[None]
        load = seen.loads if pattern is None else jnp.take(seen.loads, pattern, axis=2)
        size, cross, after = update(root, jnp.where(active[None], load, 0))
        short = solve_transposed(size, jnp.where(active, z - apply(load, mean), 0))
        surprise = apply(transposed(cross), short)
        log_prob = -0.5 * (short * short).sum(0) - log_size(size)
        following, *rest = predict(dynamics, after)
        moved = apply(in_lanes(dynamics.transition, (n,)), mean + surprise)
        moved = moved if drift is None else moved + drift
        on = time + 1 < seen.lengths
        carry = jnp.where(on[None], moved, mean), jnp.where(on[None, None], following, root)
        return carry, Filtered(log_prob, mean, surprise, Gain(size, cross, after, *rest))

    start = jnp.broadcast_to(dynamics.mean[:, None], (s, n)), jnp.broadcast_to(dynamics.root[:, :, None], (s, s, n))
    drift = None if seen.drift is None else jnp.roll(seen.drift, -1, 0)
    times_ = jnp.arange(steps, dtype=seen.lengths.dtype)
    return lax.scan(step, start, (times_, seen.z, drift, seen.pattern))[1]


def smoothed(dynamics: Dynamics, seen: Seen, forward: Filtered) -> Smoothed:
    """Return the moments of states given all that was seen of their sequences."""
    n = seen.z.shape[2]
    transition = in_lanes(dynamics.transition, (n,))

    def step(carry: tuple[Array, Array], now: tuple[Array, Filtered]) -> tuple[tuple[Array, Array], Smoothed]:
        ahead, covariance = carry
        time, here = now
        within, on = time < seen.lengths, time + 1 < seen.lengths
        ahead, covariance = jnp.where(on[None], ahead, 0), jnp.where(on[None, None], covariance, 0)
        gain, left = here.gain, square(here.gain.left)
        lag = times(covariance, transposed(gain.back))
        spread = jnp.where(on[None, None], left + times(gain.back, lag), square(gain.after))
        spread = jnp.where(within[None, None], 0.5 * (spread + transposed(spread)), 0)
        noise_lag = times(gain.pull, lag) - times(transition, left)
        noise = times(times(gain.pull, covariance), transposed(gain.pull))
        noise = noise + times(times(transition, left), transposed(transition))
        back = here.surprise + apply(gain.back, ahead)
        found = Smoothed(
            mean=jnp.where(within[None], here.predicted + back, 0),
            covariance=spread,
            noise=apply(gain.pull, ahead),
            lag=lag,
            noise_covariance=jnp.where(on[None, None], noise, 0),
            noise_lag=jnp.where(on[None, None], noise_lag, 0),
        )
        return (back, spread), found

    steps = jnp.arange(seen.z.shape[0], dtype=seen.lengths.dtype)
    nothing = jnp.zeros_like(forward.predicted[0]), jnp.zeros_like(forward.gain.left[0])
    return lax.scan(step, nothing, (steps, forward), reverse=True)[1]
