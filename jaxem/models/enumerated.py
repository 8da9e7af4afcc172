"""Models from log p(x, z | θ) alone: latent states are enumerated, and the M-step climbs by gradients."""

from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxem.arrays import as_rows, at_least_one
from jaxem.constraints import Constraint, is_constraint
from jaxem.gradient import gradient_m_step
from jaxem.model import Init, Model, PyTree
from jaxem.models.building import build
from jaxem.numerics import normalize
from jaxem.trees import dtype_of_weights


def from_log_joint(
    log_joint: Callable[[PyTree, PyTree, Array], Array],
    num_states: int,
    *,
    constraints: PyTree = None,
    init: Init | None = None,
    optimizer: optax.GradientTransformation | None = None,
    num_steps: int = 20,
) -> Model:
    """Return the Model of log p(x, z | θ) for one observation x and one latent state z in 0 … num_states - 1.

    `log_joint(params, x, z)` is a scalar, -inf where x and z exclude each other (by `jnp.where(possible, ..., -jnp.inf)`:
    a logarithm of zero has no gradient); `data` is any pytree whose leading axis is n.
    The E-step enumerates the states; the M-step is that of `gradient_m_step`. `constraints` declares the domain of the
    parameters (None: real everywhere); `init(key, data, weights)` draws a random start for `fit_restarts`.

    The posterior is (n, num_states). An unnormalized joint cannot be noticed: then the log-likelihood lacks a constant, or
    a function of θ. A lambda is a new function, and compiles anew, each time it is written down; name it once.
    Raises ValueError for fewer than one state, and for what is no function, optimizer or tree of constraints.

    >>> import jax, jax.numpy as jnp, jaxem
    >>> def log_joint(p, x, z):
    ...     return jnp.log(0.5) + jax.scipy.stats.norm.logpdf(x, p["mean"][z])
    >>> model = jaxem.from_log_joint(log_joint, num_states=2)
    >>> fit = jaxem.fit(model, {"mean": [0.0, 1.0]}, [-2.0, -1.9, 2.0, 2.1])
    >>> print(fit.params["mean"].round(1))
    [-1.9  2. ]
    """
    if not callable(log_joint):
        raise ValueError(f"log_joint must be a function of (params, x, z), got {log_joint!r}.")
    if not isinstance(log_joint, Hashable):
        raise ValueError(f"log_joint must be hashable, as what is compiled is kept by it: a function, got {log_joint!r}.")
    num_states = at_least_one("num_states", num_states)
    leaves, structure = jax.tree.flatten(constraints, is_leaf=is_constraint)
    if not all(map(is_constraint, leaves)):
        raise ValueError(f"constraints must be a tree of jaxem.constraints, such as constraints.positive, got {constraints!r}.")
    model = _enumerated(log_joint, num_states, tuple(leaves), structure)._replace(init=init)
    arguments = (log_joint, num_states, constraints, init, optimizer, num_steps)
    return gradient_m_step(model, optimizer, num_steps)._replace(parts=(_from_arguments, arguments))


def _from_arguments(log_joint: Any, num_states: int, constraints: PyTree, init: Any, optimizer: Any, num_steps: int) -> Model:
    more = {"constraints": constraints, "init": init, "optimizer": optimizer, "num_steps": num_steps}
    return from_log_joint(log_joint, num_states, **more)


class JointStats(NamedTuple):
    """The data and the weighted posterior (num_states, n): what E_Q[log p(x, z | θ)] needs when no sum will do."""

    data: PyTree
    responsibilities: Array


@cache
def _enumerated(
    log_joint: Callable[[PyTree, PyTree, Array], Array],
    num_states: int,
    leaves: tuple[Constraint, ...],
    structure: Any,
) -> Model:
    def one_row(params: PyTree, x: PyTree, z: Array) -> Array:
        try:
            return log_joint(params, x, z)
        except jax.errors.ConcretizationTypeError as error:
            raise ValueError(
                "log_joint(params, x, z) looks at a value (`if z == 0`), which it is traced without: choose by "
                "jnp.where(z == 0, …, …), jnp.stack([…])[z] or jax.lax.select."
            ) from error
        except (TypeError, IndexError, KeyError) as error:
            shapes = jax.tree.map(lambda leaf: tuple(leaf.shape), x)
            raise ValueError(
                f"log_joint(params, x, z) fails on one observation x of shape {shapes} ({type(error).__name__}: {error}): "
                "data may be a dict of arrays, not a DataFrame, for x[name]; params are those that fit was given."
            ) from error

    def all_log_joints(params: PyTree, data: PyTree) -> Array:
        """Log p(x_n, z = k), (k, n), in the dtype of the data."""
        over_rows = jax.vmap(one_row, (None, 0, None))
        log_joints = jax.vmap(over_rows, (None, None, 0))(params, data, jnp.arange(num_states))
        if getattr(log_joints, "ndim", None) != 2:
            shapes = jax.tree.map(lambda leaf: leaf.shape[2:], log_joints)
            raise ValueError(f"log_joint(params, x, z) must return a scalar for one observation, got shape {shapes}.")
        return log_joints.astype(dtype_of_weights(data))

    def infer(params: PyTree, data: PyTree) -> tuple[Array, Array, Callable[[Array, Array], JointStats]]:
        shares, log_prob = normalize(all_log_joints(params, data))
        return shares.T, log_prob, lambda weights, posterior: JointStats(data, weights[None] * posterior.T)

    def expected_log_joint(params: PyTree, stats: JointStats) -> Array:
        log_joints = all_log_joints(params, stats.data)
        return (stats.responsibilities * jnp.where(stats.responsibilities > 0, log_joints, 0)).sum()

    return build(
        infer,
        lambda params, stats: params,
        expected_log_joint,
        prepare=lambda data, weights: as_rows(data),
        constraints=jax.tree.unflatten(structure, leaves),
        additive=False,
        parts=(_enumerated, (log_joint, num_states, leaves, structure)),
    )
