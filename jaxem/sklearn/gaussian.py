"""Gaussian mixtures with scikit-learn's parameters, attributes, starts and stopping rule."""

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from jaxem.arrays import at_least_one
from jaxem.blocks import by_default_in_blocks
from jaxem.boundary import ready
from jaxem.buckets import pad
from jaxem.families import Gaussian, Observed, gaussian
from jaxem.families.observed import check_columns
from jaxem.model import Model, PyTree
from jaxem.models.mixture import Mixture, mixture
from jaxem.sklearn.base import Estimator, Rule, number, one_of, whole_number
from jaxem.sklearn.climb import Climb, begun, climbed, widened_alone
from jaxem.sklearn.precisions import (
    FORMS,
    cholesky_of_precisions,
    covariances_of,
    given_means,
    given_precisions,
    given_weights,
    squared,
)
from jaxem.sklearn.starts import INIT_PARAMS, filled, responsibilities
from jaxem.starts import from_responsibilities

NOT_CONVERGED = (
    "Best performing initialization did not converge. Try different init parameters, or increase max_iter, tol, or check for "
    "degenerate data."
)
HELD = (
    "Best performing initialization did not converge: a component shrank onto a few points until a floor under its variances, "
    "1e-10 of the data's (1e-6 in float32), held it. Increase reg_covar, or decrease the number of components."
)


class Rows(NamedTuple):
    """Rows to learn from, as they were given and as the model has them, padded with their weights."""

    given: PyTree
    weights: np.ndarray | None
    data: PyTree
    padded_weights: jax.Array


class GaussianMixture(Estimator):
    """A Gaussian mixture in the place of scikit-learn's: the same parameters, attributes, starts, steps and end.

    From the same random_state it comes to the same numbers, but for rounding. Beyond that: `fit` takes `sample_weight`, weights
    of zero are absent rows; `allow_nan` has NaN missing at random, which EM integrates out; `transform` gives
    responsibilities; rows in float64 are fitted in float64, whatever JAX is set to.

    >>> import numpy as np
    >>> from jaxem.sklearn import GaussianMixture
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> model = GaussianMixture(n_components=2, random_state=0).fit(X)
    >>> print(np.sort(model.means_[:, 0]), model.predict([[0, 0], [12, 3]]) == model.predict([[1, 2], [10, 2]]))
    [ 1. 10.] [ True  True]
    """

    _rules: dict[str, Rule] = {  # noqa: RUF012
        "n_components": whole_number(1),
        "covariance_type": one_of(*FORMS),
        "tol": number(0),
        "reg_covar": number(0),
        "max_iter": whole_number(0),
        "n_init": whole_number(1),
        "init_params": one_of(*INIT_PARAMS),
        "warm_start": one_of(True, False),
        "allow_nan": one_of(True, False),
        "verbose_interval": whole_number(1),
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        allow_nan: bool = False,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.allow_nan = allow_nan

    def _model(self, variance_floor: float | None = 0) -> Model:
        return mixture(gaussian(self.covariance_type, variance_floor), self.n_components)

    def _fitted_params(self) -> Mixture:
        form, covariances = self.covariance_type, getattr(self, "covariances_", None)
        spread = covariances_of(form, self.precisions_cholesky_) if covariances is None else covariances
        return Mixture(self.weights_, Gaussian(self.means_, spread))

    def _learn(self, model: Model, x: PyTree, weights: np.ndarray | None) -> None:
        given = self._given(x)
        rows = _ready(model, x, weights)
        random = check_random_state(self.random_state)
        goes_on = self.warm_start and hasattr(self, "converged_")
        runs = []
        for turn in range(1 if goes_on else self.n_init):
            start = self._fitted_params() if goes_on else self._start(model, rows, given, random)
            runs.append(self._climb(rows, start, self.lower_bound_ if goes_on else -np.inf))
            self._tell(turn, runs[-1])
        self._keep(max(runs, key=lambda run: -np.inf if np.isnan(run.bound) else run.bound))

    def _given(self, x: PyTree) -> tuple[Any, Any, Any]:
        """Return what was given to start from, checked: weights, means and covariances, None where nothing was."""
        rows = x.values if isinstance(x, Observed) else x
        k, dim, form = self.n_components, rows.shape[1], self.covariance_type
        given = (
            given_weights(self.weights_init, k),
            given_means(self.means_init, k, dim),
            given_precisions(self.precisions_init, form, k, dim),
        )
        return tuple(None if one is None else np.asarray(one, rows.dtype) for one in given)  # type: ignore[return-value]

    def _start(self, model: Model, rows: Rows, given: tuple[Any, Any, Any], random: np.random.RandomState) -> Mixture:
        """Return params to start from: given ones, and what drawn responsibilities imply of the others."""
        weights, means, covariances = given
        if any(one is None for one in given):
            drawn = self._drawn(model, rows, random)
            cholesky_of_precisions(self.covariance_type, np.asarray(drawn.components.covariance))  # refuses what has none
            weights = drawn.weights if weights is None else weights
            means = drawn.components.mean if means is None else means
            covariances = drawn.components.covariance if covariances is None else covariances
        return Mixture(weights, Gaussian(means, covariances))

    def _drawn(self, model: Model, rows: Rows, random: np.random.RandomState) -> Mixture:
        x = filled(rows.given.values, rows.weights) if isinstance(rows.given, Observed) else rows.given
        shares = responsibilities(self.init_params, x, rows.weights, self.n_components, random)
        reg_covar = np.asarray(self.reg_covar, x.dtype)
        if isinstance(rows.given, Observed):
            start = from_responsibilities(model, rows.given, shares, rows.weights)
            return widened_alone(self.covariance_type, start, reg_covar)
        shares = pad(shares)[0]
        about = _about(x, rows.weights, self.n_components, self.covariance_type)
        return begun(model, self.covariance_type, about, rows.data, rows.padded_weights, shares, reg_covar)

    def _climb(self, rows: Rows, start: Mixture, bound: float) -> Climb:
        size = 1 << (max(self.max_iter, 1) - 1).bit_length()
        numbers = (np.asarray(value, rows.padded_weights.dtype) for value in (bound, self.reg_covar, self.tol))
        model = self._model(variance_floor=0 if self.reg_covar > 0 else None)
        run = climbed(
            by_default_in_blocks(model, rows.data),
            self.covariance_type,
            size,
            start,
            rows.data,
            rows.padded_weights,
            *numbers,
            np.int32(self.max_iter),
        )
        return jax.tree.map(np.asarray, run)

    def _keep(self, run: Climb) -> None:
        """Set the attributes that a run has found."""
        self.weights_, (self.means_, self.covariances_) = run.params
        self.precisions_cholesky_ = cholesky_of_precisions(self.covariance_type, self.covariances_)
        self.precisions_ = squared(self.covariance_type, self.precisions_cholesky_)
        self.converged_, self.n_iter_ = bool(run.converged), int(run.num_steps)
        self.lower_bound_, self.lower_bounds_ = float(run.bound), run.bounds[: self.n_iter_].tolist()
        if not self.converged_ and self.max_iter > 0:
            warnings.warn(HELD if run.held else NOT_CONVERGED, ConvergenceWarning, stacklevel=4)

    def _tell(self, turn: int, run: Climb) -> None:
        """Print how a run went, as it is told by `verbose`."""
        if not self.verbose:
            return
        print(f"Initialization {turn}")
        for step in range(self.verbose_interval, int(run.num_steps) + 1, self.verbose_interval):
            change = run.bounds[step - 1] - run.bounds[step - 2] if step > 1 else np.inf
            print(f"  Iteration {step}" + (f"\t mean log-likelihood change {change:.5f}" if self.verbose > 1 else ""))
        ended = "converged" if run.converged else "did not converge"
        print(f"Initialization {ended}." + (f"\t mean log-likelihood {run.bound:.5f}" if self.verbose > 1 else ""))

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return n_samples rows drawn from the mixture, component by component, and the component of each."""
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"Invalid value for 'n_samples': {n_samples}. The sampling requires at least one sample.")
        random = check_random_state(self.random_state)
        counts = random.multinomial(at_least_one("n_samples", n_samples), self.weights_ / self.weights_.sum())
        drawn = [self._draws(random, component, count) for component, count in enumerate(counts)]
        return np.vstack(drawn), np.repeat(np.arange(self.n_components), counts)

    def _draws(self, random: np.random.RandomState, component: int, count: int) -> np.ndarray:
        mean, covariance = self.means_[component], self._fitted_params().components.covariance
        if self.covariance_type in ("full", "tied"):
            return random.multivariate_normal(mean, covariance if covariance.ndim == 2 else covariance[component], count)
        return mean + random.standard_normal(size=(count, mean.size)) * np.sqrt(covariance[component])


def _ready(model: Model, x: PyTree, weights: np.ndarray | None) -> Rows:
    leaves = jax.tree.leaves(x)
    counted = np.ones(len(leaves[0])) if weights is None else weights
    if isinstance(x, Observed):
        check_columns(x.mask, jnp.asarray(counted))
    padded, padded_weights = pad(x, counted)
    data = ready(model.prepare, padded)
    return Rows(x, weights, data, jnp.asarray(padded_weights, leaves[0].dtype))


def _about(x: np.ndarray, weights: np.ndarray | None, num_components: int, form: str) -> Mixture:
    """Return params amid rows, about which statistics are taken."""
    mean = np.tile(np.average(x, axis=0, weights=weights).astype(x.dtype), (num_components, 1))
    return Mixture(
        np.full(num_components, 1 / num_components, x.dtype),
        Gaussian(mean, FORMS[form](num_components, x.shape[1]).astype(x.dtype)),
    )
