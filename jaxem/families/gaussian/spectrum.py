"""The best volumes and shapes for sums of squares along given axes, above a floor.

A table m_kj (k, d) holds Σ_n r_nk of the squares of rows about their mean, along axis j of component k. What is minimized is
Σ_kj N_k log v_kj + m_kj / v_kj over variances v_kj = λ_k a_kj ≥ f_k g_j, where components share the volume λ, the shape a,
both or neither; it is convex in log λ and log a, so that where its slopes vanish, but for those that the floor holds, it has
its minimum. Without a floor: Celeux & Govaert (1995), §4.
"""

import jax.numpy as jnp
from jax import Array, lax

from jaxem.families.gaussian.eigen import split
from jaxem.families.gaussian.floor import Least
from jaxem.families.gaussian.scaling import Spectrum, Sums, scaled
from jaxem.numerics import geometric_mean, positive

MOST_LEVELS = 60  # Newton steps for the common volume: one for each piece of a piecewise smooth curve, and a few


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
    """Volumes of their own, one shape: see `scaling.scaled`."""

    def look(precision: Array) -> Sums:
        return Sums((table * precision[:, None]).sum(0), table, ())

    return scaled(look, counts, least, old)[0]


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


def _equal_before(values: Array) -> Array:
    """Return how many of its row stand before each value and are equal to it."""
    places = jnp.arange(values.shape[1])
    return ((values[:, :, None] == values[:, None, :]) & (places[None, :, None] > places[None, None, :])).sum(2)


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
    rank = (excess[:, :, None] < excess[:, None, :]).sum(2) + _equal_before(excess)
    sums = jnp.where(rank[:, None, :] <= jnp.arange(dim)[None, :, None], excess[:, None, :], 0).sum(2)
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
