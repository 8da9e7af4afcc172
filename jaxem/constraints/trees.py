"""Trees of constraints, shaped like parameters: one for each leaf, and maps that go through them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxem.constraints.numbers import real
from jaxem.constraints.record import Constraint, is_constraint, on_axes
from jaxem.model import PyTree


def told_apart(constraints: PyTree) -> PyTree:
    """Return constraints on no axes of components, for those that something else tells apart: their order is kept.

    >>> from jaxem import constraints
    >>> constraints.told_apart({"rate": constraints.positive})["rate"].component_axes
    ()
    """
    return jax.tree.map(lambda c: on_axes(c or real, ()), constraints, is_leaf=lambda c: c is None or is_constraint(c))


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
