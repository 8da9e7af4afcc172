"""What the laws are judged by: one compiled program per model.

Nearly all the time of a check is compilation. So one program returns at once whatever any law asks of a model at given
params, data and weights, and other data, weights and params of the same shapes run through the same program.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxem import constraints
from jaxem.boundary import LOOKED_AT_VALUES
from jaxem.gradient import can_rise
from jaxem.model import Model, PyTree, require
from jaxem.numerics import in_full_precision

HERE, UPDATE, OTHER = 0, 1, 2  # places among the points of a survey

QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
"""How to compile fast what runs for milliseconds: in a fifth of the time, by the compiler that this was measured with."""


@cache
def _known_options() -> dict[str, Any]:
    """Return those of the options that this version of the compiler knows."""

    def knows(options: dict[str, Any]) -> bool:
        try:
            jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
        except jax.errors.JaxRuntimeError:
            return False
        return True

    return QUICK if knows(QUICK) else {name: value for name, value in QUICK.items() if knows({name: value})}


def quickly(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, of a static model and more, compiled with the fewest optimizations."""
    compiled: list[Callable[..., Any]] = []

    @wraps(function)
    def run(*arguments: Any) -> Any:
        if not compiled:
            compiled.append(jax.jit(function, static_argnums=0, compiler_options=_known_options()))
        return compiled[0](*arguments)

    return run


class Survey(NamedTuple):
    """A bound, its gradient and that of the prior at three points: the params, their update, and others.

    `free` are the points in unconstrained space, and all gradients are with respect to those.
    """

    free: PyTree
    bound: Array
    prior: Array
    bound_slope: PyTree
    prior_slope: PyTree
    extra: PyTree  # a given gradient at the first point, pulled back to unconstrained space


class Evidence(NamedTuple):
    """What a model says at params, data and weights; () where it lacks the capability."""

    stats: PyTree
    log_likelihood: Array
    log_prob: Any
    entropy: Any
    posterior: PyTree
    restated: PyTree  # statistics of the posterior
    update: PyTree
    held: Array
    rises: Array  # whether F can rise from the params; True where the M-step is exact
    survey: Survey


def survey(
    domains: PyTree, bound: Callable[[PyTree], Array], prior: Callable[[PyTree], Array], points: list[PyTree], extra: PyTree
) -> Survey:
    """Return values and gradients at the points, traced once; `extra` is a gradient at the first of them."""

    def at(point: tuple[PyTree, PyTree]) -> Survey:
        theta, more = point
        (bound_value, bound_slope), (prior_value, prior_slope) = (jax.value_and_grad(f)(theta) for f in (bound, prior))
        free = constraints.unconstrain(domains, theta)
        pull = jax.vjp(lambda u: constraints.constrain(domains, u), free)[1]
        slopes = [pull(slope)[0] for slope in (bound_slope, prior_slope, more)]
        return Survey(free, bound_value, prior_value, *slopes)

    zeros = jax.tree.map(jnp.zeros_like, extra)
    stacked, extras = (jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) for trees in (points, [extra, zeros, zeros]))
    return lax.map(at, (stacked, extras))


@quickly
@in_full_precision
def evidence(model: Model, params: PyTree, other: PyTree, data: PyTree, weights: Array) -> Evidence:
    """Return all that the laws ask of `model` at `params`, and its bound at `other` params too."""

    def expect(theta: PyTree) -> tuple[Array, PyTree]:
        stats, log_likelihood = model.e_step(theta, data, weights)
        return log_likelihood, stats

    zero = jnp.zeros((), weights.dtype)
    if model.expected_log_joint or model.sample:
        (log_likelihood, stats), slope = jax.value_and_grad(expect, has_aux=True)(params)
    else:
        (log_likelihood, stats), slope = expect(params), jax.tree.map(jnp.zeros_like, params)
    joint, prior = model.expected_log_joint, model.log_prior
    update = model.m_step(params, stats)
    posterior = model.posterior(params, data) if model.posterior else ()
    both = model.posterior is not None and model.statistics is not None
    count = weights.sum() if model.size is None else (weights * model.size(data)).sum().astype(weights.dtype)
    return Evidence(
        stats=stats,
        log_likelihood=log_likelihood,
        log_prob=model.log_prob(params, data) if model.log_prob else (),
        entropy=model.entropy(params, data) if model.entropy else (),
        posterior=posterior,
        restated=model.statistics(params, data, weights, posterior) if both and model.statistics else (),
        update=update,
        held=model.degenerate(params, stats) if model.degenerate else jnp.asarray(False),
        rises=jnp.asarray(True) if model.exact or joint is None else can_rise(model, params, stats, count, zero),
        survey=survey(
            model.constraints,
            lambda theta: joint(theta, stats) if joint else zero,
            lambda theta: prior(theta).astype(zero.dtype) if prior else zero,
            [params, update, other],
            slope,
        ),
    )


@quickly
def constrained(model: Model, free: PyTree) -> PyTree:
    """Return values of unconstrained space in the domain."""
    return constraints.constrain(model.constraints, free)


@quickly
def _started(model: Model, key: Array, data: PyTree, weights: Array) -> PyTree:
    return require(model, "init")(key, data, weights)


@quickly
def _sampled(model: Model, key: Array, params: PyTree, like: PyTree) -> tuple[PyTree, PyTree]:
    return require(model, "sample")(key, params, like)


def starting(model: Model, key: Array, data: PyTree, weights: np.ndarray) -> PyTree:
    """Return what `init` draws, compiled where it can be."""
    try:
        return jax.device_get(_started(model, key, data, weights))
    except LOOKED_AT_VALUES:
        return jax.device_get(require(model, "init")(key, data, weights))


def sample(model: Model, key: Array, params: PyTree, like: PyTree) -> tuple[PyTree, PyTree]:
    """Return what `sample` draws, compiled where it can be."""
    try:
        return jax.device_get(_sampled(model, key, params, like))
    except LOOKED_AT_VALUES:
        return jax.device_get(require(model, "sample")(key, params, like))


def look_at(model: Model, params: PyTree, other: PyTree, data: PyTree, weights: np.ndarray) -> Evidence:
    """Return the evidence in NumPy."""
    return jax.device_get(evidence(model, params, other, data, weights))
