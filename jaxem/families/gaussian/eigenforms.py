"""The ten forms that share parts of Σ_k = λ_k D_k A_k D_kᵀ: which is the best covariance of each for given scatters."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp

from jaxem.families.gaussian import spectrum
from jaxem.families.gaussian.eigen import Eigen
from jaxem.families.gaussian.floor import Least, hold_variances, least_by_columns, least_by_size
from jaxem.families.gaussian.scaling import Spectrum, Sums, scaled
from jaxem.families.gaussian.turning import along, common_axes, in_old_order, turned
from jaxem.matrices import diagonal, eigh
from jaxem.numerics import positive
from jaxem.orthonormal import upright

Solve = Callable[[Array, Array, Least | None, Array], Spectrum]
SPECTRA: dict[str, Solve] = {
    "EE": spectrum.all_alike,
    "VE": spectrum.one_shape,
    "EV": spectrum.one_volume,
    "VV": spectrum.each_its_own,
}


def one_round(scatter: Array, counts: Array, total: Array, floor: float | None, old: Any = None) -> tuple[Eigen, Array]:
    """EII: one variance for all, from the means (k, 1) of the scatters' diagonals."""
    volume, held = hold_variances(scatter.sum(0) / counts.sum(), total.mean(), floor)
    return Eigen(volume[0]), jnp.broadcast_to(held, counts.shape)


def along_columns(
    solve: Solve, scatter: Array, counts: Array, total: Array, floor: float | None, old: Eigen
) -> tuple[Eigen, Array]:
    """EEI, VEI, EVI: variances (k, d) along the columns of the data."""
    found = solve(scatter, counts, least_by_columns(total, counts.size, floor), old.volume)
    return Eigen(found.volume, found.axes), jnp.broadcast_to(found.held, counts.shape)


def own_orientation(
    solve: Solve, scatter: Array, counts: Array, total: Array, floor: float | None, old: Eigen
) -> tuple[Eigen, Array]:
    """EEV, VEV, EVV: the eigenvectors of each scatter, for any variances that are in the order of its eigenvalues.

    Celeux & Govaert (1995), §4.
    """
    values, vectors = eigh(scatter)
    found = solve(jnp.maximum(values, 0), counts, _least(solve, scatter, counts, total, floor), old.volume)
    rising = jnp.broadcast_to(found.axes, values.shape)
    axes, orientation = in_old_order(rising, vectors, old.axes, old.orientation)
    own = found.axes.ndim == 2
    return Eigen(found.volume, axes if own else axes[0], orientation), jnp.broadcast_to(found.held, counts.shape)


def common_shape(scatter: Array, counts: Array, total: Array, floor: float | None, old: Eigen) -> tuple[Eigen, Array]:
    """VEE: volumes for a common λ⁻¹-weighted scatter, its eigenvectors and eigenvalues, which follow them.

    Celeux & Govaert (1995), §4.
    """

    def look(precision: Array) -> Sums:
        values, vectors = eigh((scatter * precision[:, None, None]).sum(0))
        return Sums(jnp.maximum(values, 0), turned(scatter, vectors), vectors)

    least = _least(spectrum.one_shape, scatter, counts, total, floor)
    found, vectors = scaled(look, counts, least, old.volume)
    axes, orientation = in_old_order(found.axes, vectors, old.axes, old.orientation)
    return Eigen(found.volume, axes, orientation), jnp.broadcast_to(found.held, counts.shape)


def common_orientation(
    solve: Solve, scatter: Array, counts: Array, total: Array, floor: float | None, old: Eigen
) -> tuple[Eigen, Array]:
    """EVE, VVE: axes for all by turns, and what is best along them."""
    least = _least(solve, scatter, counts, total, floor)
    some = (counts > 0)[:, None]

    def best(table: Array) -> Spectrum:
        return solve(jnp.maximum(table, 0), counts, least, old.volume)

    def variances_of(table: Array) -> Array:
        found = best(table)
        return jnp.where(some, found.volume.reshape(-1, 1) * found.axes, 1)

    def lost(table: Array) -> Array:
        spread = variances_of(table)
        return (counts[:, None] * jnp.log(spread) + table / spread).sum()

    def smooth(table: Array) -> Array:
        sums = jnp.where(some, table, 1)
        if solve is spectrum.each_its_own:
            wanted = sums / positive(counts)[:, None]
            spread = wanted if least is None else jnp.maximum(wanted, least.component[:, None] * least.axis[None])
            return (counts[:, None] * jnp.log(spread) + sums / spread).sum()
        logs = jnp.log(sums).mean(1, keepdims=True)
        return counts.sum() * sums.shape[1] * logsumexp(jnp.where(some, logs, -jnp.inf))

    orientation = common_axes(scatter, variances_of, lost, smooth, old.orientation)
    found = best(along(scatter, orientation[None]))
    return Eigen(found.volume, found.axes, orientation), jnp.broadcast_to(found.held, counts.shape)


def _least(solve: Solve, scatter: Array, counts: Array, total: Array, floor: float | None) -> Least | None:
    """Return the floor under variances along axes that turn, with what rounding leaves of the scatters they come from."""
    size = diagonal(scatter).sum(1)
    pooled = jnp.broadcast_to(size.sum() / counts.sum(), counts.shape)
    return least_by_size(pooled if solve is spectrum.all_alike else size / positive(counts), total, floor)


def begin(estimate: Callable[..., Any], domain: Eigen, scatter: Array, counts: Array, total: Array) -> Eigen:
    """Return the best covariance where there is no old one: from round ones of one volume, along the axes of all scatters.

    Columns of the orientation have the signs for which it is a rotation by no large angle.
    """
    k, dim = counts.size, total.size

    def ones(constraint: Any, *shape: int) -> Any:
        return None if constraint is None else jnp.ones((k,) * len(constraint.component_axes) + shape, counts.dtype)

    if domain.orientation is None:
        return estimate(scatter, counts, total, None, Eigen(ones(domain.volume), ones(domain.axes, dim)))[0]
    vectors = jnp.broadcast_to(eigh(scatter.sum(0))[1], ones(domain.orientation, dim, dim).shape)
    new = estimate(scatter, counts, total, None, Eigen(ones(domain.volume), ones(domain.axes, dim), vectors))[0]
    return new._replace(orientation=new.orientation * upright(new.orientation)[..., None, :])
