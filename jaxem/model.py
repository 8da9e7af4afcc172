"""The two records everything else stands on, and the laws they obey.

Observed x, latent z, parameters θ. For any distribution Q over z,

    F(Q, θ) = E_Q[log p(x, z | θ)] + H(Q)  ≤  log p(x | θ),   with equality iff Q(z) = p(z | x, θ).

EM is coordinate ascent on F (Dempster, Laird & Rubin 1977; Neal & Hinton 1998): the E-step sets Q to the posterior, the
M-step raises F over θ with Q held. A `Model` is the record of pure functions that this needs; a `Family` is the
distribution of one component, from which structures such as `mixture` build a `Model`.

Laws (`jaxem.testing` checks each):

1. Linearity. For an additive model, statistics and log-likelihood are linear in `weights`: weight zero is an absent row,
   whatever stands in it, weight two the row twice.
2. Ascent. An EM step never lowers log-likelihood + log_prior.
3. Tightness. F(Q_θ, θ) = log p(x | θ), and F(Q_θ', θ) ≤ log p(x | θ).
4. Stationarity. The gradient of `expected_log_joint(·, stats)` + `log_prior` vanishes at `m_step(params, stats)`; where
   `exact` is False, the M-step does not lower their sum.
5. Fisher's identity. At θ, the gradient of `expected_log_joint(·, stats(θ))` is that of the log-likelihood.
6. Lane = solo. A vmapped fit gives each lane what it gives alone.
7. Honest end. A Fit's log-likelihood is that of its parameters, and its status says why it ended.
8. One voice. `statistics` of the `posterior` are the E-step's; `init` lies in the domain; `sample` follows `log_prob`; a
   permutation of components permutes everything.

Shapes: n rows of data, one observation each or, by `size`, several; k components. `data` is any pytree of arrays whose
leading axis is n, or of `Shared` ones, which all rows share; `weights` is (n,).
"""

import pickle
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from jax import Array

PyTree = Any
Parts = tuple[Callable[..., Any], tuple[Any, ...]]


class EStep(Protocol):
    """Expected statistics of the posterior at `params`, and the log-likelihood Σ_n w_n log p(x_n | θ) there (scalar)."""

    def __call__(self, params: PyTree, data: PyTree, weights: Array) -> tuple[PyTree, Array]: ...


class MStep(Protocol):
    """Parameters that raise `expected_log_joint(·, stats)`; `params` are the old ones, for centring and warm starts."""

    def __call__(self, params: PyTree, stats: PyTree) -> PyTree: ...


class Init(Protocol):
    """One random start, in the dtype of the data; `weights` None means one each."""

    def __call__(self, key: Array, data: PyTree, weights: Array | None = None) -> PyTree: ...


class ExpectedLogJoint(Protocol):
    """E_Q[log p(x, z | θ)] as a function of θ, Q summarized by `stats`: a scalar, base measure included."""

    def __call__(self, params: PyTree, stats: PyTree) -> Array: ...


class Posterior(Protocol):
    """Q = p(z | x, θ) for each row; (n, k) responsibilities where z is one of k states."""

    def __call__(self, params: PyTree, data: PyTree) -> PyTree: ...


class Statistics(Protocol):
    """Statistics of a given Q; `e_step` returns those of the posterior. `params` only fix the centring."""

    def __call__(self, params: PyTree, data: PyTree, weights: Array, posterior: PyTree) -> PyTree: ...


class LogProb(Protocol):
    """log p(x_n | θ) for each row: (n,), in nats; its weighted sum is the log-likelihood of `e_step`."""

    def __call__(self, params: PyTree, data: PyTree) -> Array: ...


class Entropy(Protocol):
    """H(Q) = -E_Q[log Q(z)] of the posterior of each row: (n,), in nats, by itself and not from the bound."""

    def __call__(self, params: PyTree, data: PyTree) -> Array: ...


class Sample(Protocol):
    """Draws of (data, latents); `like` is their number, or data whose covariates, lengths and gaps are kept."""

    def __call__(self, key: Array, params: PyTree, like: PyTree) -> tuple[PyTree, PyTree]: ...


class Prepare(Protocol):
    """Data ready for every other function of the record, or a ValueError that names cause and cure; idempotent.

    `weights` None means rows to be looked at; given ones, rows to be learnt from, which must then suffice for that.
    It may return a record of its own (masks, logarithms of factorials), with leading axis n in every leaf that is not
    `Shared`. Inside jit, where values cannot be looked at, it checks shapes, and puts NaN in the place of illegal values.
    """

    def __call__(self, data: PyTree, weights: Array | None) -> PyTree: ...


class Size(Protocol):
    """Observations in each row, (n,): time steps, repeated measures."""

    def __call__(self, data: PyTree) -> Array: ...


class LogPrior(Protocol):
    """log p(θ), a scalar, in nats: `fit` climbs log-likelihood + log_prior, and the M-step F + log_prior."""

    def __call__(self, params: PyTree) -> Array: ...


class Degenerate(Protocol):
    """A scalar bool: whether the M-step from `stats` is held by a floor against an unbounded likelihood."""

    def __call__(self, params: PyTree, stats: PyTree) -> Array: ...


class NumFree(Protocol):
    """The number of free parameters at `params`, where constraints cannot tell (directions that change nothing)."""

    def __call__(self, params: PyTree) -> int: ...


class Whole(Protocol):
    """Parameters with held or re-expressed leaves put back: those of the model that this one was made of."""

    def __call__(self, params: PyTree) -> PyTree: ...


class Model(NamedTuple):
    """What is fitted: an E-step, an M-step, and capabilities that are None where a model has none.

    `constraints` is a pytree of Constraint shaped like the parameters (None: real everywhere, or undeclared).
    `parts` is what it was built of, (constructor, arguments): so it pickles, and so transforms see family and k.
    `additive` says that statistics are sums over rows; False where they carry the data along.
    `exact` says that the M-step maximizes F; False where it climbs, and a fit is probed before it is called converged.
    `entropy` is that of a posterior that is no table of responsibilities, for the check that the bound is tight.

    >>> import jaxem
    >>> def e_step(mean, x, weights):
    ...     return (weights.sum(), weights @ x), -0.5 * (weights @ (x - mean) ** 2)
    >>> model = jaxem.Model(e_step, m_step=lambda mean, stats: stats[1] / stats[0])
    >>> print(jaxem.fit(model, 0.0, [1.0, 2.0, 6.0]).params)
    3.0
    """

    e_step: EStep
    m_step: MStep
    init: Init | None = None
    expected_log_joint: ExpectedLogJoint | None = None
    posterior: Posterior | None = None
    statistics: Statistics | None = None
    log_prob: LogProb | None = None
    sample: Sample | None = None
    prepare: Prepare | None = None
    size: Size | None = None
    log_prior: LogPrior | None = None
    degenerate: Degenerate | None = None
    constraints: PyTree = None
    num_free: NumFree | None = None
    whole: Whole | None = None
    parts: Parts | None = None
    additive: bool = True
    exact: bool = True
    entropy: Entropy | None = None

    def __hash__(self) -> int:
        """Hash by the two steps: trees of constraints may be dicts, which have no hash."""
        return hash((self.e_step, self.m_step))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by `parts`, where they still make this very record."""
        return _reduced(self)

    def __repr__(self) -> str:
        """Return how the record was made, or which fields it has."""
        return _described(self)


class Evaluate(Protocol):
    """log p(x_n | θ_k) for all components at once, (n, k), and the function that takes responsibilities to statistics.

    Statistics are sums over rows, linear in the responsibilities (n, k), which weigh rows and need not sum to one.
    """

    def __call__(self, params: PyTree, x: PyTree) -> tuple[Array, Callable[[Array], PyTree]]: ...


class FamilyMStep(Protocol):
    """Parameters that maximize `expected_log_prob(·, stats)`; what it gives a component without rows is not looked at."""

    def __call__(self, params: PyTree, stats: PyTree) -> PyTree: ...


class ExpectedLogProb(Protocol):
    """Σ_nk r_nk log p(x_n | θ_k) as a function of θ, the responsibilities summarized by `stats`: a scalar.

    A family with latent variables of its own returns a lower bound, equal at the parameters of the statistics.
    """

    def __call__(self, params: PyTree, stats: PyTree) -> Array: ...


class FamilyInit(Protocol):
    """Parameters that suit `responsibilities` (n, k), which weigh rows, in the dtype of the data: often an M-step."""

    def __call__(self, x: PyTree, responsibilities: Array) -> PyTree: ...


class FamilySample(Protocol):
    """One draw for each of the `labels` (n,), from the component it names; `like` as in Model's `sample`."""

    def __call__(self, key: Array, params: PyTree, labels: Array, like: PyTree) -> PyTree: ...


class Embed(Protocol):
    """Numbers (n, p) on which seeds of random starts are drawn: distances between them say how far apart rows are."""

    def __call__(self, x: PyTree) -> Array: ...


class Complete(Protocol):
    """What to put into holes of the data: arrays like them, of which entries that were observed are not looked at.

    `drawn` None: the conditional means under responsibilities (n, k). Else rows drawn from the components that one-hot
    responsibilities name, which are returned as draws given what was observed.
    """

    def __call__(self, params: PyTree, x: PyTree, responsibilities: Array, drawn: PyTree) -> PyTree: ...


class Family(NamedTuple):
    """The distribution of one component, for all k components at once; the first five fields must be written.

    `constraints` is a pytree of Constraint shaped like the parameters, each of which says which axes run over components.
    `embed` None draws seeds on the data themselves. `places` says that components are places there; False where they are
    lines, which a row alone says little of: random starts are then fits to a few rows each. `degenerate` is told what its own
    M-step is; the other fields are as in Model.

    >>> import jax.numpy as jnp, jaxem
    >>> def evaluate(rate, x):
    ...     log_prob = jnp.log(rate)[None] - x[:, None] * rate[None]
    ...     return log_prob, lambda responsibilities: (responsibilities.sum(0), responsibilities.T @ x)
    >>> exponential = jaxem.Family(
    ...     evaluate,
    ...     m_step=lambda rate, stats: stats[0] / stats[1],
    ...     expected_log_prob=lambda rate, stats: (stats[0] * jnp.log(rate) - stats[1] * rate).sum(),
    ...     init=lambda x, responsibilities: responsibilities.sum(0) / (responsibilities.T @ x),
    ...     constraints=jaxem.constraints.positive,
    ... )
    >>> model, x = jaxem.single(exponential), [1.0, 2.0, 6.0]
    >>> print(jaxem.fit(model, model.init(0, x), x).params.round(3))
    [0.333]
    """

    evaluate: Evaluate
    m_step: FamilyMStep
    expected_log_prob: ExpectedLogProb
    init: FamilyInit
    constraints: PyTree
    sample: FamilySample | None = None
    embed: Embed | None = None
    prepare: Prepare | None = None
    size: Size | None = None
    log_prior: LogPrior | None = None
    degenerate: Degenerate | None = None
    complete: Complete | None = None
    parts: Parts | None = None
    additive: bool = True
    exact: bool = True
    places: bool = True

    def __hash__(self) -> int:
        """Hash by two of its functions: trees of constraints may be dicts, which have no hash."""
        return hash((self.evaluate, self.m_step))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by `parts`, where they still make this very record."""
        return _reduced(self)

    def __repr__(self) -> str:
        """Return how the record was made, or which fields it has."""
        return _described(self)


def _reduced(record: Model | Family) -> tuple[Any, ...]:
    if record.parts is not None:
        constructor, arguments = record.parts
        if constructor(*arguments) == record:
            return constructor, arguments
        kind = type(record).__name__.lower()
        raise pickle.PicklingError(
            f"This {kind} was changed by _replace: pickle what it was made of, {kind}.parts, and change it again after."
        )
    return type(record), tuple(record)


def _described(record: Model | Family) -> str:
    """Return a record in a few words: how it was made, or which fields it has."""
    if record.parts is None:
        return f"{type(record).__name__}({', '.join(n for n, field in record._asdict().items() if field is not None)})"
    constructor, arguments = record.parts
    last = max((i for i, argument in enumerate(arguments) if argument is not None), default=-1)
    return f"{constructor.__name__.lstrip('_')}({', '.join(map(repr, arguments[: last + 1]))})"


def require(record: Model | Family, capability: str) -> Any:
    """Return the named capability of a record; raise ValueError where it has none."""
    function = getattr(record, capability)
    if function is None:
        kind = type(record).__name__.lower()
        raise ValueError(
            f"This needs {kind}.{capability}, which this {kind} does not have: add it by {kind}._replace({capability}=...)."
        )
    return function


def check_family(family: Any, name: str = "family") -> None:
    """Raise ValueError for what is no Family."""
    if not isinstance(family, Family):
        raise ValueError(f"{name} must be a Family, such as families.gaussian() with its parentheses, got {family!r}.")
