"""The density of Student's t as a function of squared distances, right to rounding however many the degrees of freedom are."""

import jax.numpy as jnp
from jax import Array, lax

from jaxem.numerics import LOG_2PI

ASYMPTOTIC = 16.0  # from where five terms of the series are exact to rounding


def _log_half_step(y: Array) -> Array:
    """Return log Γ(y + ½) - log Γ(y) - ½ log y (Abramowitz & Stegun 1964, §6.1)."""
    r = 1 / jnp.maximum(y, ASYMPTOTIC)
    q = r * r
    series = r * (-1 / 8 + q * (1 / 192 + q * (-1 / 640 + q * (17 / 14336 - q * 31 / 18432))))
    small = jnp.minimum(y, ASYMPTOTIC)
    return jnp.where(y > ASYMPTOTIC, series, lax.lgamma(small + 0.5) - lax.lgamma(small) - 0.5 * jnp.log(small))


def log_constant(dof: Array, dim: int) -> Array:
    """Return log Γ((ν + d)/2) - log Γ(ν/2) - d/2 log(πν), of ν (k,): a sum of small terms, not of large logarithms."""
    steps = jnp.arange(dim // 2, dtype=dof.dtype)
    total = jnp.log1p(2 * steps[None] / dof[:, None]).sum(1)
    if dim % 2:
        whole = 2 * (dim // 2)
        total = total + _log_half_step(0.5 * dof + dim // 2) + 0.5 * jnp.log1p(whole / dof)
    return total - 0.5 * dim * LOG_2PI


def log_constants(dof: Array, dim: int) -> Array:
    """Return `log_constant` of 0 … d columns, (k, d + 1)."""
    pairs = jnp.arange(dim // 2 + 1, dtype=dof.dtype)[None]
    steps = jnp.log1p(2 * pairs / dof[:, None])
    even = jnp.cumsum(steps, 1) - steps
    odd = even + _log_half_step(0.5 * dof[:, None] + pairs) + 0.5 * steps
    widths = jnp.arange(dim + 1, dtype=dof.dtype)[None]
    return jnp.stack([even, odd], 2).reshape(dof.shape[0], -1)[:, : dim + 1] - 0.5 * widths * LOG_2PI


def log_density(distance: Array, dof: Array, dim: int, observed: Array | None = None) -> Array:
    """Return log t(x) + ½ log|Σ| from squared distances (k, n) and ν (k,): (k, n).

    observed: how many columns were, of each row (n,); None where all were.
    """
    if observed is None:
        constant, half = log_constant(dof, dim)[:, None], 0.5 * (dof + dim)[:, None]
    else:
        constant = log_constants(dof, dim)[:, observed]
        half = 0.5 * (dof[:, None] + observed.astype(dof.dtype)[None])
    return constant - half * jnp.log1p(distance / dof[:, None])


MOST_DOF = 1e8
"""Where degrees of freedom that grow are held: log-densities are Gaussian but for squares of distances over 4e8."""

LEAST_DOF = 1e-2
"""The least degrees of freedom that are estimated."""
