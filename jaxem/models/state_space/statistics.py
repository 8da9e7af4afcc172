"""Statistics of a state space model, sums of three regressions: of the first state, of each on the last, of what is seen."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxem.kalman import Smoothed
from jaxem.models.state_space.emission import Emission, by_pattern, observed_noise
from jaxem.models.state_space.records import LinearGaussian, StateSpacePosterior
from jaxem.models.state_space.series import Series, patterns_of, seen_in
from jaxem.models.state_space.sums import LineSums


class StateSpaceStats(NamedTuple):
    """Expected sums over sequences: x_1 on one, x_t on (x_t-1, u_t), y_t on (x_t, u_t); each by its weight.

    entropy  ()    of what stands in holes of steps that were seen in part
    total    (o,)  Σ_n w_n times the variances of the data
    rows     ()    Σ_n w_n
    """

    initial: LineSums
    transition: LineSums
    emission: LineSums
    entropy: Array
    total: Array
    rows: Array


class Spread(NamedTuple):
    """Weighted sums of covariances; of noise and of what it is the noise of.

    first      (s, s)     of x_1
    past       (s, s)     of x_t-1 where there is a next
    noise      (s, s)     of w_t, and
    noise_lag  (s, s)     of w_t and x_t-1
    seen       (K, s, s)  of x_t by pattern; by entry of y_t where R is diagonal and there are holes
    """

    first: Array
    past: Array
    noise: Array
    noise_lag: Array
    seen: Array


class Means(NamedTuple):
    """Means of states and of the noise that leads to the next, (n, t, s) each."""

    states: Array
    noise: Array


def step_weights(data: Series, weights: Array) -> tuple[Array, Array]:
    """Return weights of steps (n, t) that were seen, and of those that have a next: zero elsewhere."""
    within = data.within()
    following = jnp.concatenate([within[:, 1:], jnp.zeros_like(within[:, :1])], 1)
    seen = within if data.gaps is None else seen_in(data).any(2)
    return jnp.where(seen, weights[:, None], 0), jnp.where(following, weights[:, None], 0)


def by_class(params: LinearGaussian, data: Series, weights: Array, num_patterns: int, values: Array) -> Array:
    """Return Σ w_nt values (n, t, …) by pattern, or by entry of y_t, as `Spread` has them."""
    flat, w = values.reshape(-1, values[0, 0].size), weights.reshape(-1, 1)
    if data.gaps is None:
        found = (w * flat).sum(0)[None]
    elif params.emission_covariance.ndim == 1:
        found = (w * seen_in(data).reshape(flat.shape[0], -1).astype(w.dtype)).T @ flat
    else:
        found = jax.ops.segment_sum(w * flat, patterns_of(data).ravel(), num_patterns)
    return found.reshape(-1, *values.shape[2:])


def spread_of(params: LinearGaussian, data: Series, weights: Array, emission: Emission, moments: Smoothed) -> Spread:
    """Return the sums of the covariances of each step of each sequence."""
    seen, following = step_weights(data, weights)

    def summed(covariances: Array) -> Array:
        return (covariances * following.T[None, None]).sum((2, 3))

    by_row = jnp.moveaxis(moments.covariance, (-1, -2), (0, 1))
    return Spread(
        first=(moments.covariance[:, :, 0] * weights[None, None]).sum(2),
        past=summed(moments.covariance),
        noise=summed(moments.noise_covariance),
        noise_lag=summed(moments.noise_lag),
        seen=by_class(params, data, seen, emission.log_determinant.shape[0], by_row),
    )


class Weights(NamedTuple):
    """Weights of sequences whose first step is the first here (n,), of steps that were seen, and that have a next, (n, t)."""

    first: Array
    seen: Array
    following: Array


def weights_of(data: Series, weights: Array) -> Weights:
    """Return the weights of whole sequences."""
    return Weights(weights, *step_weights(data, weights))


def statistics_of(
    params: LinearGaussian, data: Series, weights: Weights, emission: Emission, means: Means, spread: Spread
) -> StateSpaceStats:
    """Return the statistics, from means of each step and summed covariances; inputs may have a step more than there are."""
    first, seen, following = weights
    off = means.states[:, 0] - params.initial_mean[None]
    count, steps = first.sum(), seen.shape[1]
    initial = LineSums(
        count,
        count * params.initial_mean[:, None],
        count[None, None],
        (first @ off)[:, None],
        (off * first[:, None]).T @ off + spread.first,
    )
    next_inputs = None if data.inputs is None else jnp.roll(data.inputs, -1, 1)[:, :steps]
    here = data if data.inputs is None else data._replace(inputs=data.inputs[:, :steps])
    entropy = jnp.zeros((), first.dtype)
    if emission.entropy is not None:
        entropy = (seen * emission.entropy[patterns_of(data)]).sum()
    return StateSpaceStats(
        initial,
        _transition(params, means, spread, following, next_inputs),
        _emission(params, here, emission, means.states, spread.seen, seen),
        entropy,
        count * data.total.value,
        count,
    )


def _joined(states: Array, inputs: Array | None) -> Array:
    """Return (x, u) of each step, in rows."""
    both = states if inputs is None else jnp.concatenate([states, inputs], 2)
    return both.reshape(-1, both.shape[2])


def _widened(matrix: Array, width: int) -> Array:
    """Return (…, l, s) with columns of zeros for inputs, which have no covariance."""
    return jnp.pad(matrix, [(0, 0)] * (matrix.ndim - 1) + [(0, width - matrix.shape[-1])])


def _squares_widened(matrix: Array, width: int) -> Array:
    return _widened(jnp.swapaxes(_widened(matrix, width), -1, -2), width)


def coefficients_of(states: Array, inputs: Array | None) -> Array:
    """Return [A B] or [C D]."""
    return states if inputs is None else jnp.concatenate([states, inputs], 1)


def _transition(params: LinearGaussian, means: Means, spread: Spread, weights: Array, inputs: Array | None) -> LineSums:
    z = _joined(means.states, inputs)
    noise, w = means.noise.reshape(-1, means.noise.shape[2]), weights.reshape(-1, 1)
    count = weights.sum()
    return LineSums(
        count,
        count * coefficients_of(params.transition, params.transition_input),
        (w * z).T @ z + _squares_widened(spread.past, z.shape[1]),
        (w * noise).T @ z + _widened(spread.noise_lag, z.shape[1]),
        (w * noise).T @ noise + spread.noise,
    )


def _emission(
    params: LinearGaussian, data: Series, emission: Emission, states: Array, spread: Array, weights: Array
) -> LineSums:
    z, c = _joined(states, data.inputs), params.emission
    rest, width = observed_noise(params, data, states), z.shape[1]
    about = coefficients_of(c, params.emission_input)
    holes = data.gaps is not None
    if params.emission_covariance.ndim == 1 and holes:
        return _each_entry(about, z, rest, data, c, spread, weights)
    rest = rest if emission.fill is None else by_pattern(emission.fill, data, rest)
    rest, w, count = rest.reshape(z.shape[0], -1), weights.reshape(-1, 1), weights.sum()
    loads = c[None] if emission.fill is None else emission.fill @ c[None]
    gram = (w * z).T @ z + _squares_widened(spread.sum(0), width)
    cross = (w * rest).T @ z - _widened((loads @ spread).sum(0), width)
    if params.emission_covariance.ndim == 1:
        scatter = (w * rest**2).sum(0) + ((loads @ spread) * loads).sum((0, 2))
        counts = jnp.broadcast_to(count, scatter.shape)
        return LineSums(counts, counts[:, None] * about, gram[None], cross, scatter)
    scatter = (w * rest).T @ rest + (loads @ spread @ loads.mT).sum(0)
    if emission.left is not None:
        counts = jax.ops.segment_sum(weights.ravel(), patterns_of(data).ravel(), emission.left.shape[0])
        scatter = scatter + (counts[:, None, None] * emission.left).sum(0)
    return LineSums(count, count * about, gram, cross, scatter)


def _each_entry(about: Array, z: Array, rest: Array, data: Series, c: Array, spread: Array, weights: Array) -> LineSums:
    """Return sums over the steps in which each entry of y was observed."""
    o, p = c.shape[0], z.shape[1]
    w = (weights[:, :, None] * seen_in(data).astype(weights.dtype)).reshape(-1, o)
    rest = rest.reshape(-1, o)
    squares = (z[:, :, None] * z[:, None, :]).reshape(-1, p * p)
    turned = (c[:, None, :] @ spread)[:, 0]
    counts = w.sum(0)
    return LineSums(
        counts,
        counts[:, None] * about,
        (w.T @ squares).reshape(o, p, p) + _squares_widened(spread, p),
        (w * rest).T @ z - _widened(turned, p),
        (w * rest**2).sum(0) + (turned * c).sum(1),
    )


def moments_of(params: LinearGaussian, data: Series, posterior: StateSpacePosterior) -> tuple[Means, Smoothed]:
    """Return the moments that any Q has, those of the noise among them, as the smoother gives them for its own."""
    means, a = jnp.asarray(posterior.means), params.transition
    ahead = jnp.concatenate([means[:, 1:], means[:, :1]], 1)
    noise = ahead - means @ a.T
    if data.inputs is not None:
        noise = noise - jnp.roll(data.inputs, -1, 1) @ params.transition_input.T
    covariance, nothing = jnp.asarray(posterior.covariances), jnp.zeros_like(posterior.covariances[:, :1])
    lag = jnp.concatenate([posterior.lag_covariances, nothing], 1)
    following = jnp.concatenate([covariance[:, 1:], nothing], 1)
    noise_lag = lag - a @ covariance
    noise_covariance = following - lag @ a.T - a @ noise_lag.mT

    def lanes_last(x: Array) -> Array:
        return jnp.moveaxis(x, (0, 1), (-1, -2))

    noise = jnp.where((step_weights(data, jnp.ones_like(means[:, 0, 0]))[1] > 0)[:, :, None], noise, 0)
    moments = map(lanes_last, (means, covariance, noise, lag, noise_covariance, noise_lag))
    return Means(means, noise), Smoothed(*moments)
