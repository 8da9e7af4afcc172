"""Mixtures as scikit-learn's estimators: fit and predict, for pipelines, grid search and whoever knows them."""

from jaxem.sklearn.gaussian import GaussianMixture as GaussianMixture
from jaxem.sklearn.mixture import Mixture as Mixture

__all__ = ["GaussianMixture", "Mixture"]
