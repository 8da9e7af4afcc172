"""The order of components, which a likelihood does not tell: by a number of each, or as in other parameters."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from optax.assignment import hungarian_algorithm

from jaxem import components
from jaxem.arrays import as_floating, as_params, is_traced
from jaxem.blocks import default_block_size, summed
from jaxem.boundary import check_data, check_model, check_params
from jaxem.families.union import counts_of_kinds
from jaxem.model import Model, PyTree, require
from jaxem.models.parts import family_of
from jaxem.numerics import in_full_precision
from jaxem.programs import compiled

UNDECLARED = (
    "model.constraints must declare which arrays have a place for each component, got None: pass constraints=, such as "
    "constraints.real for an array (k,) and constraints.told_apart(constraints.real) for one that all share."
)
MEANT = "the order of this model's components means something: they are told apart, or of several kinds."


def sort_components(model: Model, params: PyTree, by: Callable[[PyTree], Any] | Any = None) -> PyTree:
    """Return params with components in the order of a number of each: `by`, a function of params or an array (k,).

    None puts the largest weight first. What has no axis of components stays as it is.
    Raises ValueError where `by` is no (k,), for a model whose components are told apart by what is held or by their priors,
    so that their order means something, and for a union, whose components are of several kinds.

    >>> import jaxem
    >>> model = jaxem.mixture(jaxem.families.poisson(), 2)
    >>> params = jaxem.Mixture([0.3, 0.7], jaxem.families.Poisson([3.0, 1.0]))
    >>> print(jaxem.sort_components(model, params, by=lambda p: p.components.rate).components.rate)
    [1. 3.]
    """
    check_model(model)
    params = as_params(params)
    num = _num_alike(model, params)
    if by is None:
        by = lambda p: -jnp.asarray(getattr(p, "weights", jnp.nan))  # noqa: E731
    keys = as_floating(by(params) if callable(by) else by, "by")
    if keys.shape == (num,) and not is_traced(keys) and np.isnan(np.asarray(keys)).any():
        raise ValueError(f"by has NaN, needs numbers that have an order, got {np.asarray(keys)}.")
    if keys.shape != (num,):
        raise ValueError(f"by must give one number for each of the {num} components, (k,), got shape {keys.shape}.")
    return components.order(model.constraints, params, keys)


def match_components(model: Model, a: PyTree, b: PyTree, data: PyTree, weights: Any = None) -> PyTree:
    """Return params b with components in the order of those of a which they share the most rows with.

    The one-to-one assignment maximizes Σ_n w_n Σ_k r_nk(a) r_nk(b) of responsibilities for the data; those of a union take
    places of their own kind.
    Raises ValueError for a model without a posterior (n, k), where components are told apart, and as `fit` does.

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.poisson(), 2), [0.0, 1.0, 5.0, 7.0]
    >>> a = jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 6.0]))
    >>> b = jaxem.Mixture([0.4, 0.6], jaxem.families.Poisson([5.0, 0.5]))
    >>> print(jaxem.match_components(model, a, b, x).components.rate)
    [0.5 5. ]
    """
    check_model(model)
    data, weights = check_data(model, data, weights)
    a, b = (check_params(model, theta, data, weights) for theta in (a, b))
    kinds = kinds_of(model, a)
    if kinds is None:
        raise ValueError(_why_not(model))
    num = sum(map(len, kinds))
    if num_shares(model, a, data) != num:
        raise ValueError(
            f"match_components needs a model whose posterior is responsibilities (n, {num}), a column for each of the {num} "
            "components that params have by model.constraints, which this has not."
        )
    return in_order(model, kinds, b, jnp.asarray(assigned(np.asarray(overlap(model, a, b, data, weights)), kinds)))


def _num_alike(model: Model, params: PyTree) -> int:
    num = num_alike(model, params)
    if num is None:
        raise ValueError(_why_not(model))
    return num


def _why_not(model: Model) -> str:
    return UNDECLARED if model.constraints is None else MEANT


def kinds_of(model: Model, params: PyTree) -> list[np.ndarray] | None:
    """Return the places of components that may change them with each other, kind by kind; None where order means something."""
    num = num_alike(model, params)
    if num is not None:
        return [np.arange(num)]
    try:
        family, _, _ = family_of(model, params, "matching")
    except ValueError:
        return None
    counts = counts_of_kinds(family)
    if counts is None or model.whole is not None or not model.constraints.weights.component_axes:
        return None
    return np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])


def in_order(model: Model, kinds: list[np.ndarray], params: PyTree, order: Array) -> PyTree:
    """Return params with components in an order that keeps kinds together."""
    domains = model.constraints
    if len(kinds) == 1:
        return components.take(domains, params, order)
    each = zip(domains.components, params.components, kinds, strict=True)
    parts = tuple(components.take(domain, theta, order[kind] - int(kind[0])) for domain, theta, kind in each)
    return params._replace(weights=components.take(domains.weights, params.weights, order), components=parts)


def num_alike(model: Model, params: PyTree) -> int | None:
    """Return how many components may change places; None where their order means something, or none are declared."""
    numbers = set() if model.constraints is None else components.numbers_of(model.constraints, params)
    return numbers.pop() if len(numbers) == 1 else None


def has_shares(model: Model, params: PyTree, data: PyTree) -> bool:
    """Tell whether the posterior is responsibilities (n, k)."""
    return num_shares(model, params, data) is not None


def num_shares(model: Model, params: PyTree, data: PyTree) -> int | None:
    """Return the k of a posterior that is responsibilities (n, k); None where it is something else."""
    if model.posterior is None:
        return None
    shape: tuple[int, ...] = getattr(jax.eval_shape(model.posterior, params, data), "shape", ())
    return shape[1] if len(shape) == 2 else None


def overlap(model: Model, a: PyTree, b: PyTree, data: PyTree, weights: Array) -> Array:
    """Return Σ_n w_n r_ni(a) r_nj(b), (k, k), of prepared data."""
    return _overlap(model, a, b, data, weights)


@partial(compiled, static_argnums=0)
@in_full_precision
def _overlap(model: Model, a: PyTree, b: PyTree, data: PyTree, weights: Array) -> Array:
    posterior = require(model, "posterior")

    def of_rows(params: tuple[PyTree, PyTree], data: PyTree, weights: Array) -> Array:
        first, second = (posterior(theta, data) for theta in params)
        return jnp.where(weights[:, None] > 0, weights[:, None] * first, 0).T @ second

    return summed(of_rows, default_block_size())((a, b), data, weights)


def assigned(overlap: np.ndarray, kinds: list[np.ndarray]) -> np.ndarray:
    """Return for each i the j of its kind that is assigned to it, one to one, so that overlaps (k, k) add up to the most."""
    order = np.arange(len(overlap))
    for kind in kinds:
        rows, columns = _hungarian(jnp.asarray(-np.nan_to_num(overlap[np.ix_(kind, kind)])))
        order[kind] = kind[np.asarray(columns)[np.argsort(rows)]]
    return order


_hungarian = jax.jit(hungarian_algorithm)
