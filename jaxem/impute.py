"""Holes in the data filled by what a fitted model says of them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxem.arrays import as_arrays, as_mapping, as_params
from jaxem.blocks import default_block_size, row_by_row
from jaxem.boundary import as_key, check_model, ready
from jaxem.families.binomial import Trials
from jaxem.families.grouped import Grouped
from jaxem.families.labelled import Labelled
from jaxem.families.observed import Observed, by_name, split, without_holes
from jaxem.model import Family, Model, PyTree, require
from jaxem.models.hmm import drawn_states, of_states, split_steps
from jaxem.models.linear_gaussian import of_state_space
from jaxem.models.parts import built, family_of, kind_of
from jaxem.models.state_space import outlook
from jaxem.numerics import in_full_precision
from jaxem.programs import compiled
from jaxem.trees import Gated, dtype_of_weights


def impute(model: Model, params: PyTree, data: PyTree, key: Any = None) -> PyTree:
    """Return data with each hole filled by its conditional mean, E[x_m | x_o, θ]; or, given a key, a draw from p(x_m | x_o, θ).

    data: as `fit` takes them, with `families.Observed` parts; what comes back is an array like the values, of a product a
    dict of them, of `Trials` the successes, of `Sequences` all of this with an axis of time, without labels and covariates.
    Draws of one row are made together, from one component, or of one sequence from one path of states: for multiple imputation
    (Rubin 1987) call with several keys.
    Raises ValueError for a model that is no mixture, single family, `hmm` or `linear_gaussian`, for a family whose data can
    have no holes, and for holes in the numbers of trials.

    >>> import numpy as np, jaxem
    >>> x = jaxem.families.observed([[1.0, 2.1], [2.0, 3.9], [3.0, 6.2], [4.0, np.nan]])
    >>> model = jaxem.single(jaxem.families.gaussian())
    >>> fit = jaxem.fit(model, model.init(0, x), x)
    >>> print(jaxem.impute(model, fit.params, x)[3].round(1))
    [4.  8.2]
    """
    check_model(model)
    data = as_arrays(data)
    if kind_of(model) is of_state_space:
        return _of_state_space(model, params, data, key)
    if kind_of(model) is of_states:
        return _of_states(model, params, data, key)
    x, posterior = ready(model.prepare, data), require(model, "posterior")(params, data)
    params = as_params(params, dtype_of_weights(x))
    family, components, gate = family_of(model, params, "impute")
    rows, given = (data, x) if gate is None else (data.data, x.data)
    return _merged(rows, _filled(family, components, given, posterior, _one_each, key))


def _of_states(model: Model, params: PyTree, data: PyTree, key: Any) -> PyTree:
    inner, params = built(model, as_params(params), "impute", (of_states,))
    x = ready(inner.prepare, data)
    params = as_params(params, dtype_of_weights(x))
    family, num_states, gate, *_ = inner.parts[1]  # type: ignore[index]
    posterior = require(inner, "posterior")(params, data).states.reshape(-1, num_states)

    def one_each(key: Array, _: Array) -> Array:
        return drawn_states(inner, key, params, x).ravel()

    filled = _filled(family, params.components, split_steps(gate, x)[1], posterior, one_each, key)
    return _merged(data.values if gate is None else data.values.data, filled)


def _of_state_space(model: Model, params: PyTree, data: PyTree, key: Any) -> Array:
    inner, params = built(model, as_params(params), "impute", (of_state_space,))
    x = ready(inner.prepare, data)
    filled = outlook.completed(as_params(params, x.values.dtype), x, None if key is None else as_key(key))
    values = data.values.data if isinstance(data.values, Gated) else data.values
    return _merged(values, filled)


def _one_each(key: Array, posterior: Array) -> Array:
    return jax.random.categorical(key, jnp.log(posterior), axis=1)


def _filled(
    family: Family, components: PyTree, given: PyTree, posterior: Array, draw: Callable[[Array, Array], Array], key: Any
) -> PyTree:
    """Return rows whose holes are filled by their mean given posterior (n, k); with a key, by draws from components drawn."""
    require(family, "complete")
    if key is None:
        return _completed(family, components, (given, posterior, None))
    of_labels, of_rows = jax.random.split(as_key(key))
    labels = draw(of_labels, posterior)
    one_hot = jax.nn.one_hot(labels, posterior.shape[1], dtype=posterior.dtype)
    drawn = require(family, "sample")(of_rows, components, labels, without_holes(given))
    return _completed(family, components, (given, one_hot, drawn))


@partial(compiled, static_argnums=0)
@in_full_precision
def _completed(family: Family, components: PyTree, rows: PyTree) -> PyTree:
    complete = require(family, "complete")
    return row_by_row(lambda theta, block: complete(theta, *block), default_block_size())(components, rows)


def _merged(given: PyTree, filled: PyTree) -> PyTree:
    """Return what was observed as it was given, and holes as they were filled."""
    if isinstance(given, (Labelled, Gated)):
        return _merged(given.data, filled)
    if isinstance(given, Trials):
        _check_trials(given)
        return _merged(given.successes, filled)
    if isinstance(given, Grouped):
        return _merged(given.values, filled)
    if isinstance(filled, Mapping):
        parts = as_mapping(by_name(given, tuple(filled)), tuple(filled))
        return {name: _merged(parts[name], filled[name]) for name in filled}
    if not isinstance(given, Observed):
        return given
    values, seen = split(given)
    return values if seen is None else _where(seen, values, filled)


def _check_trials(given: Trials) -> None:
    seen = split(given.trials)[1] if isinstance(given.trials, Observed) else None
    if seen is not None:
        raise ValueError("trials has holes: their number is not modelled, so that nothing can be filled in; drop those rows.")


def _where(seen: Array, values: Array, filled: Array) -> Array:
    return jnp.where(seen, values, filled.reshape(values.shape).astype(values.dtype))
