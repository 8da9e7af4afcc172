"""Where an M-step has no closed form: optax steps on F, which never lower it."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from jaxem.arrays import at_least_one
from jaxem.boundary import check_model
from jaxem.constraints import constrain, unconstrain
from jaxem.model import Model, PyTree, require
from jaxem.numerics import in_full_precision
from jaxem.trees import choose

NOTHING_GAINED = 2  # ulps of F within which two steps of an optimizer stand still
PROBES = 40  # halvings of a step along the gradient, from one unit on
WORTH_RISING = 100  # ulps of F that such a step must gain to say that F can rise

_lbfgs = cache(optax.lbfgs)


def gradient_m_step(model: Model, optimizer: optax.GradientTransformation | None = None, num_steps: int = 20) -> Model:
    """Return `model` with an M-step of `num_steps` optax steps up θ ↦ E_Q[log p(x, z | θ)] + log p(θ), in unconstrained space.

    The step ends at the highest point it met, and at its start where none was higher: F never falls, and a fit that is left
    at such a start although F could yet rise ends as STALLED. The default optimizer is L-BFGS with a line search, which
    reaches a stationary point to rounding; one that takes steps of a set length, as Adam does, stops short of it.
    Generalized EM: Dempster, Laird & Rubin (1977), §3; Neal & Hinton (1998).

    Raises ValueError for a model without `expected_log_joint`, for what is no optimizer, or `num_steps` below one.

    >>> import jaxem
    >>> exact, x = jaxem.mixture(jaxem.families.poisson(), 2), jaxem.datasets.london_times_deaths()
    >>> start = jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 3.0]))
    >>> print(f"{jaxem.fit(jaxem.gradient_m_step(exact), start, *x, max_steps=10).log_likelihood:.2f}")
    -1990.04
    """
    check_model(model)
    require(model, "expected_log_joint")
    if optimizer is not None and not isinstance(optimizer, optax.GradientTransformation):
        raise ValueError(f"optimizer must be one of optax's, such as optax.adam(1e-2) with its parentheses, got {optimizer!r}.")
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


@cache
def _gradient_m_step(model: Model, optimizer: optax.GradientTransformation, num_steps: int) -> Model:
    @jax.jit
    @in_full_precision
    def m_step(params: PyTree, stats: PyTree) -> PyTree:
        """Return the highest params met on the way up E_Q[log p(x, z | θ)], Q summarized by `stats`; never lower ones."""
        free = unconstrain(model.constraints, params)
        best, lowest, start = ascend(lambda u, sums: _loss(model, u, sums), free, stats, optimizer, num_steps)
        return choose(lowest < start, constrain(model.constraints, best), params)

    default = optimizer is _lbfgs()
    return model._replace(
        m_step=m_step,
        exact=False,
        parts=(gradient_m_step, (model, None if default else optimizer, num_steps)),
    )


def ascend(
    loss: Callable[[PyTree, PyTree], Array],
    free: PyTree,
    stats: PyTree,
    optimizer: optax.GradientTransformation | None = None,
    num_steps: int = 20,
) -> tuple[PyTree, Array, Array]:
    """Return the place of the lowest loss(·, stats) on an optimizer's way from `free`, that loss, and the loss at `free`."""
    tool = optax.with_extra_args_support(optimizer or _lbfgs())

    def advance(climber: _Climber) -> _Climber:
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

    start, zero = loss(free, stats), jnp.asarray(0, jnp.int32)
    climber = _Climber(zero, free, start, tool.init(free), free, start, zero)
    climber = lax.while_loop(lambda climber: (climber.step < num_steps) & (climber.still < 2), advance, climber)
    return climber.best, climber.lowest, start


def _loss(model: Model, free: PyTree, stats: PyTree) -> Array:
    params = constrain(model.constraints, free)
    value = require(model, "expected_log_joint")(params, stats)
    return -(value + model.log_prior(params) if model.log_prior else value)


@in_full_precision
def can_rise(model: Model, params: PyTree, stats: PyTree, count: Array, tol: Array) -> Array:
    """Tell whether F can yet rise from `params` by more than `tol` nats and more than rounding, or its slope is NaN.

    Steps along the gradient in unconstrained space are tried, from one unit down to 2⁻⁴⁰; `count` is the number of
    observations that F is a sum over.
    """
    free = unconstrain(model.constraints, params)
    start, gradient = jax.value_and_grad(lambda u: _loss(model, u, stats))(free)
    norm = optax.tree.norm(gradient)
    lengths = 0.5 ** jnp.arange(PROBES, dtype=norm.dtype) / jnp.where(norm > 0, norm, 1)
    losses = lax.map(lambda t: _loss(model, jax.tree.map(lambda u, g: u - t * g, free, gradient), stats), lengths)
    gained = start - jnp.nanmin(losses)
    rounding = WORTH_RISING * jnp.finfo(norm.dtype).eps * (jnp.abs(start) + count)
    return ~(gained <= jnp.maximum(WORTH_RISING * tol, rounding))
