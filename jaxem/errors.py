"""How sure a fit is: standard errors of its parameters, for every model."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxem.charts import names_of
from jaxem.faces import Face, examined, named
from jaxem.fitting import Fit
from jaxem.identified import inverse_of, loses, settled, told_by, units_at
from jaxem.information import Rows, louis, oakes, prior_information, squared_scores
from jaxem.model import Model, PyTree

SHOWN = 12  # parameters that are told one by one
BY_ROWS = ("sandwich", "opg")


class StandardErrors(NamedTuple):
    """What comes back from `standard_errors`, for p parameters of which q are free.

    errors           like the params: NaN where unidentified, zero where held on the boundary
    covariance       (p, p) of the raveled params, in the order of `parameter_names`; singular where they are constrained
    free_covariance  (q, q) of the free coordinates: the chart of the constraints, less what is held
    unidentified     names of parameters that the data say nothing of, or of which the likelihood is no maximum
    boundary         names of parameters on the boundary of their domain, or held by a floor; the others are given these
    method           the method asked for

    >>> import jaxem
    >>> model, x = jaxem.single(jaxem.families.poisson()), [3.0, 1.0, 2.0, 6.0]
    >>> fit = jaxem.fit(model, model.init(0, x), x)
    >>> jaxem.standard_errors(model, fit, x)
    StandardErrors by 'observed' of 1 parameter: rate[0] ± 0.866
    """

    errors: PyTree
    covariance: Array
    free_covariance: Array
    unidentified: tuple[str, ...]
    boundary: tuple[str, ...]
    method: str

    def __repr__(self) -> str:
        """Return a line: parameters and their errors, those without, and those held."""
        names = names_of(self.errors)
        sizes = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(self.errors)])
        shown = [f"{name} ± {size:.3g}" for name, size in zip(names, sizes, strict=True)][:SHOWN]
        more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        text = f"StandardErrors by {self.method!r} of {len(names)} parameter{'s'[: len(names) != 1]}: {', '.join(shown)}{more}"
        for what, some in (("unidentified", self.unidentified), ("on the boundary", self.boundary)):
            text += f"\n  {what}: {', '.join(some)}" if some else ""
        return text


def standard_errors(model: Model, fit: Fit, data: PyTree, weights: Any = None, *, method: str = "observed") -> StandardErrors:
    """Return standard errors of the parameters of a fit, from the curvature of its log-likelihood.

    method, with s_n the score of a row and I = -∂² Σ_n w_n log p(x_n | θ) the observed information:
    "observed" I⁻¹; "louis" and "oakes" the same from complete-data quantities (Louis 1982; Oakes 1999), the first of a
    posterior (n, k); "sandwich" I⁻¹ (Σ_n w_n s_n s_nᵀ) I⁻¹ (Huber 1967; White 1982), right where the model is not;
    "opg" (Σ_n w_n s_n s_nᵀ)⁻¹. Weights are frequencies. Where the model has a prior, its curvature is added to I, and to the
    sum in "opg": these are then those of the posterior about its mode.

    All hold at a stationary point: fit to one (`tol=0` ends at rounding), or the curvature is of a place beside it.
    Derivatives are taken in the charts of the constraints, and the delta method takes them to the parameters. What lies on
    the boundary of its domain is held there. Computed in double precision where that is on; memory does not grow with n.

    Raises ValueError for another method, for what is no Fit, for data that the model cannot take, under a trace, and where
    "sandwich" or "opg" have one row alone, whose score says nothing of its spread.

    >>> import numpy as np, jaxem
    >>> model, x = jaxem.mixture(jaxem.families.poisson(), 2), jaxem.datasets.london_times_deaths()
    >>> start = jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 3.0]))
    >>> fit = jaxem.fit(model, start, *x, solver=jaxem.squarem())
    >>> print(np.asarray(jaxem.standard_errors(model, fit, *x).errors.components.rate).round(2))
    [0.35 0.25]
    """
    if method not in tuple(METHODS):
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}.")
    face, rows, dtype = examined(model, fit, data, weights, "standard_errors")
    if method in BY_ROWS and np.count_nonzero(np.asarray(rows.weights)) < 2:
        raise ValueError(f'method="{method}" needs at least two rows, whose scores differ; got one: use "observed".')
    return _assembled(model, face, rows, method, dtype)


def _observed(model: Model, face: Face, rows: Rows) -> Array:
    return face.curvature.information


def _opg(model: Model, face: Face, rows: Rows) -> Array:
    return squared_scores(model, face.chart, rows) + prior_information(model, face.chart)


METHODS: dict[str, Callable[[Model, Face, Rows], Array]] = {
    "observed": _observed,
    "louis": lambda model, face, rows: louis(model, face.chart, rows),
    "oakes": lambda model, face, rows: oakes(model, face.chart, rows),
    "sandwich": _observed,
    "opg": _opg,
}


def _assembled(model: Model, face: Face, rows: Rows, method: str, dtype: Any) -> StandardErrors:
    information = np.asarray(METHODS[method](model, face, rows))
    units = units_at(model, face.chart, face.curvature, rows)
    beside = information if method == "opg" else settled(model, face.chart, face.curvature, rows, units).information
    told = told_by(model, face.chart, beside, units)
    free, slopes, lost = inverse_of(information, told), told.slopes, told.lost
    if method == "sandwich":
        free = free @ np.asarray(squared_scores(model, face.chart, rows)) @ free
    covariance = _blanked(slopes @ free @ slopes.T, lost)
    free = _blanked(free, loses(np.eye(len(free)), units, told.at, told.silent))
    errors = ravel_pytree(face.chart.params)[1](jnp.sqrt(jnp.asarray(np.diag(covariance))))
    return StandardErrors(
        jax.tree.map(lambda leaf: leaf.astype(dtype), errors),
        jnp.asarray(covariance, dtype),
        jnp.asarray(free, dtype),
        named(face.chart.params, lost),
        face.boundary,
        method,
    )


def _blanked(covariance: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Return a covariance with NaN in the rows and columns of what has none."""
    return np.where(lost[:, None] | lost[None], np.nan, covariance)
