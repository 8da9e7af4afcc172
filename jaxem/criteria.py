"""What a fit is worth beside others: free parameters and information criteria."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import constraints
from jaxem.arrays import as_params
from jaxem.boundary import check_model, check_structure, check_weights, may_be_padded, ready_to_look
from jaxem.fitting import Fit, check_fit, observations
from jaxem.model import Model, PyTree, require
from jaxem.trees import dtype_of_weights, num_rows


def num_free_parameters(model: Model, params: PyTree) -> int:
    """Return the number of free parameters of `model` at `params`, from its constraints and the shapes alone.

    A model that declares no constraints counts every entry; one whose constraints cannot tell has its own `num_free`.

    >>> import jax, jaxem
    >>> model = jaxem.mixture(jaxem.families.gaussian("full"), 2)
    >>> jaxem.num_free_parameters(model, model.init(jax.random.key(0), jaxem.datasets.faithful()))
    11
    """
    check_model(model)
    if model.num_free:
        return int(model.num_free(params))
    params = as_params(params, float)
    check_structure(model.constraints, params)
    domains = constraints.broadcast(model.constraints, params)
    return sum(c.num_free(np.shape(x)) for c, x in zip(domains, jax.tree.leaves(params), strict=True))


def aic(model: Model, fit: Fit, data: PyTree = None, weights: Any = None) -> float:
    """Return Akaike's criterion, 2 p - 2 log-likelihood; smaller is better. Akaike (1974).

    `data` and `weights` play no part; they are taken so that all criteria are called alike.
    Raises ValueError for what is no Fit.

    >>> import jaxem
    >>> x = [3.0, 1.0, 2.0, 6.0]
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> print(f"{jaxem.aic(model, jaxem.fit(model, model.init(0, x), x)):.2f}")
    17.76
    """
    return 2 * num_free_parameters(model, check_fit(fit).params) - 2 * float(fit.log_likelihood)


def aicc(model: Model, fit: Fit, data: PyTree, weights: Any = None) -> float:
    """Return Akaike's criterion corrected for few rows, aic + 2 p (p + 1) / (n - p - 1); smaller is better.

    n is counted as by `bic`; infinite where n is p + 1 or less, as so many parameters cannot be told from so few
    observations. Hurvich & Tsai (1989). Raises ValueError as `bic` does.

    >>> import jaxem
    >>> x = [3.0, 1.0, 2.0, 6.0]
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> print(f"{jaxem.aicc(model, jaxem.fit(model, model.init(0, x), x), x):.2f}")
    19.76
    """
    free = num_free_parameters(model, check_fit(fit).params)
    spare = num_observations(model, data, weights) - free - 1
    return aic(model, fit) + 2 * free * (free + 1) / spare if spare > 0 else math.inf


def bic(model: Model, fit: Fit, data: PyTree, weights: Any = None) -> float:
    """Return the Bayesian criterion, p log n - 2 log-likelihood; smaller is better. Schwarz (1978).

    n is the number of observations in `data` (of rows, or by `model.size`), each counted by its weight (frequencies).
    Raises ValueError for what is no Fit, and for data or weights that the model cannot take.

    >>> import jaxem
    >>> x = [3.0, 1.0, 2.0, 6.0]
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> print(f"{jaxem.bic(model, jaxem.fit(model, model.init(0, x), x), x):.2f}")
    17.15
    """
    check_fit(fit)
    count = num_observations(model, data, weights)
    return num_free_parameters(model, fit.params) * math.log(count) - 2 * float(fit.log_likelihood)


def num_observations(model: Model, data: PyTree, weights: Any = None) -> float:
    """Return how many observations data hold, of rows or by `model.size`, each counted by its weight."""
    check_model(model)
    data, rows = ready_to_look(model.prepare, data, padded=may_be_padded(model))
    counted = np.ones(rows) if weights is None else np.asarray(check_weights(weights, rows))
    return float(observations(model, data, jnp.asarray(np.pad(counted, (0, num_rows(data) - rows)), dtype_of_weights(data))))


def icl(model: Model, fit: Fit, data: PyTree, weights: Any = None) -> float:
    """Return the integrated classification likelihood, bic - 2 Σ_n w_n log max_k r_nk; smaller is better.

    r are the responsibilities of the posterior: what overlaps is charged for. Biernacki, Celeux & Govaert (2000).
    Raises ValueError as `bic` does, and for a posterior that is no (n, k).

    >>> import jaxem
    >>> x, model = [0.0, 1.0, 1.0, 2.0, 9.0, 11.0, 14.0], jaxem.mixture(jaxem.families.poisson(), 2)
    >>> fit = jaxem.fit(model, jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 11.0])), x)
    >>> print(f"{jaxem.icl(model, fit, x) - jaxem.bic(model, fit, x):.3f}")
    0.008
    """
    shares, counted = _shares(model, check_fit(fit).params, data, weights)
    return bic(model, fit, data, weights) - 2 * float((counted * np.log(shares.max(1))).sum())


def entropy(model: Model, params: PyTree, data: PyTree, weights: Any = None) -> float:
    """Return that of the responsibilities, -Σ_n w_n Σ_k r_nk log r_nk, in nats."""
    shares, counted = _shares(model, params, data, weights)
    return -float((counted[:, None] * shares * np.log(np.where(shares > 0, shares, 1))).sum())


def _shares(model: Model, params: PyTree, data: PyTree, weights: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return responsibilities (n, k) and weights (n,) of the rows that are present."""
    check_model(model)
    shares = require(model, "posterior")(params, data)
    if getattr(shares, "ndim", None) != 2:
        raise ValueError("this criterion needs a model whose posterior is responsibilities (n, k), which this has not.")
    counted = np.ones(len(shares)) if weights is None else np.asarray(check_weights(weights, len(shares)))
    return np.asarray(shares)[counted > 0], counted[counted > 0]
