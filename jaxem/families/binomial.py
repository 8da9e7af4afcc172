"""Binomial components: successes among known numbers of trials, in one dimension or in d independent ones."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxem import constraints
from jaxem.arrays import check_width, in_one_dtype, is_traced, look
from jaxem.families import independent, shares
from jaxem.families.bernoulli import share
from jaxem.families.counts import log_mass_at_mean
from jaxem.families.holes import means
from jaxem.families.observed import Observed, check_columns, split, with_holes
from jaxem.families.positives import with_mean_row
from jaxem.families.priors import BetaPrior, checked_beta, log_beta, seen_before
from jaxem.families.shares import ShareStats
from jaxem.model import Family
from jaxem.numerics import positive


class Trials(NamedTuple):
    """Data of binomial components: successes and the trials that they are of, (n,) or (n, d) each, or trials (n,) for all d.

    >>> from jaxem.families import Trials
    >>> Trials(successes=[0, 3], trials=[5, 4]).trials
    [5, 4]
    """

    successes: Any
    trials: Any


class Binomial(NamedTuple):
    """Parameters of k binomial components: probs (k, *event), the probability of a success; event is () or (d,).

    >>> from jaxem.families import Binomial
    >>> Binomial(probs=[0.1, 0.9]).probs
    [0.1, 0.9]
    """

    probs: Any


class Tried(NamedTuple):
    """Successes and failures that have been looked at, (n, *event), and the log-mass of each row at its own shares, (n,).

    `seen` (n, *event) tells where both successes and trials were observed, None where all were; `trials` are then those of
    holes too, zero where their number is missing.
    """

    successes: Array
    failures: Array
    at_own_share: Array
    seen: Array | None = None
    trials: Array | None = None


def binomial(prior: BetaPrior | None = None) -> Family:
    """Return the binomial family, log p(x | m, p_k) = Σ_j log (m_j over x_j) + x_j log p_kj + (m_j - x_j) log(1 - p_kj).

    Data are `families.Trials(successes, trials)`; `sample` keeps the trials of `like`. Where `families.observed` says that
    either is missing there are no trials, which say nothing.
    With a `prior`, a `families.BetaPrior` of each probability, the M-step is the mode under it.
    Raises ValueError for another prior, or one whose density is infinite at zero or one.

    >>> import jaxem
    >>> from jaxem import families
    >>> x = families.Trials([0, 3, 3], [2, 4, 4])
    >>> model = jaxem.single(families.binomial())
    >>> print(jaxem.fit(model, model.init(0, x), x).params.probs)
    [0.6]
    """
    return _binomial(checked_beta(prior))


@cache
def _binomial(prior: BetaPrior | None) -> Family:
    def evaluate(params: Binomial, x: Tried) -> tuple[Array, Callable[[Array], ShareStats]]:
        check_width(x.successes, independent.columns(params.probs).shape[1], "probs")
        taken = _both(x.successes, x.failures)
        total = _both(*[x.successes + x.failures] * 2)
        return shares.evaluate(taken, total, x.at_own_share, _both(params.probs, 1 - params.probs))

    def m_step(params: Binomial, stats: ShareStats) -> Binomial:
        """Keep what a component has learnt nothing about: columns in which it has no trials, and no prior speaks."""
        ones, zeros = seen_before(prior, *(each.reshape(params.probs.shape) for each in jnp.split(stats.taken, 2, 1)))
        return Binomial(jnp.where(ones + zeros > 0, share(ones, zeros), params.probs))

    def init(x: Tried, responsibilities: Array) -> Binomial:
        """The M-step from the responsibilities and one more row, the mean of all: none is 0 or 1 unless all its data are."""
        more = with_mean_row(responsibilities)
        sums = [independent.weighted_sums(each, more) for each in (x.successes, x.failures)]
        return Binomial(share(*seen_before(prior, *sums)))

    def sample(key: Array, params: Binomial, labels: Array, like: Any) -> Trials:
        if like is None:
            raise ValueError("like must be data: successes depend on their trials, which a number of rows has not.")
        trials = like.successes + like.failures if like.trials is None else like.trials
        drawn = jax.random.binomial(key, trials, params.probs[labels], dtype=trials.dtype)
        return Trials(with_holes(drawn, like.seen), trials)

    def complete(params: Binomial, x: Tried, responsibilities: Array, drawn: Trials | None) -> Array:
        """Fill by the expected successes among the trials of a hole, or by those drawn."""
        if drawn is not None:
            return drawn.successes
        trials = x.successes + x.failures if x.trials is None else x.trials
        return trials * means(params.probs, responsibilities)

    return Family(
        evaluate,
        m_step,
        lambda params, stats: shares.expected_log_prob(stats, _both(params.probs, 1 - params.probs)),
        init,
        constraints=Binomial(constraints.interval(0, 1)),
        sample=sample,
        embed=lambda data: independent.columns(data.successes / positive(data.successes + data.failures)),
        prepare=_prepare,
        complete=complete,
        log_prior=(lambda params: log_beta(prior, params.probs)) if prior else None,
        parts=(binomial, (prior,)),
    )


def _both(one: Array, other: Array) -> Array:
    return jnp.concatenate([independent.columns(one), independent.columns(other)], 1)


def _prepare(data: Any, weights: Array | None) -> Tried:
    if isinstance(data, Tried):
        return data
    if not isinstance(data, Trials):
        raise ValueError(f"data must be families.Trials(successes, trials), got {type(data).__name__}.")
    (taken, took), (trials, tried) = (_counts(getattr(data, name), name) for name in ("successes", "trials"))
    taken, trials = in_one_dtype([taken, trials])
    if trials.ndim < taken.ndim:
        trials = jnp.broadcast_to(trials[:, None], taken.shape)
        tried = None if tried is None else jnp.broadcast_to(tried[:, None], taken.shape)
    if trials.shape != taken.shape:
        raise ValueError(f"trials has shape {trials.shape}, needs {taken.shape} as successes, or one number for each row.")
    seen = _both_seen(took, tried)
    check_columns(seen, weights)
    known = trials
    taken, trials = (each if seen is None else jnp.where(seen, each, 0) for each in (taken, trials))
    if not is_traced(taken, trials) and look(lambda: (taken > trials).any()):
        raise ValueError("successes has more than there are trials: needs successes ≤ trials, entry by entry.")
    left = jnp.where(taken <= trials, trials - taken, jnp.nan)
    own = log_mass_at_mean(taken) + log_mass_at_mean(left) - log_mass_at_mean(trials)
    return Tried(taken, left, independent.columns(own).sum(1), seen, None if seen is None else known)


def _both_seen(took: Array | None, tried: Array | None) -> Array | None:
    return tried if took is None else took if tried is None else took & tried


def _counts(leaf: Any, name: str) -> tuple[Array, Array | None]:
    """Return counts, zeros in holes, and which were observed, None where all were."""
    try:
        values, seen = split(leaf) if isinstance(leaf, Observed) else (leaf, None)
        whole = values if seen is None else jnp.where(seen, values, 0)
        return independent.checked(whole, math.inf, "counts, whole numbers ≥ 0"), seen
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
