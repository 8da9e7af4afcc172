"""Degrees of freedom for which rows at given distances are likeliest."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.families.student_t.density import LEAST_DOF, MOST_DOF, log_constant, log_constants

MOST_STEPS = 5  # at the start of a fit; later one does
NEAR = 0.01  # a change of ν, as a share, that leaves no more than its square
WIDEST = 8.0  # the factor by which a step may change ν


class _Search(NamedTuple):
    inverse: Array  # 1 / ν, (k,) or (1,)
    value: Array
    slope: Array
    bend: Array
    widest: Array  # the factor that the next step may take
    change: Array
    steps: Array


def _with_derivatives(function: Callable[[Array], Array], at: Array) -> tuple[Array, Array, Array]:
    """Return a function of each entry by itself, and its first two derivatives."""
    ones = jnp.ones_like(at)
    (value, slope), (_, curvature) = jax.jvp(lambda x: jax.jvp(function, (x,), (ones,)), (at,), (ones,))
    return value, slope, curvature


def better_dof(dof: Array, distance: Array, responsibilities: Array, dim: int, observed: Array | None = None) -> Array:
    """Return ν, (k,) or () for all, with Σ_n r_nk log t(δ_nk; ν_k) at or nearer to its next maximum, never less than at `dof`.

    Newton's steps in 1 / ν, in which the sum is smooth up to the Gaussian case, no longer than a factor, which falls where a
    step would lose. One that would go beyond the Gaussian case tries that itself first.
    """
    r = responsibilities.T
    squares = jnp.where(r > 0, distance, 0)

    def total(each: Array) -> Array:
        return each if dof.ndim else each.sum()[None]

    if observed is not None:
        widths = jnp.arange(dim + 1, dtype=observed.dtype)
        members = r @ (observed[:, None] == widths[None]).astype(r.dtype)
        several = r * observed.astype(r.dtype)[None]

    def constant(inverse: Array) -> Array:
        nu = jnp.broadcast_to(1 / inverse, (r.shape[0],))
        if observed is None:
            return total(r.sum(1) * log_constant(nu, dim))
        return total((members * log_constants(nu, dim)).sum(1))

    def look(inverse: Array) -> tuple[Array, Array, Array]:
        """Return the sum and two derivatives in s = 1 / ν, from those of log(1 + δs) alone: one pass over the rows."""
        shrunk = squares / (1 + squares * inverse[:, None])
        log_sizes = jnp.log1p(squares * inverse[:, None])

        def summed(weights: Array) -> list[Array]:
            return [total((weights * each).sum(1)) for each in (log_sizes, shrunk, shrunk**2)]

        logs, first, second = summed(r)
        wide = [dim * each for each in (logs, first, second)] if observed is None else summed(several)
        bend = (first - logs / inverse) / inverse
        value, slope, curvature = _with_derivatives(constant, inverse)
        return (
            value - 0.5 * (logs / inverse + wide[0]),
            slope - 0.5 * (bend + wide[1]),
            curvature + 0.5 * ((second + 2 * bend) / inverse + wide[2]),
        )

    def step(state: _Search) -> _Search:
        s = state.inverse
        newton = s - state.slope / jnp.where(state.bend < 0, state.bend, 1)
        uphill = jnp.where(state.slope > 0, s * state.widest, s / state.widest)
        aim = jnp.where(state.bend < 0, newton, uphill)
        to_end = (aim <= 1 / MOST_DOF) & (state.widest == WIDEST)
        aim = jnp.where(to_end, 1 / MOST_DOF, jnp.maximum(aim, s / state.widest))
        aim = jnp.clip(jnp.minimum(aim, s * state.widest), 1 / MOST_DOF, 1 / LEAST_DOF)
        found = look(aim)
        taken = found[0] >= state.value
        value, slope, bend = (jnp.where(taken, there, here) for there, here in zip(found, state[1:4], strict=True))
        widest, change = jnp.where(taken, WIDEST, 1 + (state.widest - 1) / 4), jnp.abs(aim / s - 1)
        return _Search(jnp.where(taken, aim, s), value, slope, bend, widest, change, state.steps + 1)

    start = 1 / jnp.atleast_1d(dof)
    begin = _Search(start, *look(start), jnp.full_like(start, WIDEST), jnp.full_like(start, jnp.inf), jnp.asarray(0))
    end = lax.while_loop(lambda state: (state.change > NEAR).any() & (state.steps < MOST_STEPS), step, begin)
    found = 1 / end.inverse
    return found if dof.ndim else found[0]
