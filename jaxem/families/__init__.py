"""Distributions of one component; each serves in every structure. And what makes families of families."""

from jaxem.families.bernoulli import Bernoulli as Bernoulli
from jaxem.families.bernoulli import bernoulli as bernoulli
from jaxem.families.gaussian import Gaussian as Gaussian
from jaxem.families.gaussian import full_covariances as full_covariances
from jaxem.families.gaussian import gaussian as gaussian
from jaxem.families.glm import GLM as GLM
from jaxem.families.glm import glm as glm
from jaxem.families.labelled import Labelled as Labelled
from jaxem.families.labelled import labelled as labelled
from jaxem.families.linear_regression import LinearRegression as LinearRegression
from jaxem.families.linear_regression import linear_regression as linear_regression
from jaxem.families.poisson import Poisson as Poisson
from jaxem.families.poisson import poisson as poisson
from jaxem.families.product import product as product
from jaxem.families.regression import Regression as Regression
from jaxem.families.softmax_regression import SoftmaxRegression as SoftmaxRegression
from jaxem.families.softmax_regression import softmax_regression as softmax_regression
from jaxem.trees import Gated as Gated
