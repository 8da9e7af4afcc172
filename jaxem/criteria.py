"""What a fit is worth beside others: free parameters and information criteria."""

import math
from typing import Any

import jax
import numpy as np

from jaxem import constraints
from jaxem.boundary import as_arrays
from jaxem.fit import Fit
from jaxem.model import Model, PyTree, num_rows


def num_free_parameters(model: Model, params: PyTree) -> int:
    """Return the number of free parameters of `model` at `params`, from its constraints and the shapes alone.

    A model that declares no constraints counts every entry.
    """
    domains = constraints.broadcast(model.constraints, params)
    return sum(c.num_free(np.shape(x)) for c, x in zip(domains, jax.tree.leaves(params), strict=True))


def aic(model: Model, fit: Fit, data: PyTree = None, weights: Any = None) -> float:
    """Return Akaike's criterion, 2 p - 2 log-likelihood; smaller is better. Akaike (1974).

    `data` and `weights` play no part; they are taken so that all criteria are called alike.
    """
    return 2 * num_free_parameters(model, fit.params) - 2 * float(fit.log_likelihood)


def bic(model: Model, fit: Fit, data: PyTree, weights: Any = None) -> float:
    """Return the Bayesian criterion, p log n - 2 log-likelihood; smaller is better. Schwarz (1978).

    n is the number of rows of `data`, or the sum of `weights` where those are given (frequencies).
    """
    count = num_rows(as_arrays(data)) if weights is None else float(np.sum(np.asarray(weights)))
    return num_free_parameters(model, fit.params) * math.log(count) - 2 * float(fit.log_likelihood)
