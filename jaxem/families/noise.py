"""Noise of constant density: the component of rows that belong to no other."""

import math
import numbers
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxem.arrays import as_rows
from jaxem.families.observed import Observed, split
from jaxem.model import Family, PyTree
from jaxem.trees import dtype_of_weights, num_rows


def noise(density: float) -> Family:
    """Return the family of constant density, log p(x) = log density for any row: it has no parameters, (), and no `sample`.

    density: as a rule one over the volume that the data lie in, such as that of their bounding box (Banfield & Raftery
    1993, §3.3), in the inverse of its units. Raises ValueError unless it is a finite number above zero.

    >>> import jaxem
    >>> from jaxem import families
    >>> both = families.union((families.gaussian("spherical"), 1), (families.noise(0.01), 1))
    >>> x = [[0.1, 0.2], [0.3, -0.1], [-0.2, 0.1], [7.0, -4.0]]
    >>> model = jaxem.mixture(both, 2)
    >>> print(jaxem.fit_restarts(model, 0, x, num_restarts=8).best.params.weights.round(2))
    [0.75 0.25]
    """
    if not isinstance(density, numbers.Real) or isinstance(density, bool) or not 0 < density < math.inf:
        raise ValueError(f"density must be a finite number above zero, got {density!r}.")
    return _noise(float(density))


@cache
def _noise(density: float) -> Family:
    log_density = math.log(density)

    def evaluate(params: tuple[()], x: PyTree) -> tuple[Array, Callable[[Array], Array]]:
        log_prob = jnp.full((num_rows(x), 1), log_density, dtype_of_weights(x))
        return log_prob, lambda responsibilities: responsibilities.sum(0)

    return Family(
        evaluate,
        m_step=lambda params, counts: (),
        expected_log_prob=lambda params, counts: log_density * counts.sum(),
        init=lambda x, responsibilities: (),
        constraints=(),
        prepare=_prepare,
        parts=(noise, (density,)),
    )


def _prepare(data: Any, weights: Array | None) -> PyTree:
    """Return rows; ValueError for holes, as a density over whole rows says nothing of what it is over parts of them."""
    return as_rows(jax.tree.map(_whole, data, is_leaf=_may_have_holes))


def _may_have_holes(node: Any) -> bool:
    return isinstance(node, Observed)


def _whole(part: Any) -> Any:
    if not _may_have_holes(part):
        return part
    values, seen = split(part)
    if seen is not None:
        raise ValueError(
            "data has holes, and noise has a density over whole rows, which does not say what it is over a part of one: "
            "drop rows with holes, or fill them first by jaxem.impute from a model without noise."
        )
    return values
