"""The E-step where nothing is missing: pieces of some sequences and some steps, the longest sequences first.

What a covariance does in time is the same for all sequences, and made once. Means are then followed piece by piece, forward and
back, so that what a piece needs stays in a cache, memory beyond the data does not grow with it, and steps beyond a length or of
weight zero are hardly ever met, as sequences of about one length go together.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.kalman import Dynamics
from jaxem.models.state_space.emission import Emission, emission_of, observed_noise
from jaxem.models.state_space.records import LinearGaussian
from jaxem.models.state_space.series import Series
from jaxem.models.state_space.statistics import Means, Spread, StateSpaceStats, Weights, statistics_of, step_weights
from jaxem.numerics import weighted_sum
from jaxem.shared_gains import Track, foretold, means, pooled, track
from jaxem.square_roots import root
from jaxem.trees import Shared

STEPS = 4096  # in a piece
ROWS = 8  # of sequences in a piece, if these are long


class Layout(NamedTuple):
    """How n sequences of t steps are cut: so many of them and so many steps in a piece, and in so many pieces of time."""

    rows: int
    steps: int
    pieces: int


class _Piece(NamedTuple):
    """Some steps of some sequences, their weights, z (r, n, t) and the noise below it, and b of the next steps (s, n, t)."""

    data: Series
    weights: Weights
    z: Array
    rest: Array
    drift: Array | None


def layout_of(n: int, t: int) -> Layout:
    """Return pieces of about as many steps."""
    most = STEPS if n >= ROWS else 4 * STEPS  # of few sequences a step costs the same whatever is in it
    rows = min(n, max(ROWS, most // t))
    pieces = -(-t // max(1, most // rows))
    return Layout(rows, -(-t // pieces), pieces)


def dynamics_of(params: LinearGaussian) -> Dynamics:
    """Return how a state begins and moves."""
    return Dynamics(params.initial_mean, root(params.initial_covariance), params.transition, root(params.transition_covariance))


def expect_alike(params: LinearGaussian, data: Series, weights: Array) -> tuple[StateSpaceStats, Array]:
    """Return the statistics of the posterior of sequences without holes, and the log-likelihood."""
    n, t, _ = data.values.shape
    layout = layout_of(n, t)
    dynamics, emission = dynamics_of(params), emission_of(params, data)
    load = emission.loads[:, :, 0]
    made = track(dynamics, load, layout.steps * layout.pieces)
    lengths = jnp.where(weights > 0, data.lengths, 0)
    order = jnp.argsort(-lengths).astype(jnp.int32)
    behind = [(0, 0), (0, layout.steps * layout.pieces - t), (0, 0)]
    values = jnp.pad(data.values, behind)
    inputs = None if data.inputs is None else jnp.pad(data.inputs, [behind[0], (0, behind[1][1] + 1), behind[2]])

    def piece_of(block: Array, number: Array) -> _Piece:
        places = block * layout.rows + jnp.arange(layout.rows, dtype=jnp.int32)
        which, there = order[jnp.minimum(places, n - 1)], places < n
        own = jnp.where(there, lengths[which], 0) - number * layout.steps
        some = Series(
            _rows_at(values, which, number * layout.steps, layout.steps),
            jnp.clip(own, 0, layout.steps),
            None if inputs is None else _rows_at(inputs, which, number * layout.steps, layout.steps + 1),
            None,
            data.total,
        )
        w = jnp.where(there, weights[which], 0)
        time = jnp.arange(layout.steps, dtype=own.dtype)[None]
        seen, following = (jnp.where(time + late < own[:, None], w[:, None], 0) for late in (0, 1))
        return _whitened(params, emission, some, Weights(jnp.where(number == 0, w, 0), seen, following))

    def made_at(number: Array) -> Track:
        return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, number * layout.steps, layout.steps, x.ndim - 1), made)

    def forward(number: Array, carry: tuple[Array, Array], block: Array) -> tuple[Array, Array]:
        borders, here = carry
        piece = piece_of(block, number)
        return borders.at[number].set(here), foretold(made_at(number), piece.z, piece.drift, here)[1]

    def backward(turn: Array, carry: tuple[_Sums, Array], borders: Array, block: Array, last: Array) -> tuple[_Sums, Array]:
        sums, ahead = carry
        number = last - turn
        piece, gains = piece_of(block, number), made_at(number)
        within = piece.data.within()
        predicted = foretold(gains, piece.z, piece.drift, borders[number])[0]
        found, before = means(load, gains, piece.z, predicted, ahead, within)
        noise = jnp.where(within, piece.rest + emission.log_determinant[0], 0)
        of_steps = found.log_prob - 0.5 * noise
        centres = Means(*(jnp.moveaxis(x, 0, 2) for x in (found.states, found.noise)))
        stats = statistics_of(params, piece.data, piece.weights, emission, centres, _nothing(spread))
        here = stats, weighted_sum(piece.weights.seen, of_steps)
        return jax.tree.map(jnp.add, sums, here), before

    def of_block(block: Array, sums: _Sums) -> _Sums:
        start = jnp.broadcast_to(dynamics.mean[:, None], (dynamics.mean.shape[0], layout.rows))
        pieces = (lengths[order[block * layout.rows]] + layout.steps - 1) // layout.steps
        borders = jnp.broadcast_to(start[None], (layout.pieces, *start.shape))
        if layout.pieces > 1:
            borders = lax.fori_loop(jnp.int32(0), pieces, lambda i, carry: forward(i, carry, block), (borders, start))[0]
        ends = sums, jnp.zeros_like(start)
        return lax.fori_loop(jnp.int32(0), pieces, lambda i, carry: backward(i, carry, borders, block, pieces - 1), ends)[0]

    spread = _spread(dynamics, made, jnp.pad(step_weights(data, weights)[0].sum(0), behind[1]))
    lone = _alone(data), Weights(*(jnp.zeros(shape, weights.dtype) for shape in ((1,), (1, 1), (1, 1))))
    still = Means(*(jnp.zeros((1, 1, dynamics.mean.shape[0]), weights.dtype) for _ in range(2)))
    begun = statistics_of(params, *lone, emission, still, spread), jnp.zeros((), weights.dtype)
    return lax.fori_loop(jnp.int32(0), jnp.int32(-(-n // layout.rows)), of_block, begun)


_Sums = tuple[StateSpaceStats, Array]


def _rows_at(x: Array, rows: Array, start: Array, steps: int) -> Array:
    """Return so many steps of some rows, from x (n, t, d)."""
    zero = jnp.zeros((), jnp.int32)
    return jax.vmap(lambda row: lax.dynamic_slice(x, (row, start, zero), (1, steps, x.shape[2]))[0])(rows)


def _whitened(params: LinearGaussian, emission: Emission, data: Series, weights: Weights) -> _Piece:
    steps = data.values.shape[1]
    seen = data if data.inputs is None else data._replace(inputs=data.inputs[:, :steps])
    white = observed_noise(params, seen) @ emission.whiten[0].T
    rank = emission.loads.shape[0]
    drift = None if data.inputs is None else jnp.moveaxis(data.inputs[:, 1:] @ params.transition_input.T, 2, 0)
    return _Piece(data, weights, jnp.moveaxis(white[..., :rank], 2, 0), (white[..., rank:] ** 2).sum(2), drift)


def _spread(dynamics: Dynamics, made: Track, weights: Array) -> Spread:
    """Return the summed covariances of all sequences, from the weights of each step (t,)."""
    sums = pooled(dynamics, made, weights)
    past, noise, lag, whole = (x.sum(2) for x in (sums.past, sums.noise_covariance, sums.noise_lag, sums.covariance))
    return Spread(sums.covariance[:, :, 0], past, noise, lag, whole[None])


def _nothing(spread: Spread) -> Spread:
    return jax.tree.map(jnp.zeros_like, spread)


def _alone(data: Series) -> Series:
    """Return one sequence of one step, in whose place sums of nothing but covariances are made."""
    inputs = None if data.inputs is None else jnp.zeros_like(data.inputs[:1, :1])
    return Series(jnp.zeros_like(data.values[:1, :1]), jnp.ones_like(data.lengths[:1]), inputs, None, Shared(data.total.value))
