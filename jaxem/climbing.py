"""Up a smooth function of parameters until its slope is rounding, never down: what an M-step without a closed form does.

Newton's steps in unconstrained space, with the second derivatives as they are: scaled by their diagonal, so that units do not
matter, and by sizes of eigenvalues, so that every step goes up (Nocedal & Wright 2006, §3.4). Gains below the rounding of
values are told by slopes. Second derivatives are a matrix; of more entries than it may hold, L-BFGS sees to the climb.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from jaxem.constraints import Constraint, constrain, each, simplex, unconstrain
from jaxem.gradient import ascend
from jaxem.matrices import diagonal, eigh
from jaxem.model import PyTree
from jaxem.trees import choose, inner

MOST_ENTRIES = 200  # of parameters, up to which second derivatives are taken
MOST_STEPS = 60
MOST_FIRST_STEPS = 200  # of L-BFGS
NOISE = 64.0  # ulps of a value within which it may be rounding
REACHED = 64.0  # roundings of a slope, in standard errors, that are none
DAMPED = 1e-2  # what is added first to eigenvalues of a scaled matrix
HOPELESS = 1e8  # and at most


class Curve(NamedTuple):
    """A function about a place: its value, its slope (p,), and second derivatives, scaled, as eigenvalues and -vectors."""

    value: Array
    slope: Array
    scale: Array  # (p,)
    sizes: Array  # (p,)
    vectors: Array  # (p, p)


class _Climb(NamedTuple):
    """A climb under way: the highest place so far, the function about it, and how the next step from there is damped."""

    step: Array
    place: Array
    curve: Curve
    damping: Array
    done: Array


def climb(function: Callable[[PyTree], Array], domains: PyTree, old: PyTree, new: PyTree, stay: Array | bool = False) -> PyTree:
    """Return the params of a stationary point of `function`, climbing from the higher of two; where `stay`, that one.

    Entries on the boundary of their domain stay there. What is returned is `old` or `new` to the bit where these are
    stationary, and in no case lower than `old`.
    """
    start = higher(function, old, new)
    flat, unravel = ravel_pytree(unconstrain(domains, start))
    inside = jnp.isfinite(flat)

    def over(place: Array) -> Array:
        return function(constrain(domains, unravel(jnp.where(inside, place, flat))))

    origin = jnp.where(inside, flat, 0)
    best = newton(over, origin, stay) if flat.size <= MOST_ENTRIES else _by_slopes(over, origin, stay)
    climbed = constrain(domains, unravel(jnp.where(inside, best, flat)))
    return choose((best == origin).all(), start, each(_with_zeros, domains, climbed, start))


def higher(function: Callable[[PyTree], Array], old: PyTree, new: PyTree) -> PyTree:
    """Return `new` where `function` is at least as high there as at `old`, else `old`."""
    low, high = lax.map(function, jax.tree.map(lambda *leaves: jnp.stack(leaves), old, new))
    return choose((high >= low) | jnp.isnan(low), new, old)


def _with_zeros(domain: Constraint, climbed: Array, start: Array) -> Array:
    """Keep shares of exactly zero: absent components."""
    return jnp.where(start == 0, 0, climbed) if domain.constrain is simplex.constrain else climbed


def _by_slopes(function: Callable[[Array], Array], origin: Array, stay: Array | bool) -> Array:
    best, lowest, start = ascend(lambda place, _: -function(place), origin, (), num_steps=MOST_FIRST_STEPS)
    return jnp.where((lowest < start) & ~jnp.asarray(stay), best, origin)


def newton(function: Callable[[Array], Array], origin: Array, stay: Array | bool = False) -> Array:
    """Return where Newton's guarded steps up `function` of (p,) end: its slope is zero there to rounding, as a rule."""
    eps = float(jnp.finfo(origin.dtype).eps)

    def body(run: _Climb) -> _Climb:
        begins = run.step == 0
        stride = jnp.where(begins, 0, _stride(run.curve, run.damping))
        there = curve_at(function, run.place + stride)
        noise = NOISE * eps * jnp.abs(jnp.where(begins, there.value, run.curve.value)) + 0.01 * eps**0.5
        before, after = _gain_left(run.curve), _gain_left(there)
        close = ~begins & (before <= noise)  # so that values tell nothing
        rises = (run.curve.slope + there.slope) @ stride > 0
        sound = jnp.isfinite(there.value) & jnp.isfinite(after)
        better = sound & (begins | (rises & (there.value >= run.curve.value - noise) & (~close | (after < before))))
        damping = jnp.where(better, run.damping / 8, jnp.maximum(8 * run.damping, DAMPED))
        damping = jnp.where(better & ((after <= noise) | (damping < 1e-6)), 0, damping)
        reached = after <= (REACHED * eps) ** 2 * (jnp.abs(there.value) + 1)
        return _Climb(
            step=run.step + 1,
            place=jnp.where(better, run.place + stride, run.place),
            curve=choose(better, there, run.curve),
            damping=damping,
            done=(better & reached) | (close & ~(better & (after < before / 4))) | (damping > HOPELESS) | (begins & ~sound),
        )

    zero, nothing = jnp.zeros((), origin.dtype), jnp.zeros_like(origin)
    nowhere = Curve(zero, nothing, nothing, nothing, jnp.zeros((origin.size, origin.size), origin.dtype))
    run = _Climb(jnp.asarray(0, jnp.int32), origin, nowhere, zero, jnp.asarray(stay))
    return lax.while_loop(lambda run: ~run.done & (run.step < MOST_STEPS), body, run).place


def curve_at(function: Callable[[Array], Array], place: Array) -> Curve:
    """Return a function about a place; second derivatives one row after another, so that memory stays that of one."""
    slope, along = jax.linearize(jax.grad(function), place)
    matrix = lax.map(along, jnp.eye(place.size, dtype=place.dtype))
    size = jnp.sqrt(jnp.abs(diagonal(matrix)))
    scale = jnp.where(size > 0, size, 1)
    sizes, vectors = eigh(-0.5 * (matrix + matrix.T) / (scale[:, None] * scale[None]))
    return Curve(function(place), slope, scale, jnp.abs(sizes), vectors)


def _stride(curve: Curve, damping: Array) -> Array:
    """Return the step that a quadratic of these slopes and sizes of curvature is highest after."""
    return curve.vectors @ _scaled(curve, damping) / curve.scale


def _gain_left(curve: Curve) -> Array:
    """Return what that step would gain, twice."""
    return (curve.vectors.T @ (curve.slope / curve.scale)) @ _scaled(curve, jnp.zeros_like(curve.value))


def _scaled(curve: Curve, damping: Array) -> Array:
    least = curve.sizes.size * float(jnp.finfo(curve.sizes.dtype).eps) * jnp.maximum(curve.sizes.max(), 1)
    return (curve.vectors.T @ (curve.slope / curve.scale)) / (jnp.maximum(curve.sizes, least) + damping)


def value_and_slope_at(function: Callable[[PyTree], Array], domains: PyTree, params: PyTree) -> tuple[Array, PyTree]:
    """Return a function at params and its slope there in unconstrained space, zero where that is not finite."""
    free = unconstrain(domains, params)
    value, slope = jax.value_and_grad(lambda u: function(constrain(domains, u)))(free)
    return value, jax.tree.map(lambda leaf: jnp.where(jnp.isfinite(leaf), leaf, 0), slope)


def slope_at(function: Callable[[PyTree], Array], domains: PyTree, params: PyTree) -> PyTree:
    """Return the slope of a function at params, as `value_and_slope_at` does."""
    return value_and_slope_at(function, domains, params)[1]


def presses(value: Array, slope: PyTree, push: PyTree) -> Array:
    """Tell whether a function rises where a floor is pushed: `push` is the slope that an M-step held by it has left."""
    rounding = NOISE * float(jnp.finfo(value.dtype).eps) * (jnp.abs(value) + 1)
    return inner(slope, push) > rounding**2
