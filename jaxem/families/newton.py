"""Newton's method for concave sums over rows, several problems at once, that never goes down.

One pass over the rows gives what a point has gained over the last one, the slope there, and the information. A step that
has not gained is taken again at a quarter. A last step is so short that it needs no look: by then the next would be rounding.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.matrices import cholesky, diagonal, diagonal_matrix, is_positive_definite
from jaxem.model import PyTree
from jaxem.trees import map_rows, num_rows

MOST_PASSES = 60  # of one M-step; the next goes on from where it ends
LONGEST = 8.0  # of a step, in units of the linear predictor at a typical row
NEAR = 100.0  # ulps of the gain for one observation, at which a last step leaves as many ulps of a slope
SHORT = 0.1  # of the linear predictor at any row, that a last step may change
SURE = 1e-2  # nats that a last step may gain
RIDGE = 16.0  # ulps of its diagonal that are added to the information: what rounding leaves undecided does not move
LEAST = {64: 1e-10, 32: 1e-5}  # share of the information of a typical row, below which a row has none left
ROWS_AT_ONCE = {"cpu": 4096}
ACCELERATOR_ROWS_AT_ONCE = 1 << 17


class Look(NamedTuple):
    """What m problems say of points θ (m, D): gain over other points (m,), slope (m, D) and information (m, D, D)."""

    gain: Array
    slope: Array
    information: Array


class _Climb(NamedTuple):
    passes: Array
    theta: Array
    step: Array  # proposed
    done: Array  # (m,) whose step is the last


def climb(look: Callable[[Array, Array], Look], start: Array, counts: Array, reach: Array) -> Array:
    """Return where the problems have their maxima, from `start` (m, D), which their values there are never below.

    look      (θ, from) -> Look at θ, with its gain over `from`
    counts    (m,) or scalar: observations, of which each has information of the order of one
    reach     how much a unit of θ may change the linear predictor of a row
    """
    eps = jnp.finfo(start.dtype).eps
    enough = jnp.minimum(NEAR * eps * counts, SURE)

    def propose(found: Look) -> tuple[Array, Array]:
        step = solve(found.information, found.slope)
        gain = (step * found.slope).sum(1)
        length = jnp.sqrt((step**2).sum(1))
        last = (gain <= enough) & (length * reach <= SHORT)
        shorter = jnp.minimum(1, LONGEST / jnp.where(length > 0, length, 1))
        return jnp.where(jnp.isfinite(step), step * shorter[:, None], 0), last | ~jnp.isfinite(gain)

    def advance(state: _Climb) -> _Climb:
        there = state.theta + jnp.where(state.done[:, None], 0, state.step)
        found = look(there, state.theta)
        better = (found.gain >= 0) & ~state.done
        step, last = propose(found)
        return _Climb(
            passes=state.passes + 1,
            theta=jnp.where(better[:, None], there, state.theta),
            step=jnp.where(better[:, None], step, jnp.where(state.done[:, None], state.step, 0.25 * state.step)),
            done=state.done | (better & last),
        )

    here = jnp.zeros_like(start), jnp.zeros(start.shape[0], bool)  # a step of nothing, so that rows are looked at in one place
    begin = _Climb(jnp.zeros((), jnp.int32), start, *here)
    end = lax.while_loop(lambda state: ~state.done.all() & (state.passes <= MOST_PASSES), advance, begin)
    return jnp.where(end.done[:, None], end.theta + end.step, end.theta)


def solve(information: Array, slope: Array) -> Array:
    """Return (H + ridge)⁻¹ g, (m, D); a direction without information does not move."""
    size = diagonal(information)
    ridge = jnp.where(size > 0, RIDGE * jnp.finfo(size.dtype).eps * size, 1)
    inverse = cholesky(information + diagonal_matrix(ridge))[1]
    return (inverse.mT @ (inverse @ slope[:, :, None]))[:, :, 0]


def lacks_information(information: Array, typical: Array) -> Array:
    """Tell whether, in some direction, rows have next to none of the information of typical ones: matrices (m, D, D), -> (m,).

    So it is where a coefficient is on its way to infinity, and the fitted means of all rows that it moves to the edge of
    what they can be.
    """
    least = least_information(typical.dtype)
    size = diagonal(typical).max(1, keepdims=True)
    some = diagonal_matrix(jnp.broadcast_to(jnp.where(size > 0, 1e-3 * least * size, 1), typical.shape[:2]))
    return ~is_positive_definite(information - least * typical + some)


def least_information(dtype: Any) -> float:
    """Return the share of the information of a typical row, below which a row has none left."""
    return LEAST[jnp.finfo(dtype).bits]


def over_rows(of_rows: Callable[[PyTree, Array], PyTree], rows: PyTree, responsibilities: Array) -> PyTree:
    """Return the sum of `of_rows(rows, responsibilities)` over blocks of rows, so that what it makes stays small.

    The last block slides back to stay inside, and rows already seen weigh nothing there.
    """
    count, most = num_rows(rows), ROWS_AT_ONCE.get(jax.default_backend(), ACCELERATOR_ROWS_AT_ONCE)
    if count <= most:
        return of_rows(rows, responsibilities)
    blocks = -(-count // most)
    size = -(-count // blocks)

    def of_block(block: Any) -> PyTree:
        first = block * size
        start = jnp.minimum(first, count - size)
        some, shares = map_rows(lambda leaf: lax.dynamic_slice_in_dim(leaf, start, size), (rows, responsibilities))
        unseen = start + jnp.arange(size) >= first
        return of_rows(some, jnp.where(unseen[:, None], shares, 0))

    shapes = jax.eval_shape(of_block, jnp.array(0))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return lax.fori_loop(0, blocks, lambda block, sums: jax.tree.map(jnp.add, sums, of_block(block)), zeros)


def grams(weights: Array, z: Array) -> Array:
    """Return Σ_n w_kn z_n z_nᵀ, (k, p, p), from weights (k, n) and rows (n, p), by one product."""
    k, p = weights.shape[0], z.shape[1]
    return ((weights[:, None, :] * z.T[None]).reshape(k * p, -1) @ z).reshape(k, p, p)
