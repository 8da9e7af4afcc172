"""The ten forms that share parts of Σ_k = λ_k D_k A_k D_kᵀ: which is the best covariance of each for given scatters."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxem.families.gaussian import spectrum
from jaxem.families.gaussian.eigen import Eigen
from jaxem.families.gaussian.floor import Least, hold_variances, least_by_columns

Solve = Callable[[Array, Array, Least | None, Array], spectrum.Spectrum]
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


def begin(estimate: Callable[..., Any], domain: Eigen, scatter: Array, counts: Array, total: Array) -> Eigen:
    """Return the best covariance where there is no old one: from round ones of one volume."""
    k, dim = counts.size, total.size

    def ones(constraint: Any, *shape: int) -> Any:
        return None if constraint is None else jnp.ones((k,) * len(constraint.component_axes) + shape, counts.dtype)

    return estimate(scatter, counts, total, None, Eigen(ones(domain.volume), ones(domain.axes, dim)))[0]
