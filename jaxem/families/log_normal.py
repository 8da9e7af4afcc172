"""Log-normal components: positive numbers whose logarithms are normal, in one dimension or in d independent ones."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxem import constraints
from jaxem.arrays import check_width
from jaxem.families import independent
from jaxem.families.gaussian.distances import moments, square_distances
from jaxem.families.positives import along, checked, sharpest, with_mean_row
from jaxem.model import Family
from jaxem.numerics import LOG_2PI, positive, weighted_sum

LOST = 1e3  # ulps of the squares about old locations far away, in which those about the new ones are lost


class LogNormal(NamedTuple):
    """Parameters of k log-normal components, mean and standard deviation of log x: location and scale (k, *event).

    >>> from jaxem.families import LogNormal
    >>> LogNormal(location=[0.0, 3.0], scale=[1.0, 0.5]).scale
    [1.0, 0.5]
    """

    location: Any
    scale: Any


class LogNormalStats(NamedTuple):
    """Sums over rows with responsibilities r_nk, about the locations m_k of the E-step's parameters; y = log x.

    counts (k,)          N_k = Σ_n r_nk
    centre (k, *event)   N_k m_k, so that the sums say what they are about and still add up over blocks
    shift (k, *event)    Σ_n r_nk (y_n - m_k)
    squares (k, *event)  Σ_n r_nk (y_n - m_k)²
    total ()             Σ_nk r_nk Σ_j y_nj
    """

    counts: Array
    centre: Array
    shift: Array
    squares: Array
    total: Array


class Logs(NamedTuple):
    """Logarithms of numbers > 0 that have been looked at: (n, *event)."""

    y: Array


@cache
def log_normal() -> Family:
    """Return the log-normal family, log p(x | m_k, s_k) = Σ_j log N(log x_j; m_kj, s_kj²) - log x_j, for numbers > 0.

    Data are (n,) or (n, d). No scale is below 1e-5, in float32 1e-4, which holds a component that shrinks onto one value.

    >>> import numpy as np, jaxem
    >>> x = np.exp([1.0, 2.0, 6.0])
    >>> model = jaxem.single(jaxem.families.log_normal())
    >>> params = jaxem.fit(model, model.init(0, x), x).params
    >>> print(params.location.round(2), params.scale.round(1))
    [3.] [2.2]
    """

    def evaluate(params: LogNormal, x: Logs) -> tuple[Array, Callable[[Array], LogNormalStats]]:
        location, scale = independent.columns(params.location), independent.columns(params.scale)
        rows, precision = independent.columns(x.y), 1 / scale**2
        check_width(x.y, location.shape[1], "location")

        def statistics(responsibilities: Array) -> LogNormalStats:
            counts, total = responsibilities.sum(0), weighted_sum(responsibilities.sum(1), rows.sum(1))
            shift, squares = moments(rows, location, precision, responsibilities)
            shape, centre = params.location.shape, along(counts, params.location) * params.location
            return LogNormalStats(counts, centre, shift.reshape(shape), squares.reshape(shape), total)

        log_scale = (jnp.log(scale) + 0.5 * LOG_2PI).sum(1)
        log_prob = -0.5 * square_distances(rows, location, precision) - log_scale[:, None]
        return log_prob.T - rows.sum(1)[:, None], statistics

    def init(x: Logs, responsibilities: Array) -> LogNormal:
        """The M-step from the responsibilities and one row more, spread as all: so no scale is held unless all are equal."""
        more = with_mean_row(responsibilities)
        location = independent.weighted_sums(x.y, more) / along(more.sum(0), x.y)
        return _estimate(evaluate(LogNormal(location, jnp.ones_like(location)), x)[1](more))[0]

    def sample(key: Array, params: LogNormal, labels: Array, like: Any) -> Array:
        location = params.location[labels]
        return jnp.exp(location + params.scale[labels] * jax.random.normal(key, location.shape, location.dtype))

    return Family(
        evaluate,
        lambda params, stats: _estimate(stats)[0],
        _expected_log_prob,
        init,
        constraints=LogNormal(constraints.real, constraints.positive),
        sample=sample,
        embed=lambda data: independent.columns(data.y),
        prepare=lambda data, weights: data if isinstance(data, Logs) else Logs(jnp.log(checked(data))),
        degenerate=lambda params, stats: _estimate(stats)[1],
        parts=(log_normal, ()),
    )


def _expected_log_prob(params: LogNormal, stats: LogNormalStats) -> Array:
    count = along(stats.counts, stats.centre)
    delta = params.location - stats.centre / positive(count)
    squares = stats.squares - 2 * delta * stats.shift + count * delta**2
    return -(count * (jnp.log(params.scale) + 0.5 * LOG_2PI) + 0.5 * squares / params.scale**2).sum() - stats.total


def _estimate(stats: LogNormalStats) -> tuple[LogNormal, Array]:
    """Return the best parameters, and whether a component with rows had to be held."""
    count = positive(along(stats.counts, stats.centre))
    delta, square = stats.shift / count, stats.squares / count
    variance = jnp.maximum(square - delta**2, LOST * jnp.finfo(square.dtype).eps * square)
    least = 1 / sharpest(square.dtype) ** 2
    held = variance < least
    scale = jnp.sqrt(jnp.where(held, least, variance))
    return LogNormal(stats.centre / count + delta, scale), (held & (along(stats.counts, held) > 0)).any()
