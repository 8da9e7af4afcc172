"""The forms of covariance, a row each: a geometry, and which covariance of it is the best one for a scatter."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxem import constraints
from jaxem.families.gaussian import eigen, eigenforms
from jaxem.families.gaussian.floor import hold_matrices, hold_variances
from jaxem.families.gaussian.geometry import MATRICES, ONE_MATRIX, ONE_VARIANCE, TURNED, VARIANCES, Geometry
from jaxem.matrices import diagonal_matrix
from jaxem.model import PyTree
from jaxem.numerics import positive


class Form(NamedTuple):
    """What sets one form of covariance apart from the others of its geometry.

    expand    (covariance, k, d) -> the same in the shape of the geometry
    estimate  (S, counts, T (d,), floor, old covariance) -> (covariance, held (k,)): the exact maximizer above the floor
    begin     (S, counts, T) -> covariance, where there is no old one, and S is such that no floor is needed
    domain    the constraint of the covariance
    """

    geometry: Geometry
    expand: Callable[[PyTree, int, int], PyTree]
    estimate: Callable[[Array, Array, Array, float | None, PyTree], tuple[PyTree, Array]]
    begin: Callable[[Array, Array, Array], PyTree]
    domain: PyTree


def _as_it_is(covariance: Array, num_components: int, dim: int) -> Array:
    return covariance


def _each(scatter: Array, counts: Array, total: Array, floor: float | None, old: Any = None) -> tuple[Array, Array]:
    """Take for components without rows what no floor holds: what they get is not looked at."""
    some = (counts > 0)[:, None, None]
    covariance = jnp.where(some, scatter / positive(counts)[:, None, None], diagonal_matrix(total)[None])
    return hold_matrices(covariance, total, floor)


def _common(scatter: Array, counts: Array, total: Array, floor: float | None, old: Any = None) -> tuple[Array, Array]:
    covariance, held = hold_matrices(scatter / counts.sum(), total, floor)
    return covariance, jnp.broadcast_to(held, counts.shape)


def _diagonal(scatter: Array, counts: Array, total: Array, floor: float | None, old: Any = None) -> tuple[Array, Array]:
    return hold_variances(scatter / positive(counts)[:, None], total[None], floor)


def _round(scatter: Array, counts: Array, total: Array, floor: float | None, old: Any = None) -> tuple[Array, Array]:
    return hold_variances(scatter[:, 0] / positive(counts), total.mean(), floor)


def _plain(geometry: Geometry, expand: Callable[..., Any], estimate: Callable[..., Any], domain: PyTree) -> Form:
    return Form(geometry, expand, estimate, lambda *sums: estimate(*sums, 0)[0], domain)


def _shared(name: str, geometry: Geometry, expand: Callable[..., Any], estimate: Callable[..., Any]) -> Form:
    domain = eigen.domain(*name)
    return Form(geometry, expand, estimate, partial(eigenforms.begin, estimate, domain), domain)


def _along_columns(name: str) -> Form:
    return _shared(name, VARIANCES, eigen.variances, partial(eigenforms.along_columns, eigenforms.SPECTRA[name[:2]]))


def _turned(name: str) -> Form:
    estimate = eigenforms.own_orientation if name[2] == "V" else eigenforms.common_orientation
    return _shared(name, TURNED, eigen.turned, partial(estimate, eigenforms.SPECTRA[name[:2]]))


FORMS = {
    "full": _plain(MATRICES, _as_it_is, _each, constraints.positive_definite),
    "tied": _plain(ONE_MATRIX, _as_it_is, _common, constraints.on_axes(constraints.positive_definite, ())),
    "diag": _plain(VARIANCES, _as_it_is, _diagonal, constraints.positive),
    "spherical": _plain(
        ONE_VARIANCE,
        lambda variance, k, dim: jnp.broadcast_to(variance[:, None], (k, dim)),
        _round,
        constraints.positive,
    ),
    "EII": _plain(ONE_VARIANCE, eigen.variances, eigenforms.one_round, eigen.domain(*"EII")),
    **{name: _along_columns(name) for name in ("EEI", "VEI", "EVI")},
    "VEE": _shared("VEE", TURNED, eigen.turned, eigenforms.common_shape),
    **{name: _turned(name) for name in ("EVE", "VVE", "EEV", "VEV", "EVV")},
}
"""By name, volume, shape and orientation each Equal, Varying or as the Identity (Banfield & Raftery 1993)."""

ALIASES = {"VVV": "full", "EEE": "tied", "VVI": "diag", "VII": "spherical", "V": "full", "E": "tied"}
"""What mclust calls the forms that have a name of their own; V and E are those of one column."""


def form_name(form: str) -> str:
    """Return the name of a form in the table; raise ValueError for what is none."""
    if not isinstance(form, str) or form not in (FORMS | ALIASES):
        raise ValueError(f"form must be one of {', '.join(map(repr, FORMS | ALIASES))}, got {form!r}.")
    return ALIASES.get(form, form)
