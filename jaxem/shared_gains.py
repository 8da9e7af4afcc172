"""The filter and the smoother where nothing is missing: covariances are then the same for all sequences, and are made once.

They are followed through time until they repeat themselves, as they soon do. Means, and sums of covariances over sequences
that end at different times, are linear recursions; those run in blocks of time, all blocks at once, and then from one block
to the next, so that √t steps follow each other rather than t.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.kalman import Dynamics, Gain, predict, update
from jaxem.square_roots import inverse, log_size, square, times, transposed

STILL = 1.0  # ulps of a standard deviation within which a covariance repeats itself


class Track(NamedTuple):
    """What the steps of time do to any sequence without holes: gains, lanes being time, and the filter's recursion."""

    gain: Gain  # (…, …, t)
    whiten: Array  # (r, r, t), size⁻ᵀ
    weigh: Array  # (s, r, t), K_t = crossᵀ size⁻ᵀ
    push: Array  # (s, r, t), A K_t
    move: Array  # (s, s, t), A (I - K_t N)


def _step(dynamics: Dynamics, load: Array, before: Array) -> tuple[Array, Track]:
    size, cross, after = update(before, load)
    following, *rest = predict(dynamics, after)
    whiten = inverse(size).T
    weigh = cross.T @ whiten
    push = dynamics.transition @ weigh
    return following, Track(Gain(size, cross, after, *rest), whiten, weigh, push, dynamics.transition - push @ load)


def track(dynamics: Dynamics, load: Array, steps: int) -> Track:
    """Return what so many steps do, of loads (r, s) that are always the same: the last again once they repeat themselves."""

    def forth(state: tuple[Array, Array, Array, Track]) -> tuple[Array, Array, Array, Track]:
        time, _, before, found = state
        following, made = _step(dynamics, load, before)
        size = jnp.sqrt((following * following).sum(0, keepdims=True))
        still = (jnp.abs(following - before) <= STILL * jnp.finfo(load.dtype).eps * size).all()
        found = jax.tree.map(lambda all_, one: lax.dynamic_update_index_in_dim(all_, one, time, 0), found, made)
        return time + 1, still, following, found

    shapes = jax.eval_shape(lambda: _step(dynamics, load, dynamics.root)[1])
    empty = jax.tree.map(lambda leaf: jnp.zeros((steps, *leaf.shape), leaf.dtype), shapes)
    start = jnp.zeros((), jnp.int32), jnp.asarray(False), dynamics.root, empty
    time, *_, found = lax.while_loop(lambda state: ~state[1] & (state[0] < steps), forth, start)
    made = jnp.arange(steps, dtype=jnp.int32) < time

    def held(leaf: Array) -> Array:
        last = lax.dynamic_index_in_dim(leaf, time - 1, 0, keepdims=False)
        return jnp.where(made, jnp.moveaxis(leaf, 0, -1), last[..., None])

    return jax.tree.map(held, found)


def _blocks_of(steps: int) -> tuple[int, int]:
    """Return the number of steps in a block, and how many blocks there are."""
    size = max(1, round(steps**0.5))
    return size, -(-steps // size)


def _in_blocks(x: Array, size: int, num: int, idle: Array | None = None) -> Array:
    """Return an array (…, t) as (size, …, num); behind it zeros, or what is `idle` (…)."""
    more = size * num - x.shape[-1]
    behind = jnp.broadcast_to(jnp.zeros((), x.dtype) if idle is None else idle[..., None], (*x.shape[:-1], more))
    return jnp.moveaxis(jnp.concatenate([x, behind], -1).reshape(*x.shape[:-1], num, size), -1, 0)


def _over_time(x: Array, steps: int) -> Array:
    """Return blocks (size, …, num) as (…, t)."""
    flat = jnp.moveaxis(x, 0, -1)
    return flat.reshape(*flat.shape[:-2], -1)[..., :steps]


def recursion(moves: Array, pushes: Array, start: Array) -> tuple[Array, Array]:
    """Return x_0 = start, x_t+1 = M_t x_t + c_t, (s, n, t), and the x that follows: M (s, s, t), c (s, n, t), start (s, n)."""
    steps = moves.shape[2]
    size, num = _blocks_of(steps)
    one = jnp.eye(moves.shape[0], dtype=moves.dtype)

    def within(carry: tuple[Array, Array], now: tuple[Array, Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        local, whole = carry
        move, push = now
        return (times(move, local) + push, times(move, whole)), carry

    begin = jnp.zeros((*start.shape, num), start.dtype), jnp.broadcast_to(one[:, :, None], (*one.shape, num))
    blocks = _in_blocks(moves, size, num, one), _in_blocks(pushes, size, num)
    (last, whole), (local, turned) = lax.scan(within, begin, blocks)

    def across(here: Array, block: tuple[Array, Array]) -> tuple[Array, Array]:
        return block[0] @ here + block[1], here

    following, first = lax.scan(across, start, (jnp.moveaxis(whole, 2, 0), jnp.moveaxis(last, 2, 0)))
    return _over_time(local + jax.vmap(times, (0, None))(turned, jnp.moveaxis(first, 0, 2)), steps), following


def backwards(moves: Array, pushes: Array, start: Array) -> tuple[Array, Array]:
    """Return what a recursion from the end has at each step of what was met after it, and what it has before the first."""
    found, before = recursion(jnp.flip(moves, -1), jnp.flip(pushes, -1), start)
    return jnp.flip(found, -1), before


class Moments(NamedTuple):
    """Means of states and of the noise at the next step, (s, n, t); log-densities without constants, (n, t)."""

    states: Array
    noise: Array
    log_prob: Array


def foretold(made: Track, z: Array, drift: Array | None, start: Array) -> tuple[Array, Array]:
    """Return x̂_t|t-1 (s, n, t) from that of the first step, and that of the step that follows; z (r, n, t)."""
    pushes = times(made.push, z)
    return recursion(made.move, pushes if drift is None else pushes + drift, start)


def means(load: Array, made: Track, z: Array, predicted: Array, ahead: Array, within: Array) -> tuple[Moments, Array]:
    """Return the moments of steps that were foretold, `within` (n, t), and what they say of the step before.

    `ahead` (s, n) is x̂ - x̂_t|t-1 of the step that follows them.
    """
    left = jnp.where(within[None], z - times(load[:, :, None], predicted), 0)
    short, surprise = times(made.whiten, left), times(made.weigh, left)
    moved, before = backwards(made.gain.back, surprise, ahead)
    log_prob = -0.5 * (short * short).sum(0) - log_size(made.gain.size)[None]
    states = jnp.where(within[None], predicted + surprise + times(made.gain.back, moved), 0)
    return Moments(states, times(made.gain.pull, moved), jnp.where(within, log_prob, 0)), before


class Pooled(NamedTuple):
    """Sums over sequences, by their weights, of covariances at each step: (s, s, t), as in `Smoothed`."""

    covariance: Array
    past: Array  # of the sequences that go on
    noise_covariance: Array
    noise_lag: Array


def pooled(dynamics: Dynamics, made: Track, weights: Array) -> Pooled:
    """Return the sums, weights (t,) being those of the sequences that are still there at each step.

    S_t = w_t+1 VᵀV + (w_t - w_t+1) P_t|t + J_t S_t+1 J_tᵀ, with w_t - w_t+1 of sequences that end at t.
    """
    gain, transition = made.gain, dynamics.transition[:, :, None]
    following = jnp.concatenate([weights[1:], jnp.zeros_like(weights[:1])])
    left, after = square(gain.left), square(gain.after)
    ends = (weights - following)[None, None] * after
    ahead = jnp.flip(_congruences(jnp.flip(gain.back, -1), jnp.flip(following[None, None] * left + ends, -1)), -1)
    lag = times(ahead, transposed(gain.back))
    pulled = times(times(gain.pull, ahead), transposed(gain.pull))
    shaken = times(times(transition, left), transposed(transition))
    past = following[None, None] * left + times(gain.back, lag)
    return Pooled(
        past + ends,
        past,
        pulled + following[None, None] * shaken,
        times(gain.pull, lag) - following[None, None] * times(transition, left),
    )


def _congruences(moves: Array, pushes: Array) -> Array:
    """Return S_0 = 0, S_t+1 = M_t S_t M_tᵀ + C_t: (s, s, t) each."""
    steps = moves.shape[2]
    size, num = _blocks_of(steps)
    identity = jnp.broadcast_to(jnp.eye(moves.shape[0], dtype=moves.dtype)[:, :, None], (*moves.shape[:2], num))

    def turned(move: Array, sums: Array) -> Array:
        found = times(times(move, sums), transposed(move))
        return 0.5 * (found + transposed(found))

    def within(carry: tuple[Array, Array], now: tuple[Array, Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        local, whole = carry
        move, push = now
        return (turned(move, local) + push, times(move, whole)), carry

    begin = jnp.zeros_like(identity), identity
    (last, whole), (local, way) = lax.scan(within, begin, (_in_blocks(moves, size, num), _in_blocks(pushes, size, num)))

    def across(here: Array, block: tuple[Array, Array]) -> tuple[Array, Array]:
        return block[0] @ here @ block[0].T + block[1], here

    first = lax.scan(across, jnp.zeros_like(last[:, :, 0]), (jnp.moveaxis(whole, 2, 0), jnp.moveaxis(last, 2, 0)))[1]
    flat = _over_time(way, steps)
    begun = jnp.repeat(jnp.moveaxis(first, 0, 2), size, axis=2)[:, :, :steps]
    return _over_time(local, steps) + turned(flat, begun)
