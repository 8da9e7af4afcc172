"""Mixtures and hidden Markov models as scikit-learn's estimators: fit and predict, for pipelines and whoever knows them."""

from jaxem.sklearn.gaussian import GaussianMixture as GaussianMixture
from jaxem.sklearn.hmm import HMM as HMM
from jaxem.sklearn.mixture import Mixture as Mixture

__all__ = ["HMM", "GaussianMixture", "Mixture"]
