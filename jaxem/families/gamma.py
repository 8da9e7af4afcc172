"""Gamma components: positive numbers, in one dimension or in d independent ones."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxem import constraints
from jaxem.arrays import check_width
from jaxem.families import independent
from jaxem.families.holes import allowing_holes
from jaxem.families.positives import along, checked, cube_root, overall_mean, sharpest, weighed, with_mean_row
from jaxem.model import Family
from jaxem.numerics import LOG_2PI, positive, weighted_sum
from jaxem.special import binet, excess, inverse_log_minus_digamma

LOST = 1e3  # ulps of the deviance about an old mean far away, in which that about the new one is lost


class Gamma(NamedTuple):
    """Parameters of k gamma components, of mean shape / rate: shape and rate (k, *event); event is () or (d,).

    >>> from jaxem.families import Gamma
    >>> Gamma(shape=[2.0, 9.0], rate=[1.0, 3.0]).rate
    [1.0, 3.0]
    """

    shape: Any
    rate: Any


class GammaStats(NamedTuple):
    """Sums over rows with responsibilities r_nk, about the means μ_k of the E-step's parameters.

    counts (k,)           N_k = Σ_n r_nk
    centre (k, *event)    N_k μ_k, so that the sums say what they are about and still add up over blocks
    shift (k, *event)     Σ_n r_nk (x_n - μ_k) / μ_k
    deviance (k, *event)  Σ_n r_nk (x_n / μ_k - 1 - log x_n / μ_k)
    log_x ()              Σ_nk r_nk Σ_j log x_nj
    """

    counts: Array
    centre: Array
    shift: Array
    deviance: Array
    log_x: Array


class Positives(NamedTuple):
    """Numbers > 0 that have been looked at, and their logarithms: (n, *event)."""

    x: Array
    log_x: Array


@cache
def gamma() -> Family:
    """Return the gamma family, log p(x | α_k, β_k) = Σ_j α log β - log Γ(α) + (α - 1) log x - β x, for numbers > 0.

    Data are (n,) or (n, d). With the mean μ = α/β it is g(α) - α (x/μ - 1 - log x/μ) - log x, where g(α) is about
    ½ log α/2π: nothing cancels however large the shape. No shape is above 1e10, in float32 1e8, which holds a component
    that shrinks onto one value. The M-step solves log α - ψ(α) = mean deviance (Minka 2002).

    >>> import jaxem
    >>> x = [1.0, 2.0, 6.0]
    >>> model = jaxem.single(jaxem.families.gamma())
    >>> params = jaxem.fit(model, model.init(0, x), x).params
    >>> print(params.shape.round(2), (params.shape / params.rate).round(2))
    [2.] [3.]
    """

    def evaluate(params: Gamma, x: Positives) -> tuple[Array, Callable[[Array], GammaStats]]:
        mean = params.shape / params.rate
        check_width(x.x, independent.columns(mean).shape[1], "shape")
        shape, centre = params.shape.reshape(-1, 1), mean.reshape(-1, 1)
        rows, log_rows = (jnp.tile(independent.columns(leaf).T, (mean.shape[0], 1)) for leaf in x)
        most = jnp.finfo(rows.dtype).max ** 0.5  # a row of no density has finite statistics
        shift, log_row = jnp.minimum((rows - centre) / centre, most), independent.columns(x.log_x).sum(1)
        deviance = excess(shift, jnp.minimum(rows / centre, most), log_rows - jnp.log(centre))

        def statistics(responsibilities: Array) -> GammaStats:
            counts = responsibilities.sum(0)
            return GammaStats(
                counts,
                along(counts, mean) * mean,
                weighed(responsibilities, shift, mean),
                weighed(responsibilities, deviance, mean),
                weighted_sum(responsibilities.sum(1), log_row),
            )

        log_prob = (_peak(shape) - shape * deviance).reshape(mean.shape[0], -1, rows.shape[1])
        return log_prob.sum(1).T - log_row[:, None], statistics

    def init(x: Positives, responsibilities: Array) -> Gamma:
        """The M-step from the responsibilities and one row more, the mean of all: so no shape is held unless all are equal."""
        mean = jnp.repeat(overall_mean(x.x, responsibilities), responsibilities.shape[1], 0)
        about = Gamma(jnp.ones_like(mean), 1 / mean)
        return _estimate(evaluate(about, x)[1](with_mean_row(responsibilities)))[0]

    def sample(key: Array, params: Gamma, labels: Array, like: Any) -> Array:
        log_draw = jax.random.loggamma(key, params.shape[labels], dtype=params.shape.dtype) - jnp.log(params.rate[labels])
        return jnp.maximum(jnp.exp(log_draw), jnp.finfo(log_draw.dtype).tiny)

    family = Family(
        evaluate,
        lambda params, stats: _estimate(stats)[0],
        _expected_log_prob,
        init,
        constraints=Gamma(constraints.positive, constraints.positive),
        sample=sample,
        embed=lambda data: cube_root(data.x),
        prepare=_prepare,
        degenerate=lambda params, stats: _estimate(stats)[1],
        parts=(gamma, ()),
    )
    return allowing_holes(family, mean=lambda params: params.shape / params.rate, legal=1.0)


def _peak(shape: Array) -> Array:
    """Return α log α - α - log Γ(α), the log-density of log x at the mean."""
    return 0.5 * (jnp.log(shape) - LOG_2PI) - binet(shape)


def _expected_log_prob(params: Gamma, stats: GammaStats) -> Array:
    """Σ N g(α) - α Σ r D(x; μ), D(x; μ) = D(x; μ') + u (x - μ')/μ' + D(μ'; μ), u = (μ' - μ)/μ, μ' that of the sums."""
    count = along(stats.counts, stats.centre)
    old, new = stats.centre / positive(count), params.shape / params.rate
    old = jnp.where(count > 0, old, new)
    back = (old - new) / new
    deviance = stats.deviance + stats.shift * back + count * excess(back, old / new)
    return (count * _peak(params.shape) - params.shape * deviance).sum() - stats.log_x


def _estimate(stats: GammaStats) -> tuple[Gamma, Array]:
    """Return the best parameters, and whether a component with rows had to be held."""
    count = positive(along(stats.counts, stats.centre))
    step, spread = stats.shift / count, stats.deviance / count
    deviance = jnp.maximum(spread - excess(step, 1 + step), LOST * jnp.finfo(spread.dtype).eps * spread)
    most = sharpest(spread.dtype) ** 2
    held = deviance <= 0.5 / most
    shape = jnp.where(held, most, inverse_log_minus_digamma(jnp.where(held, 1, deviance)))
    mean = stats.centre / count * (1 + step)
    return Gamma(shape, shape / mean), (held & (along(stats.counts, held) > 0)).any()


def _prepare(data: Any, weights: Array | None) -> Positives:
    if isinstance(data, Positives):
        return data
    x = checked(data)
    return Positives(x, jnp.log(x))
