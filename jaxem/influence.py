"""What each row does to a fit."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.faces import examined
from jaxem.fitting import Fit
from jaxem.identified import inverse_of, settled, told_by, units_at
from jaxem.information import scores
from jaxem.model import Model, PyTree


def influence(model: Model, fit: Fit, data: PyTree, weights: Any = None) -> Array:
    """Return how much each parameter changes when a row's weight falls to zero, to first order: (n, p).

    -w_n ∂θ/∂w_n, with ∂θ/∂w_n = I⁻¹ s_n in free coordinates by the implicit function theorem, s_n the row's score and I the
    observed information, and a prior's where there is one. Parameters are in the order of `parameter_names`; those that the
    data say nothing of are NaN, and those held on the boundary of their domain do not change.
    Cook (1986). Raises ValueError for what is no Fit, for data that the model cannot take, and under a trace.

    >>> import numpy as np, jaxem
    >>> model, x = jaxem.single(jaxem.families.poisson()), np.array([3.0, 1.0, 2.0, 6.0])
    >>> fit = jaxem.fit(model, model.init(0, x), x)
    >>> print(jaxem.influence(model, fit, x)[:, 0])
    [ 0.    0.5   0.25 -0.75]
    """
    face, rows, dtype = examined(model, fit, data, weights, "influence", padded=False)
    units = units_at(model, face.chart, face.curvature, rows)
    told = told_by(model, face.chart, settled(model, face.chart, face.curvature, rows, units).information, units)
    inverse = inverse_of(face.curvature.information, told)
    pulls = np.asarray(rows.weights)[:, None] * np.asarray(scores(model, face.chart, rows))
    changes = -pulls @ inverse @ told.slopes.T
    return jnp.asarray(np.where(told.lost[None], np.nan, changes), dtype)
