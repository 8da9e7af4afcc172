"""What a component is: the places of parameters along the axes that their constraints name, and what is done with them."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.constraints import Constraint, broadcast, each, mend, simplex
from jaxem.model import PyTree


def take(constraints: PyTree, params: PyTree, components: Array) -> PyTree:
    """Return the parameters of the named components alone, in that order; what lies on a simplex sums to one again.

    Raises ValueError where arrays have different numbers of components, as in a union.

    >>> import jax.numpy as jnp
    >>> from jaxem import components, constraints
    >>> print(components.take(constraints.positive, jnp.array([1.0, 2.0, 3.0]), jnp.array([2, 0])))
    [3. 1.]
    """
    check_one_kind(constraints, params)
    return mend(constraints, rearrange(constraints, params, jnp.asarray(components)))


def check_one_kind(constraints: PyTree, params: PyTree) -> None:
    """Raise ValueError for components of several kinds, as a union has them.

    >>> import jax.numpy as jnp
    >>> from jaxem import components, constraints
    >>> try:
    ...     components.check_one_kind((constraints.positive, constraints.real), (jnp.ones(2), jnp.zeros(1)))
    ... except ValueError as error:
    ...     print(str(error)[:36])
    params has [1, 2] components of seve
    """
    numbers = numbers_of(constraints, params)
    if len(numbers) > 1:
        raise ValueError(f"params has {sorted(numbers)} components of several kinds, which cannot take each other's places.")


def numbers_of(constraints: PyTree, params: PyTree) -> set[int]:
    """Return the lengths of all axes of components: one number, or several kinds; axes that an array has not are none.

    >>> import jax.numpy as jnp
    >>> from jaxem import components, constraints
    >>> components.numbers_of((constraints.positive, constraints.real), (jnp.ones(2), jnp.zeros(())))
    {2}
    """
    domains = zip(broadcast(constraints, params), jax.tree.leaves(params), strict=True)
    return {np.shape(leaf)[axis] for domain, leaf in domains for axis in _axes(domain, leaf)}


def _axes(constraint: Constraint, leaf: Any, behind: int = 0) -> tuple[int, ...]:
    return tuple(axis for axis in constraint.component_axes if axis + behind < np.ndim(leaf))


def rearrange(constraints: PyTree, params: PyTree, components: Any, behind: int = 0) -> PyTree:
    """Return what `take` does, unmended: NumPy arrays stay such, and nothing is compiled for them.

    The axes of components stand behind `behind` others, those of stacked params.

    >>> import numpy as np
    >>> from jaxem import components, constraints
    >>> print(components.rearrange(constraints.simplex, np.array([[0.25, 0.75, 0.0]]), np.arange(2), behind=1))
    [[0.25 0.75]]
    """

    def rearranged(constraint: Constraint, leaf: Any) -> Any:
        for axis in _axes(constraint, leaf, behind):
            leaf = leaf.take(components, axis + behind)
        return leaf

    return each(rearranged, constraints, params)


def order(constraints: PyTree, params: PyTree, keys: Array) -> PyTree:
    """Return the parameters with components in the order of rising `keys` (k,), such as a mean or a negative weight.

    >>> import jax.numpy as jnp
    >>> from jaxem import components, constraints
    >>> print(components.order(constraints.positive, jnp.array([1.0, 2.0]), jnp.array([5.0, 4.0])))
    [2. 1.]
    """
    return take(constraints, params, jnp.argsort(keys))


def concatenate(constraints: PyTree, params: Sequence[PyTree]) -> PyTree:
    """Return the components of several trees of parameters side by side; arrays that all share are those of the first.

    What runs over components along two axes is laid along the diagonal, with zeros elsewhere; weights on a simplex are
    scaled to one.

    >>> import jax.numpy as jnp
    >>> from jaxem import components, constraints
    >>> print(components.concatenate(constraints.simplex, [jnp.array([0.2, 0.8]), jnp.array([1.0])]))
    [0.1 0.4 0.5]
    """

    def joined(constraint: Constraint, *leaves: Array) -> Array:
        axes = _axes(constraint, leaves[0])
        if len(axes) == 1:
            return jnp.concatenate(leaves, axes[0])
        whole = leaves[0]
        for leaf in leaves[1:] if axes else ():
            before = [(0, leaf.shape[a]) if a in axes else (0, 0) for a in range(whole.ndim)]
            after = [(whole.shape[a], 0) if a in axes else (0, 0) for a in range(whole.ndim)]
            whole = jnp.pad(whole, before) + jnp.pad(leaf, after)
        return whole

    return mend(constraints, each(joined, constraints, *params))


def pad(constraints: PyTree, params: PyTree, num_components: int) -> PyTree:
    """Return params with copies of the first component behind, up to `num_components`: places for absent components.

    Their weights, on a simplex that runs over components alone, are zero.

    >>> import jax.numpy as jnp
    >>> from jaxem import components, constraints
    >>> print(components.pad(constraints.positive, jnp.array([1.0, 2.0]), 4))
    [1. 2. 1. 1.]
    """

    def padded(constraint: Constraint, leaf: Array) -> Array:
        weights = constraint.constrain is simplex.constrain and leaf.ndim == len(constraint.component_axes) == 1
        for axis in _axes(constraint, leaf):
            places = jnp.arange(num_components)
            present = places < leaf.shape[axis]
            leaf = jnp.take(leaf, jnp.where(present, places, 0), axis)
            leaf = jnp.where(present, leaf, 0) if weights else leaf
        return leaf

    return each(padded, constraints, params)


def keep_empty(constraints: PyTree, counts: Array, new: PyTree, old: PyTree) -> PyTree:
    """Return the new parameters, and for components of count zero, which nothing was learnt about, the old ones.

    counts (k,). What no component has to itself is the new one; of what runs over components along two axes, such as
    transitions, the first is that of the component itself. Arrays of another number of components, parts of a union, are
    the new ones.

    >>> import jax.numpy as jnp
    >>> from jaxem import components, constraints
    >>> new, old = jnp.array([3.0, jnp.nan]), jnp.array([1.0, 2.0])
    >>> print(components.keep_empty(constraints.positive, jnp.array([5.0, 0.0]), new, old))
    [3. 2.]
    """

    def kept(constraint: Constraint, after: Array, before: Array) -> Array:
        axes = _axes(constraint, after)
        if not axes or after.shape[axes[0]] != counts.shape[0]:
            return after
        shape = [-1 if axis == axes[0] else 1 for axis in range(after.ndim)]
        return jnp.where((counts > 0).reshape(shape) | constraint.shared(after.shape), after, before)

    return each(kept, constraints, new, old)


def any_alike(constraints: PyTree, params: PyTree) -> bool:
    """Tell whether two components have the same parameters, to a hundred-thousandth of the largest; shares do not matter.

    So a mixture whose components have met, at a saddle of its likelihood, is known at a look.

    >>> import numpy as np
    >>> from jaxem import components, constraints
    >>> components.any_alike(constraints.positive, np.array([1.0, 2.0, 1.0]))
    True
    """
    columns = []
    for constraint, leaf in zip(broadcast(constraints, params), jax.tree.leaves(params), strict=True):
        if np.ndim(leaf) and constraint.component_axes == (0,) and constraint.constrain is not simplex.constrain:
            columns.append(np.reshape(leaf, (np.shape(leaf)[0], -1)))
    if not columns or len({len(some) for some in columns}) > 1 or not all(np.isfinite(some).all() for some in columns):
        return False
    entries = np.concatenate(columns, 1)
    size = np.abs(entries).max(0)
    return len(np.unique(np.round(entries / np.where(size > 0, size, 1), 5), axis=0)) < len(entries)
