"""Where an M-step has no closed form: optax steps on F, which never lower it; and models from log p(x, z | θ) alone."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from jaxem.boundary import at_least_one
from jaxem.constraints import Constraint, constrain, is_constraint, unconstrain
from jaxem.model import Init, Model, PyTree, choose, in_full_precision, normalize, require, unit_weights

NOTHING_GAINED = 2  # ulps of F within which two steps of an optimizer stand still
PROBES = 40  # halvings of a step along the gradient, from one unit on
WORTH_RISING = 100  # ulps of F that such a step must gain to say that F can rise

_lbfgs = lru_cache(optax.lbfgs)


def gradient_m_step(model: Model, optimizer: optax.GradientTransformation | None = None, num_steps: int = 20) -> Model:
    """Return `model` with an M-step of `num_steps` optax steps up θ ↦ E_Q[log p(x, z | θ)], in unconstrained space.

    The step ends at the highest point it met, and at its start where none was higher: F never falls, and a fit that is left
    at such a start although F could yet rise ends as STALLED. The default optimizer is L-BFGS with a line search, which
    reaches a stationary point to rounding; one that takes steps of a set length, as Adam does, stops short of it.
    Generalized EM: Dempster, Laird & Rubin (1977), §3; Neal & Hinton (1998).

    Raises ValueError for a model without `expected_log_joint`, or `num_steps` below one.
    """
    require(model, "expected_log_joint")
    return _gradient_m_step(model, optimizer or _lbfgs(), at_least_one("num_steps", num_steps))


class _Climber(NamedTuple):
    """An optimizer on its way down -F, in unconstrained space."""

    step: Array
    free: PyTree
    loss: Array  # at free
    state: Any
    best: PyTree
    lowest: Array  # at best
    still: Array  # steps in a row that changed nothing


@lru_cache
def _gradient_m_step(model: Model, optimizer: optax.GradientTransformation, num_steps: int) -> Model:
    tool = optax.with_extra_args_support(optimizer)
    expected_log_joint = require(model, "expected_log_joint")

    def loss(free: PyTree, stats: PyTree) -> Array:
        return -expected_log_joint(constrain(model.constraints, free), stats)

    def climb(climber: _Climber, stats: PyTree) -> _Climber:
        gradient = jax.grad(loss)(climber.free, stats)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
            updates, state = tool.update(
                gradient,
                climber.state,
                climber.free,
                value=climber.loss,
                grad=gradient,
                value_fn=lambda free: loss(free, stats),
            )
        free = jax.tree.map(jnp.add, climber.free, updates)
        value = loss(free, stats)
        lower = value < climber.lowest
        still = jnp.abs(value - climber.loss) <= NOTHING_GAINED * jnp.finfo(value.dtype).eps * jnp.abs(value)
        return _Climber(
            step=climber.step + 1,
            free=free,
            loss=value,
            state=state,
            best=choose(lower, free, climber.best),
            lowest=jnp.where(lower, value, climber.lowest),
            still=jnp.where(still, climber.still + 1, 0),
        )

    @jax.jit
    @in_full_precision
    def m_step(params: PyTree, stats: PyTree) -> PyTree:
        free, zero = unconstrain(model.constraints, params), jnp.asarray(0, jnp.int32)
        start = loss(free, stats)
        climber = _Climber(zero, free, start, tool.init(free), free, start, zero)
        climber = lax.while_loop(
            lambda climber: (climber.step < num_steps) & (climber.still < 2), lambda c: climb(c, stats), climber
        )
        climbed = constrain(model.constraints, climber.best)
        return choose(climber.lowest < start, climbed, params)

    @in_full_precision
    def stalled(params: PyTree, stats: PyTree) -> Array:
        """Whether some step along the gradient, from one unit down to 2⁻⁴⁰, raises F beyond rounding; so too if it is NaN."""
        free = unconstrain(model.constraints, params)
        start, gradient = jax.value_and_grad(loss)(free, stats)
        norm = optax.tree.norm(gradient)
        lengths = 0.5 ** jnp.arange(PROBES, dtype=norm.dtype) / jnp.where(norm > 0, norm, 1)
        losses = lax.map(lambda t: loss(jax.tree.map(lambda u, g: u - t * g, free, gradient), stats), lengths)
        gained = start - jnp.nanmin(losses)
        return ~(gained <= WORTH_RISING * jnp.finfo(norm.dtype).eps * jnp.abs(start))

    return model._replace(m_step=m_step, stalled=stalled)


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

    The posterior is (n, num_states). Raises ValueError for fewer than one state.
    """
    num_states = at_least_one("num_states", num_states)
    leaves, structure = jax.tree.flatten(constraints, is_leaf=is_constraint)
    model = _enumerated(log_joint, num_states, tuple(leaves), structure)._replace(init=init)
    return gradient_m_step(model, optimizer, num_steps)


class JointStats(NamedTuple):
    """The data and the weighted posterior (num_states, n): what E_Q[log p(x, z | θ)] needs when no sum will do."""

    data: PyTree
    responsibilities: Array


@lru_cache
def _enumerated(
    log_joint: Callable[[PyTree, PyTree, Array], Array],
    num_states: int,
    leaves: tuple[Constraint, ...],
    structure: Any,
) -> Model:
    def all_log_joints(params: PyTree, data: PyTree) -> Array:
        """Log p(x_n, z = k), (k, n), in the dtype of the data."""
        over_rows = jax.vmap(log_joint, (None, 0, None))
        log_joints = jax.vmap(over_rows, (None, None, 0))(params, data, jnp.arange(num_states))
        if getattr(log_joints, "ndim", None) != 2:
            shapes = jax.tree.map(lambda leaf: leaf.shape[2:], log_joints)
            raise ValueError(f"log_joint(params, x, z) must return a scalar for one observation, got shape {shapes}.")
        return log_joints.astype(unit_weights(data).dtype)

    @jax.jit
    def e_step(params: PyTree, data: PyTree, weights: Array) -> tuple[JointStats, Array]:
        shares, log_prob = normalize(all_log_joints(params, data))
        log_likelihood = jnp.where(weights > 0, weights * log_prob, 0).sum()
        return statistics(params, data, weights, shares.T), log_likelihood

    def statistics(params: PyTree, data: PyTree, weights: Array, posterior: Array) -> JointStats:
        return JointStats(data, weights[None] * posterior.T)

    def expected_log_joint(params: PyTree, stats: JointStats) -> Array:
        log_joints = all_log_joints(params, stats.data)
        return (stats.responsibilities * jnp.where(stats.responsibilities > 0, log_joints, 0)).sum()

    def m_step(params: PyTree, stats: JointStats) -> PyTree:
        return params

    return Model(
        e_step=e_step,
        m_step=m_step,
        expected_log_joint=expected_log_joint,
        posterior=jax.jit(lambda params, data: normalize(all_log_joints(params, data))[0].T),
        statistics=statistics,
        log_prob=jax.jit(lambda params, data: normalize(all_log_joints(params, data))[1]),
        constraints=jax.tree.unflatten(structure, leaves),
        additive=False,
    )
