"""Covariances by volume, shape and orientation, Σ_k = λ_k D_k A_k D_kᵀ, each of which components may share."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxem import constraints
from jaxem.numerics import geometric_mean


class Eigen(NamedTuple):
    """Covariances Σ_k = λ_k D_k diag(a_k) D_kᵀ: () , (d,), (d, d) where all components share a part, (k, …) where none do.

    volume       () or (k,)              λ = |Σ|^(1/d), in squares of the data's units
    axes         (d,) or (k, d)          a, the shape: relative variances along the axes, of product one; None: all one
    orientation  (d, d) or (k, d, d)     D, the axes in its columns, which are orthonormal; None: the axes of the data

    Banfield & Raftery (1993); Celeux & Govaert (1995).

    >>> from jaxem.families import Eigen
    >>> Eigen(volume=2.0, axes=[4.0, 0.25]).orientation is None
    True
    """

    volume: Any
    axes: Any = None
    orientation: Any = None


class Turned(NamedTuple):
    """Variances (k, d) along orthonormal directions, the columns of `orientation` (k, d, d)."""

    variances: Array
    orientation: Array


def domain(volume: str, axes: str, orientation: str) -> Eigen:
    """Return the constraints of a form from its three letters: E for all alike, V for each its own, I for none."""
    whole = constraints.positive, constraints.unit_product, constraints.orthonormal
    shared = {"V": lambda c: c, "E": lambda c: constraints.on_axes(c, ()), "I": lambda c: None}
    return Eigen(*(shared[letter](c) for letter, c in zip((volume, axes, orientation), whole, strict=True)))


def variances(covariance: Eigen, num_components: int, dim: int) -> Array:
    """Return λ_k a_kj, (k, d)."""
    volume = covariance.volume.reshape(-1, 1)
    spread = volume if covariance.axes is None else volume * covariance.axes.reshape(-1, dim)
    return jnp.broadcast_to(spread, (num_components, dim))


def turned(covariance: Eigen, num_components: int, dim: int) -> Turned:
    """Return variances and the directions that they lie along."""
    directions = jnp.broadcast_to(covariance.orientation, (num_components, dim, dim))
    return Turned(variances(covariance, num_components, dim), directions)


def split(spread: Array) -> tuple[Array, Array]:
    """Return volume (...) and axes (..., d) of variances (..., d)."""
    volume = geometric_mean(spread)
    return volume, spread / volume[..., None]
