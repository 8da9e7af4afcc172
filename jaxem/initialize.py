"""Where fits start: points of the data, k-means++ centres, or the parameters that given responsibilities imply."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxem.boundary import as_floating, check_data, is_traced
from jaxem.chunked import by_default_in_blocks
from jaxem.model import Model, PyTree, require


def column_variances(x: Array, weights: Array) -> Array:
    """Return the weighted variance of each column: x (n, *event), weights (n,) -> event."""
    share = (weights / weights.sum()).reshape(-1, *[1] * (x.ndim - 1))
    mean = (share * x).sum(0)
    return (share * (x - mean[None]) ** 2).sum(0)


def random_points(key: Array, x: Array, weights: Array, num_points: int) -> Array:
    """Return `num_points` distinct rows drawn in proportion to their weights: (num_points, *event)."""
    return jnp.asarray(x)[jax.random.choice(key, x.shape[0], (num_points,), replace=False, p=weights / weights.sum())]


def kmeans_plusplus(key: Array, x: Array, weights: Array, num_points: int) -> Array:
    """Return rows drawn in turn in proportion to weight times squared distance to the nearest row drawn: (num_points, *event).

    Distances are in units of each column's standard deviation. Once every distinct row has been drawn, rows are drawn by
    weight alone. Arthur & Vassilvitskii (2007), §2.2.
    """
    x = jnp.asarray(x)
    weights = jnp.asarray(weights, x.dtype)
    variances = column_variances(x, weights)
    precision = jnp.where(variances > 0, 1 / jnp.where(variances > 0, variances, 1), 0)
    axes = tuple(range(1, x.ndim))

    def draw(distance: Array, key: Array) -> tuple[Array, Array]:
        chance = weights * jnp.where(jnp.isfinite(distance), distance, 1)
        chance = jnp.where(chance.sum() > 0, chance, weights)
        point = x[jax.random.choice(key, x.shape[0], p=chance / chance.sum())]
        return jnp.minimum(distance, ((x - point[None]) ** 2 * precision[None]).sum(axes)), point

    return lax.scan(draw, jnp.full_like(weights, jnp.inf), jax.random.split(key, num_points))[1]


def from_responsibilities(model: Model, data: PyTree, responsibilities: Any, weights: Any = None) -> PyTree:
    """Return the M-step from given responsibilities (n, k), one-hot rows for known labels: params of `model`.

    A component that is responsible for nothing keeps what `model.init` with key 0 gives it.
    Raises ValueError where the model lacks `init`, `statistics` or `posterior`, or for responsibilities of another shape.
    """
    init, posterior, _ = (require(model, capability) for capability in ("init", "posterior", "statistics"))
    data, weights = check_data(model, data, weights)
    params = init(jax.random.key(0), data, weights)
    expected = jax.eval_shape(posterior, params, data)
    responsibilities = as_floating(responsibilities, "responsibilities").astype(weights.dtype)
    if responsibilities.shape != expected.shape:
        raise ValueError(
            f"responsibilities has shape {responsibilities.shape}, needs {expected.shape}; for labels, np.eye(k)[labels]."
        )
    if not is_traced(responsibilities) and not bool((np.asarray(responsibilities) >= 0).all()):
        raise ValueError("responsibilities has NaN or negative values, needs shares ≥ 0 of each row.")
    statistics = require(by_default_in_blocks(model, data), "statistics")
    return model.m_step(params, statistics(params, data, weights, responsibilities))
