"""How the E-step runs: a loop over blocks of rows, so that memory beyond the data does not grow with n."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.boundary import at_least_one
from jaxem.model import EStep, LogProb, Model, Posterior, PyTree, Statistics, num_rows, require

DEFAULT_BLOCK_SIZE = {"cpu": 4096}
ACCELERATOR_BLOCK_SIZE = 1 << 17


def default_block_size() -> int:
    """Return the number of rows an E-step takes at once: what stays in cache on a CPU, what fills an accelerator elsewhere."""
    return DEFAULT_BLOCK_SIZE.get(jax.default_backend(), ACCELERATOR_BLOCK_SIZE)


def _blocks(num_rows: int, block_size: int) -> tuple[int, int]:
    """Return the number of blocks and the smallest even block size that covers all rows."""
    num_blocks = -(-num_rows // block_size)
    return num_blocks, -(-num_rows // num_blocks)


def _start(block: Array, size: int, num_rows: int) -> Array:
    """Return the first row of a block; the last block slides back to end with the data."""
    return jnp.minimum(block * size, num_rows - size)


def _rows(data: PyTree, start: Array, size: int) -> PyTree:
    return jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, start, size), data)


def chunked(model: Model, block_size: int) -> Model:
    """Return `model` with its E-step and all else that a posterior enters computed over blocks of at most `block_size` rows.

    The last block slides back to stay inside the data, and rows already seen weigh nothing there (law 1), so nothing is
    copied or padded. Raises ValueError for a model whose statistics are not additive.
    """
    if not model.additive:
        raise ValueError("chunked(model) needs additive statistics; this model's statistics carry the data along.")
    return _chunked(model, at_least_one("block_size", block_size))


def by_default_in_blocks(model: Model, data: PyTree) -> Model:
    """Return `model` with its E-step in blocks of rows, unless it fixes its own or has few rows."""
    if model.block_size or not model.additive or num_rows(data) <= default_block_size():
        return model
    return chunked(model, default_block_size())


@lru_cache
def _chunked(model: Model, block_size: int) -> Model:
    def statistics(params: PyTree, data: PyTree, weights: Array, posterior: PyTree) -> PyTree:
        return _summed(require(model, "statistics"), block_size)(params, data, weights, posterior)

    def e_step(params: PyTree, data: PyTree, weights: Array) -> tuple[PyTree, Array]:
        return _summed(model.e_step, block_size)(params, data, weights)

    return model._replace(
        e_step=jax.jit(e_step),
        statistics=jax.jit(statistics) if model.statistics else None,
        log_prob=_by_blocks(model.log_prob, block_size) if model.log_prob else None,
        posterior=_by_blocks(model.posterior, block_size) if model.posterior else None,
        block_size=block_size,
    )


def _summed(over_rows: EStep | Statistics, block_size: int) -> Callable[..., Any]:
    """Return `over_rows` as a sum over blocks; what it takes beyond params, data and weights has one row per row of data."""

    def total(params: PyTree, data: PyTree, weights: Array, *more: PyTree) -> PyTree:
        if num_rows(data) <= block_size:
            return over_rows(params, data, weights, *more)
        num_blocks, size = _blocks(num_rows(data), block_size)

        def block_sum(block: Array) -> PyTree:
            start = _start(block, size, num_rows(data))
            unseen = start + jnp.arange(size) >= block * size
            block_weights = jnp.where(unseen, _rows(weights, start, size), 0)
            return over_rows(params, _rows(data, start, size), block_weights, *_rows(more, start, size))

        shapes = jax.eval_shape(block_sum, jnp.array(0))
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return lax.fori_loop(0, num_blocks, lambda block, sums: jax.tree.map(jnp.add, sums, block_sum(block)), zero)

    return total


def _by_blocks(per_row: Posterior | LogProb, block_size: int) -> Posterior:
    """Return `per_row` computed block by block; its output has one row per row of data."""

    @jax.jit
    def mapped(params: PyTree, data: PyTree) -> PyTree:
        if num_rows(data) <= block_size:
            return per_row(params, data)
        num_blocks, size = _blocks(num_rows(data), block_size)

        def write_block(block: Array, output: PyTree) -> PyTree:
            start = _start(block, size, num_rows(data))
            rows = per_row(params, _rows(data, start, size))
            return jax.tree.map(lambda a, b: lax.dynamic_update_slice_in_dim(a, b, start, 0), output, rows)

        shapes = jax.eval_shape(per_row, params, data)
        empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return lax.fori_loop(0, num_blocks, write_block, empty)

    return mapped
