"""Distributions of one component; each serves in every structure. And what makes families of families."""

from jaxem.families.bernoulli import Bernoulli as Bernoulli
from jaxem.families.bernoulli import bernoulli as bernoulli
from jaxem.families.gaussian import Eigen as Eigen
from jaxem.families.gaussian import Gaussian as Gaussian
from jaxem.families.gaussian import full_covariances as full_covariances
from jaxem.families.gaussian import gaussian as gaussian
from jaxem.families.labelled import Labelled as Labelled
from jaxem.families.labelled import labelled as labelled
from jaxem.families.observed import Observed as Observed
from jaxem.families.observed import observed as observed
from jaxem.families.poisson import Poisson as Poisson
from jaxem.families.poisson import poisson as poisson
from jaxem.families.product import product as product
from jaxem.families.student_t import StudentT as StudentT
from jaxem.families.student_t import student_t as student_t
from jaxem.trees import Gated as Gated
