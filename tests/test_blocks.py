"""Blocks of rows change nothing but the memory."""

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import families
from jaxem.blocks import STATISTICS, by_default_in_blocks, default_block_bytes, default_block_size, most_bytes

X = jnp.asarray(np.random.default_rng(0).normal(size=(103, 5)))
WEIGHTS = jnp.asarray(np.random.default_rng(1).uniform(size=103))


class Evidence(NamedTuple):
    sums: object
    posterior: jax.Array
    log_prob: jax.Array


@partial(jax.jit, static_argnums=0)
def all_of(model, params, posterior):
    """All that a posterior enters, as one program."""
    sums = model.e_step(params, X, WEIGHTS), model.statistics(params, X, WEIGHTS, posterior=posterior)
    return Evidence(sums, model.posterior(params, X), model.log_prob(params, X))


SIZES = [1, 2, 10, 51, 52, 102, 103, 1000]


@pytest.mark.each_time(3)
@pytest.mark.parametrize(
    ("form", "block_size"), [*(("full", size) for size in SIZES), *((form, 10) for form in ("tied", "diag", "spherical"))]
)
def test_any_block_size_gives_the_same_results(form, block_size):
    model = jaxem.mixture(families.gaussian(form), 3)
    blocks = jaxem.chunked(model, block_size)
    params = model.init(jax.random.key(0), X)
    posterior = model.posterior(params, X)
    received, expected = all_of(blocks, params, posterior), all_of(model, params, posterior)
    chex.assert_trees_all_close(received.sums, expected.sums, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(received.posterior, posterior, atol=1e-13)
    np.testing.assert_allclose(received.log_prob, expected.log_prob, rtol=1e-12)


@pytest.mark.thorough
def test_fit_takes_rows_in_blocks_by_default_and_keeps_the_users_own_block_size():
    num_rows = 2 * default_block_size() + 1
    x = jnp.asarray(np.random.default_rng(0).normal(size=(num_rows, 2)))
    model = jaxem.mixture(families.gaussian(), 2)
    params = model.init(jax.random.key(0), x)
    own = jaxem.Model(lambda params, data, weights: model.e_step(params, data, weights), model.m_step)
    assert by_default_in_blocks(own, x).parts == (jaxem.chunked, (own, default_block_size()))
    assert by_default_in_blocks(own, x[:100]) is own
    assert by_default_in_blocks(jaxem.chunked(own, 333), x).parts == (jaxem.chunked, (own, 333))
    assert by_default_in_blocks(model, x) is model  # which sees to that itself
    whole = jaxem.fit(jaxem.chunked(model, num_rows), params, x, tol=-np.inf, max_steps=5)
    for received in (model, own, jaxem.chunked(model, 333)):
        fit = jaxem.fit(received, params, x, tol=-np.inf, max_steps=5)
        np.testing.assert_allclose(fit.history, whole.history, rtol=1e-12)


@pytest.mark.parametrize("block_size", [512, None])
def test_memory_of_an_e_step_does_not_grow_with_the_number_of_rows(block_size):
    model = jaxem.mixture(families.gaussian(), 8)
    blocks, rows = (jaxem.chunked(model, block_size), block_size) if block_size else (model, default_block_size())

    def temporary_bytes(num_rows):
        x = jax.ShapeDtypeStruct((num_rows, 8), "float32")
        weights = jax.ShapeDtypeStruct((num_rows,), "float32")
        params = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((16, 8), "float32")))
        x = jax.eval_shape(model.prepare, x, weights)
        return jax.jit(blocks.e_step).lower(params, x, weights).compile().memory_analysis().temp_size_in_bytes

    assert temporary_bytes(rows * 64) == temporary_bytes(rows * 1024)


def test_a_model_that_carries_its_data_along_is_refused():
    with pytest.raises(ValueError, match="additive"):
        jaxem.chunked(jaxem.from_log_joint(lambda params, x, z: -((x - params) ** 2), 1), 10)


@pytest.mark.parametrize("form", ["full", "diag"])
def test_wide_rows_are_taken_in_blocks_whose_largest_array_is_bounded(form):
    """Of 3 000 columns a few hundred rows at once: 4 MiB, or four times what full statistics take."""
    dim, rows = (3000, 4096) if form == "diag" else (400, 4096)
    model = jaxem.mixture(families.gaussian(form), 4)
    shape = (4, dim, dim) if form == "full" else (4, dim)
    params = jaxem.Mixture(np.full(4, 0.25), families.Gaussian(np.zeros((4, dim)), np.zeros(shape)))
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), "float32"), params)
    weights = jax.ShapeDtypeStruct((rows,), "float32")
    data = jax.eval_shape(model.prepare, jax.ShapeDtypeStruct((rows, dim), "float32"), weights)
    made = jax.make_jaxpr(model.e_step)(params, data, weights)
    at_most = max(default_block_bytes(), STATISTICS * 4 * (4 * dim * (dim if form == "full" else 1) + 12 * dim))
    assert most_bytes(made.jaxpr) <= at_most < 4 * rows * dim * (4 if form == "full" else 1)
