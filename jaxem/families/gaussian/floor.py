"""The floor that holds a covariance against collapse: Σ ⪰ c diag(T), T the variances of all the data.

The likelihood of a mixture of Gaussians is unbounded: a component may shrink onto a few points. What is returned here is
the exact maximizer under that constraint, so that the likelihood still never falls; away from a collapse it is the
unconstrained one to the bit.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxem.matrices import diagonal, diagonal_matrix, eigh, is_positive_definite, product

DROWNED = 4.0  # ulps of its trace below which an eigenvalue of a matrix is rounding


def matrix_floor(dtype: jnp.dtype, floor: float | None) -> float:
    """Return c for matrices: by default 1e-10, and 1e-6 in float32, which can factor no matrix much nearer to singular."""
    return floor if floor is not None else 1e-6 if jnp.finfo(dtype).bits == 32 else 1e-10


def hold_matrices(covariance: Array, total: Array, floor: float | None) -> tuple[Array, Array]:
    """Return the maximizer of -log|Σ| - tr(Σ⁻¹ C) over Σ ⪰ c diag(T), and whether C, (..., d, d), had to be held.

    It is C with its eigenvalues, in units of T (d,), raised to c. Where C spreads so wide that rounding would drown c, to
    what rounding leaves.
    """
    floor = matrix_floor(covariance.dtype, floor)
    if floor == 0:
        return covariance, jnp.zeros(covariance.shape[:-2], bool)
    scale = jnp.broadcast_to(jnp.sqrt(total)[:, None] * jnp.sqrt(total)[None], covariance.shape)
    size = diagonal(covariance / scale).sum(-1, keepdims=True)
    least = jnp.broadcast_to(jnp.maximum(floor, DROWNED * jnp.finfo(covariance.dtype).eps * size), covariance.shape[:-1])
    held = ~is_positive_definite(covariance / scale - diagonal_matrix(least))

    def raised(state: tuple[Array, Array]) -> tuple[Array, Array]:
        values, vectors = eigh(state[1] / scale)  # of the state, or XLA would move it out of the loop
        lifted = product(vectors * jnp.maximum(values, least)[..., None, :], vectors.mT) * scale
        return jnp.zeros_like(state[0]), jnp.where(held[..., None, None], lifted, state[1])

    # a loop of at most one turn: under vmap a cond would cost its eigenvalues in every step
    return lax.while_loop(lambda state: state[0], raised, (held.any(), covariance))[1], held


def hold_variances(variance: Array, total: Array, floor: float | None) -> tuple[Array, Array]:
    """Return variances (k, *event) raised to c T where they lie below, c = 1e-10 by default, and which of the k did."""
    least = jnp.broadcast_to((1e-10 if floor is None else floor) * total, variance.shape)
    low = variance < least
    return jnp.where(low, least, variance), low.reshape(low.shape[0], -1).any(1)


class Least(NamedTuple):
    """The least variances that a covariance may have along axis j of component k: f_k g_j, (k,) and (d,)."""

    component: Array
    axis: Array


def least_by_columns(total: Array, num_components: int, floor: float | None) -> Least | None:
    """Return the floor c T_j for axes that are those of the data, c = 1e-10 by default; None where it is off."""
    if floor == 0:
        return None
    return Least(jnp.ones(num_components, total.dtype), (1e-10 if floor is None else floor) * total)


def least_by_size(size: Array, total: Array, floor: float | None) -> Least | None:
    """Return the floor c min_j T_j for axes that turn, or what rounding leaves of variances that add up to `size` (k,).

    Directions are not units: a floor in terms of each column's variance would depend on how components are turned.
    """
    if floor == 0:
        return None
    least = matrix_floor(total.dtype, floor) * total.min()
    return Least(jnp.maximum(least, DROWNED * jnp.finfo(total.dtype).eps * size), jnp.ones_like(total))
