"""Degrees of freedom for which rows at given distances are likeliest."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.families.student_t.density import LEAST_DOF, MOST_DOF, log_density

MOST_STEPS = 20
WIDEST = 8.0  # the factor by which a step may change ν


class _Search(NamedTuple):
    inverse: Array  # 1 / ν, (k,) or (1,)
    value: Array
    slope: Array
    bend: Array
    widest: Array  # the factor that the next step may take
    change: Array
    steps: Array


def better_dof(dof: Array, distance: Array, responsibilities: Array, dim: int, observed: Array | None = None) -> Array:
    """Return ν, (k,) or () for all, with Σ_n r_nk log t(δ_nk; ν_k) at its next maximum, and never less than at `dof`.

    Newton's steps in 1 / ν, in which the sum is smooth up to the Gaussian case, no longer than a factor, which falls where a
    step would lose.
    """
    r = responsibilities.T
    some = r > 0
    eps = float(jnp.finfo(r.dtype).eps)

    def value(inverse: Array) -> Array:
        nu = jnp.broadcast_to(1 / inverse, (r.shape[0],))
        each = jnp.where(some, r * log_density(jnp.where(some, distance, 0), nu, dim, observed), 0).sum(1)
        return each if dof.ndim else each.sum()[None]

    def look(inverse: Array) -> tuple[Array, Array, Array]:
        ones = jnp.ones_like(inverse)

        def slope(at: Array) -> tuple[Array, Array]:
            return jax.jvp(value, (at,), (ones,))

        (found, first), (_, second) = jax.jvp(slope, (inverse,), (ones,))
        return found, first, second

    def step(state: _Search) -> _Search:
        s = state.inverse
        newton = s - state.slope / jnp.where(state.bend < 0, state.bend, 1)
        uphill = jnp.where(state.slope > 0, s * state.widest, s / state.widest)
        aim = jnp.where(state.bend < 0, newton, uphill)
        aim = jnp.where(aim <= 1 / MOST_DOF, 1 / MOST_DOF, jnp.maximum(aim, s / state.widest))
        aim = jnp.clip(jnp.minimum(aim, s * state.widest), 1 / MOST_DOF, 1 / LEAST_DOF)
        found = look(aim)
        taken = found[0] >= state.value
        value, slope, bend = (jnp.where(taken, there, here) for there, here in zip(found, state[1:4], strict=True))
        widest, change = jnp.where(taken, WIDEST, 1 + (state.widest - 1) / 4), jnp.abs(aim / s - 1)
        return _Search(jnp.where(taken, aim, s), value, slope, bend, widest, change, state.steps + 1)

    start = 1 / jnp.atleast_1d(dof)
    begin = _Search(start, *look(start), jnp.full_like(start, WIDEST), jnp.full_like(start, jnp.inf), jnp.asarray(0))
    end = lax.while_loop(lambda state: (state.change > eps**0.5).any() & (state.steps < MOST_STEPS), step, begin)
    found = 1 / end.inverse
    return found if dof.ndim else found[0]
