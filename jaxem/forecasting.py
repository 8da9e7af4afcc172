"""What a structure over time says of states and of what comes next: the best path, what was known by then, forecasts."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.arrays import as_arrays, as_floating, as_params, at_least_one, prepared
from jaxem.boundary import check_model, check_structure, ready_to_look
from jaxem.buckets import cut
from jaxem.chains import Chain, Filtered, alone, best_path, filtered
from jaxem.families.gaussian import Gaussian
from jaxem.model import Family, Model, PyTree
from jaxem.models.hmm import HMM, HMMPosterior, chain_of, gate_of, moves_of, of_states
from jaxem.models.linear_gaussian import of_state_space
from jaxem.models.mixture import Mixture
from jaxem.models.parts import built, kind_of
from jaxem.models.state_space import outlook
from jaxem.models.state_space.records import StateSpacePosterior
from jaxem.models.state_space.series import Series
from jaxem.models.steps import Steps, over_rows, there
from jaxem.numerics import in_full_precision
from jaxem.programs import compiled
from jaxem.trees import dtype_of_weights, flat, rows_of

Kinds = tuple[tuple[Callable[..., Model], ...], str]
EITHER: Kinds = (of_states, of_state_space), "hmm(family, k) or linear_gaussian(s, o)"


class Forecast(NamedTuple):
    """What is to be expected of each sequence after its end.

    states        (n, steps, k) p(z_T+h = j | x); of a state space model their Gaussian, mean (n, steps, s) and covariance
    observations  the distribution of what will be seen: a Mixture of weights (n, steps, k); or a Gaussian of (n, steps, o)

    >>> import numpy as np, jaxem
    >>> params = jaxem.HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], jaxem.families.Poisson([1.0, 8.0]))
    >>> ahead = jaxem.forecast(jaxem.hmm(jaxem.families.poisson(), 2), params, jaxem.sequences([7, 9]), steps=3)
    >>> print(np.round(ahead.observations.weights @ np.array([1.0, 8.0]), 1))
    [[6.6 5.6 4.9]]
    """

    states: Any
    observations: Any


def viterbi(model: Model, params: PyTree, data: PyTree) -> tuple[Array, Array]:
    """Return the most probable path of each sequence, (n, t) states, -1 beyond its length, and log p(x, path), (n,).

    The path that is most probable as a whole, not state by state: Viterbi (1967). A sequence that is impossible has -inf.
    Raises ValueError for a model that was not built by `hmm`, and for what its data may not be.

    >>> import numpy as np, jaxem
    >>> params = jaxem.HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], jaxem.families.Poisson([1.0, 8.0]))
    >>> paths, log_prob = jaxem.viterbi(jaxem.hmm(jaxem.families.poisson(), 2), params, jaxem.sequences([[0, 1, 9, 7], [0]]))
    >>> print(paths)
    [[ 0  0  1  1]
     [ 0 -1 -1 -1]]
    """
    model, params, data, count = _at_the_door(model, params, data, "viterbi")
    return cut(_paths(model, params, data), count)


def filtering(model: Model, params: PyTree, data: PyTree) -> HMMPosterior | StateSpacePosterior:
    """Return what is known of each state by its time, p(z_t | x_1 … x_t), as a posterior without transitions or lags.

    Raises ValueError for a model that was not built by `hmm` or `linear_gaussian`, and for what its data may not be.

    >>> import numpy as np, jaxem
    >>> params = jaxem.HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], jaxem.families.Poisson([1.0, 8.0]))
    >>> known = jaxem.filtering(jaxem.hmm(jaxem.families.poisson(), 2), params, jaxem.sequences([0, 3, 9]))
    >>> print(np.asarray(known.states).round(2))
    [[[1.   0.  ]
      [0.95 0.05]
      [0.   1.  ]]]
    """
    model, params, data, count = _at_the_door(model, params, data, "filtering", EITHER)
    if kind_of(model) is of_state_space:
        return cut(outlook.known(params, data)[0], count)
    return HMMPosterior(cut(_known(model, params, data).log_states, count), None)


def predictive_log_prob(model: Model, params: PyTree, data: PyTree) -> Array:
    """Return log p(x_t | x_1 … x_t-1) of each step, (n, t), in nats: how well each is foretold; zero beyond a length.

    Raises ValueError for a model that was not built by `hmm` or `linear_gaussian`, and for what its data may not be.

    >>> import numpy as np, jaxem
    >>> params = jaxem.HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], jaxem.families.Poisson([1.0, 8.0]))
    >>> model, x = jaxem.hmm(jaxem.families.poisson(), 2), jaxem.sequences([[0, 1, 9], [1]])
    >>> print(np.asarray(jaxem.predictive_log_prob(model, params, x)).round(2))
    [[-1.69 -1.11 -4.38]
     [-1.69  0.    0.  ]]
    """
    model, params, data, count = _at_the_door(model, params, data, "predictive_log_prob", EITHER)
    if kind_of(model) is of_state_space:
        return cut(outlook.known(params, data)[1], count)
    return cut(_known(model, params, data).log_prob, count)


def forecast(model: Model, params: PyTree, data: PyTree, steps: Any) -> Forecast:
    """Return what is to be expected 1 to `steps` steps after the end of each sequence.

    p(z_T+h | x) = p(z_T | x) Aʰ; of a state space model Gaussians. Where a gate or inputs drive the steps, `steps` are the
    covariates of those to come, (n, steps, q). Raises ValueError for a model that was not built by `hmm` or
    `linear_gaussian`, for fewer than one step, and for covariates of another shape.

    >>> import numpy as np, jaxem
    >>> params = jaxem.HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], jaxem.families.Poisson([1.0, 8.0]))
    >>> ahead = jaxem.forecast(jaxem.hmm(jaxem.families.poisson(), 2), params, jaxem.sequences([7, 9]), 2)
    >>> print(np.asarray(ahead.states).round(2))
    [[[0.2  0.8 ]
      [0.34 0.66]]]
    """
    model, params, data, count = _at_the_door(model, params, data, "forecast", EITHER)
    if kind_of(model) is of_state_space:
        states, seen = cut(outlook.ahead(params, data, *_inputs_to_come(data, steps, count)), count)
        return Forecast(Gaussian(*states), Gaussian(*seen))
    gate = gate_of(model)
    steps, covariates = (at_least_one("steps", steps), None) if gate is None else _to_come(gate, data, steps, count)
    states = cut(_ahead(model, params, data, steps, covariates), count)
    return Forecast(states, Mixture(states, params.components))


def _inputs_to_come(data: Series, steps: Any, count: int) -> tuple[int, Array | None]:
    """Return how many steps are to come, and the inputs that they have; ValueError for others than the model has."""
    if data.inputs is None:
        return at_least_one("steps", steps), None
    inputs, (rows, _, width) = as_floating(steps, "steps"), data.inputs.shape
    if inputs.ndim != 3 or inputs.shape[0] != count or inputs.shape[2] != width or not inputs.shape[1]:
        raise ValueError(f"steps must be inputs to come, ({count}, steps, {width}), where the model has some, got {steps!r}.")
    return inputs.shape[1], _padded(inputs, rows, data.inputs.dtype)


def _to_come(gate: Family, data: Steps, steps: Any, count: int) -> tuple[int, PyTree]:
    """Return how many steps are to come, and the gate's covariates of them, flat, as it has those of the steps that were."""
    wrong = f"steps must be the gate's covariates of {count} sequences to come, ({count}, steps, …), got {steps!r}."
    leaves, tree = jax.tree.flatten(as_arrays(steps))
    if not leaves or any(leaf.ndim < 2 or not leaf.size or leaf.shape[:2] != (count, leaves[0].shape[1]) for leaf in leaves):
        raise ValueError(wrong)
    dtype, num = dtype_of_weights(data), data.lengths.shape[0]
    covariates = prepared(gate, flat(jax.tree.unflatten(tree, [_padded(leaf, num, dtype) for leaf in leaves])), None)
    if [leaf.shape[1:] for leaf in rows_of(covariates)] != [leaf.shape[2:] for leaf in rows_of(data.rows.gate)]:
        raise ValueError(wrong)
    return int(leaves[0].shape[1]), covariates


def _padded(leaf: Any, num: int, dtype: Any) -> Array:
    """Return so many rows, the last one again behind those that are given, floats in that dtype."""
    leaf = jnp.asarray(leaf, dtype if jnp.issubdtype(leaf.dtype, jnp.floating) else None)
    return jnp.pad(leaf, [(0, num - leaf.shape[0]), *[(0, 0)] * (leaf.ndim - 1)], mode="edge")


def _at_the_door(
    model: Model, params: PyTree, data: PyTree, who: str, kinds: Kinds = ((of_states,), "hmm(family, k)")
) -> tuple[Model, Any, Any, int]:
    check_model(model)
    model, params = built(model, as_params(params), who, *kinds)
    check_structure(model.constraints, params)
    data, count = ready_to_look(model.prepare, data, padded=True)
    return model, as_params(params, dtype_of_weights(data)), data, count


@partial(compiled, static_argnums=0)
@in_full_precision
def _paths(model: Model, params: HMM, data: Steps) -> tuple[Array, Array]:
    def of_row(chain: Chain, log_density: Array, length: Array) -> tuple[Array, Array]:
        return best_path(chain, alone(log_density, length))

    paths, log_prob = over_rows(of_row, *chain_of(model, params, data), data.lengths)
    return jnp.where(there(data), paths, -1), log_prob


@partial(compiled, static_argnums=0)
@in_full_precision
def _known(model: Model, params: HMM, data: Steps) -> Filtered:
    """Return p(z_t | x_1 … x_t) (n, t, k), no logarithms, and log p(x_t | x_1 … x_t-1) (n, t)."""

    def of_row(chain: Chain, log_density: Array, length: Array) -> Filtered:
        return filtered(chain, alone(log_density, length), jnp.zeros_like(chain.log_initial))

    found = over_rows(of_row, *chain_of(model, params, data), data.lengths)
    return Filtered(jnp.where(there(data)[:, :, None], jnp.exp(found.log_states), 0), found.log_prob)


@partial(compiled, static_argnums=(0, 3))
@in_full_precision
def _ahead(model: Model, params: HMM, data: Steps, steps: int, covariates: PyTree) -> Array:
    known = _known(model, params, data).log_states
    last = jnp.take_along_axis(known, (data.lengths - 1)[:, None, None], 1)[:, 0]
    shape = data.lengths.shape[0], steps
    each = None if covariates is None else jnp.moveaxis(jnp.exp(moves_of(model, params, covariates, shape)), 1, 0)

    def onward(states: Array, transition: Array | None) -> tuple[Array, Array]:
        states = states @ params.transition if transition is None else jnp.einsum("ni,nij->nj", states, transition)
        return states, states

    return jnp.moveaxis(lax.scan(onward, last, each, steps)[1], 0, 1)
