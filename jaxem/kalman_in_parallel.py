"""The filter and the smoother two steps by two, in a depth of log t: by associative scans, in square roots.

An element stands for a stretch of steps: x after it given x before it, N(A x + b, UᵀU), and what it says of x before it,
exp(ηᵀx - xᵀZᵀZx / 2). What all others are made of is then made at all steps at once, by the same lines as one by one.
Särkkä & García-Fernández (2021); in square roots Yaghoobi, Corenflos, Hassan & Särkkä (2022).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxem.kalman import (
    Dynamics,
    Filtered,
    Gain,
    Seen,
    Smoothed,
    by_step,
    finished,
    loads_of,
    met,
    over_steps,
    predict,
    pushes_back,
    update,
)
from jaxem.square_roots import apply, eliminate, in_lanes, solve_transposed, square, times, transposed
from jaxem.trees import PyTree


class Stretch(NamedTuple):
    """A stretch of steps: A, b, U, η and Z, matrices (s, s, t, n) and vectors (s, t, n)."""

    transition: Array
    push: Array
    root: Array
    slope: Array
    say: Array


def _root_of_sum(a: Array, b: Array) -> Array:
    """Return a root of AᵀA + BᵀB."""
    return eliminate(jnp.concatenate([a, b]), a.shape[1])[: a.shape[1]]


def joined(first: Stretch, then: Stretch) -> Stretch:
    """Return two stretches as one."""
    size, cross, after = update(first.root, then.say)
    weigh = jnp.stack([solve_transposed(size, then.say[:, j]) for j in range(then.say.shape[1])], 1)
    begun = first.push + apply(square(first.root), then.slope)
    begun = begun - apply(transposed(cross), apply(weigh, begun))
    said = then.slope - apply(square(then.say), first.push)
    said = said - apply(transposed(weigh), apply(cross, said))
    heard = times(weigh, first.transition)
    return Stretch(
        times(then.transition, first.transition - times(transposed(cross), heard)),
        apply(then.transition, begun) + then.push,
        _root_of_sum(times(after, transposed(then.transition)), then.root),
        apply(transposed(first.transition), said) + first.slope,
        _root_of_sum(heard, first.say),
    )


def _stretches(dynamics: Dynamics, seen: Seen, load: Array, drift: Array, active: Array) -> Stretch:
    """Return each step as a stretch; the first begins anywhere, and those that are not there leave all as it is."""
    lanes = seen.z.shape[1:]
    begins = jnp.broadcast_to((jnp.arange(lanes[0]) == 0)[:, None], lanes)
    before = jnp.where(begins[None, None], in_lanes(dynamics.root, lanes), in_lanes(dynamics.noise, lanes))
    transition = jnp.where(begins[None, None], 0, in_lanes(dynamics.transition, lanes))
    drift = jnp.where(begins[None], in_lanes(dynamics.mean, lanes), drift)
    size, cross, after = update(before, load)
    left = jnp.where(active[None], seen.z - apply(load, drift), 0)
    shown = times(load, transition)
    shown = jnp.stack([solve_transposed(size, shown[:, j]) for j in range(shown.shape[1])], 1)
    short = solve_transposed(size, left)
    say = jnp.pad(shown, [(0, transition.shape[0] - shown.shape[0]), *[(0, 0)] * 3])
    identity = in_lanes(jnp.eye(transition.shape[0], dtype=after.dtype), lanes)
    return Stretch(
        jnp.where(active[None, None], transition - times(transposed(cross), shown), identity),
        jnp.where(active[None], drift + apply(transposed(cross), short), 0),
        jnp.where(active[None, None], after, 0),
        jnp.where(active[None], apply(transposed(shown), short), 0),
        jnp.where(active[None, None], say, 0),
    )


def _scan(joined: Callable[[PyTree, PyTree], PyTree], elements: PyTree, reverse: bool = False) -> PyTree:
    """Return the associative scan of elements (…, t, n) over time."""

    def of_steps(first: PyTree, then: PyTree) -> PyTree:
        return by_step(joined(over_steps(first), over_steps(then)))

    return over_steps(lax.associative_scan(of_steps, by_step(elements), reverse=reverse))


def filtered(dynamics: Dynamics, seen: Seen) -> Filtered:
    """Return what `kalman.filtered` does."""
    s, lanes = dynamics.mean.shape[0], seen.z.shape[1:]
    active = jnp.arange(lanes[0], dtype=seen.lengths.dtype)[:, None] < seen.lengths[None]
    load = loads_of(seen, seen.pattern, active)
    drift = jnp.zeros((s, *lanes), seen.z.dtype) if seen.drift is None else seen.drift
    found: Stretch = _scan(joined, _stretches(dynamics, seen, load, drift, active))
    following, *rest = predict(dynamics, found.root)
    moved = apply(in_lanes(dynamics.transition, lanes), found.push) + jnp.roll(drift, -1, 1)
    mean = jnp.roll(moved, 1, 1).at[:, 0].set(jnp.broadcast_to(dynamics.mean[:, None], (s, lanes[1])))
    root = jnp.roll(following, 1, 2).at[:, :, 0].set(jnp.broadcast_to(dynamics.root[:, :, None], (s, s, lanes[1])))
    size, cross, after = update(root, load)
    log_prob, surprise = met(size, cross, jnp.where(active[None], seen.z - apply(load, mean), 0))
    return Filtered(log_prob, mean, surprise, Gain(size, cross, after, *rest))


def smoothed(dynamics: Dynamics, seen: Seen, forward: Filtered) -> Smoothed:
    """Return what `kalman.smoothed` does."""

    def joined(later: tuple[Array, Array, Array], here: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        (back_l, moved_l, own_l), (back, moved, own) = later, here
        covariance = own + times(times(back, own_l), transposed(back))
        return times(back, back_l), moved + apply(back, moved_l), 0.5 * (covariance + transposed(covariance))

    _, moved, covariance = _scan(joined, pushes_back(seen, forward), reverse=True)
    return finished(dynamics, seen, forward, moved, covariance)
