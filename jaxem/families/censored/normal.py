"""Normal values of which some are censored, and those whose logarithms are: latent, with moments between their ends."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxem.arrays import check_width
from jaxem.families import independent
from jaxem.families.censored.kinds import Kind
from jaxem.families.censored.rows import INTERVAL, LEFT, POSITIVE, REAL, UNKNOWN, Known
from jaxem.families.gaussian import Gaussian, full_covariances
from jaxem.families.gaussian.family import GaussianStats
from jaxem.families.gaussian.forms import FORMS
from jaxem.families.gaussian.missing import GapStats, observed_sums
from jaxem.families.log_normal import LogNormal, LogNormalStats
from jaxem.families.positives import along, weighed
from jaxem.model import Family
from jaxem.numerics import LOG_2PI, weighted_sum
from jaxem.tails import Truncated, above, between


class Filled(NamedTuple):
    """What is known and expected of each value under each component, (k, d, n) each, its mean m.

    log_prob  log-densities of exact values, log-masses of intervals
    shift     E[x - m]
    square    E[(x - m)²]
    entropy   of what is latent, in nats
    """

    log_prob: Array
    shift: Array
    square: Array
    entropy: Array


def filled(location: Array, scale: Array, x: Known) -> Filled:
    """Return what is said of values by means and standard deviations (k, d)."""
    centre, unit = location[:, :, None], scale[:, :, None]
    low, kind, exact = (independent.columns(leaf).T[None] for leaf in (x.low, x.kind, x.is_exact()))
    z = (low - centre) / unit
    high = None if x.high is None else independent.columns(x.high).T[None]
    inside = _inside(z, None if high is None else (high - low) / unit, kind)
    log_scale = jnp.log(unit)
    entropy = inside.log_mass + 0.5 * (inside.square + LOG_2PI) + log_scale
    return Filled(
        jnp.where(exact, -0.5 * (z**2 + LOG_2PI) - log_scale, inside.log_mass),
        unit * jnp.where(exact, z, inside.mean),
        unit**2 * jnp.where(exact, z**2, inside.square),
        jnp.where(exact, 0, entropy),
    )


def _inside(z: Array, width: Array | None, kind: Array) -> Truncated:
    """Return what is said of standard normal values between their ends, the lower or only one at z."""
    left, vague = kind == LEFT, kind == UNKNOWN
    one = above(jnp.where(left, -z, z))
    found = one._replace(mean=jnp.where(left, -one.mean, one.mean))
    if width is not None:
        both = kind == INTERVAL
        two = between(jnp.where(both, z, 0), jnp.where(both, jnp.maximum(width, jnp.finfo(z.dtype).tiny), 1))
        found = Truncated(*(jnp.where(both, b, a) for a, b in zip(found, two, strict=True)))
    none = 0 * z  # but of parameters that are no numbers
    return Truncated(*(jnp.where(vague, each + none, a) for a, each in zip(found, (0, 0, 1), strict=True)))


def gaussian_kind(family: Family) -> Kind:
    """Return what Gaussian values in one dimension need, in any form and with any prior: the M-step is the family's own."""
    assert family.parts is not None
    name = family.parts[1][0]
    geometry = FORMS[name].geometry

    def evaluate(params: Gaussian, x: Known) -> tuple[Array, Callable[[Array], GaussianStats]]:
        check_width(x.low, params.mean.shape[1], "mean")
        found = filled(params.mean, jnp.sqrt(full_covariances(name, params)[:, :, 0]), x)

        def statistics(responsibilities: Array) -> GaussianStats:
            counts = responsibilities.sum(0)
            shift, square = (weighed(responsibilities, each, params.mean) for each in (found.shift, found.square))
            rows = x.typical.about()
            known = observed_sums(rows, jnp.ones_like(rows), responsibilities)
            more = GapStats(_weighted(responsibilities, found.entropy), *known)
            return GaussianStats(counts, counts[:, None] * params.mean, shift, geometry.upright(square), more)

        return found.log_prob.sum(1).T, statistics

    return Kind(REAL, evaluate, family.m_step, family.expected_log_prob, family.degenerate, wide=False)


def log_normal_kind(family: Family) -> Kind:
    """Return what log-normal values need; of an interval the logarithm is latent, so that its mass has no Jacobian."""

    def evaluate(params: LogNormal, x: Known) -> tuple[Array, Callable[[Array], LogNormalStats]]:
        location, scale = independent.columns(params.location), independent.columns(params.scale)
        check_width(x.low, location.shape[1], "location")
        found, shape = filled(location, scale, x), params.location
        logs = jnp.where(x.is_exact(), x.low, 0)
        total = independent.columns(logs).sum(1)

        def statistics(responsibilities: Array) -> LogNormalStats:
            counts = responsibilities.sum(0)
            shift, square = (weighed(responsibilities, each, shape) for each in (found.shift, found.square))
            known = weighted_sum(responsibilities.sum(1), total) - _weighted(responsibilities, found.entropy)
            return LogNormalStats(counts, along(counts, shape) * shape, shift, square, known)

        return found.log_prob.sum(1).T - total[:, None], statistics

    return Kind(POSITIVE, evaluate, family.m_step, family.expected_log_prob, family.degenerate, scale=jnp.log)


def _weighted(responsibilities: Array, values: Array) -> Array:
    return (responsibilities.T[:, None, :] * values).sum()
