"""The transform from a family to one of which values may be known only to lie above, below or between others."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxem.arrays import in_one_dtype, prepared
from jaxem.families.censored.exponential import exponential_kind
from jaxem.families.censored.kinds import Kind
from jaxem.families.censored.normal import gaussian_kind, log_normal_kind
from jaxem.families.censored.rows import Censored, Known, looked_at
from jaxem.families.censored.weibull import weibull_kind
from jaxem.families.exponential import exponential
from jaxem.families.gaussian import gaussian
from jaxem.families.log_normal import log_normal
from jaxem.families.weibull import weibull
from jaxem.model import Family, PyTree, check_family, require

KINDS: dict[Callable[..., Family], Callable[[Family], Kind]] = {
    exponential: exponential_kind,
    gaussian: gaussian_kind,
    log_normal: log_normal_kind,
    weibull: weibull_kind,
}
"""What makes a family, and what it needs."""


def censored(family: Family) -> Family:
    """Return `family` for data `Censored(value, status, upper)`: log p(x | θ_k) of exact values, log-masses of intervals.

    log P(X > value), log P(X ≤ value) or log P(value < X ≤ upper), by `status`; params are those of `family`, which is
    `exponential()`, `weibull()` or `log_normal()`, in columns (n,) or (n, d), or `gaussian()` of one column, in any form.
    Values that are censored are latent, and the M-step is that of the family on what is expected of them (Dempster, Laird &
    Rubin 1977, §4.2); that of Weibull ones is by Newton's method over the rows (`additive` is False). `sample` returns exact
    values. Where all values of an exponential or Weibull component are right-censored the maximum is at infinity: it is held
    at a mean lifetime of about 1e10 times those seen, and the fit ends DEGENERATE; the log-likelihood of Gaussian or log-normal
    ones rises to zero as their mean runs on, until nothing is left to gain or all steps are taken.
    Raises ValueError for what is no Family, and for another one.

    >>> import jaxem
    >>> from jaxem import families
    >>> weeks = families.Censored(value=[6, 6, 6, 6, 7, 9, 10, 10, 11, 13], status=[0, 0, 0, 1, 0, 1, 0, 1, 1, 0])
    >>> model = jaxem.single(families.censored(families.exponential()))
    >>> print(jaxem.fit(model, model.init(0, weeks), weeks).params.rate.round(3))
    [0.071]
    """
    check_family(family)
    if family.parts is None or family.parts[0] not in KINDS:
        names = ", ".join(f"{kind.__name__}()" for kind in KINDS)
        raise ValueError(f"family must be one of {names}, got {family!r}: censor it first, then group, label or combine it.")
    return _censored(family)


@cache
def _censored(family: Family) -> Family:
    assert family.parts is not None
    kind = KINDS[family.parts[0]](family)

    def sample(key: Array, params: PyTree, labels: Array, like: Known | None) -> Censored:
        drawn = require(family, "sample")(key, params, labels, None)
        return Censored(drawn, jnp.zeros(drawn.shape, jnp.int32), None if like is None or like.high is None else drawn)

    def prepare(data: Any, weights: Array | None) -> Known:
        if isinstance(data, Known):
            return data
        typical, low, high, status = looked_at(data, kind.domain)
        if low.ndim > 1 and low.shape[1] > 1 and not kind.wide:
            raise ValueError(f"data.value has shape {low.shape}, needs (n,): such values are censored in one column only.")
        known = Known(prepared(family, typical, weights), kind.scale(low), high if high is None else kind.scale(high), status)
        return in_one_dtype(known if kind.wide else known.in_columns())

    return Family(
        kind.evaluate,
        kind.m_step,
        kind.expected_log_prob,
        init=lambda x, responsibilities: family.init(x.typical, responsibilities),
        constraints=family.constraints,
        sample=sample,
        embed=lambda x: family.embed(x.typical) if family.embed else x.typical,
        prepare=prepare,
        log_prior=family.log_prior,
        degenerate=kind.degenerate,
        parts=(censored, (family,)),
        additive=kind.additive,
    )
