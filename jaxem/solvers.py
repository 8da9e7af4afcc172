"""How steps are taken from the EM map: `em` and `squarem`.

A solver sees the map θ ↦ m_step(θ, e_step(θ)) through an `EMMap` and proposes the next iterate; the loop of `fit` evaluates it.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from jaxem.model import PyTree, choose


class EMMap(NamedTuple):
    """The two halves of the EM map on fixed data, and the domain of its parameters.

    evaluate  params -> (stats, log_likelihood), one E-step
    update    (params, stats) -> params, one M-step
    held      (params, stats) -> whether a constraint against an unbounded likelihood holds that M-step
    retract   params -> params, rounding mended; NaN where they lie outside their domain
    """

    evaluate: Callable[[PyTree], tuple[PyTree, Array]]
    update: Callable[[PyTree, PyTree], PyTree]
    held: Callable[[PyTree, PyTree], Array]
    retract: Callable[[PyTree], PyTree]


class Step(Protocol):
    """The next iterate from `params`, whose E-step gave (stats, log_likelihood), and the solver's memory after it.

    Its log-likelihood is at least that of `params`, up to rounding.
    """

    def __call__(
        self, em_map: EMMap, params: PyTree, stats: PyTree, log_likelihood: Array, memory: Any
    ) -> tuple[PyTree, Any]: ...


class Solver(NamedTuple):
    """A step, the memory it starts with (a function of the first params), and the E-steps that each step pays."""

    step: Step
    init: Callable[[PyTree], Any]
    evaluations_per_step: int


def _no_memory(params: PyTree) -> tuple[()]:
    return ()


@lru_cache
def em() -> Solver:
    """Return plain EM: one E-step and one M-step. Dempster, Laird & Rubin (1977)."""

    def step(em_map: EMMap, params: PyTree, stats: PyTree, log_likelihood: Array, memory: Any) -> tuple[PyTree, Any]:
        return em_map.update(params, stats), memory

    return Solver(step, _no_memory, evaluations_per_step=1)


def _squared_norm(tree: PyTree) -> Array:
    return jax.tree.reduce(jnp.add, jax.tree.map(lambda leaf: jnp.sum(leaf**2), tree))


@lru_cache
def squarem() -> Solver:
    """Return SQUAREM, scheme S3 of one level: three E-steps a step.

    With r = θ_1 - θ_0, v = (θ_2 - θ_1) - r and α = -max(1, |r| / |v|), the extrapolation θ' = θ_0 - 2αr + α²v is followed by
    one EM step. Where θ' leaves the domain, is not finite, has a lower log-likelihood than θ_1, or lies so near a collapse
    that its EM step is held, the step is θ_2, two plain EM steps. So the log-likelihood never decreases.
    Varadhan & Roland (2008), §5 and §6.
    """

    def step(em_map: EMMap, params: PyTree, stats: PyTree, log_likelihood: Array, memory: Any) -> tuple[PyTree, Any]:
        first = em_map.update(params, stats)
        first_stats, first_log_likelihood = em_map.evaluate(first)
        second = em_map.update(first, first_stats)
        r = jax.tree.map(jnp.subtract, first, params)
        v = jax.tree.map(lambda a, b, c: (c - b) - (b - a), params, first, second)
        length = jnp.maximum(1, jnp.sqrt(_squared_norm(r) / _squared_norm(v)))
        jump = em_map.retract(jax.tree.map(lambda a, b, c: a + 2 * length * b + length**2 * c, params, r, v))
        jump_stats, jump_log_likelihood = em_map.evaluate(jump)
        landed = em_map.update(jump, jump_stats)
        accepted = (jump_log_likelihood >= first_log_likelihood) & ~em_map.held(jump, jump_stats)
        return choose(accepted, landed, second), memory

    return Solver(step, _no_memory, evaluations_per_step=3)
