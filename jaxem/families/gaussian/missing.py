"""Gaussian rows with holes: densities of what was observed, and sums over rows that are filled by their conditional means.

With o what was observed of row n, m its holes and θ_k the old parameters, a hole is filled by
    E[x_m | x_o] = μ_m + Σ_mo Σ_oo⁻¹ (x_o - μ_o),    and the scatter has Cov[x_m | x_o] = Σ_mm - Σ_mo Σ_oo⁻¹ Σ_om
beside the squares of filled rows (Little & Rubin 2019, §11.2). Σ_oo depends on a row by its pattern of holes alone: each
pattern is factored once, and rows are taken in tiles of one pattern, whose products are as large as for rows without holes.
Where axes are those of the data, holes are independent of the rest, and a product with the mask is all that they cost.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import is_traced
from jaxem.families.gaussian import distances
from jaxem.families.gaussian.geometry import ONE_MATRIX, ONE_VARIANCE, VARIANCES, Geometry
from jaxem.matrices import factor
from jaxem.numerics import LOG_2PI, positive, symmetric
from jaxem.trees import Shared

MOST_IN_A_TILE = 64
SIZES_PER_DOUBLING = 4  # of tables of patterns


class Gaps(NamedTuple):
    """Which entries of rows were observed, (n, d); and, where columns depend on each other, the patterns that they make.

    pattern  (n,) the place of a row's pattern in `table`
    table    (P, d) booleans
    """

    seen: Array
    pattern: Array | None = None
    table: Shared | None = None


class GapStats(NamedTuple):
    """What sums over filled rows lack: how uncertain their holes are, and the variances of what was observed.

    entropy  ()      Σ_nk r_nk times the entropy of the holes of row n, in nats
    counts   (d,)    Σ_nk r_nk over rows in which the column was observed
    first    (d,)    its sum about the centre of the data
    second   (d,)    its sum of squares about that
    """

    entropy: Array
    counts: Array
    first: Array
    second: Array


def gaps(seen: Array, by_pattern: bool) -> Gaps:
    """Return which entries were observed, and, if asked for, in which patterns: those that occur, or, under a trace, may."""
    if not by_pattern:
        return Gaps(seen)
    n, dim = seen.shape
    if not is_traced(seen):
        return Gaps(seen, *_occurring(np.asarray(seen)))
    if 1 << dim > n:  # as many as rows: those are their own
        return Gaps(seen, jnp.arange(n, dtype=jnp.int32), Shared(seen))
    places = np.arange(dim, dtype=np.int32)
    return Gaps(
        seen,
        (seen.astype(jnp.int32) << places[None]).sum(1, dtype=jnp.int32),
        Shared(jnp.asarray((np.arange(1 << dim)[:, None] >> places[None]) & 1 == 1)),
    )


def _occurring(seen: np.ndarray) -> tuple[Array, Shared]:
    """Return each row's pattern and the table of those that occur, in one of a few sizes: others share their programs."""
    packed = np.packbits(seen, axis=1)
    _, first, pattern = np.unique(packed.view(f"V{packed.shape[1]}").ravel(), return_index=True, return_inverse=True)
    step = max(1, (1 << (first.size - 1).bit_length()) // SIZES_PER_DOUBLING)
    places = np.concatenate([first, np.zeros(-first.size % step, int)])
    return jnp.asarray(pattern.ravel(), jnp.int32), Shared(jnp.asarray(seen[places]))


def has_upright_axes(geometry: Geometry) -> bool:
    """Tell whether columns are independent given the component."""
    return geometry in (VARIANCES, ONE_VARIANCE)


Moments = Callable[[Array, Array], tuple[Array, Array, Array]]
"""Weights of rows (n, k), and those of their holes -> shift (k, d), scatter, and Σ_n r_nk of the entropies of holes, (k,)."""


def evaluate(geometry: Geometry, spread: Any, rows: Array, mean: Array, gaps: Gaps) -> tuple[Array, Array, Moments]:
    """Return squared distances of what was observed, (k, n), the log-determinants of its covariances, (k, n), and moments.

    Rows (n, d), zero in holes, and means (k, d) are about one point amid the data.
    """
    if gaps.table is None:
        return _along_columns(geometry, spread, rows, mean, gaps.seen)
    return _by_pattern(geometry, spread, rows, mean, gaps)


def observed_sums(rows: Array, seen: Array, responsibilities: Array) -> tuple[Array, Array, Array]:
    """Return counts, sums and sums of squares of what was observed in each column, (d,) each, over all components."""
    weights = responsibilities.sum(1)
    return weights @ seen.astype(rows.dtype), weights @ rows, weights @ rows**2


def variances(counts: Array, first: Array, second: Array) -> Array:
    """Return the variances of what was observed, (d,), from those sums."""
    some = positive(counts)
    return jnp.maximum(second / some - (first / some) ** 2, 0)


def _along_columns(geometry: Geometry, spread: Array, rows: Array, mean: Array, seen: Array) -> tuple[Array, Array, Moments]:
    present = seen.astype(rows.dtype)
    precision = 1 / (spread[:, :1] if geometry is ONE_VARIANCE else spread)

    def moments(weights: Array, whole: Array) -> tuple[Array, Array, Array]:
        shift, squares = distances.moments(rows, mean, precision, weights, present)
        missing = whole.T @ (1 - present)
        own = missing * spread
        scatter = squares + (own.mean(1, keepdims=True) if geometry is ONE_VARIANCE else own)
        return shift, scatter, 0.5 * (missing * (LOG_2PI + 1 + jnp.log(spread))).sum(1)

    return distances.square_distances(rows, mean, precision, present), jnp.log(spread) @ present.T, moments


def completed(geometry: Geometry, spread: Any, rows: Array, mean: Array, gaps: Gaps, responsibilities: Array) -> Array:
    """Return Σ_k r_nk E[x | x_o, k] about the point that rows and means are about: (n, d)."""
    filled = responsibilities @ mean
    if gaps.table is None:
        return filled
    tiles, _, table = _tiles_of(gaps)
    fill = _factors(geometry.full(spread, mean.shape[0]), table).fill
    rest = (_taken(responsibilities, tiles).mT[:, :, None, :] * _times(fill, tiles, rows, mean)).sum(1).mT
    return filled + rest.reshape(-1, rows.shape[1])[tiles.places]


class _Tiles(NamedTuple):
    """Rows in tiles of one pattern each: (t, s) the row at each place, n where there is none; (n,) each row's place."""

    rows: Array
    places: Array
    pattern: Array  # (t,)


def _tiled(pattern: Array, num_patterns: int) -> _Tiles:
    """Lay rows out by pattern, each pattern in as many tiles as it takes."""
    n = pattern.shape[0]
    size = max(1, min(MOST_IN_A_TILE, 1 << max(0, (n // (2 * num_patterns)).bit_length())))
    num_tiles = (n + min(num_patterns, n) * (size - 1)) // size
    order = _order(pattern, num_patterns)
    numbers, counts = jnp.arange(num_tiles, dtype=jnp.int32), jnp.zeros(num_patterns, jnp.int32).at[pattern].add(1)
    ends = jnp.cumsum(counts, dtype=jnp.int32)
    tiles_each = (counts + size - 1) // size
    first = jnp.cumsum(tiles_each, dtype=jnp.int32) - tiles_each
    kind = jnp.cumsum(jnp.zeros(num_tiles, jnp.int32).at[first].add(1, mode="drop"), dtype=jnp.int32) - 1
    within = (numbers - first[kind])[:, None] * size + jnp.arange(size, dtype=jnp.int32)[None]
    rank = within + (ends - counts)[kind][:, None]
    rows = jnp.where(rank < ends[kind][:, None], order[jnp.minimum(rank, n - 1)], n)
    places = jnp.zeros(n, jnp.int32).at[rows.ravel()].set(jnp.arange(rows.size, dtype=jnp.int32), mode="drop")
    return _Tiles(rows, places, kind)


def _order(pattern: Array, num_patterns: int) -> Array:
    """Return the rows in order of their patterns; where one number can hold both, by sorting numbers, which is faster."""
    n = pattern.shape[0]
    if num_patterns * n >= 1 << 31:
        return jnp.argsort(pattern).astype(jnp.int32)
    return jnp.sort(pattern * n + jnp.arange(n, dtype=jnp.int32)) % n


def _tiles_of(gaps: Gaps) -> tuple[_Tiles, Array, Array]:
    """Return tiles, each row's pattern, and the table of these: where there are as many as rows, each row has its own."""
    assert gaps.pattern is not None and gaps.table is not None
    seen, pattern, table = (jnp.asarray(leaf) for leaf in (gaps.seen, gaps.pattern, gaps.table.value))
    n, num_patterns = seen.shape[0], table.shape[0]
    if num_patterns < n:
        return _tiled(pattern, num_patterns), pattern, table
    each = jnp.arange(n, dtype=jnp.int32)
    return _Tiles(each[:, None], each, each), each, seen


class _Factors(NamedTuple):
    """Of each pattern and component: W = L_oo⁻¹, E, which fills x - μ, and Cov[x_m | x_o], (P, k, d, d); log|Σ_oo| (P, k)."""

    whiten: Array
    fill: Array
    left: Array
    log_determinant: Array


def _factors(covariances: Array, table: Array) -> _Factors:
    seen = table[:, None, :, None]
    both, neither = seen & seen.mT, ~(seen | seen.mT)
    identity = jnp.eye(table.shape[1], dtype=covariances.dtype)[None, None]
    _, inverse, log_determinant = factor(jnp.where(both, covariances[None], identity))
    whiten = jnp.where(both, inverse, 0)
    root = covariances[None] @ whiten.mT
    left = jnp.where(neither, covariances[None] - root @ root.mT, 0)
    return _Factors(whiten, jnp.where(seen, identity, root @ whiten), left, log_determinant)


def _taken(rows: Array, tiles: _Tiles) -> Array:
    return jnp.asarray(rows).at[tiles.rows].get(mode="fill", fill_value=0)


def _times(matrices: Array, tiles: _Tiles, rows: Array, mean: Array) -> Array:
    """Return A (x - μ) in tiles, (t, k, d, s), where A (P, k, d, d) has a matrix for each pattern and component."""
    k, dim = mean.shape
    offset = (matrices @ mean[None, :, :, None])[tiles.pattern]
    each = matrices[tiles.pattern].reshape(-1, k * dim, dim)
    return (each @ _taken(rows, tiles).mT).reshape(-1, k, dim, tiles.rows.shape[1]) - offset


def _by_pattern(geometry: Geometry, spread: Any, rows: Array, mean: Array, gaps: Gaps) -> tuple[Array, Array, Moments]:
    k = mean.shape[0]
    covariances = geometry.full(spread, k)
    tiles, pattern, table = _tiles_of(gaps)
    factors = _factors(covariances, table)

    def in_order(table: Array) -> Array:
        """Return what tiles hold, (t, k, s), row by row, (k, n)."""
        return jnp.moveaxis(table, 1, 0).reshape(k, -1)[:, tiles.places]

    def moments(weights: Array, whole: Array) -> tuple[Array, Array, Array]:
        filled = _times(factors.fill, tiles, rows, mean)
        weighted = _taken(weights, tiles).mT[:, :, None, :] * filled
        counts = jax.ops.segment_sum(_taken(whole, tiles).sum(1), tiles.pattern, table.shape[0])
        scatter = symmetric((weighted @ filled.mT).sum(0) + (counts[:, :, None, None] * factors.left).sum(0))
        scatter = scatter.sum(0) if geometry is ONE_MATRIX else scatter
        return weighted.sum((0, 3)), scatter, _entropy(covariances, factors, table, counts)

    by_row = factors.log_determinant.T[:, pattern]
    return in_order((_times(factors.whiten, tiles, rows, mean) ** 2).sum(2)), by_row, moments


def _entropy(covariances: Array, factors: _Factors, table: Array, counts: Array) -> Array:
    """Return the sums of the entropies of holes, (k,), from the number of rows of each pattern, (P, k)."""
    holes = (~table).sum(1).astype(counts.dtype)[:, None]
    whole = factor(covariances)[2][None]
    return 0.5 * (counts * (holes * (LOG_2PI + 1) + whole - factors.log_determinant)).sum(0)
