"""The best volumes and shapes for sums of squares along given axes, above a floor.

A table m_kj (k, d) holds Σ_n r_nk of the squares of rows about their mean, along axis j of component k. What is minimized is
Σ_kj N_k log v_kj + m_kj / v_kj over variances v_kj = λ_k a_kj ≥ f_k g_j, where components share the volume λ, the shape a,
both or neither; it is convex in log λ and log a, so that where its slopes vanish, but for those that the floor holds, it has
its minimum. Without a floor: Celeux & Govaert (1995), §4.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxem.families.gaussian.eigen import split
from jaxem.families.gaussian.floor import Least
from jaxem.numerics import geometric_mean, positive

MOST_TURNS = 500  # of what ends much sooner, unless the table has zeros that let volumes run away
FALL = 1e-10  # times a square of rounding, the least share of its old volume that one without any spread is left, to divide by
MOST_LEVELS = 60  # Newton steps for the common volume: one for each piece of a piecewise smooth curve, and a few


class Spectrum(NamedTuple):
    """Volume () or (k,), axes (d,) or (k, d), and whether the floor holds any of them."""

    volume: Array
    axes: Array
    held: Array


def all_alike(table: Array, counts: Array, least: Least | None, old: Array) -> Spectrum:
    """One volume and one shape: v_j = Σ_k m_kj / N, raised to the floor."""
    spread = table.sum(0) / counts.sum()
    bound = 0 * spread if least is None else least.component.max() * least.axis
    return Spectrum(*split(jnp.maximum(spread, bound)), (spread < bound).any())


def each_its_own(table: Array, counts: Array, least: Least | None, old: Array) -> Spectrum:
    """Volumes and shapes of their own: v_kj = m_kj / N_k, raised to the floor."""
    some = (counts > 0)[:, None]
    spread = jnp.where(some, table / positive(counts)[:, None], 1)
    bound = 0 * spread if least is None else least.component[:, None] * least.axis[None]
    low = spread < bound
    return Spectrum(*split(jnp.where(low, bound, spread)), (low & some).any())


def one_shape(table: Array, counts: Array, least: Least | None, old: Array) -> Spectrum:
    """Volumes of their own, one shape: see `scaled`."""
    return scaled(lambda precision: (table, ()), counts, least, old)[0]


class _Scaling(NamedTuple):
    volume: Array  # (k,)
    axes: Array  # (d,), of any product
    boxed: Array  # whether the floor is minded
    change: Array  # of the volumes, as a share, in the last turn
    done: Array
    turns: Array


def scaled(
    table_at: Callable[[Array], tuple[Array, Any]], counts: Array, least: Least | None, old: Array
) -> tuple[Spectrum, Any]:
    """Return volumes λ_k and one shape for all, and what `table_at` adds to its table at the end.

    In turn a_j = Σ_k m_kj / (N λ_k) and λ_k = Σ_j m_kj / (d N_k a_j), from the old volumes to where they stay; `table_at` takes
    1 / λ (k,) to the table along the axes that are best for them. If that ends below the floor, again with λ_k ≥ f_k and
    a_j ≥ g_j, which is the floor written without the product: whatever lies above can be scaled so.
    """
    some, eps = counts > 0, jnp.finfo(counts.dtype).eps
    vanishing = FALL * eps**2 * old
    floor_of_axis, floor_of_component = (jnp.zeros(1, counts.dtype),) * 2 if least is None else (least.axis, least.component)

    def shape(volume: Array, boxed: Array) -> tuple[Array, Array, Any]:
        table, more = table_at(1 / volume)
        axes = (table / volume[:, None]).sum(0) / counts.sum()
        return jnp.maximum(axes, jnp.where(boxed, floor_of_axis, 0)), table, more

    def turn(state: _Scaling) -> _Scaling:
        axes, table, _ = shape(state.volume, state.boxed)
        wanted = (table / axes[None]).mean(1) / positive(counts)
        volume = jnp.where(some, jnp.maximum(wanted, jnp.where(state.boxed, floor_of_component, vanishing)), state.volume)
        change = jnp.abs(volume / state.volume - 1).max()
        rounding = (change >= state.change) & (change <= 256 * eps)
        settled = ~(change > 2 * eps) | rounding | (state.turns >= MOST_TURNS)
        below = (some[:, None] & (volume[:, None] * axes[None] < floor_of_component[:, None] * floor_of_axis[None])).any()
        enter = settled & below & ~state.boxed
        smallest = jnp.where(some, volume / positive(floor_of_component), jnp.inf).min()
        return _Scaling(
            jnp.where(enter, volume / smallest, volume),
            axes,
            state.boxed | enter,
            jnp.where(enter, jnp.inf, change),
            settled & ~enter,
            jnp.where(enter, 0, state.turns + 1),
        )

    axes = shape(old, jnp.asarray(False))[0]
    start = _Scaling(old, axes, jnp.asarray(False), jnp.asarray(jnp.inf, counts.dtype), jnp.asarray(False), jnp.asarray(0))
    end = lax.while_loop(lambda state: ~state.done, turn, start)
    axes, _, more = shape(end.volume, end.boxed)
    scale = geometric_mean(axes)
    return Spectrum(end.volume * scale, axes / scale, end.boxed), more


def one_volume(table: Array, counts: Array, least: Least | None, old: Array) -> Spectrum:
    """One volume, shapes of their own: λ = Σ_k |m_k|^(1/d) / N and a_k = m_k / |m_k|^(1/d), |·| the product over axes."""
    some = counts > 0
    table = jnp.where(some[:, None], table, 1)
    size = geometric_mean(table)
    volume, axes = jnp.where(some, size, 0).sum() / counts.sum(), table / size[:, None]
    if least is None:
        return Spectrum(volume, axes, jnp.asarray(False))
    bound = least.component[:, None] * least.axis[None]
    held = (~(volume * axes >= bound) & some[:, None]).any()
    filled_volume, filled = _filled(table, counts, bound, held)
    return Spectrum(jnp.where(held, filled_volume, volume), jnp.where(held, filled, axes), held)


def _filled(table: Array, counts: Array, bound: Array, held: Array) -> tuple[Array, Array]:
    """Return what `one_volume` does where the floor holds some variances, as water does that is filled into vessels.

    Given log|Σ| = L, component k has log v_kj = max(log b_kj, log m_kj - η_k), with the level η_k at which they add up to L:
    the largest of (Σ_{j ≤ r} s_kj - L + Σ_j log b_kj) / r over r = 1 … d, s_kj = log m_kj / b_kj in falling order. At the best
    L, Σ_k exp η_k = N, unless L is the least that all components can have; the logarithm of that sum is convex in L, so that
    Newton's steps from below do not pass it.
    """
    some, dim, eps = counts > 0, table.shape[1], jnp.finfo(table.dtype).eps
    excess = jnp.log(jnp.maximum(table, jnp.finfo(table.dtype).tiny)) - jnp.log(bound)
    base = jnp.log(bound).sum(1)
    sums = jnp.cumsum(-jnp.sort(-excess, 1), 1)
    sizes = jnp.arange(1, dim + 1, dtype=table.dtype)[None]

    def levels(total: Array) -> tuple[Array, Array]:
        options = (sums - (total - base)[:, None]) / sizes
        return options.max(1), options.argmax(1) + 1

    def turn(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        total, _, turns = state
        level, size = levels(total)
        peak = jnp.where(some, level, -jnp.inf).max()
        share = jnp.where(some, jnp.exp(level - peak), 0)
        missing = peak + jnp.log(share.sum()) - jnp.log(counts.sum())
        step = jnp.maximum(missing, 0) * share.sum() / (share / size.astype(table.dtype)).sum()
        return total + step, step > 4 * eps * (1 + jnp.abs(total)), turns + 1

    lowest = jnp.where(some, base, -jnp.inf).max()
    total = lax.while_loop(lambda state: state[1] & (state[2] < MOST_LEVELS), turn, (lowest, held, jnp.asarray(0)))[0]
    above = jnp.maximum(excess - levels(total)[0][:, None], 0)
    volume = jnp.exp(total / dim)
    return volume, split(bound * jnp.exp(above))[1]
