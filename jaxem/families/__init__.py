"""Distributions of one component; each serves in every structure. And what makes families of families."""

from jaxem.families.bernoulli import Bernoulli as Bernoulli
from jaxem.families.bernoulli import bernoulli as bernoulli
from jaxem.families.binomial import Binomial as Binomial
from jaxem.families.binomial import Trials as Trials
from jaxem.families.binomial import binomial as binomial
from jaxem.families.categorical import Categorical as Categorical
from jaxem.families.categorical import categorical as categorical
from jaxem.families.exponential import Exponential as Exponential
from jaxem.families.exponential import exponential as exponential
from jaxem.families.gamma import Gamma as Gamma
from jaxem.families.gamma import gamma as gamma
from jaxem.families.gaussian import Gaussian as Gaussian
from jaxem.families.gaussian import full_covariances as full_covariances
from jaxem.families.gaussian import gaussian as gaussian
from jaxem.families.labelled import Labelled as Labelled
from jaxem.families.labelled import labelled as labelled
from jaxem.families.log_normal import LogNormal as LogNormal
from jaxem.families.log_normal import log_normal as log_normal
from jaxem.families.multinomial import Multinomial as Multinomial
from jaxem.families.multinomial import multinomial as multinomial
from jaxem.families.negative_binomial import NegativeBinomial as NegativeBinomial
from jaxem.families.negative_binomial import negative_binomial as negative_binomial
from jaxem.families.poisson import Poisson as Poisson
from jaxem.families.poisson import poisson as poisson
from jaxem.families.product import product as product
from jaxem.trees import Gated as Gated
