"""One component alone: a family fitted to all rows, with no label to infer."""

from collections.abc import Callable
from functools import cache

import jax.numpy as jnp
from jax import Array

from jaxem.arrays import prepared
from jaxem.model import Family, Model, PyTree, check_family, require
from jaxem.models.building import build
from jaxem.numerics import without_lowest


def single(family: Family) -> Model:
    """Return the model of one component of `family`; params are those of the family, with k = 1.

    data as the family takes them, posterior (n, 1) ones, latents of `sample` (n,) zeros. There is one start. Latent
    variables are the family's own, if it has any; without them one M-step ends the fit.
    Raises ValueError for what is no family.

    >>> import jaxem
    >>> x = [3.0, 1.0, 2.0, 6.0]
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> fit = jaxem.fit(model, model.init(0, x), x)
    >>> print(fit.params.rate, fit.status)
    [3.] 1
    """
    check_family(family)
    return _single(family)


@cache
def _single(family: Family) -> Model:
    def infer(params: PyTree, data: PyTree) -> tuple[Array, Array, Callable[[Array, Array], PyTree]]:
        log_prob, summarize = family.evaluate(params, data)
        one = jnp.ones_like(log_prob)
        return one, without_lowest(log_prob[:, 0]), lambda weights, posterior: summarize(weights[:, None] * posterior)

    def begin(key: Array, data: PyTree, weights: Array) -> PyTree:
        return family.init(data, weights[:, None])

    def draw(count: int, key: Array, params: PyTree, like: PyTree) -> tuple[PyTree, Array]:
        labels = jnp.zeros(count, jnp.int32)
        return require(family, "sample")(key, params, labels, like), labels

    return build(
        infer,
        family.m_step,
        family.expected_log_prob,
        prepare=lambda data, weights: prepared(family, data, weights),
        begin=begin,
        draw=draw,
        size=family.size,
        log_prior=family.log_prior,
        degenerate=family.degenerate,
        constraints=family.constraints,
        additive=family.additive,
        exact=family.exact,
        parts=(single, (family,)),
    )
