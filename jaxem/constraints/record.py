"""What a domain is: two maps, a test, a count, and which axes run over components."""

import math
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxem.model import Parts


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
        """Pickle by `parts`, a constant of this package by its name there, and any other field by field."""
        name = next((name for name, value in vars(sys.modules[self.__module__]).items() if value is self), None)
        return self.parts or name or (Constraint, tuple(self))


Constraint.__module__ = "jaxem.constraints"  # where constants are found again by their names


@cache
def on_axes(constraint: Constraint, component_axes: tuple[int, ...]) -> Constraint:
    """Return `constraint` for an array whose `component_axes` run over components; () for one that all components share.

    >>> from jaxem import constraints
    >>> constraints.on_axes(constraints.positive, ()).component_axes
    ()
    """
    return constraint._replace(component_axes=component_axes, parts=(on_axes, (constraint, component_axes)))


def is_constraint(node: object) -> bool:
    """Tell whether `node` is a Constraint: the leaves of a tree of constraints.

    >>> from jaxem import constraints
    >>> constraints.is_constraint(constraints.simplex)
    True
    """
    return isinstance(node, Constraint)


def size(shape: tuple[int, ...]) -> int:
    """Return the number of entries."""
    return math.prod(shape)


def rows(shape: tuple[int, ...], trailing: int) -> int:
    """Return the number of arrays of so many trailing axes."""
    return size(shape[: len(shape) - trailing])


def is_finite(x: Array) -> Array:
    """Tell whether all entries are finite: a scalar bool."""
    return jnp.all(jnp.isfinite(x))
