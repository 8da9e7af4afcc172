"""Location and scale for given degrees of freedom: sums over rows, the bound that they make, and its maximizer.

The bound is that of a model in which the rows' precisions are α_k times gamma variables, α_k being one at the parameters of the
sums; x does not depend on α_k if Σ_k is scaled with it. Maximized over α it is

    Σ_k N_k (c_k - ½ log|Σ_k|) - ½ (ν_k + d) (N_k log α_k + Σ_n r_nk log(1 + δ_nk / ν_k)),
    α_k = (tr(Σ_k⁻¹ S_k) + ν_k Σ_n r_nk u_nk) / ((ν_k + d) N_k)

with distances δ, precisions u = (ν + d) / (ν + δ) and scatter S, weighted by u (Liu, Rubin & Wu 1998, §3).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxem.families.gaussian.forms import Form
from jaxem.families.gaussian.sums import moved, total_variances
from jaxem.families.student_t.density import log_constant
from jaxem.numerics import positive

MOST_TURNS = 50  # of scale and α, where a floor holds


class StudentTStats(NamedTuple):
    """Sums over rows with responsibilities r_nk and precisions u_nk, about the parameters of the E-step.

    counts   (k,)    N_k = Σ_n r_nk
    mass     (k,)    Σ_n r_nk u_nk
    excess   (k,)    Σ_n r_nk ν (δ_nk - d) / (ν + δ_nk) = ν (counts - mass), without the cancellation
    heavy    (k,)    Σ_n r_nk log(1 + δ_nk / ν)
    centre   (k, d)  mass times μ_k, so that the sums say what they are about and still add up over blocks
    shift    (k, d)  Σ_n r_nk u_nk (x_n - μ_k)
    scatter  Σ_n r_nk u_nk (x_n - μ_k)(x_n - μ_k)ᵀ, in the shapes of the Gaussian's
    """

    counts: Array
    mass: Array
    excess: Array
    heavy: Array
    centre: Array
    shift: Array
    scatter: Array


def bound(form: Form, location: Array, scale: Any, nu: Array, stats: StudentTStats) -> Array:
    """Return the bound at other locations and scales, for the ν of the sums: a scalar."""
    dim = location.shape[1]
    delta = location - stats.centre / positive(stats.mass)[:, None]
    scatter = moved(form.geometry, stats.mass, stats.shift, stats.scatter, delta)
    log_determinant, trace = form.geometry.log_det_and_trace(form.expand(scale, *location.shape), scatter)
    known = (stats.counts * (log_constant(nu, dim) - 0.5 * log_determinant)).sum() - 0.5 * (nu + dim) @ stats.heavy
    size = (nu + dim) * stats.counts
    change = trace - stats.excess - dim * stats.counts if trace.ndim else trace - (stats.excess + dim * stats.counts).sum()
    size = size if trace.ndim else size.sum()
    return known - 0.5 * (size * jnp.log1p(change / positive(size))).sum()


def improved(
    form: Form, location: Array, scale: Any, nu: Array, stats: StudentTStats, floor: float | None
) -> tuple[Array, Any, Array]:
    """Return the maximizer of the bound, or, where ν differs and the scale is one for all, what does not lower it.

    Σ_k = S_k / Σ_n r_nk u_nk. Where a floor holds it, Σ_k = S_k / (α_k N_k) held by the floor, and α_k for that, in turn.
    """
    geometry, dim = form.geometry, location.shape[1]
    sums = stats.mass, stats.shift, stats.scatter
    delta = stats.shift / positive(stats.mass)[:, None]
    scatter, total = moved(geometry, *sums, delta), total_variances(geometry, location, *sums)
    some, one_for_all = stats.counts > 0, not form.domain.component_axes

    def alpha_of(new: Any) -> Array:
        trace = geometry.log_det_and_trace(form.expand(new, *location.shape), scatter)[1]
        size, rest = (nu + dim) * stats.counts, nu * stats.mass
        if one_for_all:
            return jnp.broadcast_to((trace + rest.sum()) / size.sum(), nu.shape)
        return (trace + rest) / positive(size)

    def turn(state: tuple[Any, Array, Array, Array, Array]) -> tuple[Any, Array, Array, Array, Array]:
        _, alpha, _, _, turns = state
        new, held = form.estimate(scatter, alpha * stats.counts, total, floor, scale)
        held = jnp.any(held & some)
        after = jnp.where((turns > 0) & some, alpha_of(new), 1)
        moves = (jnp.abs(after - alpha) > 4 * jnp.finfo(alpha.dtype).eps * alpha).any()
        return new, after, held, held & moves & (turns < MOST_TURNS), turns + 1

    weights = nu * stats.counts
    whole = (nu @ stats.mass) / weights.sum() if one_for_all else stats.mass / positive(stats.counts)
    start = scale, jnp.where(some, whole, 1), jnp.asarray(False), jnp.asarray(True), jnp.asarray(0)
    new, _, held, _, _ = lax.while_loop(lambda state: state[3], turn, start)
    return location + delta, new, held
