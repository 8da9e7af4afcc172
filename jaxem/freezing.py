"""Parameters held at given values: no parameters any more. What is fixed is not in the tree."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import as_params, is_traced
from jaxem.boundary import check_domain, check_model, check_structure
from jaxem.climbing import MOST_ENTRIES, climb, presses, slope_at, value_and_slope_at
from jaxem.constraints import Constraint, broadcast, mend, on_axes
from jaxem.model import Model, PyTree, require
from jaxem.numerics import in_full_precision
from jaxem.reparametrize import re_expressed

FREE = "free"  # what stands in the place of a leaf that is not held


class _Value(NamedTuple):
    """An array by dtype, shape and bytes: one that has a hash."""

    dtype: str
    shape: tuple[int, ...]
    content: bytes

    def array(self) -> np.ndarray:
        return np.frombuffer(self.content, self.dtype).reshape(self.shape)


def freeze(model: Model, params: PyTree, where: Callable[[PyTree], PyTree]) -> tuple[Model, PyTree]:
    """Return `model` with some leaves of its parameters held at their values in `params`, and `params` without those.

    `where(params)` points at the leaves held: one, or a tuple or subtree of them, `lambda p: p.components.mean`. The
    parameters of the frozen model have None in their place (what is fixed is no parameter, nor counted as one), and
    `thaw(frozen, fit.params)` puts them back. The others are maximized exactly given those: by the model's M-step where that
    separates, else by Newton's steps up E_Q[log p(x, z | θ)] in what is free, to where its slope is zero.
    Components are told apart by what is held, so that an order of them means something: it is kept.

    A model with a `num_free` of its own, because directions in some leaves change nothing, loses the entries that are held;
    where those leaves themselves are held, a state space model counts which directions are left, and of others
    `frozen._replace(num_free=…)` says it.

    Equal weights: params with weights 1/k, and `lambda p: p.weights`. Part of a leaf is held by `reparametrize`.
    Raises ValueError where `where` points at nothing, at everything, or at what is no leaf of `params`, for params outside
    their domain, and for a model without `expected_log_joint`.

    >>> import jax.numpy as jnp, jaxem
    >>> x = jaxem.datasets.faithful()
    >>> model = jaxem.mixture(jaxem.families.gaussian(), 2)
    >>> params = model.init(0, x)._replace(weights=jnp.array([0.5, 0.5]))
    >>> frozen, start = jaxem.freeze(model, params, lambda p: p.weights)
    >>> fit = jaxem.fit(frozen, start, x)
    >>> print(f"{fit.log_likelihood:.2f}", jaxem.num_free_parameters(frozen, start), jaxem.thaw(frozen, fit.params).weights)
    -1141.69 10 [0.5 0.5]
    """
    check_model(model)
    require(model, "expected_log_joint")
    params = as_params(params)
    check_structure(model.constraints, params)
    if is_traced(params):
        raise ValueError("freeze looks at the values that it holds: call it outside jit and vmap.")
    check_domain(model, params)
    leaves, structure = jax.tree.flatten(mend(model.constraints, params))
    held = _pointed_at(where, leaves, structure)
    values = tuple(_value(leaf) if hold else None for leaf, hold in zip(leaves, held, strict=True))
    free = [None if hold else leaf for leaf, hold in zip(leaves, held, strict=True)]
    exactly = sum(leaf.size for leaf in free if leaf is not None) <= MOST_ENTRIES
    return _freeze(model, structure, values, exactly), jax.tree.unflatten(structure, free)


def thaw(frozen: Model, params: PyTree) -> PyTree:
    """Return parameters of a frozen model with what is held put back: those of the model that it was made of.

    Raises ValueError for a model that holds nothing, and for params that are not its own.

    >>> import jaxem
    >>> model = jaxem.mixture(jaxem.families.poisson(), 2)
    >>> params = jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 3.0]))
    >>> frozen, start = jaxem.freeze(model, params, lambda p: p.components.rate)
    >>> print(start.components.rate, jaxem.thaw(frozen, start).components.rate)
    None [1. 3.]
    """
    check_model(frozen)
    if frozen.whole is None:
        raise ValueError("thaw(frozen, params) needs a model that holds parameters, as freeze returns.")
    return frozen.whole(params)


def _value(leaf: Array) -> _Value:
    array = np.asarray(leaf)
    return _Value(array.dtype.name, array.shape, array.tobytes())


def _pointed_at(where: Callable[[PyTree], PyTree], leaves: list[Array], structure: Any) -> list[bool]:
    """Return for each leaf whether `where` points at it."""
    marks = [object() for _ in leaves]
    try:
        found = jax.tree.leaves(where(jax.tree.unflatten(structure, marks)))
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        why = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise ValueError(
            f"where(params) must point at whole leaves, as lambda p: p.components.mean does ({why}); "
            "part of a leaf is held by reparametrize."
        ) from error
    held = [any(mark is one for one in found) for mark in marks]
    if not found or not all(any(mark is one for mark in marks) for one in found):
        raise ValueError(f"where(params) must point at leaves of params, such as lambda p: p.components.mean, got {found!r}.")
    if all(held):
        raise ValueError("where(params) points at all leaves of params, which leaves nothing to fit.")
    return held


def _frozen(model: Model, held: PyTree, exactly: bool) -> Model:
    """Return the frozen model: `held` has FREE in the place of each leaf that is not, and is what it pickles by."""
    leaves, structure = jax.tree.flatten(held)
    values = tuple(None if isinstance(leaf, str) else _value(leaf) for leaf in leaves)
    return _freeze(model, structure, values, exactly)


@cache
def _freeze(model: Model, structure: Any, values: tuple[_Value | None, ...], exactly: bool) -> Model:
    own: Any = jax.tree.structure(jax.tree.unflatten(structure, [FREE if value is None else None for value in values]))
    domains = _domains(model, structure, values)
    closed = getattr(model.m_step, "given", None)

    def without(params: PyTree) -> PyTree:
        leaves = zip(jax.tree.leaves(params), values, strict=True)
        return jax.tree.unflatten(structure, [leaf if value is None else None for leaf, value in leaves])

    def whole(params: PyTree) -> PyTree:
        """Return parameters of the model that this one was made of, with what is held put back."""
        free = as_params(params)
        if jax.tree.structure(free) != own:
            raise ValueError(
                f"params has structure {jax.tree.structure(free)}, needs that of a frozen model, {own}: start from what "
                "freeze returned, None in the place of what is held."
            )
        given = jax.tree.leaves(free)
        rest = iter(given)
        leaves = [next(rest) if v is None else jnp.asarray(v.array(), given[0].dtype) for v in values]
        return jax.tree.unflatten(structure, leaves)

    def height(theta: PyTree, stats: PyTree) -> Array:
        value = require(model, "expected_log_joint")(theta, stats)
        return value + model.log_prior(theta) if model.log_prior else value

    def pressed(params: PyTree, stats: PyTree, proposed: PyTree) -> Array:
        """Tell whether a floor holds the model's own M-step, and would hold that of what is free."""
        if model.degenerate is None:
            return jnp.asarray(False)
        push = without(slope_at(lambda theta: height(theta, stats), model.constraints, proposed))
        value, slope = value_and_slope_at(lambda free: height(whole(free), stats), domains, without(proposed))
        return model.degenerate(whole(params), stats) & presses(value, slope, push)

    @jax.jit
    @in_full_precision
    def m_step(params: PyTree, stats: PyTree) -> PyTree:
        """Return the free parameters that maximize E_Q[log p(x, z | θ)] given what is held; never lower ones."""
        if closed is not None:
            return without(closed(whole(params), stats, jax.tree.unflatten(structure, [v is not None for v in values])))
        proposed = model.m_step(whole(params), stats)
        stay = pressed(params, stats, proposed)
        return climb(lambda free: height(whole(free), stats), domains, params, without(proposed), stay)

    @in_full_precision
    def degenerate(params: PyTree, stats: PyTree) -> Array:
        """Tell whether a floor against an unbounded likelihood holds the M-step from `stats`: a scalar bool."""
        return pressed(params, stats, model.m_step(whole(params), stats))

    def init(key: Array, data: PyTree, weights: Any = None) -> PyTree:
        """Return one random start, that of the model without what is held; weights (n,), None for one each."""
        return without(require(model, "init")(key, data, weights))

    def num_free(params: PyTree) -> int:
        """Return the number of parameters that are free: those of the model less those in what is held.

        It takes directions that change nothing to lie in what is free; where these are held, there are so many more.
        """
        theta = whole(params)
        own_count = getattr(model.num_free, "given", None)
        if own_count is not None:
            return int(own_count(theta, jax.tree.unflatten(structure, [value is not None for value in values])))
        counts = zip(broadcast(model.constraints, theta), jax.tree.leaves(theta), values, strict=True)
        return int(require(model, "num_free")(theta)) - sum(c.num_free(leaf.shape) for c, leaf, v in counts if v is not None)

    held = jax.tree.unflatten(structure, [FREE if value is None else value.array() for value in values])
    return re_expressed(model, whole)._replace(
        m_step=m_step,
        init=init if model.init else None,
        degenerate=degenerate if model.degenerate else None,
        constraints=domains,
        num_free=num_free if model.num_free else None,
        parts=(_frozen, (model, held, exactly)),
        exact=model.exact and (exactly or closed is not None),
    )


def _domains(model: Model, structure: Any, values: tuple[_Value | None, ...]) -> PyTree:
    """Return the constraints of what is free; on no axes of components where those are told apart by what is held."""
    if model.constraints is None:
        return None
    each = broadcast(model.constraints, jax.tree.unflatten(structure, [FREE] * len(values)))
    told_apart = any(_differs(value.array(), c) for c, value in zip(each, values, strict=True) if value is not None)
    free = [on_axes(c, ()) if told_apart and c.component_axes else c for c in each]
    return jax.tree.unflatten(structure, [c if value is None else None for c, value in zip(free, values, strict=True)])


def _differs(array: np.ndarray, constraint: Constraint) -> bool:
    """Tell whether an array is not the same for all components."""
    return any((array != array.take([0], axis)).any() for axis in constraint.component_axes)
