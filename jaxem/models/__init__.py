"""Structures: how latent variables hang together."""

from jaxem.models.mixture import Mixture as Mixture
from jaxem.models.mixture import mixture as mixture
