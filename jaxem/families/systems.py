"""The problems that coefficients of k components make: one for each, or, where they share some, one for all."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.families.newton import Look


class System(NamedTuple):
    """Coefficients γ (k, p), of which all components share the last `shared`, as problems θ (m, D)."""

    num_components: int
    num_columns: int
    shared: int

    def together(self, turned: Array) -> Array:
        """Return γ (k, p) as θ: itself where nothing is shared, else all own ones and then the shared, (1, D)."""
        if not self.shared:
            return turned
        return jnp.concatenate([turned[:, : -self.shared].ravel(), turned[0, -self.shared :]])[None]

    def apart(self, theta: Array) -> Array:
        """Return θ as γ (k, p)."""
        if not self.shared:
            return theta
        own = theta[0, : -self.shared].reshape(self.num_components, self.num_columns - self.shared)
        return jnp.concatenate([own, jnp.broadcast_to(theta[0, -self.shared :], (self.num_components, self.shared))], 1)

    def counts(self, counts: Array) -> Array:
        """Return observations (k,) as those of the problems, (m,)."""
        return counts if not self.shared else counts.sum(keepdims=True)

    def look(self, found: Look) -> Look:
        """Return what the components say of γ, (k,), (k, p) and (k, p, p), as what the problems say of θ."""
        if not self.shared:
            return found
        slope = jnp.concatenate([found.slope[:, : -self.shared].ravel(), found.slope[:, -self.shared :].sum(0)])
        return Look(found.gain.sum(keepdims=True), slope[None], self.matrix(found.information))

    def matrix(self, information: Array) -> Array:
        """Return matrices (k, p, p) as those of the problems, (m, D, D)."""
        if not self.shared:
            return information
        k, own = self.num_components, self.num_columns - self.shared
        places = np.eye(k, dtype=bool)[:, None, :, None]
        blocks = jnp.where(places, information[:, :own, None, :own], 0).reshape(k * own, k * own)
        border = information[:, :own, own:].reshape(k * own, self.shared)
        corner = information[:, own:, own:].sum(0)
        return jnp.concatenate([jnp.concatenate([blocks, border], 1), jnp.concatenate([border.T, corner], 1)])[None]


def system_of(coefficients: Array, shared: int) -> System:
    """Return the problems that coefficients (k, p) make, of which all components share so many."""
    return System(coefficients.shape[0], coefficients.shape[1], shared)
