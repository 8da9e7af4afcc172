"""How steps are taken from the EM map: `em`, `squarem` and `anderson`.

A solver is told the map θ ↦ m_step(θ, e_step(θ)) at one point after the other, and says where to look next and where a step
ends; `fit` evaluates it there.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.arrays import at_least_one
from jaxem.matrices import eigh
from jaxem.model import PyTree
from jaxem.trees import choose, inner


class Mapped(NamedTuple):
    """The EM map at `params`: their log-likelihood + log_prior, where its M-step leads, and whether a floor held that."""

    params: PyTree
    value: Array
    image: PyTree
    held: Array


class Taken(NamedTuple):
    """What a turn tells: where to go, whether a floor held the M-step that led there, and what to remember."""

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
    """A turn, the memory with which the first step begins, a function of what is mapped, and how many turns make a step.

    Memory passes from turn to turn and from step to step. Each turn pays an E-step and an M-step, which are written once for
    all turns. `parts` are the function that made a solver, and its arguments; by these it pickles.

    >>> import jaxem
    >>> jaxem.squarem().evaluations_per_step
    3
    """

    turn: Turn
    init: Callable[[PyTree, Array], Any]
    evaluations_per_step: int
    parts: tuple[Callable[..., "Solver"], tuple[Any, ...]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by `parts`, and what was made by hand field by field."""
        return self.parts or (Solver, tuple(self))


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

    return Solver(turn, _no_memory, evaluations_per_step=1, parts=(em, ()))


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

    return Solver(turn, start, evaluations_per_step=3, parts=(squarem, ()))


class _Window(NamedTuple):
    """What `anderson` remembers: the last point it was told of, the last differences between such points, and how it went.

    steps and changes  of points, and of their residuals m_step(θ) - θ: leaves (order, *shape), zeros where there are none
    seen               how many differences there are; -1 before the first point
    successes          of extrapolations, less failures
    kept               of turn 0 the image, its value, and whether a floor held it
    """

    point: PyTree
    residual: PyTree
    steps: PyTree
    changes: PyTree
    seen: Array
    successes: Array
    kept: _Kept


DAMPING = 1.2, 25  # α and κ of Henderson & Varadhan (2019), §3.2
BISECTIONS = 30  # of the logarithm of the ridge, which spans at most that of 1 / eps


@cache
def anderson(order: int = 10) -> Solver:
    """Return damped Anderson acceleration with restarts, monotone: two E-steps a step.

    With residuals f = m_step(θ) - θ, and the differences ΔΘ and ΔF of the last points, the extrapolation is
    θ' = θ + f - (ΔΘ + ΔF)γ for the γ that makes |f - ΔF γ| least under |γ|² ≤ δ|γ_LS|², as by a ridge; δ = 1 / (1 + α^(κ - s))
    grows with the successes s. The step ends in the EM step from θ', or in that from θ where θ' leaves the domain, is
    not finite, has a lower value than θ, or is held by a floor; so the value never decreases. After `order` differences, or
    as many as there are parameters, the window begins anew.
    Henderson & Varadhan (2019), §3 (DAAREM); an EM step after each extrapolation as in Banerjee, Suryanarayana & Pask (2016).
    Raises ValueError for an order below one.

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.poisson(), 2), jaxem.datasets.london_times_deaths()
    >>> start = jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 3.0]))
    >>> print(f"{jaxem.fit(model, start, *x, solver=jaxem.anderson()).log_likelihood:.2f}")
    -1989.95
    """
    order = at_least_one("order", order)

    def start(params: PyTree, value: Array) -> _Window:
        most = min(order, sum(leaf.size for leaf in jax.tree.leaves(params)))
        none = jax.tree.map(lambda leaf: jnp.zeros((most, *leaf.shape), leaf.dtype), params)
        kept = _Kept(params, value, jnp.asarray(False))
        return _Window(params, params, none, none, jnp.asarray(-1, jnp.int32), jnp.zeros_like(value), kept)

    def extrapolate(retract: Callable[[PyTree], PyTree], mapped: Mapped, before: _Window) -> Taken:
        window = _told(mapped, before)
        mixed = _mixing(window)
        moves = jax.tree.map(lambda a, b: jnp.tensordot(mixed, a + b, 1), window.steps, window.changes)
        there = retract(jax.tree.map(jnp.subtract, mapped.image, moves))
        return Taken(there, mapped.held, window._replace(kept=_Kept(mapped.image, mapped.value, mapped.held)))

    def land(mapped: Mapped, before: _Window) -> Taken:
        kept = before.kept
        accepted = (mapped.value >= kept.value) & ~mapped.held
        window = choose(accepted, _told(mapped, before), before)
        successes = jnp.maximum(before.successes + jnp.where(accepted, 2, -2).astype(kept.value.dtype), 0)
        return Taken(choose(accepted, mapped.image, kept.params), kept.held & ~accepted, window._replace(successes=successes))

    def turn(number: Array, mapped: Mapped, window: _Window, retract: Callable[[PyTree], PyTree]) -> Taken:
        return lax.switch(number, [partial(extrapolate, retract), land], mapped, window)

    return Solver(turn, start, evaluations_per_step=2, parts=(anderson, (order,)))


def _told(mapped: Mapped, window: _Window) -> _Window:
    """Return a window that has been told of one more point; a full one begins anew with the difference from the last."""
    most = jax.tree.leaves(window.steps)[0].shape[0]
    place = jnp.where(window.seen == most, 0, window.seen)
    residual = jax.tree.map(jnp.subtract, mapped.image, mapped.params)

    def put(kept: Array, new: Array, old: Array) -> Array:
        at = jnp.arange(most, dtype=place.dtype).reshape(-1, *[1] * new.ndim)
        return jnp.where(at == place, (new - old)[None], jnp.where(at < place, kept, 0))

    return window._replace(
        point=mapped.params,
        residual=residual,
        steps=jax.tree.map(put, window.steps, mapped.params, window.point),
        changes=jax.tree.map(put, window.changes, residual, window.residual),
        seen=place + 1,
    )


def _mixing(window: _Window) -> Array:
    """Return γ (order,), of ΔF with columns of length one: zero along what their rounding alone tells apart."""
    columns = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(window.changes)]
    gram = sum(leaf @ leaf.T for leaf in columns)
    slopes = sum(leaf @ residual.ravel() for leaf, residual in zip(columns, jax.tree.leaves(window.residual), strict=True))
    squares = jnp.diagonal(gram)
    scale = jnp.where(squares > 0, lax.rsqrt(jnp.where(squares > 0, squares, 1)), 0)
    values, vectors = eigh(gram * scale[:, None] * scale[None])
    told = values > values.max() * values.size * jnp.finfo(values.dtype).eps
    along, values = jnp.where(told, vectors.T @ (scale * slopes), 0), jnp.where(told, values, 1)
    growth, patience = DAMPING
    share = 1 / (1 + growth ** (patience - window.successes))

    def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = 0.5 * (low + high)
        too_long = ((along / (values + jnp.exp(middle))) ** 2).sum() > share * ((along / values) ** 2).sum()
        return jnp.where(too_long, middle, low), jnp.where(too_long, high, middle)

    root = jnp.sqrt(share)
    bounds = jnp.log(values.min() * (1 / root - 1)), jnp.log(values.max() / root)
    ridge = jnp.exp(lax.fori_loop(0, BISECTIONS, halve, bounds)[1])
    return scale * (vectors @ (along / (values + ridge)))
