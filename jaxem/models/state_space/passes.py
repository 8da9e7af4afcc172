"""The E-step of a state space model: from parameters and data to moments of states, densities and statistics."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxem import kalman, kalman_in_parallel
from jaxem.blocks import default_block_bytes, summed
from jaxem.kalman import Dynamics, Filtered, Seen, Smoothed
from jaxem.models.state_space.alike import dynamics_of, expect_alike
from jaxem.models.state_space.emission import Emission, by_pattern, emission_of, observed_noise
from jaxem.models.state_space.records import LinearGaussian, StateSpacePosterior
from jaxem.models.state_space.series import Series, patterns_of
from jaxem.models.state_space.statistics import Means, StateSpaceStats, spread_of, statistics_of, weights_of
from jaxem.numerics import LOG_2PI, weighted_sum
from jaxem.square_roots import eliminate, log_size
from jaxem.trees import num_rows

BLOCKS = 8  # of the default size, that sequences taken together may be: they share what each step costs


class Pass(NamedTuple):
    """What was made on the way: of emission, of the filter, and log p of each sequence, (n,)."""

    dynamics: Dynamics
    seen: Seen
    emission: Emission
    forward: Filtered
    step_log_prob: Array  # (n, t)


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
    if data.gaps is None and not in_parallel(parallel):
        return expect_alike(params, data, weights)
    most = num_rows(data), BLOCKS * default_block_bytes() if num_rows(data) > 1 else None
    return summed(partial(expect_each, parallel=parallel), *most)(params, data, weights)


def expect_each(
    params: LinearGaussian, data: Series, weights: Array, parallel: bool | None = None
) -> tuple[StateSpaceStats, Array]:
    """Return the sums over sequences each of which has covariances of its own."""
    made = forward(params, data, parallel)
    moments = smooth(made, parallel)
    centres = Means(rows_first(moments.mean), rows_first(moments.noise))
    spread = spread_of(params, data, weights, made.emission, moments)
    stats = statistics_of(params, data, weights_of(data, weights), made.emission, centres, spread)
    return stats, weighted_sum(weights, made.step_log_prob.sum(1))


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
