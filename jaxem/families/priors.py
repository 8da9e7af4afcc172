"""Conjugate priors of the parameters that families have entry by entry: log-densities, and the modes they lead to.

A prior counts as rows that were seen before. Its mode lies inside the domain, or where it says nothing, at the maximum of the
likelihood: shapes below one, whose density is infinite at the boundary, are refused.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaln

from jaxem.components import keep_empty
from jaxem.model import Family, PyTree
from jaxem.numerics import positive, weighted_log


class GammaPrior(NamedTuple):
    """A Gamma prior on each rate, p(λ) ∝ λ^(shape - 1) e^(-rate λ): as if shape - 1 events had been seen in a time of `rate`.

    Numbers, or one for each column of the data; shape ≥ 1, rate > 0.

    >>> import jaxem
    >>> from jaxem import families
    >>> model = jaxem.single(families.poisson(prior=families.GammaPrior(shape=3.0, rate=1.0)))
    >>> x = [3, 1, 2, 6]
    >>> print(jaxem.fit(model, model.init(0, x), x).params.rate)
    [2.8]
    """

    shape: Any
    rate: Any


class BetaPrior(NamedTuple):
    """A Beta prior on each probability, p(q) ∝ q^(a - 1) (1 - q)^(b - 1): as if a - 1 ones and b - 1 zeros had been seen.

    Numbers, or one for each column of the data; a, b ≥ 1.

    >>> import jaxem
    >>> from jaxem import families
    >>> model = jaxem.single(families.bernoulli(prior=families.BetaPrior(a=2.0, b=2.0)))
    >>> x = [1, 1, 1]
    >>> print(jaxem.fit(model, model.init(0, x), x).params.probs)
    [0.8]
    """

    a: Any
    b: Any


class DirichletPrior(NamedTuple):
    """A Dirichlet prior on probabilities of C categories, p(q) ∝ Π_c q_c^(concentration_c - 1).

    As if concentration_c - 1 of each had been seen. A number, or one for each category; ≥ 1.

    >>> import jaxem
    >>> from jaxem import families
    >>> model = jaxem.single(families.categorical(2, prior=families.DirichletPrior(2.0)))
    >>> x = [1, 1, 1]
    >>> print(jaxem.fit(model, model.init(0, x), x).params.probs)
    [[0.2 0.8]]
    """

    concentration: Any


def updated(family: Family, counts: Array, old: PyTree, stats: PyTree) -> PyTree:
    """Return a family's M-step; components of count zero stay as they were, but for what a prior has something to say of."""
    new = family.m_step(old, stats)
    kept = keep_empty(family.constraints, counts, new, old)
    if family.log_prior is None:
        return kept
    said = jax.grad(family.log_prior)(old)
    return jax.tree.map(lambda slope, a, b: jnp.where((slope != 0).any(), a, b), said, new, kept)


def checked(prior: Any, kind: type, **least: float) -> Any:
    """Return a prior of that kind with numbers, or tuples of them, in its fields, which has a hash; None for None.

    `least` says the least that each field may be, zero standing for more than zero. Raises ValueError that names the field.
    """
    if prior is None:
        return None
    if not isinstance(prior, kind):
        raise ValueError(f"prior must be a families.{kind.__name__}, got {prior!r}.")
    return kind(*(_numbers(f"prior.{name}", getattr(prior, name), low) for name, low in least.items()))


def _numbers(name: str, value: Any, least: float) -> float | tuple[float, ...]:
    array = np.asarray(value)
    legal = array.dtype.kind in "iuf" and array.ndim <= 1 and array.size > 0
    if not legal or not np.isfinite(array).all() or (array < least).any() or (least == 0 and (array == 0).any()):
        bound = "> 0" if least == 0 else f"≥ {least:g}"
        raise ValueError(f"{name} must be a number {bound}, or one for each column, got {value!r}.")
    return float(array) if array.ndim == 0 else tuple(array.astype(float).tolist())


def checked_gamma(prior: Any) -> GammaPrior | None:
    """Return a GammaPrior that has a hash, or None; ValueError for another one, a shape below one, or a rate not above zero."""
    return checked(prior, GammaPrior, shape=1, rate=0)


def checked_beta(prior: Any) -> BetaPrior | None:
    """Return a BetaPrior that has a hash, or None; ValueError for another one, or a or b below one."""
    return checked(prior, BetaPrior, a=1, b=1)


def checked_dirichlet(prior: Any) -> DirichletPrior | None:
    """Return a DirichletPrior that has a hash, or None; ValueError for another one, or a concentration below one."""
    return checked(prior, DirichletPrior, concentration=1)


def spread(value: float | tuple[float, ...], like: Array) -> Array:
    """Return a field of a prior, a number or one for each place along the last axis, in the shape and dtype of `like`."""
    size = like.shape[-1] if like.ndim > 1 else 1
    return jnp.broadcast_to(jnp.asarray(_fitting(value, size), like.dtype), like.shape)


def _fitting(value: float | tuple[float, ...], size: int) -> float | tuple[float, ...]:
    if isinstance(value, tuple) and len(value) != size:
        raise ValueError(f"prior has {len(value)} numbers, needs one, or {size}: one for each column.")
    return value


def by_column(constructor: Callable[[Any], Family], prior: Any) -> Callable[[int, int], Family] | None:
    """Return what takes a place and the number of columns to the family of that one; None for a prior that all have."""
    if prior is None or not any(isinstance(value, tuple) for value in prior):
        return None

    def family_of(place: int, num: int) -> Family:
        each = (_fitting(value, num) for value in prior)
        return constructor(type(prior)(*(value[place] if isinstance(value, tuple) else value for value in each)))

    return family_of


def log_gamma(prior: GammaPrior, rate: Array) -> Array:
    """Return Σ log p(λ) over all entries: (a - 1) log λ - b λ + a log b - log Γ(a); -inf at a rate of zero where a > 1."""
    a, b = spread(prior.shape, rate), spread(prior.rate, rate)
    return (_powers(a - 1, rate) - b * rate + a * jnp.log(b) - gammaln(a)).sum()


def gamma_mode(prior: GammaPrior | None, events: Array, exposure: Array) -> Array:
    """Return the rates that maximize Σ events · log λ - exposure · λ + log p(λ), (events + a - 1) / (exposure + b).

    `exposure` in the shape of `events`: of Poisson counts the number of rows; of exponential times, whose number are the
    events, their sum. Without a prior, events / exposure, and zero where both are.
    """
    if prior is None:
        return events / positive(exposure)
    return (events + spread(prior.shape, events) - 1) / (exposure + spread(prior.rate, events))


def log_beta(prior: BetaPrior, probs: Array) -> Array:
    """Return Σ log p(q) over all entries: (a - 1) log q + (b - 1) log(1 - q) + log Γ(a + b) - log Γ(a) - log Γ(b)."""
    a, b = spread(prior.a, probs), spread(prior.b, probs)
    constant = gammaln(a + b) - gammaln(a) - gammaln(b)
    return (_powers(a - 1, probs) + _powers(b - 1, 1 - probs) + constant).sum()


def seen_before(prior: BetaPrior | None, ones: Array, zeros: Array) -> tuple[Array, Array]:
    """Return ones and zeros with those that the prior counts as; their shares are the mode of the probabilities."""
    if prior is None:
        return ones, zeros
    return ones + (spread(prior.a, ones) - 1), zeros + (spread(prior.b, zeros) - 1)


def log_dirichlet_prior(prior: DirichletPrior, probs: Array, present: Array | None = None) -> Array:
    """Return Σ log p(q) over all leading axes of probs (..., C), for categories that are `present`, (..., C) or all."""
    return log_dirichlet(spread(prior.concentration, probs), probs, present)


def log_dirichlet(concentration: Array, probs: Array, present: Array | None = None) -> Array:
    """Return Σ log p(q) over all leading axes: Σ_c (α_c - 1) log q_c + log Γ(Σ_c α_c) - Σ_c log Γ(α_c).

    All three in one shape, (..., C); categories that are not `present` are none.
    """
    alpha = concentration if present is None else jnp.where(present, concentration, 1)
    terms = _powers(alpha - 1, probs) - gammaln(alpha)
    total = concentration if present is None else jnp.where(present, concentration, 0)
    return (terms.sum(-1) + gammaln(total.sum(-1))).sum()


def _powers(exponent: Array, x: Array) -> Array:
    """Return exponent · log x, where 0 log 0 is zero, and a positive exponent of zero -inf."""
    return jnp.where((exponent > 0) & (x <= 0), -jnp.inf, weighted_log(exponent, jnp.where(x > 0, x, 1)))
