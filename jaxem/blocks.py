"""How the E-step runs: a loop over blocks of rows, so that memory beyond the data does not grow with n."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxem.arrays import at_least_one, is_traced
from jaxem.boundary import check_model
from jaxem.model import Model, PyTree, Size, require
from jaxem.trees import map_rows, num_rows

DEFAULT_BLOCK_SIZE = {"cpu": 4096}
ACCELERATOR_BLOCK_SIZE = 1 << 17
DEFAULT_BLOCK_BYTES = {"cpu": 1 << 22}  # of the largest array that a block makes
ACCELERATOR_BLOCK_BYTES = 1 << 29
STATISTICS = 4  # times its statistics that a block's largest array may be: to add those up has its cost too


def default_block_size() -> int:
    """Return how many observations an E-step takes at once: what stays in a CPU's cache, or what fills an accelerator."""
    return DEFAULT_BLOCK_SIZE.get(jax.default_backend(), ACCELERATOR_BLOCK_SIZE)


def default_block_bytes() -> int:
    """Return the bytes that the largest array made for a block may have."""
    return DEFAULT_BLOCK_BYTES.get(jax.default_backend(), ACCELERATOR_BLOCK_BYTES)


def observations_per_row(size: Size | None, data: PyTree) -> float:
    """Return the mean number of observations in a row; one under a trace, where they cannot be counted."""
    if size is None or is_traced(data):
        return 1.0
    return max(1.0, float(np.mean(np.asarray(size(data)))))


def _blocks(num_rows: int, block_size: int) -> tuple[int, int]:
    """Return the number of blocks and the smallest even block size that covers all rows."""
    num_blocks = -(-num_rows // block_size)
    return num_blocks, -(-num_rows // num_blocks)


def _start(block: Array, size: int, num_rows: int) -> Array:
    """Return the first row of a block; the last block slides back to end with the data."""
    return jnp.minimum(block * size, num_rows - size)


def _rows(data: PyTree, start: Array, size: int) -> PyTree:
    return map_rows(lambda leaf: lax.dynamic_slice_in_dim(leaf, start, size), data)


def chunked(model: Model, block_size: int) -> Model:
    """Return `model` with its E-step and all else that a posterior enters computed over blocks of at most `block_size` rows.

    The last block slides back to stay inside the data, and rows already seen weigh nothing there (law 1), so nothing is
    copied or padded. Raises ValueError for a model whose statistics are not additive.

    >>> import jax, jaxem
    >>> model = jaxem.chunked(jaxem.mixture(jaxem.families.gaussian(), 2), 100)
    >>> fit = jaxem.fit(model, model.init(jax.random.key(1), jaxem.datasets.faithful()), jaxem.datasets.faithful())
    >>> print(f"{fit.log_likelihood:.2f}")
    -1130.26
    """
    check_model(model)
    if not model.additive:
        raise ValueError("chunked(model) needs additive=True; this model's statistics carry the data along.")
    return _chunked(model, at_least_one("block_size", block_size))


def by_default_in_blocks(model: Model, data: PyTree) -> Model:
    """Return `model` with its E-step in blocks that hold the default number of observations.

    Built models, whose E-step says so, see to that themselves where a row is one observation, or of any size.
    """
    per_row = observations_per_row(model.size, data)
    block_size = max(1, int(default_block_size() / per_row))
    own = model.parts is not None and model.parts[0] is chunked
    at_once = getattr(model.e_step, "in_blocks", False) and (per_row == 1 or getattr(model.e_step, "any_size", False))
    return model if own or at_once or not model.additive or num_rows(data) <= block_size else chunked(model, block_size)


@cache
def _chunked(model: Model, block_size: int) -> Model:
    @jax.jit
    def e_step(params: PyTree, data: PyTree, weights: Array) -> tuple[PyTree, Array]:
        """Return expected statistics of the posterior at `params` and the log-likelihood, summed over blocks of rows."""
        return summed(model.e_step, block_size)(params, data, weights)

    @jax.jit
    def statistics(params: PyTree, data: PyTree, weights: Array, posterior: PyTree) -> PyTree:
        """Return the statistics of a given Q, summed over blocks of rows."""
        return summed(require(model, "statistics"), block_size)(params, data, weights, posterior)

    return model._replace(
        e_step=e_step,
        statistics=statistics if model.statistics else None,
        log_prob=jax.jit(row_by_row(model.log_prob, block_size)) if model.log_prob else None,
        posterior=jax.jit(row_by_row(model.posterior, block_size)) if model.posterior else None,
        parts=(chunked, (model, block_size)),
    )


def summed(over_rows: Callable[..., Any], block_size: int, block_bytes: int | None = None) -> Callable[..., Any]:
    """Return `over_rows` as a sum over blocks of at most so many rows, and of so many bytes in the largest array they make.

    What it takes beyond params, data and weights has one row per row of data.
    """

    def total(params: PyTree, data: PyTree, weights: Array, *more: PyTree) -> PyTree:
        def of_rows(start: Array, unseen_from: Array, size: int) -> PyTree:
            unseen = start + jnp.arange(size) >= unseen_from
            block_weights = jnp.where(unseen, _rows(weights, start, size), 0)
            return over_rows(params, _rows(data, start, size), block_weights, *_rows(more, start, size))

        rows = num_rows(data)
        most = min(block_size, rows)
        if rows == most and not block_bytes:
            return over_rows(params, data, weights, *more)
        zero = jnp.array(0)
        program, shapes = jax.make_jaxpr(lambda: of_rows(zero, zero, most), return_shape=True)()
        if block_bytes:
            statistics = STATISTICS * sum(map(_bytes, jax.tree.leaves(shapes)))
            most_rows = rows if statistics > block_bytes else most
            most = max(1, min(most_rows, int(most * max(block_bytes, statistics) / most_bytes(program.jaxpr))))
        if rows <= most:
            return over_rows(params, data, weights, *more)
        num_blocks, size = _blocks(rows, most)

        def add(block: Array, sums: PyTree) -> PyTree:
            return jax.tree.map(jnp.add, sums, of_rows(_start(block, size, rows), block * size, size))

        return lax.fori_loop(0, num_blocks, add, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))

    return total


def _bytes(array: Any) -> int:
    return math.prod(array.shape) * array.dtype.itemsize if hasattr(array, "dtype") else 0


def most_bytes(jaxpr: Any) -> int:
    """Return the bytes of the largest array that a program makes, those in the programs it calls included."""
    made = [_bytes(variable.aval) for equation in jaxpr.eqns for variable in equation.outvars]
    parts = [part for equation in jaxpr.eqns for part in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program)]
    return max([1, *made, *(most_bytes(part.jaxpr) for part in parts if _is_program(part))])


def _is_program(node: Any) -> bool:
    return hasattr(node, "jaxpr")


def row_by_row(per_row: Callable[[PyTree, PyTree], PyTree], block_size: int) -> Callable[..., Any]:
    """Return `per_row` computed block by block; its output has one row per row of data."""

    def mapped(params: PyTree, data: PyTree) -> PyTree:
        if num_rows(data) <= block_size:
            return per_row(params, data)
        num_blocks, size = _blocks(num_rows(data), block_size)

        def write_block(block: Array, output: PyTree) -> PyTree:
            start = _start(block, size, num_rows(data))
            rows = per_row(params, _rows(data, start, size))
            return jax.tree.map(lambda a, b: lax.dynamic_update_slice_in_dim(a, b, start, 0), output, rows)

        one = jax.eval_shape(lambda: per_row(params, _rows(data, jnp.array(0), size)))
        empty = jax.tree.map(lambda leaf: jnp.zeros((num_rows(data), *leaf.shape[1:]), leaf.dtype), one)
        return lax.fori_loop(0, num_blocks, write_block, empty)

    mapped.__doc__ = per_row.__doc__
    return mapped
