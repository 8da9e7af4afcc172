"""The two records everything else stands on, and the laws they obey.

Observed x, latent z, parameters θ. For any distribution Q over z,

    F(Q, θ) = E_Q[log p(x, z | θ)] + H(Q)  ≤  log p(x | θ),   with equality iff Q(z) = p(z | x, θ).

EM is coordinate ascent on F (Dempster, Laird & Rubin 1977; Neal & Hinton 1998): the E-step sets Q to the posterior, the
M-step raises F over θ with Q held. A `Model` is the record of pure functions that this needs; a `Family` is the
distribution of one component, from which structures such as `mixture` build a `Model`.

Laws (`jaxem.testing` checks each):

1. Linearity. For an additive model, statistics and log-likelihood are linear in `weights`: weight zero is an absent row,
   weight two the row twice.
2. Ascent. An EM step never lowers the log-likelihood.
3. Tightness. F(Q_θ, θ) = log p(x | θ), and F(Q_θ', θ) ≤ log p(x | θ).
4. Stationarity. The gradient of `expected_log_joint(·, stats)` vanishes at `m_step(params, stats)`.
5. Fisher's identity. At θ, the gradient of `expected_log_joint(·, stats(θ))` is that of the log-likelihood.
6. Lane = solo. A vmapped fit gives each lane what it gives alone.
7. Honest end. A Fit's log-likelihood is that of its parameters, and its status says why it ended.

Shapes: n observations, k components. `data` is any pytree of arrays whose leading axis is n; `weights` is (n,).
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array, lax

PyTree = Any


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
    """Q = p(z | x, θ) per observation; (n, k) responsibilities where z is one of k states."""

    def __call__(self, params: PyTree, data: PyTree) -> PyTree: ...


class Statistics(Protocol):
    """Statistics of a given Q; `e_step` returns those of the posterior. `params` only fix the centring."""

    def __call__(self, params: PyTree, data: PyTree, weights: Array, posterior: PyTree) -> PyTree: ...


class LogProb(Protocol):
    """log p(x_n | θ) per observation: (n,); its weighted sum is the log-likelihood of `e_step`."""

    def __call__(self, params: PyTree, data: PyTree) -> Array: ...


class Sample(Protocol):
    """`num_samples` draws of (data, latents)."""

    def __call__(self, key: Array, params: PyTree, num_samples: int) -> tuple[PyTree, PyTree]: ...


class Validate(Protocol):
    """Data ready to be fitted (integers become floats where that loses nothing), or a ValueError naming cause and cure.

    Inside jit, where values cannot be looked at, it checks shapes alone.
    """

    def __call__(self, data: PyTree, weights: Array | None) -> PyTree: ...


class Predicate(Protocol):
    """A scalar bool about an M-step from `stats`; see `Model.held` and `Model.stalled`."""

    def __call__(self, params: PyTree, stats: PyTree) -> Array: ...


class Model(NamedTuple):
    """What is fitted: an E-step, an M-step, and capabilities that are None where a model has none.

    `constraints` is a pytree of Constraint shaped like the parameters (None: real everywhere, or undeclared).
    `additive` says that statistics are sums over observations; False where they carry the data along.
    `held` tells whether the M-step from `stats` is held by a constraint against an unbounded likelihood.
    `stalled` tells, where an M-step has returned its parameters unchanged, whether F could yet rise from them.
    `block_size` is the number of rows an E-step takes at once, where `chunked` has fixed it.
    """

    e_step: EStep
    m_step: MStep
    init: Init | None = None
    expected_log_joint: ExpectedLogJoint | None = None
    posterior: Posterior | None = None
    statistics: Statistics | None = None
    log_prob: LogProb | None = None
    sample: Sample | None = None
    constraints: PyTree = None
    additive: bool = True
    validate: Validate | None = None
    held: Predicate | None = None
    stalled: Predicate | None = None
    block_size: int | None = None

    def __hash__(self) -> int:
        """Hash by the two steps: trees of constraints may be dicts, which have no hash."""
        return hash((self.e_step, self.m_step))


class ComponentLogProb(Protocol):
    """log p(x_n | θ_k) for all components at once: (n, k)."""

    def __call__(self, params: PyTree, x: PyTree) -> Array: ...


class ComponentStatistics(Protocol):
    """Sums over rows, linear in the `responsibilities` (n, k), which weigh rows and need not sum to one."""

    def __call__(self, params: PyTree, x: PyTree, responsibilities: Array) -> PyTree: ...


class ComponentMStep(Protocol):
    """Parameters that maximize `expected_log_prob(·, stats)`; a component without responsibility keeps its old ones."""

    def __call__(self, params: PyTree, stats: PyTree) -> PyTree: ...


class ComponentInit(Protocol):
    """One random start for `num_components` components, in the dtype of `x`; `weights` (n,)."""

    def __call__(self, key: Array, x: PyTree, weights: Array, num_components: int) -> PyTree: ...


class ExpectedLogProb(Protocol):
    """Σ_nk r_nk log p(x_n | θ_k) as a function of θ, the responsibilities summarized by `stats`: a scalar."""

    def __call__(self, params: PyTree, stats: PyTree) -> Array: ...


class ComponentSample(Protocol):
    """One draw for each of the `labels` (n,), from the component it names."""

    def __call__(self, key: Array, params: PyTree, labels: Array) -> PyTree: ...


Use = Callable[[Array, Callable[[Array], PyTree]], PyTree]


class Evaluate(Protocol):
    """`use(log_prob, statistics)`: log p(x_n | θ_k) (n, k), and the function that takes responsibilities to statistics.

    For a family in which the two share work over rows, or that chooses by `params` how to do it: `use` is then called once
    for each way, inside a `lax.cond`.
    """

    def __call__(self, params: PyTree, x: PyTree, use: Use) -> PyTree: ...


class Family(NamedTuple):
    """The distribution of one component, for all k components at once.

    `constraints` is a pytree of Constraint shaped like the parameters. `validate` and `held` are as in Model. `evaluate` may
    be None, and stands for `log_prob` and `statistics` wherever both are wanted.
    """

    log_prob: ComponentLogProb
    statistics: ComponentStatistics
    m_step: ComponentMStep
    init: ComponentInit
    expected_log_prob: ExpectedLogProb
    sample: ComponentSample
    constraints: PyTree
    validate: Validate | None = None
    held: Predicate | None = None
    evaluate: Evaluate | None = None

    def __hash__(self) -> int:
        """Hash by two of its functions: trees of constraints may be dicts, which have no hash."""
        return hash((self.log_prob, self.m_step))


def evaluate(family: Family, params: PyTree, x: PyTree, use: Use) -> PyTree:
    """Return `use` of log p(x_n | θ_k), (n, k), and of the function that takes responsibilities (n, k) to statistics."""
    if family.evaluate is not None:
        return family.evaluate(params, x, use)
    return use(family.log_prob(params, x), lambda responsibilities: family.statistics(params, x, responsibilities))


def in_full_precision(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` with float32 matrix products in float32, where an accelerator would take fewer digits by default."""

    @wraps(function)
    def precise(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return precise


def weighted_log(weight: Array, p: Array) -> Array:
    """Return weight · log p, zero and without gradient where the weight is zero or, by rounding, below."""
    some = weight > 0
    return jnp.where(some, weight * jnp.log(jnp.where(some, p, 1)), 0)


def choose(condition: Array, yes: PyTree, no: PyTree) -> PyTree:
    """Return leaves of `yes` where the condition holds, else of `no`: as wholes, or place by place along leading axes."""

    def pick(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b)

    return jax.tree.map(pick, yes, no)


def require(model: Model, capability: str) -> Any:
    """Return the named capability of `model`; raise ValueError where it has none."""
    function = getattr(model, capability)
    if function is None:
        raise ValueError(
            f"This needs model.{capability}, which this model does not have: add it by model._replace({capability}=...)."
        )
    return function


def num_rows(data: PyTree) -> int:
    """Return n, the leading axis of the first leaf."""
    return int(jax.tree.leaves(data)[0].shape[0])


def unit_weights(data: PyTree) -> Array:
    """Return weight one for each row, in the widest float dtype of the data; the default one for half precision or none."""
    widths = [jnp.finfo(leaf.dtype).bits for leaf in jax.tree.leaves(data) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    widest = max(widths, default=0)
    dtype = jax.dtypes.canonicalize_dtype(f"float{widest}") if widest >= 32 else jnp.result_type(float)
    return jnp.ones(num_rows(data), dtype)


def normalize(log_joint: Array) -> tuple[Array, Array]:
    """Return p(z = k | x_n) (k, n) and log p(x_n) (n,) from log p(x_n, z = k) (k, n), with one exponential per entry.

    An impossible row has log p = -inf and no responsibilities.
    """
    peak = lax.stop_gradient(log_joint.max(0))
    peak = jnp.where(peak == -jnp.inf, 0, peak)
    scaled = jnp.exp(log_joint - peak[None])
    total = scaled.sum(0)
    possible = total != 0
    divisor = jnp.where(possible, total, 1)
    return scaled / divisor[None], jnp.where(possible, peak + jnp.log(divisor), -jnp.inf)
