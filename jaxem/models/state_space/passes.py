"""The E-step of a state space model: from parameters and data to moments of states, densities and statistics."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxem import kalman, kalman_in_parallel
from jaxem.blocks import default_block_bytes, summed
from jaxem.kalman import Dynamics, Filtered, Seen, Smoothed
from jaxem.models.state_space.emission import Emission, by_pattern, emission_of, observed_noise
from jaxem.models.state_space.records import LinearGaussian, StateSpacePosterior
from jaxem.models.state_space.series import Series, patterns_of
from jaxem.models.state_space.statistics import Means, Spread, StateSpaceStats, spread_of, statistics_of, step_weights
from jaxem.numerics import LOG_2PI, weighted_sum
from jaxem.shared_gains import Moments, Track, means, pooled, track
from jaxem.square_roots import eliminate, log_size, root
from jaxem.trees import num_rows

BLOCKS = 8  # of the default size, that sequences taken together may be: they share what each step costs


class Pass(NamedTuple):
    """What was made on the way: of emission, of the filter, and log p of each sequence, (n,)."""

    dynamics: Dynamics
    seen: Seen
    emission: Emission
    forward: Filtered
    step_log_prob: Array  # (n, t)


def dynamics_of(params: LinearGaussian) -> Dynamics:
    """Return how a state begins and moves."""
    return Dynamics(params.initial_mean, root(params.initial_covariance), params.transition, root(params.transition_covariance))


def lanes_last(rows: Array) -> Array:
    """Return rows (n, t, …) as (…, t, n)."""
    return jnp.moveaxis(rows, (0, 1), (-1, -2))


def rows_first(lanes: Array) -> Array:
    """Return lanes (…, t, n) as (n, t, …)."""
    return jnp.moveaxis(lanes, (-1, -2), (0, 1))


def forward(params: LinearGaussian, data: Series, parallel: bool | None = None) -> Pass:
    """Return the pass of the filter over all sequences."""
    dynamics, emission = dynamics_of(params), emission_of(params, data)
    z = by_pattern(emission.whiten, data, observed_noise(params, data))
    rank = emission.loads.shape[0]
    drift = None if data.inputs is None else lanes_last(data.inputs @ params.transition_input.T)
    pattern = None if data.gaps is None else patterns_of(data).T
    seen = Seen(emission.loads, pattern, lanes_last(z[..., :rank]), drift, data.lengths)
    found = (kalman_in_parallel if in_parallel(parallel) else kalman).filtered(dynamics, seen)
    logs = emission.log_determinant[patterns_of(data)] if data.gaps is not None else emission.log_determinant[None]
    of_steps = found.log_prob.T - 0.5 * ((z[..., rank:] ** 2).sum(2) + logs)
    return Pass(dynamics, seen, emission, found, jnp.where(data.within(), of_steps, 0))


def in_parallel(parallel: bool | None) -> bool:
    """Tell whether steps are combined two by two: as asked, or on accelerators."""
    return jax.default_backend() != "cpu" if parallel is None else parallel


def smooth(made: Pass, parallel: bool | None = None) -> Smoothed:
    """Return the moments of states given all that was seen."""
    return (kalman_in_parallel if in_parallel(parallel) else kalman).smoothed(made.dynamics, made.seen, made.forward)


def expect(params: LinearGaussian, data: Series, weights: Array, parallel: bool | None = None) -> tuple[StateSpaceStats, Array]:
    """Return the statistics of the posterior, and the log-likelihood, summed over blocks of sequences."""
    most = num_rows(data), BLOCKS * default_block_bytes()
    if data.gaps is None and not in_parallel(parallel):
        return summed(expect_alike, *most)((params, shared(params, data)), data, weights)
    return summed(partial(expect_each, parallel=parallel), *most)(params, data, weights)


def expect_each(
    params: LinearGaussian, data: Series, weights: Array, parallel: bool | None = None
) -> tuple[StateSpaceStats, Array]:
    """Return the sums over sequences each of which has covariances of its own."""
    made = forward(params, data, parallel)
    moments = smooth(made, parallel)
    centres = Means(rows_first(moments.mean), rows_first(moments.noise))
    spread = spread_of(params, data, weights, made.emission, moments)
    stats = statistics_of(params, data, weights, made.emission, centres, spread)
    return stats, weighted_sum(weights, made.step_log_prob.sum(1))


class Alike(NamedTuple):
    """What all sequences without holes share."""

    dynamics: Dynamics
    emission: Emission
    track: Track


def shared(params: LinearGaussian, data: Series) -> Alike:
    """Return what all sequences share, as they have no holes."""
    dynamics, emission = dynamics_of(params), emission_of(params, data)
    return Alike(dynamics, emission, track(dynamics, emission.loads[:, :, 0], data.values.shape[1]))


def moments_alike(params: LinearGaussian, made: Alike, data: Series) -> Moments:
    """Return the moments of sequences without holes, and their log-densities (n, t), by what they share."""
    z = observed_noise(params, data) @ made.emission.whiten[0].T
    rank, within = made.emission.loads.shape[0], data.within()
    drift = None if data.inputs is None else jnp.moveaxis(data.inputs @ params.transition_input.T, 2, 0)
    load = made.emission.loads[:, :, 0]
    found = means(made.dynamics, load, made.track, jnp.moveaxis(z[..., :rank], 2, 0), drift, within)
    noise = (z[..., rank:] ** 2).sum(2) + made.emission.log_determinant[0]
    return found._replace(log_prob=jnp.where(within, found.log_prob - 0.5 * noise, 0))


def expect_alike(given: tuple[LinearGaussian, Alike], data: Series, weights: Array) -> tuple[StateSpaceStats, Array]:
    """Return the sums over sequences without holes, whose covariances are summed before they are smoothed."""
    params, made = given
    found = moments_alike(params, made, data)
    sums = pooled(made.dynamics, made.track, step_weights(data, weights)[0].sum(0))
    spread = Spread(
        sums.covariance[:, :, 0],
        sums.past.sum(2),
        sums.noise_covariance.sum(2),
        sums.noise_lag.sum(2),
        sums.covariance.sum(2)[None],
    )
    states, noise = (jnp.moveaxis(x, 0, 2) for x in (found.states, found.noise))
    stats = statistics_of(params, data, weights, made.emission, Means(states, noise), spread)
    return stats, weighted_sum(weights, found.log_prob.sum(1))


def posterior_of(made: Pass, parallel: bool | None = None) -> StateSpacePosterior:
    """Return the moments of the states given all that was seen."""
    moments = smooth(made, parallel)
    mean, covariance, lag = map(rows_first, (moments.mean, moments.covariance, moments.lag))
    return StateSpacePosterior(mean, covariance, lag[:, :-1])


def entropies(params: LinearGaussian, data: Series, parallel: bool | None = None) -> Array:
    """Return the entropy of each sequence's states, (n,); that of its holes is among the statistics.

    H(x_T | y) + Σ_t H(x_t | x_t+1, y_1…t).
    """
    made = forward(params, data, parallel)
    gain, within = made.forward.gain, data.within().T
    following = jnp.concatenate([within[1:], jnp.zeros_like(within[:1])])
    left, after = (log_size(eliminate(u, u.shape[1])) for u in (gain.left, gain.after))
    constant = 0.5 * params.initial_mean.shape[0] * (LOG_2PI + 1)
    return jnp.where(within, constant + jnp.where(following, left, after), 0).sum(0)
