"""What is reported of each form and number of components, and which of them is preferred."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxem import constraints, families
from jaxem.choice import MAY_WIN, foremost
from jaxem.components import rearrange
from jaxem.criteria import bic
from jaxem.fitting import Fit
from jaxem.model import PyTree
from jaxem.models.mixture import mixture
from jaxem.restarts import Restarts, num_reached, same_maximum
from jaxem.shell.kinds import KINDS
from jaxem.shell.table import Table
from jaxem.stopping import Status


class Candidate(NamedTuple):
    """What came of one number of components: the best Fit, its components in order of falling weight, and all starts."""

    form: str  # of covariance; "" where a family has none
    num_components: int
    best: Fit
    bic: float
    reached: int  # starts that converged within `same` nats of the best
    same: float
    statuses: dict[Status, int]  # how many starts ended how
    steps: np.ndarray  # (num_restarts,)
    own_parameters: int  # of each component alone

    @property
    def covariances(self) -> np.ndarray | None:
        """Matrices (k, d, d), whatever their form; of Student-t components the scales; None of families that have none."""
        if not self.form:
            return None
        mean, spread = self.best.params.components[:2]
        return np.asarray(families.full_covariances(self.form, families.Gaussian(mean, spread)))

    @property
    def ended(self) -> int:
        """How many starts ran to their end; the others were given up after short runs."""
        return len(self.steps) - self.statuses.get(Status.NOT_CONTINUED, 0)


def candidate(kind: str, form: str, num_components: int, restarts: Restarts, table: Table) -> Candidate:
    """Return what is reported of a search among `num_components` of a family, for the rows of a table."""
    model, best = mixture(KINDS[kind].make(form), num_components), restarts.best
    params = jax.tree.map(np.asarray, best.params)
    best = best._replace(params=rearrange(model.constraints, params, np.argsort(-params.weights, kind="stable")))
    status = np.asarray(restarts.fits.status)
    statuses = {Status(s): int(count) for s, count in zip(*np.unique(status, return_counts=True), strict=True)}
    return Candidate(
        form,
        num_components,
        best,
        bic(model, best, table.data, table.weights),
        num_reached(restarts),
        float(same_maximum(best.log_likelihood)),
        statuses,
        np.asarray(restarts.fits.num_steps),
        _own_parameters(model.constraints.components, best.params.components) // num_components,
    )


def centres(components: Any) -> np.ndarray:
    """Return the means, or of Student-t components the locations: (k, d)."""
    return np.asarray(components[0])


def _own_parameters(domain: PyTree, components: PyTree) -> int:
    """Return how many free parameters run over components, of all of them together."""
    leaves = zip(constraints.broadcast(domain, components), jax.tree.leaves(components), strict=True)
    return sum(c.num_free(np.shape(leaf)) for c, leaf in leaves if c.component_axes)


def preferred(candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the candidate of lowest BIC: among those that converged, else those unfinished, else those degenerate."""
    values, statuses = [c.bic for c in candidates], [Status(int(c.best.status)) for c in candidates]
    place = foremost(values, statuses, (*MAY_WIN, {Status.DEGENERATE}))
    return None if place is None else candidates[place]
