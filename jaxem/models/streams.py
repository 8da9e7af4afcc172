"""The E-step of a hidden Markov model: all sequences end to end, in blocks of time.

Blocks of whole sequences need one pass. Where sequences are too long for that, a pass forward leaves what enters each block,
and a pass backward does each block again: only borders are kept. So memory beyond the data does not grow with time, and steps
beyond the lengths of sequences, and those of weight zero, cost nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.chains import Chain, Stream, carried, smooth
from jaxem.numerics import weighted_sum
from jaxem.trees import PyTree, map_rows

MOST_BYTES = 1 << 20  # of the densities in a block, about what stays in a CPU's cache beside what is made of them
WIDEST = 8  # times as many bytes that blocks of whole sequences may have: a second pass costs more
FEW = 4096  # steps that are one block, whatever their lengths
PARTS = 32  # of all places at least, that blocks are: the last one may be nearly empty

Evaluate = Callable[[PyTree], tuple[Array, Callable[[Array], PyTree]]]


class Counts(NamedTuple):
    """Expected numbers of first states (k,), of moves (k, k), and of steps in each state (k,)."""

    initial: Array
    moves: Array
    states: Array


class _Cut(NamedTuple):
    """Some steps: where they are among all places, (s,), None for all in their order, and what they are."""

    places: Array | None
    first: Array
    last: Array
    there: Array
    weights: Array


class _Rows(NamedTuple):
    """Sequences (n,), the longest first, so that blocks fill up: where they are, their lengths, zero for absent ones, weights.

    `ends` is the number of steps up to and with each.
    """

    places: Array
    lengths: Array
    weights: Array
    ends: Array


class _Pass(NamedTuple):
    """What is done with a block: what enters the next one, and its sums with what leaves it for the one before."""

    forward: Callable[[_Cut, Array], Array]
    whole: Callable[[_Cut, Array, Array], tuple[Any, Array]]


def expect(
    evaluate: Evaluate, chain: Chain, flat: PyTree, shape: tuple[int, int], lengths: Array, weights: Array
) -> tuple[Counts, PyTree, Array]:
    """Return expected counts, the family's statistics, and Σ_n w_n log p(x_n), from steps that are flat, (n t, *event)."""
    num, most = shape[0] * shape[1], shape[1]
    size = max(1, MOST_BYTES // (chain.log_initial.size * weights.dtype.itemsize))
    wide = most * max(1, min(size, max(num // PARTS, FEW)) // most)
    lengths = jnp.where(weights > 0, lengths, 0)
    void, run = jnp.zeros_like(chain.log_initial), _pass(evaluate, chain, flat)
    if num <= (WIDEST * size if shape[0] == 1 else min(FEW, size)):
        row, time = jnp.divmod(jnp.arange(num, dtype=jnp.int32), most)
        return run.whole(_cut(lengths, weights, None, row, time), void, void)[0]
    rows = _in_order(lengths, weights)
    if wide <= WIDEST * size:
        return _over_whole(run, rows, shape, wide, void)
    return _over_parts(run, rows, shape, size, void)


def _in_order(lengths: Array, weights: Array) -> _Rows:
    order = jnp.argsort(-lengths)
    return _Rows(order.astype(jnp.int32), lengths[order], weights[order], jnp.cumsum(lengths[order]))


def _pass(evaluate: Evaluate, chain: Chain, flat: PyTree) -> _Pass:
    def look(some: _Cut) -> tuple[Stream, Callable[[Array], PyTree]]:
        log_density, statistics = evaluate(flat if some.places is None else map_rows(lambda leaf: leaf[some.places], flat))
        return Stream(log_density, some.first, some.last, some.there, some.weights), statistics

    def whole(some: _Cut, entering: Array, coming: Array) -> tuple[Any, Array]:
        stream, statistics = look(some)
        found = smooth(chain, stream, entering, coming)
        shares = found.states * some.weights[:, None]
        counts = Counts(jnp.where(some.first[:, None], shares, 0).sum(0), found.transitions, shares.sum(0))
        return (counts, statistics(shares), weighted_sum(some.weights, found.log_prob)), found.leaving

    return _Pass(lambda some, entering: carried(chain, look(some)[0], entering), whole)


def _over_whole(run: _Pass, rows: _Rows, shape: tuple[int, int], size: int, void: Array) -> Any:
    def turn(carry: tuple[Any, Array]) -> tuple[Any, Array]:
        sums, start = carry
        end = rows.ends[jnp.searchsorted(rows.ends, start + size, side="right") - 1]
        found, _ = run.whole(_steps(rows, shape, start, end, size), void, void)
        return jax.tree.map(jnp.add, sums, found), end

    start = jnp.zeros((), rows.ends.dtype)
    zeros = _zeros(lambda: run.whole(_steps(rows, shape, start, start, size), void, void)[0])
    return lax.while_loop(lambda carry: carry[1] < rows.ends[-1], turn, (zeros, start))[0]


def _over_parts(run: _Pass, rows: _Rows, shape: tuple[int, int], size: int, void: Array) -> Any:
    def part(number: Array) -> _Cut:
        return _steps(rows, shape, number * size, rows.ends[-1], size)

    def forward(number: Array, borders: Array) -> Array:
        return borders.at[number + 1].set(run.forward(part(number), borders[number]))

    def backward(turn: Array, carry: tuple[Any, Array]) -> tuple[Any, Array]:
        (sums, coming), number = carry, parts - 1 - turn
        found, leaving = run.whole(part(number), borders[number], coming)
        return jax.tree.map(jnp.add, sums, found), leaving

    parts = (rows.ends[-1] + size - 1) // size
    borders = jnp.broadcast_to(void[None], (-(-shape[0] * shape[1] // size) + 1, void.size))
    borders = lax.fori_loop(0, parts - 1, forward, borders)
    return lax.fori_loop(0, parts, backward, (_zeros(lambda: run.whole(part(parts), void, void)[0]), void))[0]


def _zeros(made: Callable[[], Any]) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(made))


def _steps(rows: _Rows, shape: tuple[int, int], start: Array, end: Array, size: int) -> _Cut:
    """Return the steps from `start` on, before `end`, in the order of all that are there."""
    steps = start + jnp.arange(size, dtype=jnp.int32)
    row = jnp.minimum(jnp.searchsorted(rows.ends, steps, side="right").astype(jnp.int32), shape[0] - 1)
    time = jnp.where(steps < end, steps - (rows.ends - rows.lengths)[row], shape[1])  # of none, beyond all lengths
    places = rows.places[row] * shape[1] + jnp.minimum(time, shape[1] - 1)
    return _cut(rows.lengths, rows.weights, places, row, time)


def _cut(lengths: Array, weights: Array, places: Array | None, row: Array, time: Array) -> _Cut:
    length = lengths[row]
    there = time < length
    return _Cut(places, time == 0, time == length - 1, there, jnp.where(there, weights[row], 0))
