"""Tails of the normal and the exponential distribution, and what lies between two points: all digits, however far out.

Beyond FAR standard deviations a normal tail is the continued fraction of Mills' ratio. The mass of an interval is a difference
of tails where that loses no digits, and elsewhere, where it is narrow, an integral about its middle, in which nothing cancels.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.numerics import LOG_2PI
from jaxem.special import polynomial

FAR = {64: 5.0, 32: 3.0}  # standard deviations, from where TERMS leave no more than rounding
TERMS = {64: 24, 32: 12}
NARROW = 3.0  # standard deviations, and
FLAT = 8.0  # how many times e may fall over an interval, for its integral to be right by NODES points
NODES, WEIGHTS = (0.5 * each for each in np.polynomial.legendre.leggauss(12))
TINY, LARGE = -5.0, 6.5  # log t, from where a short series has all digits, and to where e^-t is positive in float64
EARLY = 0.5  # from where 1/t - 1/(e^t - 1) loses no digits
# of that function about zero: ½ and -B_2m / (2m)!, of t^(2m - 1)
EARLY_SERIES = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600)


def _bits(x: Array) -> int:
    return int(jnp.finfo(x.dtype).bits)


def _fraction(a: Array) -> Array:
    """Return φ(a)/Φ(-a) - a = 1/(a + 2/(a + 3/(a + …))) (Laplace 1805), for a far out."""
    rest = jnp.zeros_like(a)
    for term in range(TERMS[_bits(a)], 0, -1):
        rest = term / (a + rest)
    return rest


def _split(a: Array) -> tuple[Array, Array, Array]:
    """Return which a lie far out, these (FAR elsewhere), and Φ(-a) of the others."""
    limit = FAR[_bits(a)]
    far = a > limit
    return far, jnp.where(far, a, limit), 0.5 * jax.lax.erfc(jnp.where(far, limit, a) / math.sqrt(2))


@jax.custom_jvp
def log_tail(a: Array) -> Array:
    """Return log Φ(-a), the log-mass of a standard normal distribution above a."""
    far, out, mass = _split(a)
    return jnp.where(far, -0.5 * (out**2 + LOG_2PI) - jnp.log(out + _fraction(out)), jnp.log(mass))


@jax.custom_jvp
def hazard(a: Array) -> Array:
    """Return φ(a)/Φ(-a), the mean of what lies above a."""
    far, out, mass = _split(a)
    density = jnp.exp(-0.5 * (jnp.where(far, 0, a) ** 2 + LOG_2PI))
    return jnp.where(far, out + _fraction(out), density / mass)


@jax.custom_jvp
def overshoot(a: Array) -> Array:
    """Return φ(a)/Φ(-a) - a > 0, by how much the mean of what lies above a exceeds a."""
    far, out, _ = _split(a)
    return jnp.where(far, _fraction(out), hazard(a) - a)


@log_tail.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return log_tail(*primals), -hazard(*primals) * tangents[0]


@hazard.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return hazard(*primals), hazard(*primals) * overshoot(*primals) * tangents[0]


@overshoot.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return overshoot(*primals), (hazard(*primals) * overshoot(*primals) - 1) * tangents[0]


class Truncated(NamedTuple):
    """The log-mass of a set under a standard normal distribution, and E[z] and E[z²] given that z lies there."""

    log_mass: Array
    mean: Array
    square: Array


def above(a: Array) -> Truncated:
    """Return what is said of z > a."""
    mean = hazard(a)
    return Truncated(log_tail(a), mean, 1 + a * mean)


def between(a: Array, width: Array) -> Truncated:
    """Return what is said of a < z ≤ a + width, for width > 0."""
    turned = 2 * a + width < 0
    near = jnp.where(turned, -(a + width), a)
    middle = near + 0.5 * width
    narrow = (width <= NARROW) & (middle * width <= FLAT)
    inner = _about_middle(jnp.where(narrow, middle, 0), jnp.where(narrow, width, 1))
    outer = _difference(near, jnp.where(narrow, jnp.inf, near + width))
    found = Truncated(*(jnp.where(narrow, one, other) for one, other in zip(inner, outer, strict=True)))
    return found._replace(mean=jnp.where(turned, -found.mean, found.mean))


def _difference(near: Array, far: Array) -> Truncated:
    """Return what is said of near < z ≤ far from two tails, of which that beyond `far` is the lighter one by far."""
    some = far < jnp.inf
    beyond = jnp.where(some, far, near + 1)
    ratio = jnp.where(some, jnp.exp(log_tail(beyond) - log_tail(near)), 0)
    one, other, left = hazard(near), ratio * hazard(beyond), 1 - ratio
    square = 1 + (near * one - beyond * other) / left
    return Truncated(log_tail(near) + jnp.log1p(-ratio), (one - other) / left, square)


def _about_middle(middle: Array, width: Array) -> Truncated:
    """Return what is said of z = m + w t, |t| < ½, where its density is φ(m) e^(-m w t - ½ w² t²), by Gauss's quadrature."""
    steep, bend = middle * width, 0.5 * width**2
    mass, first, second = jnp.zeros_like(width), jnp.zeros_like(width), jnp.zeros_like(width)
    for t, weight in zip(NODES.tolist(), WEIGHTS.tolist(), strict=True):
        share = weight * jnp.exp(-t * steep - t**2 * bend)
        mass, first, second = mass + share, first + t * share, second + t**2 * share
    first, second = width * first / mass, width**2 * second / mass
    log_mass = jnp.log(width) + jnp.log(mass) - 0.5 * (middle**2 + LOG_2PI)
    return Truncated(log_mass, middle + first, middle**2 + 2 * middle * first + second)


def log_less(t: Array) -> Array:
    """Return log(1 - e^-t), the log-mass of a standard exponential distribution below t > 0."""
    low = t < math.log(2)
    return jnp.where(low, jnp.log(-jnp.expm1(-jnp.where(low, t, 1))), jnp.log1p(-jnp.exp(-jnp.where(low, 1, t))))


def early(t: Array) -> Array:
    """Return 1/t - 1/(e^t - 1), what share of t > 0 has passed at the mean of a standard exponential time that lies below."""
    low = t < EARLY
    near, far = jnp.where(low, t, 0), jnp.where(low, 1, t)
    return jnp.where(low, 0.5 - near * polynomial(EARLY_SERIES, near**2), 1 / far - jnp.exp(-far) / -jnp.expm1(-far))


def log_less_than(log_t: Array) -> Array:
    """Return log(1 - e^-t) from log t, however small or large t is."""
    t = jnp.exp(jnp.minimum(log_t, TINY))
    near = jnp.minimum(log_t, TINY) - t / 2 + t**2 / 24 - t**4 / 2880
    return jnp.where(log_t < TINY, near, log_less(jnp.exp(jnp.clip(log_t, TINY, LARGE))))
