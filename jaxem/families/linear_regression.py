"""Linear regressions: a normal response about columns times coefficients."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxem import constraints
from jaxem.arrays import is_traced
from jaxem.families.designs import Basis, check_columns, inward
from jaxem.families.newton import Look, grams, solve
from jaxem.families.positives import with_mean_row
from jaxem.families.regression import (
    Kind,
    Regression,
    Responses,
    as_common,
    linear_predictor,
    predictor,
    prepare_regression,
)
from jaxem.families.systems import System, system_of
from jaxem.model import Family
from jaxem.numerics import LOG_2PI, positive
from jaxem.seeds import column_variances
from jaxem.trees import Shared

FLOOR = 1e-10  # of the variance of all responses, below which no variance falls
MOST_TURNS = 200  # between common coefficients and the variances that weigh them
LOST = 16.0  # ulps of the squares about old coefficients, in which those about new ones are lost
STILL = 4.0  # ulps of a variance, at which these turns end


class LinearRegression(NamedTuple):
    """Parameters of k linear regressions.

    coefficients  (k, p), one for each column of x
    variance      (k,) of what is left, or () where all share it

    >>> from jaxem.families import LinearRegression
    >>> LinearRegression(coefficients=[[0.1, 0.5], [2.0, -0.5]], variance=[1.0, 0.2]).variance
    [1.0, 0.2]
    """

    coefficients: Any
    variance: Any


class RegressionStats(NamedTuple):
    """Sums over rows with responsibilities r_nk, about the coefficients β_k of the E-step's parameters; z = x R⁻¹.

    counts   (k,)        N_k = Σ_n r_nk
    centre   (k, p)      N_k β_k, so that the sums say what they are about and still add up over blocks
    forward, backward (p, p)  N R and N R⁻¹, N = Σ_k N_k, so that they say what z is
    total    ()          N times the variance of all responses
    gram     (k, p, p)   Σ_n r_nk z_n z_nᵀ
    cross    (k, p)      Σ_n r_nk z_n e_nk, with residuals e_nk = y_n - x_n·β_k - offset_n
    squares  (k,)        Σ_n r_nk e_nk²
    """

    counts: Array
    centre: Array
    forward: Array
    backward: Array
    total: Array
    gram: Array
    cross: Array
    squares: Array


def linear_regression(common: tuple[int, ...] = (), variance: str = "each") -> Family:
    """Return the family of linear regressions, p(y_n | x_n, θ_k) = N(y_n; x_n·β_k + offset_n, σ²_k).

    common    the columns of x whose coefficient all components share: their entries in `coefficients` are equal
    variance  "each" component has its own, or one is "shared"

    data `families.Regression(x, y, offset)`; no intercept is added. A variance is held above 1e-10 of that of all responses;
    a fit held there is DEGENERATE. De Veaux (1989); Leisch (2004).

    Raises ValueError for another variance, and where `common` is no tuple of column numbers.

    >>> import numpy as np, jaxem
    >>> from jaxem import families
    >>> t = np.arange(12.0)
    >>> data = families.Regression(np.stack([np.ones(12), t], 1), np.where(t % 2, 20 - t, 2 * t) + 0.1 * np.cos(5 * t))
    >>> model = jaxem.mixture(families.linear_regression(), 2)
    >>> best = jaxem.fit_restarts(model, 0, data, num_restarts=8).best
    >>> print(np.sort(best.params.components.coefficients[:, 1]).round(1))
    [-1.  2.]
    """
    if variance not in ("each", "shared"):
        raise ValueError(f"variance must be 'each' or 'shared', got {variance!r}.")
    return _linear_regression(as_common(common), variance == "shared")


@cache
def _linear_regression(common: tuple[int, ...], shared: bool) -> Family:
    def evaluate(params: LinearRegression, x: Responses) -> tuple[Array, Callable[[Array], RegressionStats]]:
        check_columns(x.design, params.coefficients.shape[1])
        residual = x.y[None] - predictor(params.coefficients, x)
        variance = _of_each(params)[:, None]
        basis, base = x.design.basis.value, x.base

        def statistics(responsibilities: Array) -> RegressionStats:
            weights, z = responsibilities.T, x.design.z
            counts, weighted = weights.sum(1), weights * residual
            number = counts.sum()
            return RegressionStats(
                counts,
                counts[:, None] * params.coefficients,
                number * basis.forward,
                number * basis.backward,
                number * base.value,
                grams(weights, z),
                weighted @ z,
                (weighted * residual).sum(1),
            )

        return -0.5 * (residual**2 / variance + jnp.log(variance) + LOG_2PI).T, statistics

    def expected_log_prob(params: LinearRegression, stats: RegressionStats) -> Array:
        variance = _of_each(params)
        squares = _left(stats, inward(params.coefficients - _about(params, stats), _basis(stats)))
        return -0.5 * (stats.counts * (jnp.log(variance) + LOG_2PI) + squares / variance).sum()

    def estimate(params: LinearRegression, stats: RegressionStats) -> tuple[LinearRegression, Array]:
        """Return the M-step, and which components (k,) a floor holds the variance of."""
        system = system_of(params.coefficients, len(common))
        least = FLOOR * stats.total / stats.counts.sum()
        moved, variance, held = _best(system, shared, stats, _of_each(params), least)
        coefficients = _about(params, stats) + moved @ _basis(stats).backward.T
        if common:
            coefficients = constraints.alike(common).mend(coefficients)
        return LinearRegression(coefficients, variance[0] if shared else variance), held

    def init(x: Responses, responsibilities: Array) -> LinearRegression:
        """Return the M-step from the responsibilities and one row more, spread as all; twice, for the digits of variances."""
        k, p = responsibilities.shape[1], x.design.x.shape[1]
        ones = jnp.ones((() if shared else (k,)), x.y.dtype)
        start = LinearRegression(jnp.zeros((k, p), x.y.dtype), x.base.value * ones)
        for _ in range(2):
            start = estimate(start, evaluate(start, x)[1](with_mean_row(responsibilities)))[0]
        return start

    def sample(key: Array, params: LinearRegression, labels: Array, like: Responses | None) -> Regression:
        eta = linear_predictor(params.coefficients, labels, like)
        noise = jax.random.normal(key, eta.shape, eta.dtype) * jnp.sqrt(_of_each(params))[labels]
        assert like is not None
        return Regression(like.design.x, eta + noise, like.offset)

    return Family(
        evaluate,
        lambda params, stats: estimate(params, stats)[0],
        expected_log_prob,
        init,
        constraints=LinearRegression(
            constraints.alike(common) if common else constraints.real,
            constraints.on_axes(constraints.positive, ()) if shared else constraints.positive,
        ),
        sample=sample,
        embed=lambda rows: rows.y[:, None],
        prepare=lambda data, weights: _prepared(data, weights, common),
        degenerate=lambda params, stats: estimate(params, stats)[1].any(),
        parts=(linear_regression, (common, "shared" if shared else "each")),
        places=False,
    )


def _of_each(params: LinearRegression) -> Array:
    return jnp.broadcast_to(params.variance, params.coefficients.shape[:1])


def _basis(stats: RegressionStats) -> Basis:
    number = stats.counts.sum()
    return Basis(stats.forward / number, stats.backward / number)


def _about(params: LinearRegression, stats: RegressionStats) -> Array:
    """Return the coefficients that sums are about; of components without rows, the given ones."""
    some = (stats.counts > 0)[:, None]
    return jnp.where(some, stats.centre / positive(stats.counts)[:, None], params.coefficients)


def _left(stats: RegressionStats, moved: Array) -> Array:
    """Return Σ_n r_nk e_nk² of coefficients moved by δ (k, p), in units of z: S - 2 δ·b + δᵀ G δ."""
    turned = (stats.gram @ moved[:, :, None])[:, :, 0]
    return stats.squares + (moved * (turned - 2 * stats.cross)).sum(1)


def _best(system: System, shared: bool, stats: RegressionStats, variance: Array, least: Array) -> tuple[Array, Array, Array]:
    """Return how far coefficients move in units of z (k, p), the variances (k,), and which of these a floor holds.

    Each problem is solved at once, but for coefficients in common and variances that are not: these take turns.
    """
    count = positive(stats.counts)

    def turn(variance: Array) -> tuple[Array, Array, Array]:
        weight = jnp.where(stats.counts > 0, 1 / variance, 0) if system.shared and not shared else jnp.ones_like(variance)
        found = system.look(Look(count, stats.cross * weight[:, None], stats.gram * weight[:, None, None]))
        moved = system.apart(solve(found.information, found.slope))
        left, squares, number = _left(stats, moved), stats.squares, count
        if shared:
            left, squares, number = (jnp.full_like(each, each.sum()) for each in (left, squares, stats.counts))
        lowest = jnp.maximum(least, LOST * jnp.finfo(left.dtype).eps * squares / number)
        held = (left / number < least) & (stats.counts > 0)
        return moved, jnp.maximum(left / number, lowest), held

    def again(state: tuple[Array, Array, tuple[Array, Array, Array]]) -> tuple[Array, Array, tuple[Array, Array, Array]]:
        turns, _, (_, before, _) = state
        after = turn(before)
        change = jnp.where(stats.counts > 0, jnp.abs(after[1] - before) / before, 0)
        return turns + 1, change.max() <= STILL * jnp.finfo(before.dtype).eps, after

    first = turn(variance)
    if shared or not system.shared:
        return first
    start = jnp.zeros((), jnp.int32), jnp.asarray(False), first
    return lax.while_loop(lambda state: ~state[1] & (state[0] < MOST_TURNS), again, start)[2]


def _prepared(data: Any, weights: Array | None, common: tuple[int, ...]) -> Responses:
    """Return rows that have been looked at, and beside them the variance of the responses that are to be learnt from."""
    rows = prepare_regression(data, weights, Kind(lambda y, trials: jnp.isfinite(y), "finite numbers"), common)
    if rows.base is not None:
        return rows
    y = rows.y if rows.offset is None else rows.y - rows.offset
    present = jnp.ones_like(y) if weights is None else (weights > 0).astype(y.dtype)
    variance = column_variances(y, present)
    if weights is not None and not is_traced(y, weights) and not np.ptp(np.asarray(y)[np.asarray(weights) > 0]):
        raise ValueError("y less offset is the same in all rows of positive weight, needs some spread to fit a variance.")
    return rows._replace(base=Shared(variance))
