"""Slopes and curvature of a log-likelihood in free coordinates, as sums over blocks of rows.

What is differentiated is the E-step's own log-likelihood, of parameters at a place of a `Chart`; a prior is added at the end,
so that with one these are slopes and curvature of the posterior.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.blocks import default_block_bytes, default_block_size, observations_per_row, row_by_row, summed
from jaxem.charts import Chart, params_at
from jaxem.model import Model, PyTree, require
from jaxem.numerics import in_full_precision
from jaxem.programs import compiled
from jaxem.trees import num_rows

AT_ONCE = 8  # directions along which derivatives are taken together
FEW = 512  # rows that are one block without a look at what they need


class Curvature(NamedTuple):
    """A function about a place: its value, its slope (q,), and the information (q, q), minus its second derivatives.

    The information is None where only products with it are taken.
    """

    value: Array
    slope: Array
    information: Any


class Rows(NamedTuple):
    """What derivatives are taken of: data as the model has them, their weights (n,), and how many rows are a block."""

    data: PyTree
    weights: Array
    block: int


def rows_of_fit(model: Model, data: PyTree, weights: Array) -> Rows:
    """Return prepared data and weights in double precision where that is on, and the rows that hold a block's observations."""
    block = max(1, int(default_block_size() / observations_per_row(model.size, data)))
    return Rows(widest(data), widest(weights), block)


def widest(tree: PyTree) -> PyTree:
    """Return a tree with all floats in double precision where that is on."""
    wide = jnp.result_type(float)
    return jax.tree.map(lambda leaf: leaf.astype(wide) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree)


def log_likelihood(model: Model, params: PyTree, rows: Rows) -> Array:
    """Return Σ_n w_n log p(x_n | θ): a scalar, in nats."""
    return _log_likelihood(model, rows.block, params, rows.data, rows.weights)


def curvature(model: Model, chart: Chart, rows: Rows) -> Curvature:
    """Return log-likelihood + log_prior about the chart's place, whose information is minus its second derivatives."""
    return _curvature(model, rows.block, chart, rows.data, rows.weights)


def sloped(model: Model, chart: Chart, rows: Rows) -> Curvature:
    """Return what `curvature` does without the information, None: one pass back over the rows."""
    value, slope = _sloped(model, rows.block, chart, rows.data, rows.weights)
    return Curvature(value, slope, None)


def product(model: Model, chart: Chart, rows: Rows, direction: Array) -> Array:
    """Return the information times a direction (q,)."""
    return _product(model, rows.block, chart, rows.data, rows.weights, direction)


def complete_information(model: Model, chart: Chart, rows: Rows) -> Array:
    """Return minus the second derivatives of E_Q[log p(x, z | θ)] + log_prior, Q the posterior: (q, q), in one pass over rows.

    Raises ValueError for a model without `expected_log_joint`.
    """
    require(model, "expected_log_joint")
    return _complete(model, rows.block, chart, rows.data, rows.weights)


def louis(model: Model, chart: Chart, rows: Rows) -> Array:
    """Return complete less missing information, Σ_n w_n (E[-∂² log p(x, z)] - Cov[∂ log p(x, z)]) under the posterior.

    The latent variables are the labels of a posterior (n, k); those of a family itself are integrated out. Scores of each row
    are taken about their means, so that this is the observed information at any place. Louis (1982), §3.
    Raises ValueError for another posterior.
    """
    posterior = jax.eval_shape(require(model, "posterior"), chart.params, rows.data)
    if getattr(posterior, "ndim", None) != 2:
        raise ValueError('method="louis" needs a posterior (n, k), responsibilities, got another: use "oakes" or "observed".')
    return _louis(model, rows.block, chart, rows.data, rows.weights)


def oakes(model: Model, chart: Chart, rows: Rows) -> Array:
    """Return minus the derivative of θ ↦ ∂F(Q_θ, θ') at θ' = θ, ∂²F/∂θ'² + ∂²F/∂θ∂θ', by jvps through the statistics.

    Oakes (1999). Raises ValueError for a model without `expected_log_joint`.
    """
    require(model, "expected_log_joint")
    return _oakes(model, rows.block, chart, rows.data, rows.weights)


def squared_scores(model: Model, chart: Chart, rows: Rows) -> Array:
    """Return Σ_n w_n s_n s_nᵀ, s_n the slope (q,) of a row's log p, weights being frequencies."""
    return _squared_scores(model, rows.block, chart, rows.data, rows.weights)


def scores(model: Model, chart: Chart, rows: Rows) -> Array:
    """Return s_n, the slope of each row's log p, (n, q); zeros for rows of weight zero."""
    return _scores(model, rows.block, chart, rows.data, rows.weights)


def prior_information(model: Model, chart: Chart) -> Array:
    """Return minus the second derivatives of log_prior, (q, q); zeros where the model has none."""
    return _of_prior(model, chart).information


def along_all(along: Callable[[Array], PyTree], directions: Array) -> PyTree:
    """Return a linear function of each of the directions (j, q), some at once, stacked."""
    count = directions.shape[0]
    if count <= AT_ONCE:
        return lax.map(along, directions) if count < 2 else jax.vmap(along)(directions)
    padded = jnp.pad(directions, ((0, -count % AT_ONCE), (0, 0)))
    return jax.tree.map(lambda leaf: leaf[:count], lax.map(along, padded, batch_size=AT_ONCE))


def _all_coordinates(chart: Chart) -> Array:
    return jnp.eye(chart.place.size, dtype=chart.place.dtype)


def _over_blocks(model: Model, block: int, of_rows: Callable[..., Any], *arguments: PyTree) -> Any:
    """Return the sum of what `of_rows` returns for blocks of rows."""
    if not model.additive:
        return of_rows(*arguments)
    several = num_rows(arguments[1]) > FEW
    return summed(of_rows, block, default_block_bytes() if several else None)(*arguments)


def _about(function: Callable[[Array], Array], place: Array, directions: Array) -> tuple[Array, Array, Array]:
    """Return a function at a place, its slope, and minus its second derivatives times directions (j, q)."""
    (value, slope), along = jax.linearize(jax.value_and_grad(function), place)
    return value, slope, -along_all(lambda direction: along(direction)[1], directions)


def _height(model: Model, chart: Chart, data: PyTree, weights: Array) -> Callable[[Array], Array]:
    return lambda place: model.e_step(params_at(model.constraints, chart, place), data, weights)[1]


def _of_prior(model: Model, chart: Chart) -> Curvature:
    place = chart.place
    if model.log_prior is None:
        nothing = jnp.zeros_like(place)
        return Curvature(jnp.zeros((), place.dtype), nothing, nothing[:, None] * nothing[None])
    prior = model.log_prior
    return Curvature(*_about(lambda u: prior(params_at(model.constraints, chart, u)), place, _all_coordinates(chart)))


@partial(compiled, static_argnums=(0, 1))
def _log_likelihood(model: Model, block: int, params: PyTree, data: PyTree, weights: Array) -> Array:
    return _over_blocks(model, block, lambda *arguments: model.e_step(*arguments)[1], params, data, weights)


@partial(compiled, static_argnums=(0, 1))
@in_full_precision
def _curvature(model: Model, block: int, chart: Chart, data: PyTree, weights: Array) -> Curvature:
    def of_rows(chart: Chart, data: PyTree, weights: Array) -> Curvature:
        return Curvature(*_about(_height(model, chart, data, weights), chart.place, _all_coordinates(chart)))

    of_data = _over_blocks(model, block, of_rows, chart, data, weights)
    return jax.tree.map(jnp.add, of_data, _of_prior(model, chart))


def _with_prior(model: Model, chart: Chart) -> Callable[[Array], Array]:
    prior = model.log_prior
    return lambda place: prior(params_at(model.constraints, chart, place)) if prior else jnp.zeros((), place.dtype)


@partial(jax.jit, static_argnums=(0, 1))
@in_full_precision
def _sloped(model: Model, block: int, chart: Chart, data: PyTree, weights: Array) -> tuple[Array, Array]:
    def of_rows(chart: Chart, data: PyTree, weights: Array) -> tuple[Array, Array]:
        return jax.value_and_grad(_height(model, chart, data, weights))(chart.place)

    of_data = _over_blocks(model, block, of_rows, chart, data, weights)
    return jax.tree.map(jnp.add, of_data, jax.value_and_grad(_with_prior(model, chart))(chart.place))


@partial(jax.jit, static_argnums=(0, 1))
@in_full_precision
def _product(model: Model, block: int, chart: Chart, data: PyTree, weights: Array, direction: Array) -> Array:
    def along(function: Callable[[Array], Array]) -> Array:
        return -jax.jvp(jax.grad(function), (chart.place,), (direction,))[1]

    def of_rows(chart: Chart, data: PyTree, weights: Array) -> Array:
        return along(_height(model, chart, data, weights))

    return _over_blocks(model, block, of_rows, chart, data, weights) + along(_with_prior(model, chart))


@partial(compiled, static_argnums=(0, 1))
@in_full_precision
def _complete(model: Model, block: int, chart: Chart, data: PyTree, weights: Array) -> Array:
    def of_rows(chart: Chart, data: PyTree, weights: Array) -> PyTree:
        return model.e_step(params_at(model.constraints, chart, chart.place), data, weights)[0]

    stats, expected = _over_blocks(model, block, of_rows, chart, data, weights), require(model, "expected_log_joint")
    of_data = _about(
        lambda place: expected(params_at(model.constraints, chart, place), stats), chart.place, _all_coordinates(chart)
    )
    return of_data[2] + _of_prior(model, chart).information


def _log_prob_of_rows(model: Model, chart: Chart, data: PyTree, like: Array) -> Callable[[Array], Array]:
    """Return place ↦ log p of each row (n,): what the log-likelihood, linear in the weights, says of each of them."""

    def of_rows(place: Array) -> Array:
        params = params_at(model.constraints, chart, place)
        return jax.grad(lambda weights: model.e_step(params, data, weights)[1])(jnp.ones_like(like))

    return of_rows


def _scores_of_block(model: Model, chart: Chart, data: PyTree, weights: Array) -> Array:
    """Return the scores of rows, (q, n), zero where absent."""
    along = jax.linearize(_log_prob_of_rows(model, chart, data, weights), chart.place)[1]
    return _present(weights, along_all(along, _all_coordinates(chart)))


@partial(compiled, static_argnums=(0, 1))
@in_full_precision
def _squared_scores(model: Model, block: int, chart: Chart, data: PyTree, weights: Array) -> Array:
    def of_rows(chart: Chart, data: PyTree, weights: Array) -> Array:
        found = _scores_of_block(model, chart, data, weights)
        return (found * weights[None]) @ found.T

    return _over_blocks(model, block, of_rows, chart, data, weights)


@partial(compiled, static_argnums=(0, 1))
@in_full_precision
def _scores(model: Model, block: int, chart: Chart, data: PyTree, weights: Array) -> Array:
    def of_rows(chart: Chart, rows: tuple[PyTree, Array]) -> Array:
        return _scores_of_block(model, chart, *rows).T

    return (row_by_row(of_rows, block) if model.additive else of_rows)(chart, (data, weights))


def _present(weights: Array, values: Array) -> Array:
    """Return values (..., n) with zeros for rows of weight zero."""
    return jnp.where(jnp.broadcast_to(weights > 0, values.shape), values, 0)


@partial(compiled, static_argnums=(0, 1))
@in_full_precision
def _louis(model: Model, block: int, chart: Chart, data: PyTree, weights: Array) -> Array:
    def of_rows(chart: Chart, data: PyTree, weights: Array) -> Array:
        log_prob = _log_prob_of_rows(model, chart, data, weights)
        least = 2 * math.sqrt(jnp.finfo(weights.dtype).tiny)  # what is less has no finite second derivatives

        def log_joint(place: Array) -> Array:
            """Return log p(x_n, z = k), (k, n), and log p(x_n) where the label is impossible, which then weighs nothing."""
            shares = require(model, "posterior")(params_at(model.constraints, chart, place), data).T
            return jnp.log(jnp.where(shares > least, shares, 1)) + log_prob(place)[None]

        shares = require(model, "posterior")(params_at(model.constraints, chart, chart.place), data).T
        counts = _present(weights, weights[None] * jnp.where(shares > least, shares, 0))
        complete = _about(lambda place: (counts * log_joint(place)).sum(), chart.place, _all_coordinates(chart))[2]
        scores = along_all(jax.linearize(log_joint, chart.place)[1], _all_coordinates(chart))
        scores = jnp.where(counts[None] > 0, scores - (scores * shares[None]).sum(1, keepdims=True), 0)
        flat = scores.reshape(scores.shape[0], -1)
        return complete - (flat * counts.reshape(1, -1)) @ flat.T

    return _over_blocks(model, block, of_rows, chart, data, weights) + _of_prior(model, chart).information


@partial(compiled, static_argnums=(0, 1))
@in_full_precision
def _oakes(model: Model, block: int, chart: Chart, data: PyTree, weights: Array) -> Array:
    expected = require(model, "expected_log_joint")
    every = _all_coordinates(chart)

    def statistics(place: Array, chart: Chart, data: PyTree, weights: Array) -> PyTree:
        return model.e_step(params_at(model.constraints, chart, place), data, weights)[0]

    def slope(place: Array, stats: PyTree) -> Array:
        return jax.grad(lambda u: expected(params_at(model.constraints, chart, u), stats))(place)

    def of_rows(chart: Chart, data: PyTree, weights: Array) -> tuple[PyTree, PyTree]:
        stats, along = jax.linearize(lambda place: statistics(place, chart, data, weights), chart.place)
        return stats, along_all(along, _all_coordinates(chart))

    if model.additive:
        stats, changes = _over_blocks(model, block, of_rows, chart, data, weights)
        along = jax.linearize(slope, chart.place, stats)[1]
        derivatives = lax.map(lambda given: along(*given), (every, changes))
    else:
        through = jax.linearize(lambda place: slope(place, statistics(place, chart, data, weights)), chart.place)[1]
        derivatives = along_all(through, every)
    return -derivatives + _of_prior(model, chart).information
