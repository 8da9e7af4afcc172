"""Generalized linear models: a family, and a file for each distribution of responses."""

from jaxem.families.glm.family import GLM as GLM
from jaxem.families.glm.family import glm as glm
