"""From a structure's `infer` to a Model: precision, jit, blocks of rows and the door to the data, once, in one place."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import jax
import numpy as np
from jax import Array

from jaxem.arrays import as_params, at_least_one
from jaxem.blocks import default_block_bytes, default_block_size, row_by_row, summed
from jaxem.boundary import as_key, check_structure, ready, ready_to_learn, ready_to_look
from jaxem.buckets import cut, padded_size
from jaxem.model import Degenerate, Entropy, EStep, LogPrior, Model, NumFree, Parts, Prepare, PyTree, Size
from jaxem.numerics import in_full_precision, weighted_sum
from jaxem.programs import compiled
from jaxem.trees import dtype_of_weights, num_rows


class Infer(Protocol):
    """What a structure says of its latent variables: (Q, log p(x_n | θ) (n,), statistics(weights, Q) -> stats).

    Q has one row per row of data. `statistics` is linear in the weights, and Q may be any, not only the posterior.
    """

    def __call__(self, params: PyTree, data: PyTree) -> tuple[PyTree, Array, Callable[[Array, PyTree], PyTree]]: ...


class Draw(Protocol):
    """`count` draws of (data, latents) at `params`; `like` is that number, or prepared data whose covariates are kept."""

    def __call__(self, count: int, key: Array, params: PyTree, like: PyTree, /) -> tuple[PyTree, PyTree]: ...


class Begin(Protocol):
    """One random start from prepared data and weights (n,)."""

    def __call__(self, key: Array, data: PyTree, weights: Array) -> PyTree: ...


def build(
    infer: Infer,
    m_step: Callable[[PyTree, PyTree], PyTree],
    expected_log_joint: Callable[[PyTree, PyTree], Array],
    *,
    m_step_given: Callable[[PyTree, PyTree, PyTree], PyTree] | None = None,
    prepare: Prepare | None = None,
    begin: Begin | None = None,
    draw: Draw | None = None,
    size: Size | None = None,
    log_prior: LogPrior | None = None,
    degenerate: Degenerate | None = None,
    constraints: PyTree = None,
    num_free: NumFree | None = None,
    additive: bool = True,
    exact: bool = True,
    streamed: EStep | None = None,
    entropy: Entropy | None = None,
    parts: Parts,
) -> Model:
    """Return the Model of a structure: what `infer` says, as e_step, posterior, statistics and log_prob.

    `streamed` does the same as an E-step made of that, without the whole posterior and with blocks of its own; it is not
    differentiated. `m_step_given(params, stats, held)` is the M-step given the leaves that are held, as booleans say: `freeze`
    uses it. The other arguments are fields of Model, or what they are made of.
    """

    def expect(params: PyTree, data: PyTree, weights: Array) -> tuple[PyTree, Array]:
        q, log_prob, statistics = infer(params, data)
        return statistics(weights, q), weighted_sum(weights, log_prob)

    def summarize(params: PyTree, data: PyTree, weights: Array, posterior: PyTree) -> PyTree:
        return infer(params, data)[2](weights, posterior)

    in_blocks = partial(summed, block_bytes=default_block_bytes()) if additive else None
    by_row = row_by_row if additive else None
    summarize_all = _compiled(summarize, in_blocks)
    expect_all = _compiled(_with_slope_of(streamed, expect)) if streamed else _compiled(expect, in_blocks)
    q_all, log_prob_all = (_compiled(lambda p, x, i=i: infer(p, x)[i], by_row) for i in (0, 1))
    entropy_all = _compiled(entropy or _absent, by_row)

    def e_step(params: PyTree, data: PyTree, weights: Array) -> tuple[PyTree, Array]:
        """Return expected statistics of the posterior at `params`, and the log-likelihood Σ_n w_n log p(x_n | θ)."""
        return expect_all(params, ready(prepare, data), weights)

    e_step.in_blocks = additive  # type: ignore[attr-defined]
    e_step.any_size = streamed is not None  # type: ignore[attr-defined]

    def of_each_row(function: Callable[[PyTree, PyTree], PyTree], params: PyTree, data: PyTree) -> PyTree:
        params = as_params(params)
        check_structure(constraints, params)
        data, count = ready_to_look(prepare, data, padded=additive)
        return cut(function(as_params(params, dtype_of_weights(data)), data), count)

    def posterior(params: PyTree, data: PyTree) -> PyTree:
        """Return p(z | x_n, θ) for each row; data as `fit` takes them."""
        return of_each_row(q_all, params, data)

    def log_prob(params: PyTree, data: PyTree) -> Array:
        """Return log p(x_n | θ) for each row, (n,), in nats; data as `fit` takes them."""
        return of_each_row(log_prob_all, params, data)

    def entropy_of(params: PyTree, data: PyTree) -> Array:
        """Return the entropy of the posterior of each row, (n,), in nats; data as `fit` takes them."""
        return of_each_row(entropy_all, params, data)

    def statistics(params: PyTree, data: PyTree, weights: Array, posterior: PyTree) -> PyTree:
        """Return the statistics of a given Q, such as responsibilities (n, k); `params` only fix the centring."""
        return summarize_all(params, ready(prepare, data), weights, posterior)

    updated = _compiled(m_step)

    def update(params: PyTree, stats: PyTree) -> PyTree:
        """Return the parameters that raise E_Q[log p(x, z | θ)] from the old ones, Q summarized by `stats`."""
        return updated(params, stats)

    update.given = m_step_given  # type: ignore[attr-defined]

    @in_full_precision
    def expected(params: PyTree, stats: PyTree) -> Array:
        """Return E_Q[log p(x, z | θ)] at `params`, Q summarized by `stats`: a scalar, in nats."""
        return expected_log_joint(params, stats)

    def init(key: Array, data: PyTree, weights: Any = None) -> PyTree:
        """Return one random start, in the dtype of the data; weights (n,), None for one each."""
        return begun(as_key(key), *ready_to_learn(prepare, data, weights, padded=additive))

    def sample(key: Array, params: PyTree, like: PyTree) -> tuple[PyTree, PyTree]:
        """Return draws of (data, latents); `like` is their number, or data whose covariates, lengths and gaps are kept."""
        key, params = as_key(key), as_params(params)
        if hasattr(like, "__index__") and np.ndim(like) == 0:
            count = at_least_one("like", like)
            return cut(drawn(padded_size(count), key, params, None), count)
        data, count = ready_to_look(prepare, like, padded=additive)
        return cut(drawn(num_rows(data), key, params, data), count)

    def at_the_door(data: PyTree, weights: Array | None) -> PyTree:
        """Return data as the model's functions have them; weights None for rows that are only looked at; idempotent."""
        return prepare(data, weights) if prepare else data

    @in_full_precision
    def held(params: PyTree, stats: PyTree) -> Array:
        """Tell whether the M-step from `stats` is held by a floor against an unbounded likelihood: a scalar bool."""
        return (degenerate or _absent)(params, stats)

    begun = _compiled(begin or _absent)
    drawn = compiled(in_full_precision(draw or _absent), static_argnums=0)
    return Model(
        e_step=e_step,
        m_step=update,
        init=init if begin else None,
        expected_log_joint=expected,
        posterior=posterior,
        statistics=statistics,
        log_prob=log_prob,
        sample=sample if draw else None,
        prepare=at_the_door if prepare else None,
        size=size,
        log_prior=log_prior,
        degenerate=held if degenerate else None,
        constraints=constraints,
        num_free=num_free,
        additive=additive,
        exact=exact,
        entropy=entropy_of if entropy else None,
        parts=parts,
    )


def _with_slope_of(streamed: EStep, plain: EStep) -> Callable[..., Any]:
    """Return `streamed` with the derivatives of `plain`, to any order."""
    run = jax.custom_jvp(streamed)
    run.defjvp(lambda primals, tangents: jax.jvp(plain, primals, tangents))
    return run


def _compiled(function: Callable[..., Any], in_blocks: Callable[..., Any] | None = None) -> Callable[..., Any]:
    precise = in_full_precision(function)
    return compiled(in_blocks(precise, default_block_size()) if in_blocks else precise)


def _absent(*arguments: Any) -> Any:
    raise NotImplementedError
