"""Modified Bessel functions I_ν and their ratios, right to their own last digits from small arguments to 1e10.

High orders by Debye's uniform expansion; lower ones from there by the continued fraction of I_ν+1 / I_ν, in the form of a
recurrence for what the ratio lacks to one, since for large arguments that is all there is to know of it.
"""

import math
from fractions import Fraction
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

HIGH = 32  # the order from which TERMS of the expansion leave less than 1e-15
TERMS = 10


@cache
def _debye() -> tuple[np.ndarray, np.ndarray]:
    """Return c_kj and (k + 2j) c_kj, where D_k(p) = p^k Σ_j c_kj p^2j.

    log I_ν(νz) = νη - ½ log 2πν + ½ log p + Σ_k D_k(p)/ν^k, p = 1/√(1 + z²). By the
    recurrence for U_k, DLMF 10.41.9, and the logarithm of the series Σ_k U_k(p)/ν^k.
    """
    u = [{0: Fraction(1)}]
    for _ in range(TERMS):
        rising: dict[int, Fraction] = {}
        for power, c in u[-1].items():
            for shift, factor in ((1, Fraction(power, 2) + Fraction(1, 8 * (power + 1))), (3, -Fraction(power, 2))):
                rising[power + shift] = rising.get(power + shift, Fraction(0)) + c * factor
            rising[power + 3] -= c * Fraction(5, 8 * (power + 3))
        u.append(rising)
    logs: list[dict[int, Fraction]] = [{}, *(dict(each) for each in u[1:])]
    for k in range(1, TERMS + 1):
        for i in range(1, k):
            for a, c in logs[i].items():
                for b, e in u[k - i].items():
                    logs[k][a + b] = logs[k].get(a + b, Fraction(0)) - Fraction(i, k) * c * e
    values = np.array([[float(logs[k].get(k + 2 * j, 0)) for j in range(TERMS + 1)] for k in range(1, TERMS + 1)])
    powers = np.arange(1, TERMS + 1)[:, None] + 2 * np.arange(TERMS + 1)[None]
    return values, powers * values


def _series(coefficients: np.ndarray, p: Array, order: float) -> Array:
    """Return Σ_k (p/ν)^k Σ_j c_kj p^2j."""
    table = jnp.asarray(coefficients / order ** np.arange(1, TERMS + 1)[:, None], p.dtype)
    total = jnp.zeros_like(p)
    for row in table[::-1]:
        inner = jnp.zeros_like(p)
        for c in row[::-1]:
            inner = inner * p * p + c
        total = (total + inner) * p
    return total


def _high(order: float, x: Array) -> tuple[Array, Array, Array]:
    """Return log(I_ν(x) x^-ν e^-x), 1 - I_ν+1/I_ν and I_ν+1/I_ν for a high order."""
    z = x / order
    root = jnp.sqrt(1 + z * z)
    p = 1 / root
    values, slopes = (_series(coefficients, p, order) for coefficients in _debye())
    start = order / (root + z) - order * jnp.log(order * (1 + root)) - 0.5 * math.log(2 * math.pi * order)
    rest = z * p * p / order * (0.5 + slopes)
    return start + 0.5 * jnp.log(p) + values, 2 / (z + 1 + root) + rest, z / (1 + root) - rest


def _bessel(order: float, x: Array) -> tuple[Array, Array, Array]:
    """Return log(I_ν(x) x^-ν e^-x), 1 - I_ν+1/I_ν and I_ν+1/I_ν.

    From μ + 1 to μ: with s = 2(μ + 1) + x I_μ+2/I_μ+1, I_μ+1/I_μ = x/s, and I_μ x^-μ = s I_μ+1 x^-(μ + 1).
    """
    steps = max(0, math.ceil(HIGH - order))

    def lower(turn: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        log_value, lack, _ = state
        twice = 2 * (order + (steps - turn).astype(x.dtype))
        s = twice + x * (1 - lack)
        return log_value + jnp.log(s), (twice - x * lack) / s, x / s

    return lax.fori_loop(0, steps, lower, _high(order + steps, x))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def log_scaled(order: float, x: Array) -> Array:
    """Return log(I_ν(x) x^-ν e^-x) for ν ≥ 0 and x ≥ 0, elementwise."""
    return _bessel(order, x)[0]


@log_scaled.defjvp
def _(order: float, primals: Any, tangents: Any) -> tuple[Array, Array]:
    """Differentiate: its slope is I_ν+1/I_ν - 1."""
    value, lack, _ = _bessel(order, *primals)
    return value, -lack * tangents[0]


def ratio(order: float, x: Array) -> tuple[Array, Array]:
    """Return 1 - I_ν+1(x)/I_ν(x) and I_ν+1(x)/I_ν(x) for ν ≥ 0 and x ≥ 0, elementwise, each right to its own last digits."""
    return _bessel(order, x)[1:]
