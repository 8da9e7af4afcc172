"""Gaussian components: one family, in as many forms of covariance as there are rows in `forms`."""

from jaxem.families.gaussian.eigen import Eigen as Eigen
from jaxem.families.gaussian.family import Gaussian as Gaussian
from jaxem.families.gaussian.family import full_covariances as full_covariances
from jaxem.families.gaussian.family import gaussian as gaussian
from jaxem.families.gaussian.wishart import NormalInverseWishart as NormalInverseWishart
from jaxem.families.gaussian.wishart import default_prior as default_prior
