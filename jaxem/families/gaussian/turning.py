"""The best axes for scatters, of each component or of all: by eigenvalues, or by turning until nothing is to be gained."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxem.matrices import diagonal, diagonal_matrix, product
from jaxem.orthonormal import identity_like, polished

MOST_SWEEPS = 100  # of turns in all planes, where each sweep gains
LONGEST = 0.5  # the angle of a step in all planes at once, beyond which it says little
MOST_PRODUCTS = 200  # of a curvature with a step, to find Newton's
NEAR = 1e-3  # how much of the slope may be left by that


def in_old_order(values: Array, vectors: Array, old_values: Array, old_vectors: Array) -> tuple[Array, Array]:
    """Return eigenvalues (..., d), in rising order, and vectors in the order and with the signs of the old ones."""
    old = jnp.broadcast_to(old_values, values.shape)
    places = jnp.arange(old.shape[-1])
    before = (old[..., :, None] < old[..., None, :]) | (
        (old[..., :, None] == old[..., None, :]) & jnp.broadcast_to(places[:, None] < places[None], vectors.shape)
    )
    rank = before.sum(-2, dtype=places.dtype)
    chosen = jnp.broadcast_to(places[:, None], vectors.shape) == rank[..., None, :]
    ordered = product(vectors, chosen.astype(vectors.dtype))
    against = (ordered * old_vectors).sum(-2, keepdims=True) < 0
    return jnp.where(chosen, values[..., :, None], 0).sum(-2), jnp.where(against, -ordered, ordered)


def along(scatter: Array, orientation: Array) -> Array:
    """Return the sums of squares along axes: (k, d, d) and (k, d, d) or (1, d, d) -> (k, d)."""
    return (product(scatter, orientation) * orientation).sum(-2)


def turned(scatter: Array, axes: Array) -> Array:
    """Return DᵀS_kD, (k, d, d), from one D (d, d) for all."""
    return product(product(axes.T[None], scatter), axes[None])


@cache
def _rounds(dim: int) -> Any:
    """Return all planes of d axes in rounds of planes that have no axis in common, (rounds, d, d).

    In a round, row i has ±1 at the axis that makes a plane with i, 1 for the first of both; at i where there is none.
    """
    seats = list(range(dim + dim % 2))
    found = np.zeros((len(seats) - 1, dim, dim))
    for planes in found:
        for first, second in zip(seats[: len(seats) // 2], seats[::-1], strict=False):
            low, high = sorted((first, second))
            planes[low, high if high < dim else low] = 1
            if high < dim:
                planes[high, low] = -1
        seats = [seats[0], seats[-1], *seats[1:-1]]
    return found


class _Turning(NamedTuple):
    orientation: Array  # (d, d)
    done: Array
    sweeps: Array


def common_axes(
    scatter: Array,
    variances_of: Callable[[Array], Array],
    lost: Callable[[Array], Array],
    smooth: Callable[[Array], Array],
    old: Array,
) -> Array:
    """Return axes D (d, d) for all components at which `lost` is stationary, and no more than at the old ones.

    Tables m (k, d) are sums of squares along axes. `variances_of` takes one to the best variances v (k, d), `lost` to what is
    then minimized, `smooth` to what can be differentiated of it, which knows no floor of a common volume. For given v the
    loss in the plane of two axes is a cos 2θ + b sin 2θ of the angle θ by which they are turned, so its least is known; planes
    without a common axis are turned at once, v follows after each round (Flury & Gautschi 1986, but for the weights). A sweep
    over all planes is followed by a step of Newton's in all of them, taken if it does not lose: its square convergence is
    what ends the loop.
    """
    dim, eps = old.shape[0], jnp.finfo(old.dtype).eps
    rounds = jnp.asarray(_rounds(dim), old.dtype)

    def sweep(orientation: Array) -> tuple[Array, Array]:
        def turn(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
            axes, largest = state
            inner = turned(scatter, axes)
            rotation, angles = _best_turn(inner, 1 / variances_of(diagonal(inner)), rounds[i])
            return product(axes, rotation), jnp.maximum(largest, jnp.abs(angles).max())

        axes, largest = lax.fori_loop(0, rounds.shape[0], turn, (orientation, jnp.zeros((), old.dtype)))
        return polished(axes), largest

    def step(state: _Turning) -> _Turning:
        swept, angle = sweep(state.orientation)
        ended = ~(angle > 64 * eps)
        inner = turned(scatter, swept)
        move, gain = _newton(inner, 1 / variances_of(diagonal(inner)), smooth)
        moved = _by(swept, move * (LONGEST / jnp.maximum(jnp.abs(move).max(), LONGEST)))
        here, there = jax.vmap(lost)(jnp.stack([along(scatter, axes[None]) for axes in (swept, moved)]))
        better = there <= here + 4 * eps * jnp.abs(here)
        ended |= better & ~(gain > eps ** (4 / 3))
        return _Turning(jnp.where(better, moved, swept), ended, state.sweeps + 1)

    start = _Turning(old, jnp.asarray(dim == 1), jnp.asarray(0))
    return lax.while_loop(lambda state: ~state.done & (state.sweeps < MOST_SWEEPS), step, start).orientation


def _best_turn(inner: Array, precision: Array, planes: Array) -> tuple[Array, Array]:
    """Return the rotation (d, d) by the best angle in each of some planes, from DᵀS_kD (k, d, d) and 1 / v (k, d).

    Where what could be gained is rounding, the angle is zero. Angles (d,) are those of both axes of a plane.
    """
    other, way = jnp.abs(planes), planes.sum(1)

    def across(values: Array) -> Array:
        return (values[:, None, :] * other[None]).sum(2)

    squares = diagonal(inner)
    apart = precision - across(precision)
    cosine = 0.5 * (apart * (squares - across(squares))).sum(0)
    sine = way * (apart * (inner * other[None]).sum(2)).sum(0)
    rounding = 4 * jnp.finfo(inner.dtype).eps * (jnp.abs(apart) * (squares + across(squares))).sum(0)
    told = jnp.maximum(jnp.abs(cosine), jnp.abs(sine)) > rounding
    angle = 0.5 * jnp.arctan2(jnp.where(told, -sine, 0), jnp.where(told, -cosine, 1))
    return diagonal_matrix(jnp.cos(angle)) - planes * jnp.sin(angle)[:, None], angle


def _newton(inner: Array, precision: Array, smooth: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Return the skew Ω (d, d) of Newton's step D exp Ω, and what it gains as a share of the largest curvature.

    To second order the table is the diagonal of M + [M, Ω] + ½ [[M, Ω], Ω], M = DᵀS_kD. The step is found by conjugate
    gradients, in units of the curvature of each plane, and ends where there is none (Nocedal & Wright 2006, §7.1).
    """

    def loss(omega: Array) -> Array:
        first = product(inner, omega[None]) - product(omega[None], inner)
        return smooth(diagonal(inner + first + 0.5 * (product(first, omega[None]) - product(omega[None], first))))

    def slope_at(omega: Array) -> Array:
        return _skew(jax.grad(loss)(omega))

    squares, zero = diagonal(inner), jnp.zeros_like(inner[0])
    apart = (precision[:, :, None] - precision[:, None, :]) * (squares[:, :, None] - squares[:, None, :])
    curvature = jnp.abs(apart.sum(0))
    curvature += jnp.finfo(inner.dtype).eps ** (2 / 3) * curvature.max()
    slope, times = jax.linearize(slope_at, zero)
    move = _conjugate(times, -slope, jnp.where(curvature > 0, curvature, 1))
    gain = -(slope * move).sum() / curvature.max()
    return move, jnp.where((move != 0).any() | (slope == 0).all(), gain, jnp.inf)


def _skew(matrix: Array) -> Array:
    return 0.5 * (matrix - matrix.T)


class _Conjugate(NamedTuple):
    found: Array
    left: Array  # of the slope
    way: Array
    size: Array  # of what is left, in units of the curvature
    going: Array
    products: Array


def _conjugate(times: Callable[[Array], Array], slope: Array, curvature: Array) -> Array:
    """Return x with H x = slope, but for a small rest, or what was found where H has no curvature."""
    first = (slope**2 / curvature).sum()

    def turn(state: _Conjugate) -> _Conjugate:
        product = times(state.way)
        bend = (state.way * product).sum()
        going = bend > jnp.finfo(slope.dtype).eps * (state.way**2 * curvature).sum()
        length = jnp.where(going, state.size / jnp.where(going, bend, 1), 0)
        left = state.left - length * product
        size = (left**2 / curvature).sum()
        way = left / curvature + size / state.size * state.way
        going &= size > NEAR**2 * first
        return _Conjugate(state.found + length * state.way, left, way, size, going, state.products + 1)

    start = _Conjugate(jnp.zeros_like(slope), slope, slope / curvature, first, first > 0, jnp.asarray(0))
    return lax.while_loop(lambda state: state.going & (state.products < MOST_PRODUCTS), turn, start).found


def _by(orientation: Array, move: Array) -> Array:
    """Return D exp Ω to third order in Ω, orthonormal to rounding."""
    moved = product(orientation, identity_like(move) + move + 0.5 * product(move, move))
    return polished(polished(polished(moved)))
