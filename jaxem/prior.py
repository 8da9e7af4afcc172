"""Any prior: a model whose fit climbs log-likelihood + log p(θ), for any function log p of its parameters."""

from collections.abc import Hashable
from functools import cache

import jax
import jax.numpy as jnp
from jax import Array

from jaxem.boundary import check_model
from jaxem.climbing import climb, presses, slope_at, value_and_slope_at
from jaxem.model import LogPrior, Model, PyTree, require
from jaxem.numerics import in_full_precision


def with_prior(model: Model, log_prior: LogPrior) -> Model:
    """Return `model` under the prior log p(θ) = `log_prior(params)`, a scalar in nats, beside any that it has already.

    The M-step climbs E_Q[log p(x, z | θ)] + log p(θ) from the better of the old parameters and the model's own M-step, by
    Newton's steps that never lower it, until its slope is zero: for a smooth prior it is exact. `fit.log_likelihood` stays
    the likelihood, `fit.log_prior` stands beside it. Where the prior is -inf no step leads; a start there has nowhere to go.
    A function is known by identity: one that is named compiles once, a lambda anew wherever it is written.
    Green (1990). Raises ValueError for a model without `expected_log_joint`, and for what is no function.

    >>> import jax.numpy as jnp, jaxem
    >>> def near_two(params):
    ...     return -50 * ((jnp.log(params.rate) - jnp.log(2)) ** 2).sum()
    >>> model = jaxem.with_prior(jaxem.single(jaxem.families.poisson()), near_two)
    >>> fit = jaxem.fit(model, jaxem.families.Poisson([1.0]), [3, 1, 2, 6])
    >>> print(fit.params.rate.round(2))
    [2.08]
    """
    check_model(model)
    require(model, "expected_log_joint")
    if not (callable(log_prior) and isinstance(log_prior, Hashable)):
        raise ValueError(f"log_prior must be a function of params, got {log_prior!r}.")
    return _with_prior(model, log_prior)


@cache
def _with_prior(model: Model, log_prior: LogPrior) -> Model:
    def added(params: PyTree) -> Array:
        value = log_prior(params)
        if jnp.shape(value) != ():
            raise ValueError(f"log_prior(params) must return a scalar, in nats, got shape {jnp.shape(value)}.")
        return jnp.asarray(value, jax.tree.leaves(params)[0].dtype)

    def total(params: PyTree) -> Array:
        """Return log p(θ), in nats: that of `with_prior`, and the model's own."""
        return added(params) + model.log_prior(params) if model.log_prior else added(params)

    def own(params: PyTree, stats: PyTree) -> Array:
        value = require(model, "expected_log_joint")(params, stats)
        return value + model.log_prior(params) if model.log_prior else value

    def height(params: PyTree, stats: PyTree) -> Array:
        return own(params, stats) + added(params)

    def pressed(params: PyTree, stats: PyTree, proposed: PyTree) -> Array:
        """Tell whether a floor holds the model's own M-step, and the prior does not speak against it."""
        if model.degenerate is None:
            return jnp.asarray(False)
        push = slope_at(lambda theta: own(theta, stats), model.constraints, proposed)
        value, slope = value_and_slope_at(lambda theta: height(theta, stats), model.constraints, proposed)
        return model.degenerate(params, stats) & presses(value, slope, push)

    @jax.jit
    @in_full_precision
    def m_step(params: PyTree, stats: PyTree) -> PyTree:
        """Return the parameters that maximize E_Q[log p(x, z | θ)] + log p(θ), Q summarized by `stats`; never lower ones."""
        proposed = model.m_step(params, stats)
        stay = pressed(params, stats, proposed)
        return climb(lambda theta: height(theta, stats), model.constraints, params, proposed, stay)

    @in_full_precision
    def degenerate(params: PyTree, stats: PyTree) -> Array:
        """Tell whether the M-step from `stats` is held by a floor that the prior does not speak against: a scalar bool."""
        return pressed(params, stats, model.m_step(params, stats))

    return model._replace(
        m_step=m_step,
        log_prior=total,
        degenerate=degenerate if model.degenerate else None,
        parts=(with_prior, (model, log_prior)),
        exact=False,
    )
