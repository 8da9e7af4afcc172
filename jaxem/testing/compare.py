"""Trees compared in NumPy: entries as vectors, and differences against tolerances, leaf by leaf or entry by entry."""

from typing import Any

import jax
import numpy as np

from jaxem import constraints
from jaxem.model import Family, Model, PyTree
from jaxem.testing.evidence import HERE, UPDATE, Survey

FAR_OUT = 80.0  # in unconstrained space, beyond which a logarithm is of the least numbers


def flat(tree: PyTree, place: int | None = None) -> np.ndarray:
    """Return all entries of a tree, or of one place of a stacked one, as a vector in float64."""
    leaves = [np.asarray(leaf) if place is None else np.asarray(leaf)[place] for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.astype(np.float64).ravel() for leaf in leaves]) if leaves else np.zeros(0)


def names(tree: PyTree, place: int | None = None) -> list[str]:
    """Return the place of each entry that `flat` returns, by leaf."""
    shapes = [
        (jax.tree_util.keystr(path), np.size(leaf if place is None else leaf[place]))
        for path, leaf in jax.tree.leaves_with_path(tree)
    ]
    return [name for name, size in shapes for _ in range(size)]


def unflat(vector: np.ndarray, like: PyTree) -> PyTree:
    """Return a vector as a tree of the shapes and dtypes of `like`."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([np.size(leaf) for leaf in leaves])
    parts = np.split(vector, ends[:-1])
    return jax.tree.unflatten(structure, [p.reshape(x.shape).astype(x.dtype) for p, x in zip(parts, leaves, strict=True)])


def assert_close(received: PyTree, expected: PyTree, tolerance: PyTree, law: str, what: str) -> None:
    """Compare leaf by leaf, each with a tolerance of its own, or all with one."""
    leaves = jax.tree.leaves(received)
    allowed = jax.tree.leaves(tolerance)
    allowed = allowed * len(leaves) if len(allowed) == 1 else allowed
    for (path, right), left, most in zip(jax.tree.leaves_with_path(expected), leaves, allowed, strict=True):
        left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
        place = f"{what}{jax.tree_util.keystr(path)}"
        assert left.shape == right.shape, f"{law}: {place} has shape {left.shape}, expected {right.shape}."
        with np.errstate(invalid="ignore"):
            worst = np.where(left == right, 0, np.abs(left - right)).max(initial=0)
        assert worst <= most, f"{law}: {place} differs by {worst:.3g}, more than {most:.3g}; expected {right}, received {left}."


def scaled(tree: PyTree, factor: float) -> PyTree:
    """Return a tree times a factor, in float64."""
    return jax.tree.map(lambda leaf: factor * np.asarray(leaf, np.float64), tree)


def plus(left: PyTree, right: PyTree) -> PyTree:
    """Return the sum of two trees, in float64."""
    return jax.tree.map(lambda a, b: np.asarray(a, np.float64) + np.asarray(b, np.float64), left, right)


def largest(log_prob: Any) -> float:
    """Return the largest finite size among log-densities; zero where there are none."""
    values = np.abs(np.asarray(log_prob, np.float64)) if not isinstance(log_prob, tuple) else np.zeros(1)
    return float(values[np.isfinite(values)].max(initial=0))


def alike(one: PyTree, other: PyTree) -> bool:
    """Tell whether two trees have the same structure, shapes and dtypes."""
    shapes = [[(np.shape(leaf), np.asarray(leaf).dtype) for leaf in jax.tree.leaves(tree)] for tree in (one, other)]
    return str(jax.tree.structure(one)) == str(jax.tree.structure(other)) and shapes[0] == shapes[1]


def total_slope(there: Survey, place: int) -> np.ndarray:
    """Return the gradient of bound + prior at a place."""
    return flat(there.bound_slope, place) + flat(there.prior_slope, place)


def leaf_largest(scale: np.ndarray, there: Survey) -> np.ndarray:
    """Return for each entry the largest one of its leaf."""
    like = jax.tree.map(lambda leaf: np.asarray(leaf)[HERE], there.free)
    return flat(jax.tree.map(lambda leaf: np.full(leaf.shape, leaf.max(initial=0)), unflat(scale, like)))


def assert_small(left: np.ndarray, allowed: np.ndarray, there: Survey, what: str) -> None:
    """Raise AssertionError where an entry of a gradient is above what is allowed, or NaN away from all boundaries."""
    inside = (np.abs(np.concatenate([flat(there.free, HERE), flat(there.free, UPDATE)])) < FAR_OUT).all()
    left = np.where(np.isnan(left), np.inf if inside else 0, left)
    excess = np.where(left > allowed, left - np.where(np.isfinite(allowed), allowed, 0), 0)
    if excess.max(initial=0) > 0:
        worst, where = int(excess.argmax()), names(there.free, HERE)
        raise AssertionError(
            f"{what} params{where[worst]}: {left[worst]:.3g} nats per unit of unconstrained space, more than "
            f"{allowed[worst]:.3g} (entry {worst - where.index(where[worst])} of that array)."
        )


def num_components(record: Model | Family, params: PyTree) -> int:
    """Return how many components the constraints say that there are; 0 where they do not agree, or say nothing."""
    if record.constraints is None:
        return 0
    domains = zip(constraints.broadcast(record.constraints, params), jax.tree.leaves(params), strict=True)
    axes = [(np.shape(leaf), axis) for domain, leaf in domains for axis in domain.component_axes]
    counts = {shape[axis] if axis < len(shape) else 0 for shape, axis in axes}
    return counts.pop() if len(counts) == 1 else 0
