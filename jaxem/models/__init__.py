"""Structures: how latent variables hang together."""

from jaxem.models.enumerated import from_log_joint as from_log_joint
from jaxem.models.linear_gaussian import linear_gaussian as linear_gaussian
from jaxem.models.mixture import Mixture as Mixture
from jaxem.models.mixture import mixture as mixture
from jaxem.models.single import single as single
