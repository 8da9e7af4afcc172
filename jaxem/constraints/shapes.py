"""Domains of vectors and matrices: positive definite, of length one, of product one, orthonormal."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem import orthonormal as frames
from jaxem.constraints.record import Constraint, is_finite, rows
from jaxem.matrices import cholesky
from jaxem.numerics import geometric_mean, symmetric


def _to_positive_definite(u: Array) -> Array:
    dim = int((2 * u.shape[-1]) ** 0.5)
    lower = jnp.zeros_like(u, shape=(*u.shape[:-1], dim, dim)).at[..., *jnp.tril_indices(dim)].set(u)
    diagonal = jnp.eye(dim, dtype=bool)
    factor = jnp.where(diagonal, jnp.exp(jnp.where(diagonal, lower, 0)), lower)
    return jnp.matmul(factor, factor.mT, precision="highest")


def _from_positive_definite(x: Array) -> Array:
    dim = x.shape[-1]
    factor = cholesky(x)[0]
    diagonal = jnp.eye(dim, dtype=bool)
    logged = jnp.where(diagonal, jnp.log(jnp.where(diagonal, factor, 1)), factor)
    return logged[..., *jnp.tril_indices(dim)]


def _is_positive_definite(x: Array) -> Array:
    slack = 64 * float(jnp.finfo(jnp.float32).eps) * jnp.abs(x).max()  # in float64 too: starts come from float32 fits
    return jnp.all(jnp.abs(x - x.mT) <= slack) & is_finite(cholesky(x)[0])


positive_definite = Constraint(
    "positive definite",
    _to_positive_definite,
    _from_positive_definite,
    _is_positive_definite,
    lambda shape: rows(shape, 2) * shape[-1] * (shape[-1] + 1) // 2,
    mend=symmetric,
)


_NEAR = 1e-3  # squares of angles below which series keep what their roots would lose


def _turned(x: Array) -> Array:
    """Return points reflected so that the last axis becomes one that lies nowhere in particular, and the other way round.

    At the pole across from its middle, a chart of a sphere has no slope: there no data are likely to point.
    """
    axis = np.sqrt(2) + 2 * np.arange(x.shape[-1])
    across = axis / np.sqrt((axis**2).sum())
    across[-1] -= 1
    normal = jnp.asarray((across / np.sqrt((across**2).sum())).reshape(*[1] * (x.ndim - 1), -1), x.dtype)
    return x - 2 * (x * normal).sum(-1, keepdims=True) * normal


def _to_sphere(u: Array) -> Array:
    """Return the point at distance |u| from the middle of the chart in the direction of u."""
    square = (u * u).sum(-1, keepdims=True)
    near = square < _NEAR
    angle, small = jnp.sqrt(jnp.where(near, 1, square)), jnp.where(near, square, 0)
    sine = jnp.where(near, 1 - small / 6 + small**2 / 120 - small**3 / 5040, jnp.sin(angle) / angle)
    cosine = jnp.where(near, 1 - small / 2 + small**2 / 24 - small**3 / 720 + small**4 / 40320, jnp.cos(angle))
    return _turned(jnp.concatenate([u * sine, cosine], -1))


def _from_sphere(x: Array) -> Array:
    turned = _turned(x)
    head, tail = turned[..., :-1], turned[..., -1:]
    length = jnp.sqrt((head * head).sum(-1, keepdims=True))
    some = length > 0
    first = jnp.zeros_like(head).at[..., 0].set(1)  # a way to the other pole, from which all are equally far
    way = jnp.where(some, head / jnp.where(some, length, 1), first)
    return way * jnp.arctan2(length, tail)


unit_sphere = Constraint(
    "of length one along the last axis",
    _to_sphere,
    _from_sphere,
    lambda x: jnp.all(jnp.abs(jnp.sqrt((x * x).sum(-1)) - 1) <= 16 * x.shape[-1] * float(jnp.finfo(jnp.float32).eps)),
    lambda shape: rows(shape, 1) * (shape[-1] - 1),
    mend=lambda x: x / jnp.sqrt((x * x).sum(-1, keepdims=True)),
)


def _to_unit_product(u: Array) -> Array:
    return jnp.exp(jnp.concatenate([u, -u.sum(-1, keepdims=True)], axis=-1))


def _is_unit_product(x: Array) -> Array:
    slack = 16 * x.shape[-1] * float(jnp.finfo(jnp.float32).eps)  # in float64 too: starts are written in few digits
    inside = jnp.all(x > 0) & is_finite(x)
    return inside & jnp.all(jnp.abs(jnp.log(jnp.where(x > 0, x, 1)).sum(-1)) <= slack)


unit_product = Constraint(
    "positive with a product of one along the last axis",
    _to_unit_product,
    lambda x: jnp.log(x[..., :-1]),
    _is_unit_product,
    lambda shape: rows(shape, 1) * (shape[-1] - 1),
    mend=lambda x: x / geometric_mean(x)[..., None],
)


def _is_orthonormal(x: Array) -> Array:
    slack = 16 * x.shape[-1] * float(jnp.finfo(jnp.float32).eps)  # in float64 too: starts are written in few digits
    return jnp.all(jnp.abs(x.mT @ x - frames.identity_like(x)) <= slack)


orthonormal = Constraint(
    "of orthonormal columns",
    frames.from_chart,
    frames.to_chart,
    _is_orthonormal,
    lambda shape: rows(shape, 2) * shape[-1] * (shape[-1] - 1) // 2,
    mend=frames.nearest,
)
