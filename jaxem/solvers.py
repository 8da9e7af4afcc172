"""How steps are taken from the EM map: `em` and `squarem`.

A solver sees the map θ ↦ m_step(θ, e_step(θ)) through an `EMMap` and proposes the next iterate; the loop of `fit` evaluates it.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from jaxem.model import PyTree
from jaxem.trees import choose, inner


class EMMap(NamedTuple):
    """The two halves of the EM map on fixed data, and the domain of its parameters.

    evaluate  params -> (stats, value), one E-step and the log-likelihood + log_prior
    update    (params, stats) -> (params, held), one M-step and whether a floor against an unbounded likelihood held it
    retract   params -> params, rounding mended; NaN where they lie outside their domain
    """

    evaluate: Callable[[PyTree], tuple[PyTree, Array]]
    update: Callable[[PyTree, PyTree], tuple[PyTree, Array]]
    retract: Callable[[PyTree], PyTree]


class Taken(NamedTuple):
    """What a step tells: the next iterate, whether a floor held the M-step that led there, and the solver's memory."""

    params: PyTree
    held: Array
    memory: Any


class Step(Protocol):
    """The step from `params`, whose E-step gave (stats, value); the value where it leads is no lower, up to rounding."""

    def __call__(self, em_map: EMMap, params: PyTree, stats: PyTree, value: Array, memory: Any) -> Taken: ...


class Solver(NamedTuple):
    """A step, the memory it starts with (a function of the first params), and the E-steps that each step pays.

    >>> import jaxem
    >>> jaxem.squarem().evaluations_per_step
    3
    """

    step: Step
    init: Callable[[PyTree], Any]
    evaluations_per_step: int


def _no_memory(params: PyTree) -> tuple[()]:
    return ()


@cache
def em() -> Solver:
    """Return plain EM: one E-step and one M-step. Dempster, Laird & Rubin (1977).

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.poisson(), 2), jaxem.datasets.london_times_deaths()
    >>> start = jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 3.0]))
    >>> print(f"{jaxem.fit(model, start, *x, solver=jaxem.em(), max_steps=10).log_likelihood:.2f}")
    -1990.04
    """

    def step(em_map: EMMap, params: PyTree, stats: PyTree, value: Array, memory: Any) -> Taken:
        return Taken(*em_map.update(params, stats), memory)

    return Solver(step, _no_memory, evaluations_per_step=1)


@cache
def squarem() -> Solver:
    """Return SQUAREM, scheme S3 of one level: three E-steps a step.

    With r = θ_1 - θ_0, v = (θ_2 - θ_1) - r and α = -max(1, |r| / |v|), the extrapolation θ' = θ_0 - 2αr + α²v is followed by
    one EM step. Where θ' leaves the domain, is not finite, has a lower value than θ_1, or lies so near a collapse that its
    EM step is held, the step is θ_2, two plain EM steps. So the value never decreases.
    Varadhan & Roland (2008), §5 and §6.

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.poisson(), 2), jaxem.datasets.london_times_deaths()
    >>> start = jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 3.0]))
    >>> print(f"{jaxem.fit(model, start, *x, solver=jaxem.squarem()).log_likelihood:.2f}")
    -1989.95
    """

    def step(em_map: EMMap, params: PyTree, stats: PyTree, value: Array, memory: Any) -> Taken:
        first, _ = em_map.update(params, stats)
        first_stats, first_value = em_map.evaluate(first)
        second, second_held = em_map.update(first, first_stats)
        r = jax.tree.map(jnp.subtract, first, params)
        v = jax.tree.map(lambda a, b, c: (c - b) - (b - a), params, first, second)
        length = jnp.maximum(1, jnp.sqrt(inner(r, r) / inner(v, v)))
        jump = em_map.retract(jax.tree.map(lambda a, b, c: a + 2 * length * b + length**2 * c, params, r, v))
        jump_stats, jump_value = em_map.evaluate(jump)
        landed, landed_held = em_map.update(jump, jump_stats)
        accepted = (jump_value >= first_value) & ~landed_held
        return Taken(choose(accepted, landed, second), second_held & ~accepted, memory)

    return Solver(step, _no_memory, evaluations_per_step=3)
