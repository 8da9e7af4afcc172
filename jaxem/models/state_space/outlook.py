"""What a state space model says after the fit: of states by their time, of steps to come, of what is missing."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.kalman import Gain, by_step
from jaxem.matrices import cholesky
from jaxem.models.state_space.emission import by_pattern, emission_of, observed_noise
from jaxem.models.state_space.passes import Pass, forward, posterior_of, rows_first
from jaxem.models.state_space.records import LinearGaussian, StateSpacePosterior
from jaxem.models.state_space.series import Series
from jaxem.numerics import in_full_precision
from jaxem.programs import compiled
from jaxem.square_roots import apply, square


class Ahead(NamedTuple):
    """Means and covariances of steps to come: (n, h, d) and (n, h, d, d)."""

    mean: Array
    covariance: Array


def _by_then(made: Pass) -> tuple[Array, Array]:
    """Return means (n, t, s) and covariances of states given what was seen by their time."""
    return rows_first(made.forward.predicted + made.forward.surprise), rows_first(square(made.forward.gain.after))


@compiled
@in_full_precision
def known(params: LinearGaussian, data: Series) -> tuple[StateSpacePosterior, Array]:
    """Return p(x_t | y_1 … y_t), without lags, and log p(y_t | y_1 … y_t-1), (n, t)."""
    made = forward(params, data)
    within = data.within()
    mean, covariance = _by_then(made)
    mean, covariance = jnp.where(within[:, :, None], mean, 0), jnp.where(within[:, :, None, None], covariance, 0)
    return StateSpacePosterior(mean, covariance, None), made.step_log_prob


@partial(compiled, static_argnums=2)
@in_full_precision
def ahead(params: LinearGaussian, data: Series, steps: int, inputs: Array | None = None) -> tuple[Ahead, Ahead]:
    """Return the states and the observations of so many steps after each sequence's end; inputs (n, h, q) to come."""
    made = forward(params, data)
    last = (data.lengths - 1)[:, None, None]
    mean, covariance = _by_then(made)
    start = jnp.take_along_axis(mean, last, 1)[:, 0], jnp.take_along_axis(covariance, last[..., None], 1)[:, 0]
    pushes = None if inputs is None else jnp.moveaxis(inputs @ params.transition_input.T, 1, 0)
    a, noise = params.transition, params.transition_covariance[None]

    def onward(state: tuple[Array, Array], push: Array | None) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        mean, covariance = state
        mean = mean @ a.T if push is None else mean @ a.T + push
        state = mean, a[None] @ covariance @ a.T[None] + noise
        return state, state

    mean, covariance = (jnp.moveaxis(x, 0, 1) for x in lax.scan(onward, start, pushes, steps)[1])
    c, r = params.emission, params.emission_covariance
    seen = mean @ c.T if inputs is None else mean @ c.T + inputs @ params.emission_input.T
    spread = jnp.diag(r) if r.ndim == 1 else r
    return Ahead(mean, covariance), Ahead(seen, c[None, None] @ covariance @ c.T[None, None] + spread[None, None])


@compiled
@in_full_precision
def completed(params: LinearGaussian, data: Series, key: Array | None) -> Array:
    """Return the mean of each observation given all that was seen, (n, t, o); with a key, a draw, of one sequence together."""
    made = forward(params, data)
    if key is None:
        states, noise = posterior_of(made).means, None
    else:
        of_states, of_noise = jax.random.split(key)
        states = _drawn_states(made, of_states)
        noise = jax.random.normal(of_noise, data.values.shape, data.values.dtype)
    shown = states @ params.emission.T
    shown = shown if data.inputs is None else shown + data.inputs @ params.emission_input.T
    return shown + _noise_in_holes(params, data, states, noise)


def _noise_in_holes(params: LinearGaussian, data: Series, states: Array, unit: Array | None) -> Array:
    """Return the noise of each observation given that of those that were seen: its mean, or a draw made of unit noise."""
    emission, r = emission_of(params, data), params.emission_covariance
    rest = observed_noise(params, data, states)
    if emission.fill is None or emission.left is None:
        return rest if unit is None else rest + unit * jnp.sqrt(r)[None, None]
    some = rest if unit is None else rest - _coloured(r, unit, data)
    filled = by_pattern(emission.fill, data, some)
    return filled if unit is None else filled + unit @ cholesky(r)[0].T


def _coloured(covariance: Array, unit: Array, data: Series) -> Array:
    """Return noise of that covariance where something was seen, zero in holes."""
    assert data.gaps is not None
    return jnp.where(data.gaps.seen, unit @ cholesky(covariance)[0].T, 0)


def _drawn_states(made: Pass, key: Array) -> Array:
    """Return states drawn together given all that was seen, (n, t, s), from the last back: Carter & Kohn (1994)."""
    gain, lengths = made.forward.gain, made.seen.lengths
    unit = jax.random.normal(key, made.forward.predicted.shape, made.seen.z.dtype)
    time = jnp.arange(unit.shape[1], dtype=lengths.dtype)

    def step(moved: Array, now: tuple[Array, Array, Array, Gain]) -> tuple[Array, Array]:
        at, noise, surprise, here = now
        on = (at + 1 < lengths)[None]
        shake = jnp.where(on, apply(jnp.swapaxes(here.left, 0, 1), noise), apply(jnp.swapaxes(here.after, 0, 1), noise))
        moved = surprise + jnp.where(on, apply(here.back, moved), 0) + shake
        return moved, moved

    nothing = jnp.zeros_like(unit[:, 0])
    moved = lax.scan(step, nothing, (time, *by_step((unit, made.forward.surprise, gain))), reverse=True)[1]
    return rows_first(made.forward.predicted + jnp.moveaxis(moved, 0, 1))
