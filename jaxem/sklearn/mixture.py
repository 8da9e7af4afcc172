"""Mixtures of any family as an estimator: many starts, as `fit_restarts` has them, behind fit and predict."""

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxem.arrays import as_arrays, at_least_one
from jaxem.families.product import _product
from jaxem.fitting import Fit, fit
from jaxem.frames import is_frame
from jaxem.model import Family, Model, PyTree, check_family, require
from jaxem.models.mixture import mixture
from jaxem.restarts import fit_restarts
from jaxem.sklearn.base import Estimator, Rule, checked_numbers, number, one_of, precision_of, whole_number
from jaxem.stopping import Status
from jaxem.trees import rows_of

OF_SEARCHES: dict[str, Rule] = {
    "tol": number(0),
    "max_iter": whole_number(1),
    "n_init": whole_number(1),
    "warm_start": one_of(True, False),
    "allow_nan": one_of(True, False),
}


class Mixture(Estimator):
    """A mixture of any family, found from `n_init` random starts.

    X: numbers (n, d), or whatever the family takes: a dict or DataFrame whose columns bear the names of a product's factors, a
    record such as `families.Trials`. `tol` is in nats of all rows together, as in `fit`; `allow_nan` has NaN (-1 among codes)
    missing at random. Fitted: `weights_`, `params_` (of the components), `fit_` (a `jaxem.Fit`), `converged_`, `n_iter_`,
    `lower_bound_` and `lower_bounds_`, means over rows.

    >>> import numpy as np
    >>> from jaxem import families
    >>> from jaxem.sklearn import Mixture
    >>> X = np.random.default_rng(0).poisson([[2.0]] * 200 + [[12.0]] * 200)
    >>> model = Mixture(families.poisson(), n_components=2, random_state=0).fit(X)
    >>> print(np.sort(model.params_.rate.ravel()).round(), np.unique(model.predict(X)).size)
    [ 2. 12.] 2
    """

    _rules: dict[str, Rule] = {  # noqa: RUF012
        "n_components": whole_number(1),
        **OF_SEARCHES,
    }

    _dtypes = "numeric"

    def __init__(
        self,
        family: Family,
        n_components: int = 1,
        *,
        tol: float = 1e-8,
        max_iter: int = 10_000,
        n_init: int = 16,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        allow_nan: bool = False,
    ) -> None:
        self.family = family
        self.n_components = n_components
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.allow_nan = allow_nan

    def _model(self) -> Model:
        return mixture(self.family, self.n_components)

    def _fitted_params(self) -> PyTree:
        return self.fit_.params

    def _checked(self, X: Any, reset: bool) -> PyTree:
        return checked_for(self, X, reset, 2 if reset else 1)

    def _learn(self, model: Model, x: PyTree, weights: np.ndarray | None) -> None:
        self._keep(best_found(self, model, x, weights), x, weights)

    def _keep(self, found: Fit, x: PyTree, weights: np.ndarray | None) -> None:
        """Set the attributes that a fit has found."""
        count = len(rows_of(x)[0]) if weights is None else weights.sum()
        self.fit_ = found
        self.weights_, self.params_ = found.params
        self.converged_, self.n_iter_ = has_converged(found), int(found.num_steps)
        self.lower_bound_, self.lower_bounds_ = float(found.height / count), (found.history / count).tolist()

    def sample(self, n_samples: int = 1) -> tuple[PyTree, np.ndarray]:
        """Return n_samples rows drawn from the mixture, and the component of each."""
        check_is_fitted(self)
        count = at_least_one("n_samples", n_samples)
        with precision_of(self.fit_.params):
            return jax.tree.map(
                np.asarray, require(self._model(), "sample")(seed_of(self.random_state), self.fit_.params, count)
            )


def seed_of(random_state: Any) -> int:
    """Return an int seed drawn from whatever scikit-learn takes for a source of random numbers."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def best_found(estimator: Any, model: Model, x: PyTree, weights: np.ndarray | None = None) -> Fit:
    """Return the best fit from where the last one ended, or from random starts, in NumPy, its history as long as its steps."""
    options: dict[str, Any] = {"tol": estimator.tol, "max_steps": estimator.max_iter}
    if estimator.warm_start and hasattr(estimator, "fit_"):
        found = fit(model, estimator.fit_.params, x, weights, **options)
    else:
        options |= {"num_restarts": estimator.n_init, "progress": bool(estimator.verbose)}
        found = fit_restarts(model, seed_of(estimator.random_state), x, weights, **options).best
    found = jax.tree.map(np.asarray, found)
    return found._replace(history=found.history[: int(found.num_steps) + 1])


def has_converged(found: Fit) -> bool:
    """Tell whether the best of all starts has converged, and warn where it has not."""
    status = Status(int(found.status))
    if status != Status.CONVERGED:
        warnings.warn(f"The best of all starts ended {status.name}: {status.message}", ConvergenceWarning, stacklevel=5)
    return status == Status.CONVERGED


def checked_for(estimator: Any, X: Any, reset: bool, least: int = 1) -> PyTree:
    """Return X checked, as rows that the estimator's family takes: numbers (n, d), a table with names, or a record."""
    check_family(estimator.family)
    if hasattr(X, "_fields") or (isinstance(X, Mapping) and not issparse(X)):  # some sparse matrices are mappings
        return as_arrays(X, "X")
    if is_frame(X) and _reads_names(estimator.family):
        return validate_data(estimator, X, reset=reset, skip_check_array=True)
    return checked_numbers(estimator, X, reset, least)


def _reads_names(family: Family) -> bool:
    """Tell whether a family, or what it is made of, takes its parts by their names."""
    constructor, arguments = family.parts or (None, ())
    if constructor is _product:
        return True
    nested = jax.tree.leaves(arguments, is_leaf=lambda node: isinstance(node, Family))
    return any(isinstance(part, Family) and _reads_names(part) for part in nested)
