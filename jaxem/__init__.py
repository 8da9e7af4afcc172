"""Expectation-Maximization for any latent-variable model, in JAX."""

from jaxem import constraints as constraints
from jaxem import datasets as datasets
from jaxem import families as families
from jaxem import initialize as initialize
from jaxem import testing as testing
from jaxem.bound import lower_bound as lower_bound
from jaxem.chunked import chunked as chunked
from jaxem.criteria import aic as aic
from jaxem.criteria import bic as bic
from jaxem.criteria import num_free_parameters as num_free_parameters
from jaxem.fit import Fit as Fit
from jaxem.fit import Status as Status
from jaxem.fit import fit as fit
from jaxem.gradient import from_log_joint as from_log_joint
from jaxem.gradient import gradient_m_step as gradient_m_step
from jaxem.model import Family as Family
from jaxem.model import Model as Model
from jaxem.models.mixture import Mixture as Mixture
from jaxem.models.mixture import mixture as mixture
from jaxem.restarts import Restarts as Restarts
from jaxem.restarts import fit_restarts as fit_restarts
from jaxem.solvers import em as em
from jaxem.solvers import squarem as squarem
