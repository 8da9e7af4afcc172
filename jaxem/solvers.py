"""How steps are taken from the EM map: `em` and `squarem`.

A solver is told the map θ ↦ m_step(θ, e_step(θ)) at one point after the other, and says where to look next and where a step
ends; `fit` evaluates it there.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.model import PyTree
from jaxem.trees import choose, inner


class Mapped(NamedTuple):
    """The EM map at `params`: their log-likelihood + log_prior, where its M-step leads, and whether a floor held that."""

    params: PyTree
    value: Array
    image: PyTree
    held: Array


class Taken(NamedTuple):
    """What a turn tells: where to go, whether a floor held the M-step that led there, and what to remember of this step."""

    params: PyTree
    held: Array
    memory: Any


class Turn(Protocol):
    """One of the turns of a step, which begins at turn 0 from the last iterate and ends with the last turn at the next one.

    Each is told the EM map where the one before led. `retract` mends the rounding of params, and makes NaN of those outside
    their domain. The value where a step leads is no lower than where it began, up to rounding.
    """

    def __call__(self, number: Array, mapped: Mapped, memory: Any, /, retract: Callable[[PyTree], PyTree]) -> Taken: ...


class Solver(NamedTuple):
    """A turn, the memory with which each step begins, a function of what is mapped, and how many turns make a step.

    Each turn pays an E-step and an M-step, which are written once for all turns.

    >>> import jaxem
    >>> jaxem.squarem().evaluations_per_step
    3
    """

    turn: Turn
    init: Callable[[PyTree, Array], Any]
    evaluations_per_step: int


def _no_memory(params: PyTree, value: Array) -> tuple[()]:
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

    def turn(number: Array, mapped: Mapped, memory: Any, retract: Callable[[PyTree], PyTree]) -> Taken:
        return Taken(mapped.image, mapped.held, memory)

    return Solver(turn, _no_memory, evaluations_per_step=1)


class _Kept(NamedTuple):
    """Of turn 0 the params; of turn 1 its image, its value, and whether a floor held it."""

    params: PyTree
    value: Array
    held: Array


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

    def begin(mapped: Mapped, kept: _Kept) -> Taken:
        return Taken(mapped.image, mapped.held, kept._replace(params=mapped.params))

    def jump(retract: Callable[[PyTree], PyTree], mapped: Mapped, kept: _Kept) -> Taken:
        r = jax.tree.map(jnp.subtract, mapped.params, kept.params)
        v = jax.tree.map(lambda a, b, c: (c - b) - (b - a), kept.params, mapped.params, mapped.image)
        length = jnp.maximum(1, jnp.sqrt(inner(r, r) / inner(v, v)))
        there = retract(jax.tree.map(lambda a, b, c: a + 2 * length * b + length**2 * c, kept.params, r, v))
        return Taken(there, mapped.held, _Kept(mapped.image, mapped.value, mapped.held))

    def land(mapped: Mapped, kept: _Kept) -> Taken:
        accepted = (mapped.value >= kept.value) & ~mapped.held
        return Taken(choose(accepted, mapped.image, kept.params), kept.held & ~accepted, kept)

    def turn(number: Array, mapped: Mapped, kept: _Kept, retract: Callable[[PyTree], PyTree]) -> Taken:
        return lax.switch(number, [begin, partial(jump, retract), land], mapped, kept)

    def start(params: PyTree, value: Array) -> _Kept:
        return _Kept(params, value, jnp.asarray(False))

    return Solver(turn, start, evaluations_per_step=3)
