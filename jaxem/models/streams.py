"""The E-step of a hidden Markov model: all sequences end to end, in blocks of time, of which only the borders are kept.

A pass forward leaves what enters each block; a pass backward does each block again and adds up its statistics. So memory
beyond the data does not grow with time, and steps beyond the lengths of sequences, and those of weight zero, cost nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.chains import Chain, Stream, filtered, smooth
from jaxem.numerics import weighted_sum
from jaxem.trees import PyTree, map_rows

MOST_BYTES = 1 << 21  # of the densities in a block, about what stays in a CPU's cache beside what is made of them


class Counts(NamedTuple):
    """Expected numbers of first states (k,), of moves (k, k), and of steps in each state (k,)."""

    initial: Array
    moves: Array
    states: Array


class _Block(NamedTuple):
    """Some steps: where they are among all places (s,), and what they are."""

    places: Array
    first: Array
    last: Array
    there: Array
    weights: Array


def expect(
    evaluate: Callable[[PyTree], tuple[Array, Callable[[Array], PyTree]]],
    chain: Chain,
    rows: PyTree,
    shape: tuple[int, int],
    lengths: Array,
    weights: Array,
) -> tuple[Counts, PyTree, Array]:
    """Return expected counts, the family's statistics, and Σ_n w_n log p(x_n); rows are flat, (n t, *event)."""
    num, size = shape[0] * shape[1], max(1, MOST_BYTES // (chain.log_initial.size * weights.dtype.itemsize))
    lengths = jnp.where(weights > 0, lengths, 0)

    def look(block: _Block) -> tuple[Stream, Callable[[Array], PyTree]]:
        some = rows if num <= size else map_rows(lambda leaf: leaf[block.places], rows)
        log_density, statistics = evaluate(some)
        return Stream(log_density, block.first, block.last, block.there, block.weights), statistics

    def of_block(block: _Block, entering: Array, coming: Array) -> tuple[tuple[Counts, PyTree, Array], Array]:
        stream, statistics = look(block)
        found = smooth(chain, stream, entering, coming)
        shares = found.states * block.weights[:, None]
        initial = jnp.where(block.first[:, None], shares, 0).sum(0)
        counts = Counts(initial, found.transitions, shares.sum(0))
        return (counts, statistics(shares), weighted_sum(block.weights, found.log_prob)), found.leaving

    void = jnp.zeros_like(chain.log_initial)
    if num <= size:
        places = jnp.arange(num, dtype=jnp.int32)
        return of_block(_of_places(places, places // shape[1], places % shape[1], lengths, weights), void, void)[0]
    ends = jnp.cumsum(lengths)
    blocks = (ends[-1] + size - 1) // size

    def block_at(number: Array) -> _Block:
        steps = number * size + jnp.arange(size, dtype=jnp.int32)
        row = jnp.minimum(jnp.searchsorted(ends, steps, side="right").astype(jnp.int32), shape[0] - 1)
        time = jnp.minimum(steps - (ends - lengths)[row], shape[1])  # of steps behind the last, beyond all lengths
        return _of_places(row * shape[1] + jnp.minimum(time, shape[1] - 1), row, time, lengths, weights)

    def forward(number: Array, borders: Array) -> Array:
        found = filtered(chain, look(block_at(number))[0], borders[number])
        return borders.at[number + 1].set(found.log_states[-1])

    def backward(turn: Array, carry: tuple[Any, Array]) -> tuple[Any, Array]:
        sums, coming = carry
        number = blocks - 1 - turn
        found, leaving = of_block(block_at(number), borders[number], coming)
        return jax.tree.map(jnp.add, sums, found), leaving

    borders = jnp.broadcast_to(void[None], (-(-num // size) + 1, void.size))
    borders = lax.fori_loop(0, blocks - 1, forward, borders)
    shapes = jax.eval_shape(lambda: of_block(block_at(blocks), void, void)[0])
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return lax.fori_loop(0, blocks, backward, (zeros, void))[0]


def _of_places(places: Array, row: Array, time: Array, lengths: Array, weights: Array) -> _Block:
    there = time < lengths[row]
    return _Block(places, time == 0, time == lengths[row] - 1, there, jnp.where(there, weights[row], 0))
