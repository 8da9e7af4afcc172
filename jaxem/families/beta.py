"""Beta components: numbers between 0 and 1, in one dimension or in d independent ones."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem import constraints
from jaxem.arrays import check_width
from jaxem.families import independent
from jaxem.families.holes import allowing_holes
from jaxem.families.positives import along, checked, overall_mean, sharpest, weighed, with_mean_row
from jaxem.model import Family
from jaxem.numerics import LOG_2PI, positive, weighted_sum
from jaxem.special import binet, binet_curvature, binet_slope, excess

LEAST = 1e-10  # of a + b
LONGEST = 1.0  # step between logarithms
MOST_TURNS = 100
LOST = 1e3  # ulps of the deviance about an old mean far away, in which that about the new one is lost


class Beta(NamedTuple):
    """Parameters of k beta components, of mean a / (a + b): a and b (k, *event); event is () or (d,).

    >>> from jaxem.families import Beta
    >>> Beta(a=[1.0, 9.0], b=[2.0, 3.0]).b
    [2.0, 3.0]
    """

    a: Any
    b: Any


class BetaStats(NamedTuple):
    """Sums over rows with responsibilities r_nk, about the means m_k of the E-step's parameters.

    counts (k,)           N_k = Σ_n r_nk
    centre (k, *event)    N_k m_k, so that the sums say what they are about and still add up over blocks
    rest (k, *event)      N_k (1 - m_k)
    shift (k, *event)     Σ_n r_nk (logit x_n - logit m_k)
    deviance (k, *event)  Σ_n r_nk KL(m_k; x_n), KL(m; x) = m log m/x + (1 - m) log (1 - m)/(1 - x)
    log_x ()              Σ_nk r_nk Σ_j log x_nj + log(1 - x_nj)
    """

    counts: Array
    centre: Array
    rest: Array
    shift: Array
    deviance: Array
    log_x: Array


class Fractions(NamedTuple):
    """Numbers in (0, 1) that have been looked at, (n, *event), and Σ_j log x_j + log(1 - x_j) of each row, (n,)."""

    x: Array
    log_x: Array


@cache
def beta() -> Family:
    """Return the beta family, log p(x | a, b) = Σ_j (a - 1) log x + (b - 1) log(1 - x) - log B(a, b), for numbers in (0, 1).

    Data are (n,) or (n, d). With the mean m = a/(a + b) and φ = a + b it is g(a, b) - φ KL(m; x) - log x (1 - x), where g is
    about ½ log ab/2πφ: nothing cancels however large φ is. No φ is above 1e10, in float32 1e8, which holds a component
    that shrinks onto one value. The M-step is by Fisher scoring in logit m and log φ, to stationarity.

    >>> import jaxem
    >>> x = [0.2, 0.3, 0.7]
    >>> model = jaxem.single(jaxem.families.beta())
    >>> params = jaxem.fit(model, model.init(0, x), x).params
    >>> print(f"{params.a[0]:.1f} {params.b[0]:.1f}")
    2.1 3.1
    """

    def evaluate(params: Beta, x: Fractions) -> tuple[Array, Callable[[Array], BetaStats]]:
        total = params.a + params.b
        mean, rest = params.a / total, params.b / total
        a, b, m, left = (independent.columns(leaf)[:, :, None] for leaf in (params.a, params.b, mean, rest))
        check_width(x.x, a.shape[1], "a")
        rows = independent.columns(x.x).T[None]
        up, down = (rows - m) / m, (m - rows) / left
        one, other = excess(up, rows / m), excess(down, (1 - rows) / left)

        def statistics(responsibilities: Array) -> BetaStats:
            counts = responsibilities.sum(0)
            number = along(counts, mean)
            return BetaStats(
                counts,
                number * mean,
                number * rest,
                weighed(responsibilities, (up - one) - (down - other), mean),
                weighed(responsibilities, m * one + left * other, mean),
                weighted_sum(responsibilities.sum(1), x.log_x),
            )

        return (_peak(a, b) - a * one - b * other).sum(1).T - x.log_x[:, None], statistics

    def init(x: Fractions, responsibilities: Array) -> Beta:
        """The M-step from the responsibilities and one row more, the mean of all: so none is held unless all are equal."""
        mean = jnp.repeat(overall_mean(x.x, responsibilities), responsibilities.shape[1], 0)
        about = Beta(2 * mean, 2 * (1 - mean))
        return _estimate(about, evaluate(about, x)[1](with_mean_row(responsibilities)))[0]

    def sample(key: Array, params: Beta, labels: Array, like: Any) -> Array:
        keys, dtype = jax.random.split(key), params.a.dtype
        one, other = (jax.random.loggamma(each, leaf[labels], dtype=dtype) for each, leaf in zip(keys, params, strict=True))
        limits = jnp.finfo(dtype)
        return jnp.clip(jax.nn.sigmoid(one - other), limits.tiny, 1 - limits.epsneg)

    family = Family(
        evaluate,
        lambda params, stats: _estimate(params, stats)[0],
        _expected_log_prob,
        init,
        constraints=Beta(constraints.positive, constraints.positive),
        sample=sample,
        embed=lambda data: jnp.arcsin(jnp.sqrt(independent.columns(data.x))),
        prepare=_prepare,
        degenerate=lambda params, stats: _estimate(params, stats)[1],
        parts=(beta, ()),
    )
    return allowing_holes(family, mean=lambda params: params.a / (params.a + params.b), legal=0.5)


def _prepare(data: Any, weights: Array | None) -> Fractions:
    if isinstance(data, Fractions):
        return data
    x = checked(data, below=1)
    return Fractions(x, independent.columns(jnp.log(x) + jnp.log1p(-x)).sum(1))


def _peak(a: Array, b: Array) -> Array:
    """Return a log m + b log(1 - m) - log B(a, b), the log-density of logit x at the mean."""
    total = a + b
    return 0.5 * (jnp.log(a) + jnp.log(b / total) - LOG_2PI) + binet(total) - binet(a) - binet(b)


def _divergence(one: Array, rest: Array, old: Array, old_rest: Array) -> Array:
    """Return KL(m; m') from m, 1 - m, m' and 1 - m'."""
    return one * excess((old - one) / one, old / one) + rest * excess((old_rest - rest) / rest, old_rest / rest)


def _means(params: Beta, stats: BetaStats) -> tuple[Array, Array, Array]:
    """Return N_k, at least one, and the means that the statistics are about, with what they leave to one."""
    count = along(stats.counts, stats.centre)
    some, number = count > 0, positive(count)
    total = params.a + params.b
    return (
        number,
        jnp.where(some, stats.centre / number, params.a / total),
        jnp.where(some, stats.rest / number, params.b / total),
    )


def _expected_log_prob(params: Beta, stats: BetaStats) -> Array:
    """Σ N g(a, b) - φ (N KL(m; m') + Σ r KL(m'; x) - (m - m') Σ r (logit x - logit m')), m' that of the statistics."""
    count, total = along(stats.counts, stats.centre), params.a + params.b
    _, old, old_rest = _means(params, stats)
    mean, rest = params.a / total, params.b / total
    deviance = count * _divergence(mean, rest, old, old_rest) + stats.deviance - (mean - old) * stats.shift
    return (count * _peak(params.a, params.b) - total * deviance).sum() - stats.log_x


class _Scoring(NamedTuple):
    turn: Array
    logit: Array  # of the mean
    log_total: Array
    length: Array  # of the last step
    done: Array


def _estimate(params: Beta, stats: BetaStats) -> tuple[Beta, Array]:
    """Return the best parameters, and whether a component with rows had to be held."""
    count, old, old_rest = _means(params, stats)
    shift, spread = stats.shift / count, stats.deviance / count
    most = 2 * math.log(sharpest(spread.dtype))
    eps = jnp.finfo(spread.dtype).eps

    def scored(logit: Array, log_total: Array) -> tuple[Array, Array]:
        """Return the step of Fisher scoring: the information is that of the likelihood at its maximum."""
        total, mean, rest = jnp.exp(log_total), jax.nn.sigmoid(logit), jax.nn.sigmoid(-logit)
        a, b, gap = total * mean, total * rest, 1 / mean - 1 / rest
        slopes, (bend_a, bend_b) = (binet_slope(a), binet_slope(b)), (binet_curvature(a), binet_curvature(b))
        deviance = _divergence(mean, rest, old, old_rest) + spread - (mean - old) * shift
        deviance = jnp.maximum(deviance, LOST * eps * spread)
        turned = jnp.log(mean / old) - jnp.log(rest / old_rest) - shift
        along_total = 0.5 / total + binet_slope(total) - mean * slopes[0] - rest * slopes[1] - deviance
        along_mean = 0.5 * gap + total * (slopes[1] - slopes[0] - turned)
        of_total = 0.5 / total**2 - binet_curvature(total) + mean**2 * bend_a + rest**2 * bend_b
        of_mean = 0.5 / mean**2 + 0.5 / rest**2 + total**2 * (bend_a + bend_b) + total / (mean * rest)
        of_both = total * (mean * bend_a - rest * bend_b) + 0.5 * gap / total
        determinant = of_mean * of_total - of_both**2
        d_mean = (of_total * along_mean - of_both * along_total) / determinant
        d_total = (of_mean * along_total - of_both * along_mean) / determinant
        return d_mean / (mean * rest), d_total / total

    def step(state: _Scoring) -> _Scoring:
        by_logit, by_total = scored(state.logit, state.log_total)
        longest = jnp.maximum(jnp.maximum(jnp.abs(by_logit), jnp.abs(by_total)) / LONGEST, 1)
        log_total = jnp.clip(state.log_total + by_total / longest, math.log(LEAST), most)
        length = jnp.maximum(jnp.abs(by_logit), jnp.abs(log_total - state.log_total))
        return _Scoring(
            state.turn + 1,
            jnp.where(state.done, state.logit, state.logit + by_logit / longest),
            jnp.where(state.done, state.log_total, log_total),
            length,
            state.done | (length < 0.1 * jnp.sqrt(eps)) | ((length < 0.05) & (length > 0.5 * state.length)),
        )

    start = _Scoring(
        jnp.zeros((), jnp.int32),
        jnp.log(old / old_rest),
        jnp.clip(jnp.log(params.a + params.b), math.log(LEAST), most),
        jnp.full_like(spread, jnp.inf),
        along(stats.counts, spread) + jnp.zeros_like(spread) <= 0,
    )
    end = lax.while_loop(lambda state: ~state.done.all() & (state.turn < MOST_TURNS), step, start)
    total = jnp.exp(end.log_total)
    held = (end.log_total >= most) & (along(stats.counts, spread) > 0)
    return Beta(total * jax.nn.sigmoid(end.logit), total * jax.nn.sigmoid(-end.logit)), held.any()
