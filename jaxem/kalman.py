"""Linear-Gaussian chains: a filter and a smoother in square roots, for many sequences at once, one step of time after another.

    x_1 ~ N(μ, V),    x_t = A x_t-1 + b_t + w_t,  w_t ~ N(0, Q),    z_t = N_t x_t + v_t,  v_t ~ N(0, I)

Time and lanes (sequences) come last. What is observed comes whitened and turned, so that it has at most as many entries
as the state; of what is missing N_t and z_t are zero. Filter in arrays: Kaminski, Bryson & Schmidt (1971). Smoother by
x_t | x_t+1, z_1…t ~ N(x̂_t|t + J_t (x_t+1 - x̂_t+1|t), VᵀV), in sums that have no differences (Rauch, Tung & Striebel 1965).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.square_roots import apply, eliminate, in_lanes, inverse, log_size, solve_transposed, square, times, transposed
from jaxem.trees import PyTree


class Dynamics(NamedTuple):
    """How a state begins and moves: the roots are upper triangular, UᵀU the covariance."""

    mean: Array  # (s,)
    root: Array  # (s, s)
    transition: Array  # (s, s)
    noise: Array  # (s, s)


class Seen(NamedTuple):
    """What was seen at each step: N_t is `loads` (r, s, P) at place `pattern`, zero where not `active`; P = 1 without patterns.

    drift (s, t, n) is b_t, of which the first is not looked at; lengths (n,) say which steps there are.
    """

    loads: Array
    pattern: Array | None  # (t, n)
    z: Array  # (r, t, n), zero where nothing was seen
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

    mean: Array  # (s, t, n)
    covariance: Array  # (s, s, t, n)
    noise: Array  # (s, t, n)
    lag: Array  # (s, s, t, n), Cov(x_t+1, x_t)
    noise_covariance: Array  # (s, s, t, n)
    noise_lag: Array  # (s, s, t, n), Cov(w_t+1, x_t)


class Filtered(NamedTuple):
    """Moments of states given what was seen up to each step, and the log-density of that without its constants, (t, n)."""

    log_prob: Array
    predicted: Array  # (s, t, n)
    surprise: Array  # (s, t, n), x̂_t|t - x̂_t|t-1
    gain: Gain  # (…, …, t, n)


def update(root: Array, load: Array) -> tuple[Array, Array, Array]:
    """Return size, cross and the root after z = N x + v was seen, of the root before."""
    r, lanes = load.shape[0], root.shape[2:]
    unit = jnp.broadcast_to(in_lanes(jnp.eye(r, dtype=root.dtype), lanes), (r, r, *lanes))
    nothing = jnp.zeros((r, root.shape[1], *lanes), root.dtype)
    below = jnp.concatenate([times(root, transposed(load)), root], 1)
    array = eliminate(jnp.concatenate([jnp.concatenate([unit, nothing], 1), below]), r)
    return array[:r, :r], array[:r, r:], array[r:, r:]


def predict(dynamics: Dynamics, after: Array) -> tuple[Array, Array, Array, Array]:
    """Return the root of the next state's covariance, and back, left and pull."""
    s, lanes = after.shape[0], after.shape[2:]
    transition, noise = (in_lanes(matrix, lanes) for matrix in (dynamics.transition, dynamics.noise))
    noise = jnp.broadcast_to(noise, after.shape)
    above = jnp.concatenate([times(after, transposed(transition)), after], 1)
    array = eliminate(jnp.concatenate([above, jnp.concatenate([noise, jnp.zeros_like(after)], 1)]), s)
    root, left = array[:s, :s], array[s:, s:]
    backward = inverse(root)
    pull = times(times(square(noise), backward), transposed(backward))
    return root, transposed(times(backward, array[:s, s:])), left, pull


def over_steps(tree: PyTree) -> PyTree:
    """Return arrays (t, …, n), stacked by a scan, as (…, t, n)."""
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -2), tree)


def by_step(tree: PyTree) -> PyTree:
    """Return arrays (…, t, n) as (t, …, n), for a scan."""
    return jax.tree.map(lambda x: jnp.moveaxis(x, -2, 0), tree)


def loads_of(seen: Seen, pattern: Array | None, active: Array) -> Array:
    """Return N of some steps (r, s, *lanes), zero where they are not active."""
    loads = seen.loads if pattern is None else jnp.take(seen.loads, pattern, axis=2)
    loads = loads.reshape(*loads.shape[:2], *[1] * active.ndim) if pattern is None else loads
    return jnp.where(active[None, None], loads, 0)


def filtered(dynamics: Dynamics, seen: Seen) -> Filtered:
    """Return the filter's moments, from which all others are made; memory linear in time."""
    steps, n = seen.z.shape[1:]
    s = dynamics.mean.shape[0]

    def step(
        carry: tuple[Array, Array], now: tuple[Array, Array, Array | None, Array | None]
    ) -> tuple[tuple[Array, Array], Filtered]:
        mean, root = carry
        time, z, drift, pattern = now
        active, on = time < seen.lengths, time + 1 < seen.lengths
        load = loads_of(seen, pattern, active)
        size, cross, after = update(root, load)
        log_prob, surprise = met(size, cross, jnp.where(active[None], z - apply(load, mean), 0))
        following, *rest = predict(dynamics, after)
        moved = apply(in_lanes(dynamics.transition, (n,)), mean + surprise)
        moved = moved if drift is None else moved + drift
        carry = jnp.where(on[None], moved, mean), jnp.where(on[None, None], following, root)
        return carry, Filtered(log_prob, mean, surprise, Gain(size, cross, after, *rest))

    start = jnp.broadcast_to(dynamics.mean[:, None], (s, n)), jnp.broadcast_to(dynamics.root[:, :, None], (s, s, n))
    time = jnp.arange(steps, dtype=seen.lengths.dtype)
    found: Filtered = over_steps(lax.scan(step, start, (time, by_step(seen.z), _next(seen.drift), seen.pattern))[1])
    return found


def met(size: Array, cross: Array, left: Array) -> tuple[Array, Array]:
    """Return the log-density of z - N x̂ = left, without its constants, and what it adds to x̂."""
    short = solve_transposed(size, left)
    return -0.5 * (short * short).sum(0) - log_size(size), apply(transposed(cross), short)


def _next(drift: Array | None) -> Array | None:
    """Return what pushes the next step (t, s, n), of b (s, t, n)."""
    return None if drift is None else jnp.moveaxis(jnp.roll(drift, -1, 1), 1, 0)


class _Ahead(NamedTuple):
    """What is known at a step by what comes after it: δ_t = x̂_t - x̂_t|t-1 (s, n), and the covariance (s, s, n) of x_t."""

    moved: Array
    covariance: Array


def smoothed(dynamics: Dynamics, seen: Seen, forward: Filtered) -> Smoothed:
    """Return the moments of states given all that was seen of their sequences."""
    pushes = pushes_back(seen, forward)

    def step(ahead: _Ahead, now: tuple[Array, Array, Array]) -> tuple[_Ahead, _Ahead]:
        back, surprise, own = now
        covariance = own + times(times(back, ahead.covariance), transposed(back))
        here = _Ahead(surprise + apply(back, ahead.moved), 0.5 * (covariance + transposed(covariance)))
        return here, here

    dim, n = dynamics.mean.shape[0], seen.z.shape[2]
    nothing = _Ahead(jnp.zeros((dim, n), seen.z.dtype), jnp.zeros((dim, dim, n), seen.z.dtype))
    found = over_steps(lax.scan(step, nothing, by_step(pushes), reverse=True)[1])
    return finished(dynamics, seen, forward, *found)


def pushes_back(seen: Seen, forward: Filtered) -> tuple[Array, Array, Array]:
    """Return back, surprise and own covariance of each step, in δ_t = c_t + J_t δ_t+1 and P_t = O_t + J_t P_t+1 J_tᵀ."""
    within, on = _within(seen)
    own = jnp.where(on, square(forward.gain.left), jnp.where(within, square(forward.gain.after), 0))
    return jnp.where(on, forward.gain.back, 0), jnp.where(within[0], forward.surprise, 0), own


def _within(seen: Seen) -> tuple[Array, Array]:
    """Tell which steps there are, and which of them have a next: (1, 1, t, n)."""
    time = jnp.arange(seen.z.shape[1], dtype=seen.lengths.dtype)[:, None]
    lengths = seen.lengths[None]
    return (time < lengths)[None, None], (time + 1 < lengths)[None, None]


def finished(dynamics: Dynamics, seen: Seen, forward: Filtered, moved: Array, covariance: Array) -> Smoothed:
    """Return all moments, from δ (s, t, n) and the covariances (s, s, t, n)."""
    within, on = _within(seen)
    gain, transition = forward.gain, in_lanes(dynamics.transition, (1, 1))
    ahead = jnp.where(on[0], jnp.roll(moved, -1, 1), 0)
    following = jnp.where(on, jnp.roll(covariance, -1, 2), 0)
    lag, left = times(following, transposed(gain.back)), square(gain.left)
    shaken = times(transition, left)
    noise = times(times(gain.pull, following), transposed(gain.pull)) + times(shaken, transposed(transition))
    return Smoothed(
        mean=jnp.where(within[0], forward.predicted + moved, 0),
        covariance=covariance,
        noise=apply(gain.pull, ahead),
        lag=lag,
        noise_covariance=jnp.where(on, noise, 0),
        noise_lag=jnp.where(on, times(gain.pull, lag) - shaken, 0),
    )
