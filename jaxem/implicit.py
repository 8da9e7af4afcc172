"""How the stationary point of a fit moves with data and weights: the implicit function theorem."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from jaxem.constraints import broadcast, constrain, unconstrain
from jaxem.matrices import diagonal, eigh
from jaxem.model import Model, PyTree
from jaxem.numerics import in_full_precision, symmetric

SILENT = 0.6  # power of the rounding unit below which curvature is none, and so is the square of a share
ROUNDING = 4.0  # times q ulps within which an information in q coordinates, scaled, may be none

Curving = Callable[[Array], Array]


class Moved(NamedTuple):
    """What moves with a stationary point: tangents of its params, log-likelihood and log_prior."""

    params: PyTree
    log_likelihood: Array
    log_prior: Any


@in_full_precision
def moved(model: Model, params: PyTree, data: PyTree, weights: Array, data_dot: PyTree, weights_dot: Array) -> Moved:
    """Return how a stationary point of log-likelihood + log_prior moves along tangents of data and weights.

    With g the gradient in unconstrained space u, -(∂g/∂u) du = (∂g/∂x) dx + (∂g/∂w) dw. Entries on the boundary of their domain
    stay there. So do directions in which there is no curvature, measured by that of complete data, unless they are pushed:
    then what moves in them is NaN. Krantz & Parks (2013), §3.
    """
    flat, unravel = ravel_pytree(unconstrain(model.constraints, params))
    inside = jnp.isfinite(flat)
    place = jnp.where(inside, flat, 0)

    def params_at(place: Array) -> PyTree:
        there = constrain(model.constraints, unravel(jnp.where(inside, place, flat)))
        leaves = zip(broadcast(model.constraints, params), jax.tree.leaves(there), jax.tree.leaves(params), strict=True)
        kept = [jnp.where(old == 0, old, new) if domain.shares else new for domain, new, old in leaves]
        return jax.tree.unflatten(jax.tree.structure(params), kept)

    def heights(place: Array, data: PyTree, weights: Array) -> tuple[Array, Array]:
        theta = params_at(place)
        prior = model.log_prior(theta) if model.log_prior else jnp.zeros((), weights.dtype)
        return model.e_step(theta, data, weights)[1], prior

    def slope(place: Array, data: PyTree, weights: Array) -> Array:
        return jax.grad(lambda u: sum(heights(u, data, weights)))(place)

    def curvature(direction: Array) -> Array:
        along = jax.jvp(lambda u: slope(u, data, weights), (place,), (direction,))[1]
        return jnp.where(inside, -along, direction)

    push = jax.jvp(lambda x, w: slope(place, x, w), (data, weights), (data_dot, weights_dot))[1]
    solve = partial(_solved, _complete(model, params_at, place, inside, data, weights))
    stride = lax.custom_linear_solve(curvature, push, solve, symmetric=True)
    tangents = stride, data_dot, weights_dot
    return Moved(
        jax.jvp(params_at, (place,), (stride,))[1],
        *jax.jvp(heights, (place, data, weights), tangents)[1],
    )


def _complete(
    model: Model, params_at: Callable[[Array], PyTree], place: Array, inside: Array, data: PyTree, weights: Array
) -> Curving | None:
    """Return what complete data would say along directions, -∂²(F(Q, θ) + log_prior); None where the model cannot tell."""
    expected = model.expected_log_joint
    if expected is None:
        return None
    stats = model.e_step(params_at(place), data, weights)[0]

    def joint(place: Array) -> Array:
        theta = params_at(place)
        return expected(theta, stats) + (model.log_prior(theta) if model.log_prior else 0)

    along = jax.linearize(jax.grad(joint), place)[1]
    return lambda direction: jnp.where(inside, -along(direction), direction)


def _solved(complete: Curving | None, curvature: Curving, push: Array) -> Array:
    """Return the least solution of a symmetric system where curvature is told from none, in units of complete data's.

    NaN in coordinates that move in directions which are pushed although their curvature is not told from none.
    """
    every, eps = jnp.eye(push.size, dtype=push.dtype), float(jnp.finfo(push.dtype).eps)
    matrix, rounding = lax.map(curvature, every), ROUNDING * push.size * eps
    scale, basis = _units(lax.map(complete, every) if complete else matrix, matrix, rounding, complete is None)
    values, turned = eigh(symmetric(basis.T @ (matrix / (scale[:, None] * scale[None])) @ basis))
    vectors = basis @ turned
    told = jnp.abs(values) > jnp.maximum(eps**SILENT if complete else 0, rounding * (vectors**2).sum(0))
    pushed = vectors.T @ (push / scale)
    along = vectors @ jnp.where(told, pushed / jnp.where(told, values, 1), 0) / scale
    dropped = ~told & (pushed**2 > eps**SILENT * (pushed**2).sum())
    share = (jnp.where(dropped[None], vectors, 0) ** 2).sum(1)
    return jnp.where(share > eps**SILENT * (vectors**2).sum(1), jnp.nan, along)


def _units(complete: Array, own: Array, rounding: float, alone: bool) -> tuple[Array, Array]:
    """Return scales of coordinates and scaled directions, in columns, of an information that is one along each.

    Where it is none they are zero. Where the information is no such thing, or `alone`, they are coordinates in which that of
    the matrix itself is one.
    """
    scale, own_scale = _scales(complete), _scales(own)
    if alone:
        return scale, jnp.eye(scale.size, dtype=scale.dtype)
    sizes, vectors = eigh(symmetric(complete) / (scale[:, None] * scale[None]))
    some, sound = sizes > rounding, jnp.isfinite(sizes).all() & (sizes >= -rounding).all()
    basis = jnp.where(some[None], vectors / jnp.sqrt(jnp.where(some, sizes, 1))[None], 0)
    return jnp.where(sound, scale, own_scale), jnp.where(sound, basis, jnp.eye(scale.size, dtype=scale.dtype))


def _scales(matrix: Array) -> Array:
    size = jnp.sqrt(jnp.abs(diagonal(matrix)))
    return jnp.where(size > 0, size, 1)
