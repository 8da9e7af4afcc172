"""Draws from a state space model, and where its fits start."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxem.arrays import as_params
from jaxem.matrices import cholesky, diagonal_matrix
from jaxem.model import PyTree
from jaxem.models.state_space.records import LinearGaussian
from jaxem.models.state_space.series import Series, like_data, seen_in
from jaxem.numerics import positive
from jaxem.sequences import Sequences, pair_of


def drawn(count: int, key: Array, params: LinearGaussian, like: Series | None) -> tuple[PyTree, Array]:
    """Return data (n, t, o) with the lengths, holes and inputs of others, and the states that they were drawn from."""
    if like is None:
        raise ValueError(
            "like must be a pair (n, t) of numbers of sequences and steps, or Sequences: steps are not known else."
        )
    n, t, o = like.values.shape
    s = params.initial_mean.shape[0]
    of_states, of_values = jax.random.split(key)
    noise = jax.random.normal(of_states, (t, n, s), like.values.dtype)
    drift = None if like.inputs is None else jnp.moveaxis(like.inputs @ params.transition_input.T, 1, 0)[1:]
    first = params.initial_mean[None] + noise[0] @ cholesky(params.initial_covariance)[0].T
    shocks = noise[1:] @ cholesky(params.transition_covariance)[0].T

    def step(state: Array, shock: Array) -> tuple[Array, Array]:
        state = state @ params.transition.T + shock
        return state, state

    later = lax.scan(step, first, shocks if drift is None else shocks + drift)[1]
    states = jnp.moveaxis(jnp.concatenate([first[None], later]), 0, 1)
    covariance = params.emission_covariance
    spread = jnp.sqrt(covariance)[None] if covariance.ndim == 1 else None
    unit = jax.random.normal(of_values, (n, t, o), states.dtype)
    scatter = unit @ cholesky(covariance)[0].T if spread is None else unit * spread[None]
    values = states @ params.emission.T + scatter
    values = values if like.inputs is None else values + like.inputs @ params.emission_input.T
    within = like.within()[:, :, None]
    inside = jnp.broadcast_to(within, values.shape), jnp.broadcast_to(within, states.shape)
    return like_data(jnp.where(inside[0], values, 0), like), jnp.where(inside[1], states, 0)


def sampler(sample: Callable[..., Any], observation_dim: int, inputs: int) -> Callable[..., Any]:
    """Return the function of a model that draws, which takes a pair (n, t) too."""

    def of_any(key: Array, params: PyTree, like: PyTree) -> tuple[PyTree, PyTree]:
        """Return draws of (data, states); `like` is a pair (n, t), or data whose inputs, lengths and gaps are kept."""
        shape = pair_of(like)
        if shape is not None:
            if inputs:
                raise ValueError("like must be data where the model has inputs, as a number of steps has none.")
            like = Sequences(np.zeros((*shape, observation_dim), as_params(params).emission.dtype), np.full(*shape))
        return sample(key, params, like)

    return of_any


def started(key: Array, data: Series, weights: Array, state_dim: int, form: str) -> LinearGaussian:
    """Return one random start on the scale of the data: states of about unit variance that turn and fade at random."""
    dtype, o = weights.dtype, data.values.shape[2]
    w = jnp.where(seen_in(data), weights[:, None, None], 0)
    count = positive(w.sum((0, 1)))
    mean = (w * data.values).sum((0, 1)) / count
    variance = data.total.value
    of_turn, of_fade, of_loads = jax.random.split(key, 3)
    turn = jnp.linalg.qr(jnp.eye(state_dim, dtype=dtype) + 0.3 * jax.random.normal(of_turn, (state_dim, state_dim), dtype))[0]
    turn = turn * jnp.where(jnp.diagonal(turn) < 0, -1, 1)[None]
    fade = jax.random.uniform(of_fade, (), dtype, 0.6, 0.99)
    size = jnp.sqrt(variance + mean**2)
    loads = size[:, None] * jax.random.normal(of_loads, (o, state_dim), dtype) / state_dim**0.5
    identity = jnp.eye(state_dim, dtype=dtype)
    gram = loads.T @ (loads / size[:, None] ** 2) + 0.01 * identity
    noise = 0.5 * variance
    q = 0 if data.inputs is None else data.inputs.shape[2]
    return LinearGaussian(
        jnp.linalg.solve(gram, loads.T @ (mean / size**2)),
        identity,
        fade * turn,
        (1 - fade**2) * identity,
        loads,
        diagonal_matrix(noise) if form == "full" else noise,
        jnp.zeros((state_dim, q), dtype) if q else None,
        jnp.zeros((o, q), dtype) if q else None,
    )
