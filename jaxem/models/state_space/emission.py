"""What observations say of states: whitened and turned so that they have no more entries than a state, pattern by pattern."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxem.matrices import factor
from jaxem.models.state_space.records import LinearGaussian
from jaxem.models.state_space.series import Series, patterns_of, seen_in
from jaxem.numerics import LOG_2PI
from jaxem.square_roots import eliminate


class Emission(NamedTuple):
    """Of each pattern of holes, one where there are none: what turns y - D u into z = N x + noise of unit covariance.

    loads            (r, s, P)  N, r the least of o and s
    whiten           (P, o, o)  z and, below, what is noise alone, of y - D u with zeros in holes
    log_determinant  (P,)       of the covariance of what was observed, and LOG_2PI for each entry
    fill             (P, o, o)  E[v | v_o] of noise v with zeros in holes; None without holes, or where R is diagonal
    left             (P, o, o)  Cov[v | v_o]; so too
    entropy          (P,)       of what is in holes given what is not; so too, zero where nothing was observed
    """

    loads: Array
    whiten: Array
    log_determinant: Array
    fill: Array | None
    left: Array | None
    entropy: Array | None


def emission_of(params: LinearGaussian, data: Series) -> Emission:
    """Return what each pattern of observations says."""
    o, s = params.emission.shape
    seen = jnp.ones((1, o), bool) if data.gaps is None or data.gaps.table is None else jnp.asarray(data.gaps.table.value)
    covariance = params.emission_covariance
    fill = left = entropy = None
    if covariance.ndim == 1:
        whiten = jnp.where(seen, 1 / jnp.sqrt(covariance)[None], 0)[:, :, None] * jnp.eye(o, dtype=covariance.dtype)[None]
        log_determinant = jnp.where(seen, jnp.log(covariance)[None], 0).sum(1)
    else:
        both = seen[:, :, None] & seen[:, None, :]
        identity = jnp.eye(o, dtype=covariance.dtype)[None]
        _, inverse, log_determinant = factor(jnp.where(both, covariance[None], identity))
        whiten = jnp.where(both, inverse, 0)
        if data.gaps is not None:
            fill, left, entropy = _filled(covariance, seen, whiten, log_determinant)
    array = jnp.concatenate([whiten @ params.emission[None], whiten], 2)
    array = jnp.moveaxis(array, 0, 2)
    array = eliminate(array, s) if o > s else array
    log_determinant = log_determinant + LOG_2PI * seen.sum(1).astype(covariance.dtype)
    return Emission(array[: min(o, s), :s], jnp.moveaxis(array[:, s:], 2, 0), log_determinant, fill, left, entropy)


def _filled(covariance: Array, seen: Array, whiten: Array, log_determinant: Array) -> tuple[Array, Array, Array]:
    neither = ~(seen[:, :, None] | seen[:, None, :])
    some = seen.any(1)
    across = covariance[None] @ whiten.mT
    identity = jnp.eye(covariance.shape[0], dtype=covariance.dtype)[None]
    fill = jnp.where(seen[:, :, None], jnp.where(seen[:, None, :], identity, 0), across @ whiten)
    left = jnp.where(neither & some[:, None, None], covariance[None] - across @ across.mT, 0)
    holes = (~seen).sum(1).astype(covariance.dtype)
    entropy = 0.5 * (holes * (LOG_2PI + 1) + factor(covariance)[2][None] - log_determinant)
    return fill, left, jnp.where(some, entropy, 0)


def by_pattern(matrices: Array, data: Series, rows: Array) -> Array:
    """Return each step's matrix (P, o, o) times its row, of rows (n, t, o)."""
    if data.gaps is None:
        return rows @ matrices[0].T
    return (matrices[patterns_of(data)] @ rows[..., None])[..., 0]


def observed_noise(params: LinearGaussian, data: Series, states: Array | None = None) -> Array:
    """Return y - C x - D u with zeros in holes and beyond lengths, (n, t, o); without states (n, t, s), y - D u."""
    rows = data.values
    if states is not None:
        rows = rows - states @ params.emission.T
    if data.inputs is not None:
        rows = rows - data.inputs @ params.emission_input.T
    return jnp.where(seen_in(data), rows, 0)
