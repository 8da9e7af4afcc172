"""The lower bound F(Q, θ) that EM climbs."""

from typing import Any

from jax import Array

from jaxem.boundary import check_data, check_model, check_params
from jaxem.model import Model, PyTree, require


def lower_bound(model: Model, params_of_q: PyTree, params: PyTree, data: PyTree, weights: Any = None) -> Array:
    """Return F(Q_θ', θ) = E_Q[log p(x, z | θ)] + H(Q) with Q the posterior at θ' = `params_of_q`: a scalar, in nats.

    The entropy comes from tightness at θ': H(Q) = log p(x | θ') - E_Q[log p(x, z | θ')]. Neal & Hinton (1998), §2.
    Raises ValueError where the model has no `expected_log_joint`, and as `fit` does.

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.poisson(), 2), [0.0, 2.0, 5.0]
    >>> here = jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 3.0]))
    >>> print(f"{jaxem.lower_bound(model, here, here, x) - model.log_prob(here, x).sum():.4f}")
    0.0000
    """
    check_model(model)
    expected_log_joint = require(model, "expected_log_joint")
    data, weights = check_data(model, data, weights)
    params_of_q, params = (check_params(model, theta, data, weights) for theta in (params_of_q, params))
    stats, log_likelihood = model.e_step(params_of_q, data, weights)
    return log_likelihood + expected_log_joint(params, stats) - expected_log_joint(params_of_q, stats)
