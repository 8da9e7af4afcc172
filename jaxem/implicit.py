"""How the stationary point of a fit moves with data and weights: the implicit function theorem."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from jaxem.constraints import broadcast, constrain, unconstrain
from jaxem.matrices import diagonal, eigh
from jaxem.model import Model, PyTree
from jaxem.numerics import in_full_precision

SILENT = 0.6  # power of the rounding unit below which a scaled curvature is that of a direction which stays


class Moved(NamedTuple):
    """What moves with a stationary point: tangents of its params, log-likelihood and log_prior."""

    params: PyTree
    log_likelihood: Array
    log_prior: Any


@in_full_precision
def moved(model: Model, params: PyTree, data: PyTree, weights: Array, data_dot: PyTree, weights_dot: Array) -> Moved:
    """Return how a stationary point of log-likelihood + log_prior moves along tangents of data and weights.

    With g the gradient in unconstrained space u, -(∂g/∂u) du = (∂g/∂x) dx + (∂g/∂w) dw. Entries on the boundary of their domain
    stay there, and so do directions in which the curvature is none. Krantz & Parks (2013), §3.
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
    stride = lax.custom_linear_solve(curvature, push, _solved, symmetric=True)
    tangents = stride, data_dot, weights_dot
    return Moved(
        jax.jvp(params_at, (place,), (stride,))[1],
        *jax.jvp(heights, (place, data, weights), tangents)[1],
    )


def _solved(curvature: Callable[[Array], Array], push: Array) -> Array:
    """Return the least solution of a symmetric system, in units of its diagonal, where curvature is told from none."""
    matrix = lax.map(curvature, jnp.eye(push.size, dtype=push.dtype))
    size = jnp.sqrt(jnp.abs(diagonal(matrix)))
    scale = jnp.where(size > 0, size, 1)
    values, vectors = eigh(0.5 * (matrix + matrix.T) / (scale[:, None] * scale[None]))
    told = jnp.abs(values) > jnp.abs(values).max() * float(jnp.finfo(values.dtype).eps) ** SILENT
    along = jnp.where(told, (vectors.T @ (push / scale)) / jnp.where(told, values, 1), 0)
    return vectors @ along / scale
