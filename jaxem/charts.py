"""Free coordinates about parameters: those of the constraints' charts, less what lies on the boundary of its domain.

What is on its boundary is held there, as on the active face of a constrained maximum, and the others have coordinates of
their own: logarithms of shares against the last share that is not held, in the place of logarithms against a zero.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxem.arrays import as_params
from jaxem.boundary import check_model, check_structure
from jaxem.constraints import Constraint, broadcast, each
from jaxem.model import Model, PyTree
from jaxem.programs import compiled

CLOSE = 4.0  # ulps of a bound within which an entry lies on it


class Chart(NamedTuple):
    """Free coordinates of some parameters, q of them for m entries in unconstrained space.

    params  the parameters that the chart is about
    held    booleans shaped like them: entries that stay as they are
    origin  (m,) the entries in unconstrained space
    owner   (m,) the coordinate that moves each of these; q where none does
    place   (q,) where one is in the chart; zeros stand for params
    """

    params: PyTree
    held: PyTree
    origin: Array
    owner: Array
    place: Array


def parameter_names(model: Model, params: PyTree) -> tuple[str, ...]:
    """Return the name of each entry of params, in the order of `jax.flatten_util.ravel_pytree`.

    >>> import jaxem
    >>> model = jaxem.mixture(jaxem.families.poisson(), 2)
    >>> jaxem.parameter_names(model, jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 3.0])))
    ('weights[0]', 'weights[1]', 'components.rate[0]', 'components.rate[1]')
    """
    check_model(model)
    params = as_params(params)
    check_structure(model.constraints, params)
    return names_of(params)


def names_of(params: PyTree) -> tuple[str, ...]:
    """Return the name of each entry of a tree of arrays, as `parameter_names` does."""
    names = []
    for path, leaf in jax.tree.leaves_with_path(params):
        names += [name_of(path, place) for place in np.ndindex(np.shape(leaf))]
    return tuple(names)


def name_of(path: Any, place: tuple[Any, ...]) -> str:
    """Return the name of an entry at a place of an array at a path: components.mean[1, 0]."""
    name = jax.tree_util.keystr(path, simple=True, separator=".") or "params"
    return f"{name}[{', '.join(map(str, place))}]" if place else name


def chart_about(domains: PyTree, params: PyTree, held: PyTree) -> Chart:
    """Return the chart about params of which entries are `held`; values are looked at."""
    origins, owners, count = [], [], 0
    each_domain, stay = tuple(broadcast(domains, params)), [np.asarray(leaf) for leaf in jax.tree.leaves(held)]
    placed = _origins(each_domain, jax.tree.leaves(params), stay)
    for domain, origin, stays in zip(each_domain, map(np.asarray, placed), stay, strict=True):
        owner = _owners(domain, origin.shape, stays)
        owners.append(np.where(owner >= 0, owner + count, -1).ravel())
        origins.append(origin.ravel())
        count += int(owner.max(initial=-1)) + 1
    dtype = jax.tree.leaves(params)[0].dtype
    owner = np.concatenate(owners)
    return Chart(
        params,
        jax.tree.map(jnp.asarray, held),
        jnp.asarray(np.concatenate(origins), dtype),
        jnp.asarray(np.where(owner < 0, count, owner), jnp.int32),
        jnp.zeros(count, dtype),
    )


@partial(compiled, static_argnums=0)
def _origins(domains: tuple[Constraint, ...], leaves: list[Array], held: list[Array]) -> list[Array]:
    """Return arrays in unconstrained space, with any number for what is held at a bound."""

    def origin(domain: Constraint, x: Array, held: Array) -> Array:
        if domain.shares:
            return jnp.log(jnp.where(held, 1, x))
        if domain.bounds is None:
            return domain.unconstrain(x)
        return domain.unconstrain(jnp.where(held, domain.constrain(jnp.zeros_like(x)), x))

    return [origin(*given) for given in zip(domains, leaves, held, strict=True)]


def _owners(domain: Constraint, shape: tuple[int, ...], held: np.ndarray) -> np.ndarray:
    """Return the number of the coordinate that moves each entry in unconstrained space, -1 for none."""
    if domain.shares:
        last = shape[-1] - 1 - np.argmin(held[..., ::-1], -1)
        return _numbered(~held & (np.arange(shape[-1]) != last[..., None]))
    if domain.bounds is not None:
        return _numbered(~held)
    owner = _numbered(np.broadcast_to(~_whole(domain, held, len(shape)), shape))
    shared = np.broadcast_to(domain.shared(shape), shape)
    owner = np.where(shared, owner[:1], owner) if shared.any() else owner
    return np.unique(owner, return_inverse=True)[1].reshape(shape) - int((owner < 0).any())


def _numbered(moves: np.ndarray) -> np.ndarray:
    return np.where(moves, np.cumsum(moves).reshape(moves.shape) - 1, -1)


def _whole(domain: Constraint, held: np.ndarray, ndim: int) -> np.ndarray:
    """Tell of which components anything is held, so that all of it is: an array that broadcasts in unconstrained space."""
    if domain.component_axes != (0,):
        return np.full([1] * ndim, held.any())
    return held.reshape(held.shape[0], -1).any(1).reshape(-1, *[1] * (ndim - 1))


def params_at(domains: PyTree, chart: Chart, place: Array) -> PyTree:
    """Return the parameters at a place (q,) of the chart."""
    flat = chart.origin + jnp.pad(place, (0, 1))[chart.owner]
    leaves, start = [], 0
    for domain, x, held in zip(
        broadcast(domains, chart.params), jax.tree.leaves(chart.params), jax.tree.leaves(chart.held), strict=True
    ):
        shape = _free_shape(domain, x)
        size = math.prod(shape)
        leaves.append(_constrained(domain, flat[start : start + size].reshape(shape), x, held))
        start += size
    return jax.tree.unflatten(jax.tree.structure(chart.params), leaves)


def _free_shape(domain: Constraint, x: Array) -> tuple[int, ...]:
    """Return the shape of an array in unconstrained space, where shares have an entry each."""
    return x.shape if domain.shares or domain.bounds else jax.eval_shape(domain.unconstrain, x).shape


def _constrained(domain: Constraint, u: Array, x: Array, held: Array) -> Array:
    if not domain.shares:
        return jnp.where(held, x, domain.constrain(u))
    shares = jax.nn.softmax(jnp.where(held, -jnp.inf, u), axis=-1)
    return jnp.where(held, x, shares * (1 - jnp.where(held, x, 0).sum(-1, keepdims=True)))


def jacobian(model: Model, chart: Chart) -> Array:
    """Return the slopes (p, q) of the raveled parameters along the coordinates, at the chart's place."""
    return _jacobian(model, chart)


@partial(compiled, static_argnums=0)
def _jacobian(model: Model, chart: Chart) -> Array:
    return jax.jacfwd(lambda place: ravel_pytree(params_at(model.constraints, chart, place))[0])(chart.place)


def unitless(domains: PyTree, chart: Chart) -> np.ndarray:
    """Tell which coordinates (q,) are logarithms, of shares or of what has a bound, so that a change by one is a large one."""
    owner, marks, start = np.asarray(chart.owner), np.zeros(chart.place.size + 1, bool), 0
    for domain, x in zip(broadcast(domains, chart.params), jax.tree.leaves(chart.params), strict=True):
        stop = start + math.prod(_free_shape(domain, x))
        marks[owner[start:stop]] |= domain.shares or (domain.bounds is not None and np.isfinite(domain.bounds).any())
        start = stop
    return marks[:-1]


def on_bounds(domains: PyTree, params: PyTree) -> PyTree:
    """Tell which entries lie on the boundary of their domain: shares of zero, and what is at a bound."""
    return each(_on_bounds, domains, params)


def _on_bounds(domain: Constraint, x: Array) -> np.ndarray:
    values = np.asarray(x)
    if domain.shares:
        return values <= 0
    if domain.bounds is None:
        return np.zeros(values.shape, bool)
    low, high = domain.bounds
    slack = CLOSE * float(np.finfo(values.dtype).eps)
    low, high = low + slack * (abs(low) if np.isfinite(low) else 0), high - slack * (abs(high) if np.isfinite(high) else 0)
    return (values <= low) | (values >= high)


def always_zero(domains: PyTree, params: PyTree) -> PyTree:
    """Tell which entries are zero whatever the parameters are, so that it is no news that they are."""

    def never(domain: Constraint, x: Array) -> np.ndarray:
        if not domain.shares:
            return np.zeros(x.shape, bool)
        return np.asarray(domain.constrain(jnp.zeros_like(domain.unconstrain(x)))) == 0

    return each(never, domains, params)


def entries_of(domains: PyTree, chart: Chart, coordinates: np.ndarray) -> PyTree:
    """Tell which entries of params some coordinates (q,), booleans, move: of matrices and the like all of a component's."""
    moved = np.append(coordinates, False)[np.asarray(chart.owner)]
    leaves, start = [], 0
    for domain, x in zip(broadcast(domains, chart.params), jax.tree.leaves(chart.params), strict=True):
        shape = _free_shape(domain, x)
        mine = moved[start : start + math.prod(shape)].reshape(shape)
        start += math.prod(shape)
        alike = shape == x.shape
        leaves.append(mine if alike else np.broadcast_to(_whole(domain, mine, x.ndim), x.shape))
    return jax.tree.unflatten(jax.tree.structure(chart.params), leaves)
