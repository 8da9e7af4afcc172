"""The domain of a parameter, declared once.

A `Constraint` is a pair of smooth maps between a parameter's domain and unconstrained space. Gradient M-steps, the domain
test of accelerated steps, the number of free parameters and gradient checks all read the same declaration: a pytree of
constraints shaped like the parameters, in which one constraint may stand for a whole subtree. It also says which axes of
its array run over components, and nothing else in the library knows what a component is.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem import orthonormal as frames
from jaxem.matrices import cholesky
from jaxem.model import Parts, PyTree
from jaxem.numerics import geometric_mean, symmetric


class Constraint(NamedTuple):
    """A domain and its chart.

    `constrain` maps unconstrained arrays onto the domain and `unconstrain` back; `contains` tells whether an array lies in
    the closed domain (a scalar bool, usable inside jit); `num_free` counts the free parameters in an array from its shape.
    `mend` takes an array that `contains` lets pass to the domain itself, where rounding has left it a little outside.
    `component_axes` are the axes that run over components: (0,) as a rule, () where all share the array, (1,) for the
    coefficients of a gate, (0, 1) for transitions. `shared` tells from a shape which entries all components have alike,
    though each holds its own. `bounds` are those of each entry where `constrain` takes entries one by one, and `shares` says
    that entries are non-negative and sum to one along the last axis: what may lie on a boundary.
    `parts` is (constructor, arguments) of what is no constant of this module.

    >>> import jax.numpy as jnp
    >>> from jaxem import constraints
    >>> p = constraints.simplex.constrain(jnp.zeros(2))
    >>> print(p.round(3), constraints.simplex.num_free(p.shape))
    [0.333 0.333 0.333] 2
    """

    name: str
    constrain: Callable[[Array], Array]
    unconstrain: Callable[[Array], Array]
    contains: Callable[[Array], Array]
    num_free: Callable[[tuple[int, ...]], int]
    mend: Callable[[Array], Array] = lambda x: x
    component_axes: tuple[int, ...] = (0,)
    shared: Callable[[tuple[int, ...]], Any] = lambda shape: False
    bounds: tuple[float, float] | None = None
    shares: bool = False
    parts: Parts | None = None

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle by `parts`, a constant of this module by its name, and any other field by field."""
        name = next((name for name, value in globals().items() if value is self), None)
        return self.parts or name or (Constraint, tuple(self))


@cache
def on_axes(constraint: Constraint, component_axes: tuple[int, ...]) -> Constraint:
    """Return `constraint` for an array whose `component_axes` run over components; () for one that all components share.

    >>> from jaxem import constraints
    >>> constraints.on_axes(constraints.positive, ()).component_axes
    ()
    """
    return constraint._replace(component_axes=component_axes, parts=(on_axes, (constraint, component_axes)))


def told_apart(constraints: PyTree) -> PyTree:
    """Return constraints on no axes of components, for those that something else tells apart: their order is kept.

    >>> from jaxem import constraints
    >>> constraints.told_apart({"rate": constraints.positive})["rate"].component_axes
    ()
    """
    return jax.tree.map(lambda c: on_axes(c or real, ()), constraints, is_leaf=lambda c: c is None or is_constraint(c))


def _size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)


def _rows(shape: tuple[int, ...], trailing: int) -> int:
    return _size(shape[: len(shape) - trailing])


def _is_finite(x: Array) -> Array:
    return jnp.all(jnp.isfinite(x))


_EVERYWHERE, _ABOVE_ZERO = (-math.inf, math.inf), (0.0, math.inf)

real = Constraint("real", lambda u: u, lambda x: x, _is_finite, _size, bounds=_EVERYWHERE)

positive = Constraint("positive", jnp.exp, jnp.log, lambda x: _is_finite(x) & jnp.all(x > 0), _size, bounds=_ABOVE_ZERO)

non_negative = Constraint(
    "non-negative", jnp.exp, jnp.log, lambda x: _is_finite(x) & jnp.all(x >= 0), _size, bounds=_ABOVE_ZERO
)


def interval(low: float, high: float) -> Constraint:
    """Return the bounded interval [low, high]: x = low + (high - low) / (1 + e^-u).

    Raises ValueError unless these are two numbers, low < high.

    >>> from jaxem import constraints
    >>> float(constraints.interval(0, 10).constrain(0.0))
    5.0
    """
    if not (np.ndim(low) == np.ndim(high) == 0 and low < high):
        raise ValueError(f"interval(low, high) needs low < high, two numbers, got ({low}, {high}).")
    return _interval(float(low), float(high))


@cache
def _interval(low: float, high: float) -> Constraint:
    return Constraint(
        f"in [{low:g}, {high:g}]",
        lambda u: low + (high - low) * jax.nn.sigmoid(u),
        lambda x: jnp.log(x - low) - jnp.log(high - x),
        lambda x: jnp.all((x >= low) & (x <= high)),
        _size,
        bounds=(low, high),
        parts=(interval, (low, high)),
    )


def _to_simplex(u: Array) -> Array:
    return jax.nn.softmax(jnp.concatenate([u, jnp.zeros_like(u, shape=(*u.shape[:-1], 1))], axis=-1), axis=-1)


def _from_simplex(p: Array) -> Array:
    """Take logarithms against the last entry; an entry that is zero counts as the least positive number."""
    log_p = jnp.where(p >= 0, jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny)), jnp.nan)
    return log_p[..., :-1] - log_p[..., -1:]


def _in_simplex(p: Array) -> Array:
    slack = 16 * p.shape[-1] * float(jnp.finfo(jnp.float32).eps)  # in float64 too: starts are written in few digits
    return jnp.all(p >= 0) & jnp.all(jnp.abs(p.sum(-1) - 1) <= slack)


simplex = Constraint(
    "on the simplex (non-negative, last axis summing to one)",
    _to_simplex,
    _from_simplex,
    _in_simplex,
    lambda shape: _rows(shape, 1) * (shape[-1] - 1),
    mend=lambda p: p / jnp.abs(p.sum(-1, keepdims=True)),  # what lies outside stays there
    shares=True,
)


def simplexes(sizes: tuple[int, ...]) -> Constraint:
    """Return the domain of arrays (..., d, C) whose row j is on the simplex over its first sizes[j] entries, and zero beyond.

    Raises ValueError unless the sizes are whole numbers of at least one.

    >>> import jax.numpy as jnp
    >>> from jaxem import constraints
    >>> print(constraints.simplexes((2, 3)).constrain(jnp.zeros(3)).round(3))
    [[0.5   0.5   0.   ]
     [0.333 0.333 0.333]]
    """
    if not (len(sizes) and all(isinstance(size, int) and size >= 1 for size in sizes)):
        raise ValueError(f"simplexes(sizes) needs whole numbers of at least one, got {sizes}.")
    return _simplexes(tuple(sizes))


@cache
def _simplexes(sizes: tuple[int, ...]) -> Constraint:
    places = np.arange(max(sizes))[None]
    last = np.array(sizes)[:, None] - 1
    free, valid = np.nonzero(places < last), places <= last

    def to_shares(u: Array) -> Array:
        logits = jnp.zeros((*u.shape[:-1], *valid.shape), u.dtype).at[..., *free].set(u)
        return jax.nn.softmax(jnp.where(jnp.asarray(valid), logits, -jnp.inf), axis=-1)

    def from_shares(p: Array) -> Array:
        log_p = jnp.where(p >= 0, jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny)), jnp.nan)
        return log_p[..., *free] - log_p[..., free[0], last[free[0], 0]]

    return simplex._replace(
        name=f"on the simplex (non-negative, last axis summing to one, beyond {sizes} zero)",
        constrain=to_shares,
        unconstrain=from_shares,
        contains=lambda p: _in_simplex(p) & jnp.all(jnp.where(jnp.asarray(valid), 0, p) == 0),
        num_free=lambda shape: _rows(shape, 2) * (sum(sizes) - len(sizes)),
        parts=(simplexes, (sizes,)),
    )


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
    return jnp.all(jnp.abs(x - x.mT) <= slack) & _is_finite(cholesky(x)[0])


positive_definite = Constraint(
    "positive definite",
    _to_positive_definite,
    _from_positive_definite,
    _is_positive_definite,
    lambda shape: _rows(shape, 2) * shape[-1] * (shape[-1] + 1) // 2,
    mend=symmetric,
)

_NEAR = 1e-3  # squares of angles below which series keep what their roots would lose


def _to_sphere(u: Array) -> Array:
    """Return the point at distance |u| from the pole e_d in the direction of u."""
    square = (u * u).sum(-1, keepdims=True)
    near = square < _NEAR
    angle, small = jnp.sqrt(jnp.where(near, 1, square)), jnp.where(near, square, 0)
    sine = jnp.where(near, 1 - small / 6 + small**2 / 120 - small**3 / 5040, jnp.sin(angle) / angle)
    cosine = jnp.where(near, 1 - small / 2 + small**2 / 24 - small**3 / 720 + small**4 / 40320, jnp.cos(angle))
    return jnp.concatenate([u * sine, cosine], -1)


def _from_sphere(x: Array) -> Array:
    head, tail = x[..., :-1], x[..., -1:]
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
    lambda shape: _rows(shape, 1) * (shape[-1] - 1),
    mend=lambda x: x / jnp.sqrt((x * x).sum(-1, keepdims=True)),
)


def _to_unit_product(u: Array) -> Array:
    return jnp.exp(jnp.concatenate([u, -u.sum(-1, keepdims=True)], axis=-1))


def _is_unit_product(x: Array) -> Array:
    slack = 16 * x.shape[-1] * float(jnp.finfo(jnp.float32).eps)  # in float64 too: starts are written in few digits
    inside = jnp.all(x > 0) & _is_finite(x)
    return inside & jnp.all(jnp.abs(jnp.log(jnp.where(x > 0, x, 1)).sum(-1)) <= slack)


unit_product = Constraint(
    "positive with a product of one along the last axis",
    _to_unit_product,
    lambda x: jnp.log(x[..., :-1]),
    _is_unit_product,
    lambda shape: _rows(shape, 1) * (shape[-1] - 1),
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
    lambda shape: _rows(shape, 2) * shape[-1] * (shape[-1] - 1) // 2,
    mend=frames.nearest,
)

ordered = Constraint(
    "increasing along the last axis",
    lambda u: jnp.cumsum(jnp.concatenate([u[..., :1], jnp.exp(u[..., 1:])], axis=-1), axis=-1),
    lambda x: jnp.concatenate([x[..., :1], jnp.log(jnp.diff(x, axis=-1))], axis=-1),
    lambda x: _is_finite(x) & jnp.all(jnp.diff(x, axis=-1) >= 0),
    _size,
)


def alike(columns: tuple[int, ...]) -> Constraint:
    """Return the domain of arrays (k, p) whose `columns` are the same for all components: k (p - c) + c free parameters.

    Unconstrained arrays are (k, p) too, and what such a column stands for is its mean. Raises ValueError unless these are
    distinct whole numbers from 0 on.

    >>> import jax.numpy as jnp
    >>> from jaxem import constraints
    >>> domain = constraints.alike((1,))
    >>> print(domain.constrain(jnp.array([[1.0, 4.0], [2.0, 6.0]])), domain.num_free((2, 2)))
    [[1. 5.]
     [2. 5.]] 3
    """
    if len(set(columns)) < len(columns) or not all(isinstance(column, int) and column >= 0 for column in columns):
        raise ValueError(f"alike(columns) needs distinct whole numbers from 0 on, got {columns}.")
    return _alike(tuple(columns))


@cache
def _alike(columns: tuple[int, ...]) -> Constraint:
    def shared(shape: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(np.isin(np.arange(shape[-1]), columns), shape)

    def mean(u: Array) -> Array:
        return jnp.where(shared(u.shape), u[:1] + (u - u[:1]).mean(0, keepdims=True), u)

    def contains(x: Array) -> Array:
        slack = 64 * float(jnp.finfo(jnp.float32).eps) * jnp.abs(x).max(0, keepdims=True)  # in float64 too, as in matrices
        return _is_finite(x) & jnp.all(~shared(x.shape) | (jnp.abs(x - x[:1]) <= slack))

    return Constraint(
        f"the same for all components in columns {list(columns)}",
        mean,
        lambda x: x,
        contains,
        lambda shape: _size(shape) - (shape[0] - 1) * len(columns),
        mend=lambda x: jnp.where(shared(x.shape), x[:1], x),
        shared=shared,
        parts=(alike, (columns,)),
    )


def _from_first_column(x: Array) -> Array:
    return x[..., 1:] - x[..., :1]


contrasts = Constraint(
    "zero in the first of the columns, one for each component",
    lambda u: jnp.concatenate([jnp.zeros_like(u, shape=(*u.shape[:-1], 1)), u], -1),
    _from_first_column,
    lambda x: _is_finite(x) & jnp.all(jnp.abs(x[..., 0]) <= 64 * float(jnp.finfo(jnp.float32).eps) * jnp.abs(x).max()),
    lambda shape: _rows(shape, 1) * (shape[-1] - 1),
    mend=lambda x: x - x[..., :1],
    component_axes=(1,),
)


def is_constraint(node: object) -> bool:
    """Tell whether `node` is a Constraint: the leaves of a tree of constraints.

    >>> from jaxem import constraints
    >>> constraints.is_constraint(constraints.simplex)
    True
    """
    return isinstance(node, Constraint)


def broadcast(constraints: PyTree, params: PyTree) -> list[Constraint]:
    """Return one constraint per leaf of `params`; None means real, for a subtree or everywhere.

    Raises ValueError where `constraints` is not shaped like `params`.

    >>> from jaxem import constraints
    >>> found = constraints.broadcast({"a": constraints.positive, "b": None}, {"a": [1.0, 2.0], "b": 3.0})
    >>> [constraint.name for constraint in found]
    ['positive', 'positive', 'real']
    """

    def spread(constraint: Constraint | None, subtree: PyTree) -> list[Constraint]:
        return [constraint or real] * len(jax.tree.leaves(subtree))

    try:
        each = jax.tree.map(spread, constraints, params, is_leaf=lambda node: node is None or is_constraint(node))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"constraints has structure {jax.tree.structure(constraints, is_leaf=is_constraint)}, needs that of params, "
            f"{jax.tree.structure(params)}; one constraint, or None for real, may stand for a subtree."
        ) from error
    return jax.tree.leaves(each, is_leaf=is_constraint)


def each(function: Callable[..., Any], constraints: PyTree, *trees: PyTree) -> PyTree:
    """Apply `function(constraint, *leaves)` to each leaf of trees of one structure and the constraint that stands for it.

    >>> from jaxem import constraints
    >>> constraints.each(lambda c, low, high: (c.name, high - low), {"a": constraints.positive}, {"a": 1.0}, {"a": 3.0})
    {'a': ('positive', 2.0)}
    """
    structure = jax.tree.structure(trees[0])
    domains = broadcast(constraints, trees[0])
    leaves = zip(*map(jax.tree.leaves, trees), strict=True)
    return jax.tree.unflatten(structure, [function(c, *places) for c, places in zip(domains, leaves, strict=True)])


def constrain(constraints: PyTree, unconstrained: PyTree) -> PyTree:
    """Map unconstrained values onto the domain, leaf by leaf.

    >>> import jax.numpy as jnp
    >>> from jaxem import constraints
    >>> constraints.constrain({"rate": constraints.positive}, {"rate": jnp.array([0.0])})
    {'rate': Array([1.], dtype=float32)}
    """
    return each(lambda c, u: c.constrain(u), constraints, unconstrained)


def unconstrain(constraints: PyTree, params: PyTree) -> PyTree:
    """Map parameters to unconstrained space, leaf by leaf; infinite on the boundary of a domain.

    >>> import jax.numpy as jnp
    >>> from jaxem import constraints
    >>> print(constraints.unconstrain(constraints.positive, jnp.array([1.0, 0.0])))
    [  0. -inf]
    """
    return each(lambda c, x: c.unconstrain(x), constraints, params)


def retract(constraints: PyTree, params: PyTree) -> PyTree:
    """Return params mended, shares scaled to a sum of one, and an array that then lies outside its domain as NaN.

    Zeros stay zeros.

    >>> import jax.numpy as jnp
    >>> from jaxem import constraints
    >>> print(constraints.retract(constraints.simplex, jnp.array([[1.0, 3.0, 0.0]])))
    [[0.25 0.75 0.  ]]
    >>> print(constraints.retract(constraints.positive, jnp.array([1.0, -1.0])))
    [nan nan]
    """

    def inside(constraint: Constraint, x: Array) -> Array:
        mended = constraint.mend(x)
        return jnp.where(constraint.contains(mended), mended, jnp.nan)

    return each(inside, constraints, params)


def mend(constraints: PyTree, params: PyTree) -> PyTree:
    """Return params that lie in their domain but for rounding, in the domain.

    >>> import jax.numpy as jnp
    >>> from jaxem import constraints
    >>> print(constraints.mend(constraints.simplex, jnp.array([1.0, 3.0])))
    [0.25 0.75]
    """
    return each(lambda c, x: c.mend(x), constraints, params)
