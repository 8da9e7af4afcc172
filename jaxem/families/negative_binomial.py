"""Negative binomial components: counts that vary more than Poisson ones, in one dimension or in d independent ones."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxem import constraints
from jaxem.arrays import check_width
from jaxem.families import independent
from jaxem.families.counts import deviance, log_mass_at_mean, sample_poisson
from jaxem.families.holes import allowing_holes
from jaxem.families.positives import with_mean_row
from jaxem.families.tallies import Tallied, looked_up, table_pays, tallied, tally
from jaxem.model import Family
from jaxem.numerics import positive
from jaxem.special import (
    SHIFT,
    binet,
    binet_curvature,
    binet_slope,
    excess,
    far_binet_curvature,
    far_binet_slope,
    root,
)

LEAST, MOST = 1e-10, 1e10  # of a size


class NegativeBinomial(NamedTuple):
    """Parameters of k components of variance mean + mean² / size: mean and size (k, *event); event is () or (d,).

    >>> from jaxem.families import NegativeBinomial
    >>> NegativeBinomial(mean=[1.0, 9.0], size=[2.0, 5.0]).size
    [2.0, 5.0]
    """

    mean: Any
    size: Any


class NegativeBinomialStats(NamedTuple):
    """How much of each component each distinct count holds, and which counts those are.

    tally (d, U, k + 1)   Σ_n r_nk [x_nj = v_ju], and last Σ_k v_ju times that, so that the sums say what they are about
    """

    tally: Array


@cache
def negative_binomial() -> Family:
    """Return the negative binomial family for counts (n,) or (n, d).

    log p(x | μ, s) = Σ_j log Γ(x + s) - log Γ(s) - log x! + s log s/(s + μ) + x log μ/(s + μ)

    It is evaluated as log p(x | x) of a Poisson less two deviances and what remains of Stirling's formula, all small and
    of one sign as s → ∞, where it is Poisson. Sizes lie in [1e-10, 1e10]: counts that vary no more than Poisson ones have
    the upper end, where a fit converges as elsewhere. The M-step takes the mean, and Newton steps for the size on the
    histogram of counts; the root is unique (Levin & Reeds 1977).

    >>> import jaxem
    >>> x = [0, 1, 2, 9]
    >>> model = jaxem.single(jaxem.families.negative_binomial())
    >>> params = jaxem.fit(model, model.init(0, x), x).params
    >>> print(params.mean.round(2), params.size.round(2))
    [3.] [0.81]
    """

    def statistics(x: Tallied, responsibilities: Array) -> NegativeBinomialStats:
        return NegativeBinomialStats(tally(x, responsibilities))

    def evaluate(params: NegativeBinomial, x: Tallied) -> tuple[Array, Callable[[Array], NegativeBinomialStats]]:
        mean, size = (independent.columns(leaf)[:, :, None] for leaf in params)
        check_width(x.x, mean.shape[1], "mean")
        unknown = 0 * independent.columns(x.x).sum(1)  # NaN has no place in the table, and must show
        if table_pays(x):
            log_mass = looked_up(x, log_mass_of(x.values.value[None], mean, size))
        else:
            log_mass = log_mass_of(independent.columns(x.x).T[None], mean, size)
        return log_mass.sum(1).T + unknown[:, None], partial(statistics, x)

    def m_step(params: NegativeBinomial, stats: NegativeBinomialStats) -> NegativeBinomial:
        shares, values = _histogram(stats)
        mean, _ = _moments(shares, values)
        size = _best_size(independent.columns(params.size), shares, values, mean)
        return NegativeBinomial(mean.reshape(params.mean.shape), size.reshape(params.mean.shape))

    def expected_log_prob(params: NegativeBinomial, stats: NegativeBinomialStats) -> Array:
        mean, size = (independent.columns(leaf)[:, :, None] for leaf in params)
        shares, values = _histogram(stats)
        return jnp.where(shares > 0, shares * log_mass_of(values[None], mean, size), 0).sum()

    def init(x: Tallied, responsibilities: Array) -> NegativeBinomial:
        """Moments of the responsibilities and one row more, the mean of all."""
        mean, variance = _moments(*_histogram(statistics(x, with_mean_row(responsibilities))))
        size = mean**2 / positive(jnp.maximum(variance - mean, 1e-3 * mean))
        shape = (-1, *x.x.shape[1:])
        return NegativeBinomial(mean.reshape(shape), jnp.clip(size, 1e-2, 1e4).reshape(shape))

    def sample(key: Array, params: NegativeBinomial, labels: Array, like: Any) -> Array:
        mean, size = params.mean[labels], params.size[labels]
        key_rate, key_count = jax.random.split(key)
        rate = mean * jnp.exp(jax.random.loggamma(key_rate, size, dtype=size.dtype) - jnp.log(size))
        return sample_poisson(key_count, rate)

    family = Family(
        evaluate,
        m_step,
        expected_log_prob,
        init,
        constraints=NegativeBinomial(constraints.non_negative, constraints.interval(LEAST, MOST)),
        sample=sample,
        embed=lambda data: jnp.sqrt(independent.columns(data.x)),
        prepare=_prepare,
        parts=(negative_binomial, ()),
    )
    return allowing_holes(family, mean=lambda params: params.mean)


def _prepare(data: Any, weights: Array | None) -> Tallied:
    if isinstance(data, Tallied):
        return data
    return tallied(independent.checked(data, math.inf, "counts, whole numbers ≥ 0"), weights)


def log_mass_of(x: Array, mean: Array, size: Array) -> Array:
    """Return log p(x | μ, s) = log p(x | x) + μ(s + x) - μ(s) - ½ log(1 + x/s) - s D(1; ρ) - D(x; ρ μ), elementwise.

    ρ = (s + x)/(s + μ), and μ(·) is Binet's function. After Loader (2000), for Γ in the place of factorials.
    """
    ratio = (size + x) / (size + mean)
    beside = binet(size + x) - binet(size) - 0.5 * jnp.log1p(x / size)
    return log_mass_at_mean(x) + beside - size * excess((x - mean) / (size + mean), ratio) - deviance(x, ratio * mean)


def _histogram(stats: NegativeBinomialStats) -> tuple[Array, Array]:
    """Return how much of each component each count holds, (k, d, U), and the counts, (d, U); zero for those of no row."""
    shares = stats.tally[:, :, :-1]
    return jnp.moveaxis(shares, 2, 0), jnp.round(stats.tally[:, :, -1] / positive(shares.sum(2)))


def _moments(shares: Array, values: Array) -> tuple[Array, Array]:
    """Return means and variances, (k, d)."""
    count = positive(shares.sum(2))
    mean = (shares * values[None]).sum(2) / count
    return mean, (shares * (values[None] - mean[:, :, None]) ** 2).sum(2) / count


def _best_size(old: Array, shares: Array, values: Array, mean: Array) -> Array:
    """Return the size that suits a histogram best, (k, d): where s ↦ E log p(x | μ, s) is stationary.

    Its slope is Σ h (x / 2s(s + x) + μ'(s + x) - μ'(s) - D(1; ρ)), which falls through zero where the variance is above the
    mean; times s (s + μ) it is of one size as s → ∞.
    """
    parts = _low_and_high(shares, values)

    def slope(log_size: Array) -> tuple[Array, Array]:
        size = jnp.exp(log_size)[:, :, None]
        terms = [_slope_at(size, mean[:, :, None], *part) for part in parts]
        return terms[0][0] + terms[1][0], terms[0][1] + terms[1][1]

    found = root(slope, jnp.log(old), math.log(LEAST), math.log(MOST))
    return jnp.clip(jnp.where(found >= math.log(MOST), MOST, jnp.exp(found)), LEAST, MOST)


Part = tuple[Array, Array, tuple[Callable[[Array], Array], Callable[[Array], Array]]]


def _low_and_high(shares: Array, values: Array) -> tuple[Part, Part]:
    """Return the histogram in two parts, the second of counts that, added to any size, need no more than Stirling's series.

    Counts are distinct and rise, so those at later places than SHIFT are no less than that.
    """
    low = shares[:, :, :SHIFT], values[None, :, :SHIFT], (binet_slope, binet_curvature)
    return low, (shares[:, :, SHIFT:], jnp.maximum(values[None, :, SHIFT:], SHIFT), (far_binet_slope, far_binet_curvature))


def _slope_at(
    size: Array, mean: Array, shares: Array, x: Array, binets: tuple[Callable[[Array], Array], Callable[[Array], Array]]
) -> tuple[Array, Array]:
    """Return the slope of E log p in s, times s (s + μ)/μ, and its own slope in log s: (k, d) each."""
    total, rest = size + x, size + mean
    delta, weight = (x - mean) / rest, shares * (size * rest / positive(mean))
    value = 0.5 * x / (size * total) + binets[0](total) - binet_slope(size) - excess(delta, total / rest)
    change = binets[1](total) - binet_curvature(size) - 0.5 * x * (size + total) / (size * total) ** 2
    change = change + delta * (x - mean) / (total * rest)
    grown = (1 + size / rest) * value + size * change
    return (weight * value).sum(2), (weight * grown).sum(2)
