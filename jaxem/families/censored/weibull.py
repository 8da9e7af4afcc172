"""Weibull lifetimes of which some are censored: an M-step by Newton's method, as no finite statistics tell Σ r x^c for all c.

With y = log x against the longest-lived row of a component, z = τ y + β is the logarithm of the cumulative hazard H = e^z, and
    log p(x) = log τ + z - H - log x,   log P(X > a) = -H(a),   log P(a < X ≤ b) = -H(a) + log(1 - e^-(H(b) - H(a)))
are concave in (τ, β), up to constants (Burridge 1981), so that Newton's steps climb to the one maximum from anywhere.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxem.arrays import check_width
from jaxem.families import independent
from jaxem.families.censored.kinds import Kind
from jaxem.families.censored.rows import EXACT, INTERVAL, LEFT, POSITIVE, UNKNOWN, Known
from jaxem.families.newton import Look, climb, over_rows
from jaxem.families.positives import sharpest
from jaxem.families.weibull import Weibull, log_ratio
from jaxem.model import Family
from jaxem.numerics import weighted_sum
from jaxem.tails import early, log_less, log_less_than

LEAST_SHAPE = {64: 1e-2, 32: 1e-1}  # below which lifetimes differ by more powers of e than floats hold
LARGEST = 0.9  # powers of the largest float that a scale may be
LEAST_HAZARD = {64: 1e-10, 32: 2e-5}  # of the longest-lived row, below which none of a component ever ends


class CensoredWeibullStats(NamedTuple):
    """The rows and their responsibilities (n, k)."""

    rows: Known
    responsibilities: Array


def weibull_kind(family: Family) -> Kind:
    """Return what Weibull lifetimes need."""

    def evaluate(params: Weibull, x: Known) -> tuple[Array, Callable[[Array], CensoredWeibullStats]]:
        return _log_prob(params, x).T, lambda responsibilities: CensoredWeibullStats(x, responsibilities)

    def expected_log_prob(params: Weibull, stats: CensoredWeibullStats) -> Array:
        return weighted_sum(stats.responsibilities.T, _log_prob(params, stats.rows))

    return Kind(
        POSITIVE,
        evaluate,
        lambda params, stats: _m_step(params, stats)[0],
        expected_log_prob,
        lambda params, stats: _m_step(params, stats)[1],
        additive=False,
    )


class _Row(NamedTuple):
    """A value, (k, d, n): log H at its lower end or only one, by how much more at the upper one, and what it is."""

    z: Array
    rise: Array
    kind: Array  # (1, d, n)


def _ratio(x: Known) -> Array:
    """Return log of the upper end over the lower one, (1, d, n); one where there are not two."""
    low, kind = (independent.columns(leaf).T[None] for leaf in (x.low, x.kind))
    if x.high is None:
        return jnp.ones_like(low)
    width = independent.columns(x.high).T[None] - low
    least = jnp.finfo(low.dtype).eps
    return jnp.where(kind == INTERVAL, jnp.maximum(jnp.log1p(jnp.where(kind == INTERVAL, width / low, 1)), least), 1)


def _log_low(params: Weibull, x: Known) -> Array:
    """Return log of the lower end over the scale, (k, d, n)."""
    ratio = log_ratio(x.low, jnp.log(x.low), params.scale)
    return ratio.reshape(*independent.columns(params.scale).shape, -1)


def _log_prob(params: Weibull, x: Known) -> Array:
    """Return log p of each row, (k, n)."""
    shape = independent.columns(params.shape)[:, :, None]
    check_width(x.low, shape.shape[1], "shape")
    exact = x.is_exact()
    row = _Row(shape * _log_low(params, x), shape * _ratio(x), independent.columns(x.kind).T[None])
    logs = independent.columns(jnp.where(exact, jnp.log(x.low), 0)).sum(1)
    of_shape = jnp.where(row.kind == EXACT, jnp.log(shape), 0 * row.z)  # where nothing is known, what is no number stays none
    return (of_shape + _log_mass(row)).sum(1) - logs[None]


def _hazard(z: Array) -> Array:
    return jnp.exp(jnp.minimum(z, 0.5 * math.log(jnp.finfo(z.dtype).max)))  # finite, as are its slopes


def _below(row: _Row) -> Array:
    """Return log (H(b) - H(a)) of an interval, and log H(b) of what lies below b."""
    both = row.kind == INTERVAL
    rise = jnp.where(both, row.rise, 1)
    return row.z + jnp.where(both, rise + log_less(rise), 0)


def _log_mass(row: _Row) -> Array:
    """Return the log-mass of each interval, and z - H of exact values."""
    ended, lived = _kinds(row.kind)
    mass = jnp.where(ended, log_less_than(_below(row)), 0) - jnp.where(lived, _hazard(row.z), 0)
    return mass + jnp.where(row.kind == EXACT, row.z, 0)


def _kinds(kind: Array) -> tuple[Array, Array]:
    """Tell which values have ended somewhere below an upper end, and which have lived until the lower one."""
    return (kind == LEFT) | (kind == INTERVAL), (kind != LEFT) & (kind != UNKNOWN)


class _Slopes(NamedTuple):
    """Slopes of the log-mass in z and in the rise, and minus its curvatures."""

    z: Array
    rise: Array
    zz: Array
    z_rise: Array
    rise_rise: Array


def _slopes(row: _Row) -> _Slopes:
    ended, lived = _kinds(row.kind)
    hazard = jnp.where(lived, _hazard(row.z), 0)
    mass = jnp.maximum(_hazard(_below(row)), jnp.finfo(hazard.dtype).tiny)
    first = jnp.where(ended, mass * jnp.exp(-mass) / -jnp.expm1(-mass), 0)
    second = first * mass * (1 - early(mass))
    both = row.kind == INTERVAL
    inverse = jnp.where(both, -1 / jnp.expm1(-jnp.where(both, row.rise, 1)), 0)
    of_rise = second * inverse**2 + first * inverse * (inverse - 1)
    exact = jnp.where(row.kind == EXACT, 1, jnp.zeros_like(hazard))
    return _Slopes(exact - hazard + first, first * inverse, hazard + second, second * inverse, of_rise)


class _Line(NamedTuple):
    """Rows as Newton's steps see them, z = τ y + β and a rise of τ w: y and w (n, k, d), kind (n, 1, d)."""

    y: Array
    w: Array
    kind: Array


def _line(params: Weibull, stats: CensoredWeibullStats) -> tuple[_Line, Array]:
    """Return rows about the old parameters, and the largest z of each component, (k, d), which y is about."""
    x, shape = stats.rows, independent.columns(params.shape)[:, :, None]
    z, kind = shape * _log_low(params, x), independent.columns(x.kind).T[None]
    some = (stats.responsibilities.T[:, None] > 0) & (kind != UNKNOWN)
    largest = jnp.where(some, z, -jnp.inf).max(2)
    largest = jnp.where(largest > -jnp.inf, largest, 0)
    y = jnp.where(some, z - largest[:, :, None], 0)
    return _Line(*(jnp.moveaxis(each, 2, 0) for each in (y, shape * _ratio(x), kind))), largest


def _row(theta: Array, line: _Line) -> _Row:
    """Return rows at θ = (τ, β), (k, d, 2)."""
    tau, beta = theta[:, :, :1], theta[:, :, 1:]
    y, w, kind = (jnp.moveaxis(each, 0, 2) for each in line)
    return _Row(tau * y + beta, tau * w, kind)


class _Box(NamedTuple):
    """The least and the largest θ, (k, d, 2)."""

    low: Array
    high: Array

    def into(self, theta: Array) -> Array:
        return jnp.clip(theta, self.low, self.high)


def _box(params: Weibull, largest: Array) -> _Box:
    """Return what θ may be: shapes, and hazards of the longest-lived row, that are not too little, and leave λ finite.

    A start may lie below the least shape, and is then among them.
    """
    shape, log_scale = independent.columns(params.shape), jnp.log(independent.columns(params.scale))
    bits = int(jnp.finfo(shape.dtype).bits)
    room = LARGEST * math.log(jnp.finfo(shape.dtype).max) - (log_scale + largest / shape)
    least = jnp.minimum(jnp.maximum(math.log(LEAST_HAZARD[bits]), -shape * room), largest)
    low = jnp.stack([jnp.minimum(LEAST_SHAPE[bits] / shape, 1), least], -1)
    return _Box(low, jnp.stack([sharpest(shape.dtype) / shape, jnp.full_like(shape, jnp.inf)], -1))


def _look(theta: Array, before: Array, box: _Box, line: _Line, shares: Array) -> tuple[Array, Array, Array]:
    """Return the gain over another point, slopes and information at θ, over some rows, of which shares (n, k) count."""
    weights, present = shares.T[:, None], shares.T[:, None] > 0
    here, there = _row(theta, line), _row(before, line)
    y, w = jnp.moveaxis(line.y, 0, 2), jnp.moveaxis(line.w, 0, 2)
    exact = jnp.where(here.kind == EXACT, 1, jnp.zeros_like(y))
    gain = exact * jnp.log(theta[:, :, :1] / before[:, :, :1]) + _gain(here, there)
    found, tau = _slopes(here), theta[:, :, :1]
    of_tau = found.z * y + found.rise * w + exact / tau
    bend = found.zz * y**2 + 2 * found.z_rise * y * w + found.rise_rise * w**2 + exact / tau**2
    both = found.zz * y + found.z_rise * w

    def total(each: Array) -> Array:
        return jnp.where(present, weights * each, 0).sum(2)

    gain, of_tau, of_beta, bend, both, flat = map(total, (gain, of_tau, found.z, bend, both, found.zz))
    return gain, jnp.stack([of_tau, of_beta], -1), jnp.stack([bend, both, both, flat], -1).reshape(*gain.shape, 2, 2)


def _gain(here: _Row, there: _Row) -> Array:
    """Return by how much the log-mass is higher here than there; of exact and right-censored values to its own last digits."""
    ended, lived = _kinds(here.kind)
    step = here.z - there.z
    hazard = jnp.where(lived, _hazard(there.z) * jnp.expm1(step), 0)
    mass = jnp.where(ended, log_less_than(_below(here)) - log_less_than(_below(there)), 0)
    return mass - hazard + jnp.where(here.kind == EXACT, step, 0)


def _m_step(params: Weibull, stats: CensoredWeibullStats) -> tuple[Weibull, Array]:
    """Return the best parameters, and whether those of a component with rows are held at the edge of what they may be."""
    shape, r = independent.columns(params.shape), stats.responsibilities
    line, largest = _line(params, stats)
    box, size = _box(params, largest), (*shape.shape, 2)

    def seen(theta: Array, before: Array) -> tuple[Array, Array, Array, Array]:
        """Look inside the box; what is at its edge and pushes on does not move."""
        here, there = box.into(theta.reshape(size)), box.into(before.reshape(size))
        gain, slope, information = over_rows(lambda some, shares: _look(here, there, box, some, shares), line, r)
        stuck = ((here <= box.low) & (slope < 0)) | ((here >= box.high) & (slope > 0))
        free = jnp.where(stuck, 0, 1).astype(slope.dtype)
        return gain, slope * free, information * free[..., :, None] * free[..., None, :], stuck

    def look(theta: Array, before: Array) -> Look:
        gain, slope, information, _ = seen(theta, before)
        return Look(gain.ravel(), slope.reshape(-1, 2), information.reshape(-1, 2, 2))

    start = jnp.stack([jnp.ones_like(shape), largest], -1).reshape(-1, 2)
    counts = jnp.repeat(r.sum(0), shape.shape[1])
    reach = jnp.sqrt(1 + jnp.maximum((line.y**2).max(0), (line.w**2).max(0))).ravel()
    theta = box.into(climb(look, start, counts, reach).reshape(size))
    tau, beta = theta[..., 0], theta[..., 1]
    new = shape * tau
    limits, up = jnp.finfo(shape.dtype), jnp.exp((largest * tau - beta) / new)
    scale = jnp.clip(independent.columns(params.scale) * up, limits.tiny, limits.max)
    held = seen(theta, theta)[3].any(-1) & (r.sum(0)[:, None] > 0)
    event = params.shape.shape
    return Weibull(new.reshape(event), scale.reshape(event)), held.any()
