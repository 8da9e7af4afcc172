"""Where fits start: the parameters that given responsibilities imply, or others around parameters at hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import as_floating, as_params, at_least_one, is_traced
from jaxem.blocks import by_default_in_blocks
from jaxem.boundary import as_key, check_data, check_model
from jaxem.components import keep_empty
from jaxem.constraints import Constraint, constrain, each, real, unconstrain
from jaxem.families.labelled import Labelled
from jaxem.families.observed import has_holes
from jaxem.model import Model, PyTree, require
from jaxem.models.mixture import Mixture
from jaxem.models.parts import family_of
from jaxem.seeds import column_variances as column_variances
from jaxem.seeds import kmeans_plusplus as kmeans_plusplus
from jaxem.seeds import random_points as random_points

MANY = 1e6


def from_responsibilities(model: Model, data: PyTree, responsibilities: Any, weights: Any = None) -> PyTree:
    """Return the M-step from given responsibilities (n, k), one-hot rows for known labels: params of `model`.

    Where data have holes, means and variances are those of what was observed of each column.
    A component that is responsible for nothing keeps what `model.init` with key 0 gives it.
    Raises ValueError where the model lacks `init`, `statistics` or `posterior`, or for responsibilities of another shape.

    >>> import numpy as np, jaxem
    >>> model = jaxem.mixture(jaxem.families.poisson(), 2)
    >>> start = jaxem.initialize.from_responsibilities(model, [0, 2, 7, 9], np.eye(2)[[0, 0, 1, 1]])
    >>> print(start.components.rate)
    [1. 8.]
    """
    check_model(model)
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
    if has_holes(data) and model.whole is None:
        params = _from_observed(model, params, data, weights[:, None] * responsibilities)
    statistics = require(by_default_in_blocks(model, data), "statistics")
    return model.m_step(params, statistics(params, data, weights, responsibilities))


def _from_observed(model: Model, params: PyTree, data: PyTree, responsibilities: Array) -> PyTree:
    """Return params of which an M-step makes the moments of what was observed: the family's start, without what it adds.

    A start adds to the rows a few more, so that it is no degenerate one; beside a million times the rows these weigh nothing.
    """
    family, old, gate = family_of(model, params, "from_responsibilities")
    x = data if gate is None else data.data
    inner, x = (family.parts[1][0], x.data) if isinstance(x, Labelled) and family.parts else (family, x)
    new = keep_empty(family.constraints, responsibilities.sum(0), inner.init(x, MANY * responsibilities), old)
    return params._replace(components=new) if isinstance(params, Mixture) else new


def jitter(model: Model, key: Any, params: PyTree, num: int, *, scale: float = 0.5) -> PyTree:
    """Return `num` starts around `params`, stacked: the first is `params`, the others by noise in unconstrained space.

    The noise is normal, of standard deviation `scale` in the units of the constraints' charts (logarithms of what is
    positive, log-odds of what is a share), and `scale` times the size of an array's entries where it is real.
    Raises ValueError for what is no key, for `num` below one, a negative scale, and params on the boundary of their domain.

    >>> import jaxem
    >>> model = jaxem.mixture(jaxem.families.poisson(), 2)
    >>> starts = jaxem.jitter(model, 0, jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 3.0])), 4)
    >>> print(starts.components.rate.shape, starts.components.rate[0])
    (4, 2) [1. 3.]
    """
    check_model(model)
    params = as_params(params)
    free = unconstrain(model.constraints, params)
    if not is_traced(free) and not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(free)):
        raise ValueError(
            "params lie on the boundary of their domain or outside, where there is no room for noise: move them inside."
        )
    if not isinstance(scale, (int, float)) or not scale >= 0:
        raise ValueError(f"scale must be a number ≥ 0, got {scale!r}.")
    num, keys = at_least_one("num", num), iter(jax.random.split(as_key(key), len(jax.tree.leaves(free))))

    def noisy(constraint: Constraint, leaf: Array) -> Array:
        noise = jax.random.normal(next(keys), (num, *leaf.shape), leaf.dtype).at[0].set(0)
        size = jnp.maximum(jnp.abs(leaf), jnp.sqrt((leaf**2).mean()))
        unit = size if constraint.constrain is real.constrain else jnp.ones_like(leaf)
        return leaf[None] + scale * unit[None] * noise

    return jax.vmap(lambda u: constrain(model.constraints, u))(each(noisy, model.constraints, free))
