"""Labels whose probabilities are a softmax of columns times coefficients: the gate of a mixture of experts."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem import constraints
from jaxem.families.designs import Design, check_columns, design, inward, outward
from jaxem.families.newton import Look, climb, grams, lacks_information, over_rows
from jaxem.model import Family
from jaxem.numerics import weighted_sum


class SoftmaxRegression(NamedTuple):
    """Parameters of a gate: coefficients (q, k), one for each column and label, of the first label zero.

    >>> from jaxem.families import SoftmaxRegression
    >>> SoftmaxRegression(coefficients=[[0.0, 0.3], [0.0, -1.2]]).coefficients[1]
    [0.0, -1.2]
    """

    coefficients: Any


class LabelledRows(NamedTuple):
    """Statistics of an M-step that needs the rows again: these, and responsibilities (n, k)."""

    rows: Design
    responsibilities: Array


@cache
def softmax_regression() -> Family:
    """Return the family of labels with p(label k | x_n) ∝ exp(x_n·c_k), c_0 = 0: a gate, for data (n, q).

    `mixture(family, k, gate=softmax_regression())` is a mixture of experts, or has concomitant variables. No intercept is
    added. The M-step is Newton's method from the old coefficients to stationarity. Where columns separate labels, so that a
    coefficient runs to infinity, it ends finite and the fit DEGENERATE. Jacobs, Jordan, Nowlan & Hinton (1991); Dayton &
    Macready (1988).

    >>> import numpy as np, jaxem
    >>> from jaxem import families
    >>> model = jaxem.mixture(families.poisson(), 2, gate=families.softmax_regression())
    >>> ones, group = np.ones(12), np.arange(12) % 2
    >>> data = families.Gated(np.stack([ones, group], 1), [1, 0, 2, 9, 1, 8, 0, 1, 9, 10, 0, 9])
    >>> best = jaxem.fit_restarts(model, 0, data, num_restarts=8).best
    >>> print(np.sort(best.params.components.rate).round(1))
    [0.7 9. ]
    """

    def log_prob(params: SoftmaxRegression, rows: Design) -> Array:
        check_columns(rows, params.coefficients.shape[0])
        return jax.nn.log_softmax(_logits(_turned(params, rows), rows), 0)

    def evaluate(params: SoftmaxRegression, x: Design) -> tuple[Array, Callable[[Array], LabelledRows]]:
        return log_prob(params, x).T, lambda responsibilities: LabelledRows(x, responsibilities)

    def m_step(params: SoftmaxRegression, stats: LabelledRows) -> SoftmaxRegression:
        if params.coefficients.shape[1] == 1:
            return params
        turned = _climbed(_turned(params, stats.rows), stats)
        free = outward(turned, stats.rows.basis.value).T
        return SoftmaxRegression(constraints.contrasts.constrain(free))

    def init(x: Design, responsibilities: Array) -> SoftmaxRegression:
        """Return the M-step from the responsibilities and one row more, of which labels share all rows alike."""
        k = responsibilities.shape[1]
        total = responsibilities.sum(1, keepdims=True)
        more = responsibilities + jnp.broadcast_to(total / (k * total.sum()), responsibilities.shape)
        start = SoftmaxRegression(jnp.zeros((x.x.shape[1], k), x.x.dtype))
        return m_step(start, LabelledRows(x, more))

    return Family(
        evaluate,
        m_step,
        lambda params, stats: weighted_sum(stats.responsibilities, log_prob(params, stats.rows).T),
        init,
        constraints=SoftmaxRegression(constraints.contrasts),
        prepare=lambda data, weights: data if isinstance(data, Design) else design(data, weights, "gate"),
        degenerate=lambda params, stats: _separated(_turned(params, stats.rows), stats),
        parts=(softmax_regression, ()),
        additive=False,
    )


def _turned(params: SoftmaxRegression, rows: Design) -> Array:
    """Return coefficients of the orthogonal columns for all labels but the first, less that one's: (k - 1, q)."""
    return inward(constraints.contrasts.unconstrain(params.coefficients).T, rows.basis.value)


def _logits(turned: Array, rows: Design) -> Array:
    """Return logits (k, n), zeros for the first label."""
    logits = turned @ rows.z.T
    return jnp.concatenate([jnp.zeros_like(logits, shape=(1, logits.shape[1])), logits])


def _climbed(turned: Array, stats: LabelledRows) -> Array:
    """Return the maximum of Σ r log p over γ (k - 1, q), one problem, from the old ones."""
    rows, r = stats

    def look(theta: Array, before: Array) -> Look:
        here, there = (each.reshape(turned.shape) for each in (theta, before))
        found = over_rows(lambda some, shares: _look(here, there, some, shares.T), rows, r)
        return jax.tree.map(lambda leaf: leaf[None], found)

    count = jnp.where(r > 0, r, 0).sum(keepdims=True)[0]
    return climb(look, turned.reshape(1, -1), count, rows.reach.value).reshape(turned.shape)


def _look(here: Array, before: Array, rows: Design, weights: Array) -> Look:
    """Look at γ (k - 1, q) from another, over some rows, which weights (k, n) are of."""
    weights = jnp.where(weights > 0, weights, 0)
    total = weights.sum(0, keepdims=True)
    change, old = _logits(here - before, rows), jax.nn.softmax(_logits(before, rows), 0)
    gain = (weights * change).sum(0) - total[0] * jnp.log1p((old * jnp.expm1(change)).sum(0))
    share = jax.nn.softmax(_logits(here, rows), 0)[1:]
    score = (weights[1:] - total * share) @ rows.z
    return Look(jnp.where(total[0] > 0, gain, 0).sum(), score.ravel(), _information(share, total, rows.z))


def _information(share: Array, total: Array, z: Array) -> Array:
    """Return Σ_n w_n (diag(π_n) - π_n π_nᵀ) ⊗ z_n z_nᵀ, (D, D), D = (k - 1) q, from π (k - 1, n) and w (1, n)."""
    labels, q = share.shape[0], z.shape[1]
    same = np.eye(labels, dtype=bool)[:, :, None]
    weights = share[:, None] * (jnp.where(same, 1 - share[:, None], -share[None])) * total[None]
    blocks = grams(weights.reshape(labels * labels, -1), z).reshape(labels, labels, q, q)
    return blocks.transpose(0, 2, 1, 3).reshape(labels * q, labels * q)


def _separated(turned: Array, stats: LabelledRows) -> Array:
    """Tell whether in some direction labels are told apart for certain, compared with labels that are all as likely."""
    rows, r = stats
    k = r.shape[1]
    if k == 1:
        return jnp.asarray(False)

    def of_rows(some: Design, shares: Array) -> tuple[Array, Array]:
        total = jnp.where(shares > 0, shares, 0).sum(1)[None]
        share = jax.nn.softmax(_logits(turned, some), 0)[1:]
        return _information(share, total, some.z), _information(jnp.full_like(share, 1 / k), total, some.z)

    here, typical = over_rows(of_rows, rows, r)
    return lacks_information(here[None], typical[None])[0]
