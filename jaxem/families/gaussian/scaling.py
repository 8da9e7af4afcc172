"""Volumes of components that share a shape: what is best for a sum of scatters whose weights are what is sought.

With C_k = W_k / λ_k, scatters over volumes, and s the eigenvalues of Σ_k C_k, the best shape for given volumes has the axes
a_j = s_j / N, or the floor where that is higher, and what is left to minimize is convex in log λ:
    Σ_k d N_k log λ_k + Σ_j N log a_j + s_j / a_j.
Newton's steps in log λ, a step of its own to each volume at the best shape where that loses. Celeux & Govaert (1995), §4.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.families.gaussian.floor import Least
from jaxem.matrices import diagonal, diagonal_matrix
from jaxem.numerics import geometric_mean, positive
from jaxem.trees import choose

MOST_TURNS = 200  # of what ends much sooner, unless there are scatters of zero that let volumes run away
LONGEST = 3.0  # the step in a logarithm, beyond which a curvature says little
NEAR = 1e3  # ulps of a volume within which a step is rounding, where the one before was short
BELOW = 0.1  # times the floor, how far a volume may fall below it before the floor is minded
FALL = 1e-10  # times a square of rounding, the least share of its old volume that one without any spread is left, to divide by


class Spectrum(NamedTuple):
    """Volume () or (k,), axes (d,) or (k, d), and whether the floor holds any of them."""

    volume: Array
    axes: Array
    held: Array


class Sums(NamedTuple):
    """What scatters W_k come to when they are added with some weights.

    total  (d,)       s_j, the eigenvalues of the sum
    inner  (k, d, d)  the scatters along its eigenvectors; or (k, d) where these are always the columns
    more              what else is known there
    """

    total: Array
    inner: Array
    more: Any


class _Place(NamedTuple):
    """Volumes, what they lose, Newton's step from there in their logarithms, and volumes that cannot be worse."""

    volume: Array
    loss: Array
    step: Array
    plain: Array
    bottom: Array  # the least that volumes may be next
    axes: Array
    below: Array  # whether any variance lies below the floor
    held: Array  # whether a bound of the axes does
    more: Any


class _Search(NamedTuple):
    place: _Place
    volume: Array  # to look at next
    sure: Array  # that it cannot be worse
    radius: Array  # the length within which Newton's steps have gained
    boxed: Array  # whether the floor is minded
    done: Array
    turns: Array


def scaled(look: Callable[[Array], Sums], counts: Array, least: Least | None, old: Array) -> tuple[Spectrum, Any]:
    """Return volumes λ_k and one shape for all, and what `look`, which takes 1 / λ (k,), adds at the end.

    Once a variance lies below the floor, λ_k ≥ f_k and a_j ≥ g_j, which is the floor written without the product: whatever
    lies above can be scaled so.
    """
    some, eps, total = counts > 0, jnp.finfo(counts.dtype).eps, counts.sum()
    axis, component = (jnp.zeros(1, counts.dtype),) * 2 if least is None else (least.axis, least.component)

    def place(volume: Array, boxed: Array) -> _Place:
        found = look(1 / volume)
        dim = jnp.asarray(found.total.size, counts.dtype)
        wanted, due = found.total / total, dim * counts
        axes = jnp.maximum(wanted, jnp.where(boxed, axis, 0))
        bottom = jnp.maximum(FALL * eps**2 * old, component * jnp.where(boxed, 1, BELOW * (axis / axes).min()))
        along = found.inner if found.inner.ndim == 2 else diagonal(found.inner)
        share = (along / axes[None]).sum(1) / volume
        loss = (due * jnp.log(volume)).sum() + (total * jnp.log(axes) + found.total / axes).sum()
        free, held = some & ((volume > bottom) | (share > due)), (axes > wanted * (1 + 8 * eps)).any()
        loose = (free == some).all() & ~held  # so that all volumes could be scaled alike
        moving = free & (~loose | (jnp.arange(counts.size) != jnp.argmax(counts)))
        step = _newton(share - due, share, _bent(found, axes, volume, total), moving)
        flat = (~free | (jnp.abs(share - due) <= 4 * eps * due)).all()
        plain = jnp.where(some, jnp.maximum(volume * share / positive(due), bottom), volume)
        below = (some[:, None] & (volume[:, None] * axes[None] < component[:, None] * axis[None])).any()
        return _Place(volume, loss, jnp.where(flat, 0, step), plain, bottom, axes, below, held, found.more)

    def turn(search: _Search) -> _Search:
        before, there = search.place, place(search.volume, search.boxed)
        taken = search.sure | (there.loss <= before.loss + 16 * eps * (jnp.abs(there.loss) + total))
        enter = taken & (there.below | ~(jnp.abs(there.loss) < jnp.inf)) & ~search.boxed & (least is not None)
        here = choose(taken, there, before)
        length, last = jnp.abs(here.step).max(), jnp.abs(before.step).max()
        settled = (length <= 2 * eps) | taken & (last <= jnp.sqrt(eps) / 4) & (length <= NEAR * eps)
        radius = jnp.where(taken, jnp.minimum(4 * search.radius, LONGEST), jnp.minimum(search.radius, last) / 4)
        newton = jnp.maximum(here.volume * jnp.exp(jnp.clip(here.step, -radius, radius)), here.bottom)
        boxable = jnp.maximum(there.volume * (there.axes / positive(axis)).min(), component)
        start = jnp.where(some, jnp.where((boxable > 0) & (boxable < jnp.inf), boxable, positive(component)), there.volume)
        onward = jnp.where(enter, start, jnp.where(taken, jnp.where(some, newton, here.volume), here.plain))
        lost = search.sure & ~(jnp.abs(there.loss) < jnp.inf) | (search.turns >= MOST_TURNS)
        return _Search(here, onward, enter | ~taken, radius, search.boxed | enter, (settled | lost) & ~enter, search.turns + 1)

    no, infinite = jnp.asarray(False), jnp.asarray(jnp.inf, counts.dtype)
    unknown = jax.tree.map(jnp.zeros_like, look(1 / old))
    nowhere = _Place(old, infinite, jnp.full_like(old, jnp.inf), old, old, unknown.total, no, no, unknown.more)
    start = _Search(nowhere, old, ~no, jnp.asarray(LONGEST, counts.dtype), no, no, jnp.asarray(0))
    end = lax.while_loop(lambda search: ~search.done, turn, start).place
    scale = geometric_mean(end.axes)
    return Spectrum(end.volume * scale, end.axes / scale, end.held), end.more


def _bent(found: Sums, axes: Array, volume: Array, total: Array) -> Array:
    """Return the part of the curvature in log λ, (k, k), that comes of the shape.

    Σ_ij D_ij C_k,ij C_l,ij along the eigenvectors, D_ij the slope of 1 / a between s_i and s_j: -1 / (N a_i a_j) where both
    are free, zero where both are held (Daleckii & Krein 1965).
    """
    free = found.total > axes * total * (1 - 8 * jnp.finfo(axes.dtype).eps)
    if found.inner.ndim == 2:
        parts = found.inner / (axes[None] * volume[:, None])
        return -jnp.where(free[None], parts, 0) @ parts.T / total
    both, either = free[:, None] & free[None], free[:, None] | free[None]
    gap = found.total[:, None] - found.total[None]
    mixed = either & ~both & (gap != 0)
    slope = (1 / axes[:, None] - 1 / axes[None]) / jnp.where(mixed, gap, 1)
    slope = jnp.where(both, -1 / (total * axes[:, None] * axes[None]), jnp.where(mixed, slope, 0))
    parts = (found.inner / volume[:, None, None]).reshape(volume.size, -1)
    return (parts * slope.reshape(1, -1)) @ parts.T


def _newton(slope: Array, share: Array, bent: Array, free: Array) -> Array:
    """Return the step down the slope (k,) by the curvature diag(share) + bent, zero where a volume is not free.

    By elimination without pivots, row after row, as LAPACK would take one lane after another.
    """
    both = free[:, None] & free[None]
    due = share - slope
    ridge = 64 * jnp.finfo(slope.dtype).eps * jnp.maximum(share, due)
    diagonal_of = jnp.where(free, share + ridge, 1)
    matrix = jnp.where(both, bent, 0) + diagonal_matrix(diagonal_of)
    rows = jnp.concatenate([matrix, jnp.where(free, slope, 0)[:, None]], 1)

    def eliminate(i: Array, rows: Array) -> Array:
        row = rows[i] / rows[i, i]
        others = jnp.where(jnp.arange(rows.shape[0]) == i, 0, rows[:, i])
        return jnp.where((jnp.arange(rows.shape[0]) == i)[:, None], row[None], rows - others[:, None] * row[None])

    found = lax.fori_loop(0, slope.size, eliminate, rows)[:, -1]
    return jnp.where(free, jnp.where(jnp.isfinite(found), found, slope / positive(due)), 0)
