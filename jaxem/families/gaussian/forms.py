"""The forms of covariance, a row each: a geometry, and which covariance of it is the best one for a scatter."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxem import constraints
from jaxem.families.gaussian.floor import hold_matrices, hold_variances
from jaxem.families.gaussian.geometry import MATRICES, ONE_MATRIX, ONE_VARIANCE, VARIANCES, Geometry
from jaxem.matrices import diagonal_matrix
from jaxem.model import PyTree
from jaxem.numerics import positive


class Form(NamedTuple):
    """What sets one form of covariance apart from the others of its geometry.

    expand    (covariance, d) -> the same in the shape of the geometry
    estimate  (S, counts, T (d,), floor) -> (covariance, held (k,)): the exact maximizer over Σ ⪰ c diag(T)
    domain    the constraint of the covariance
    """

    geometry: Geometry
    expand: Callable[[PyTree, int], Array]
    estimate: Callable[[Array, Array, Array, float | None], tuple[PyTree, Array]]
    domain: PyTree


def _as_it_is(covariance: Array, dim: int) -> Array:
    return covariance


def _each(scatter: Array, counts: Array, total: Array, floor: float | None) -> tuple[Array, Array]:
    """Take for components without rows what no floor holds: what they get is not looked at."""
    some = (counts > 0)[:, None, None]
    covariance = jnp.where(some, scatter / positive(counts)[:, None, None], diagonal_matrix(total)[None])
    return hold_matrices(covariance, total, floor)


def _common(scatter: Array, counts: Array, total: Array, floor: float | None) -> tuple[Array, Array]:
    covariance, held = hold_matrices(scatter / counts.sum(), total, floor)
    return covariance, jnp.broadcast_to(held, counts.shape)


def _diagonal(scatter: Array, counts: Array, total: Array, floor: float | None) -> tuple[Array, Array]:
    return hold_variances(scatter / positive(counts)[:, None], total[None], floor)


def _round(scatter: Array, counts: Array, total: Array, floor: float | None) -> tuple[Array, Array]:
    return hold_variances(scatter[:, 0] / positive(counts), total.mean(), floor)


FORMS = {
    "full": Form(MATRICES, _as_it_is, _each, constraints.positive_definite),
    "tied": Form(ONE_MATRIX, _as_it_is, _common, constraints.on_axes(constraints.positive_definite, ())),
    "diag": Form(VARIANCES, _as_it_is, _diagonal, constraints.positive),
    "spherical": Form(
        ONE_VARIANCE,
        lambda variance, dim: jnp.broadcast_to(variance[:, None], (*variance.shape, dim)),
        _round,
        constraints.positive,
    ),
}
