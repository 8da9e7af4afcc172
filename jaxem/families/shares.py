"""Trials shared out among categories: what binomial and multinomial components have in common.

log p(x | m, p) = Σ_c log p(x_c | x_c) - log p(m | m) - Σ_c D(x_c; m p_c), with the Poisson's mass at its mean and its deviance
D, so that nothing large cancels at any number of trials (Loader 2000).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxem.families.counts import deviance
from jaxem.numerics import positive, weighted_log, weighted_sum


class ShareStats(NamedTuple):
    """Sums over rows with responsibilities r_nk, for c categories, and how likely they are at the old probabilities p'.

    taken (k, c)     Σ_n r_nk x_nc
    total (k, c)     Σ_n r_nk m_nc, of the trials that each category is a part of
    expected (k, c)  p'_kc times that, so that the sums say what they are about and still add up over blocks
    log_mass ()      Σ_nk r_nk log p(x_n | m_n, p'_k), in which categories of p' = 0 stand as if it were 1
    """

    taken: Array
    total: Array
    expected: Array
    log_mass: Array


def evaluate(x: Array, total: Array, own: Array, probs: Array) -> tuple[Array, Callable[[Array], ShareStats]]:
    """Return log p(x_n | m_n, p_k) (n, k) and the statistics, from x (n, c), total (n, c), own (n,) and probs (k, c)."""
    zero = probs == 0
    about = jnp.where(zero, 1, probs)
    trials, mask = total.T[None], zero.astype(x.dtype)
    lost = deviance(x.T[None], trials * about[:, :, None]) - trials * mask[:, :, None]
    log_mass = own[:, None] - lost.sum(1).T

    def statistics(responsibilities: Array) -> ShareStats:
        trials = responsibilities.T @ total
        return ShareStats(responsibilities.T @ x, trials, trials * probs, weighted_sum(responsibilities, log_mass))

    possible = (x > 0).astype(x.dtype) @ mask.T == 0
    return jnp.where(possible, log_mass - total @ (mask * probs).T, -jnp.inf), statistics


def expected_log_prob(stats: ShareStats, probs: Array) -> Array:
    """Σ r log p(x | p') + Σ (x - e) log(1 + δ) - e (δ - log(1 + δ)), δ = (p - p')/p' and e expected at p'; p (k, c)."""
    old = stats.expected / positive(stats.total)
    known, some = old > 0, probs > 0
    change = jnp.where(known & some, (probs - old) / positive(old), 0)
    log_change = jnp.log1p(change)
    gained = (stats.taken - stats.expected) * log_change - stats.expected * (change - log_change)
    gained = jnp.where(known, gained, weighted_log(stats.taken, probs) - stats.total * probs)
    return stats.log_mass + jnp.where(some | ~known, gained, jnp.where(stats.taken > 0, -jnp.inf, stats.expected)).sum()
