"""What a structure over time says of states and of what comes next: the best path, what was known by then, forecasts."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxem.arrays import as_floating, as_params, at_least_one
from jaxem.boundary import check_model, check_structure, ready_to_look
from jaxem.buckets import cut
from jaxem.chains import Chain, Filtered, alone, best_path, filtered
from jaxem.families.gaussian import Gaussian
from jaxem.model import Model, PyTree
from jaxem.models.hmm import HMM, HMMPosterior, chain_of, of_states
from jaxem.models.linear_gaussian import of_state_space
from jaxem.models.mixture import Mixture
from jaxem.models.parts import built, kind_of
from jaxem.models.state_space import outlook
from jaxem.models.state_space.records import StateSpacePosterior
from jaxem.models.state_space.series import Series
from jaxem.models.steps import Steps, over_rows, there
from jaxem.numerics import in_full_precision
from jaxem.programs import compiled
from jaxem.trees import dtype_of_weights

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

    p(z_T+h | x) = p(z_T | x) Aʰ; of a state space model Gaussians, and where it has inputs, `steps` are those to come,
    (n, steps, q). Raises ValueError for a model that was not built by `hmm` or `linear_gaussian`, or with a gate, whose
    covariates to come are not known; and for fewer than one step.

    >>> import numpy as np, jaxem
    >>> params = jaxem.HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], jaxem.families.Poisson([1.0, 8.0]))
    >>> ahead = jaxem.forecast(jaxem.hmm(jaxem.families.poisson(), 2), params, jaxem.sequences([7, 9]), 2)
    >>> print(np.asarray(ahead.states).round(2))
    [[[0.2  0.8 ]
      [0.34 0.66]]]
    """
    model, params, data, count = _at_the_door(model, params, data, "forecast", EITHER)
    if kind_of(model) is of_state_space:
        states, seen = cut(outlook.ahead(params, data, *_to_come(data, steps, count)), count)
        return Forecast(Gaussian(*states), Gaussian(*seen))
    steps = at_least_one("steps", steps)
    if model.parts is not None and model.parts[1][2] is not None:
        raise ValueError("forecast needs a model without a gate, whose covariates to come are not known.")
    states = cut(_ahead(model, params, data, steps), count)
    return Forecast(states, Mixture(states, params.components))


def _to_come(data: Series, steps: Any, count: int) -> tuple[int, Array | None]:
    """Return how many steps are to come, and the inputs that they have; ValueError for others than the model has."""
    if data.inputs is None:
        return at_least_one("steps", steps), None
    inputs, (rows, _, width) = as_floating(steps, "steps"), data.inputs.shape
    if inputs.ndim != 3 or inputs.shape[0] != count or inputs.shape[2] != width or not inputs.shape[1]:
        raise ValueError(f"steps must be inputs to come, ({count}, steps, {width}), where the model has some, got {steps!r}.")
    padded = jnp.pad(inputs.astype(data.inputs.dtype), [(0, rows - count), (0, 0), (0, 0)])
    return inputs.shape[1], padded


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
def _ahead(model: Model, params: HMM, data: Steps, steps: int) -> Array:
    known = _known(model, params, data).log_states
    last = jnp.take_along_axis(known, (data.lengths - 1)[:, None, None], 1)[:, 0]

    def onward(states: Array, _: None) -> tuple[Array, Array]:
        states = states @ params.transition
        return states, states

    return jnp.moveaxis(lax.scan(onward, last, None, steps)[1], 0, 1)
