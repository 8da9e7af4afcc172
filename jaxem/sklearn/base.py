"""What all estimators have in common: the door to their data, and what is said of rows once a model is fitted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxem.boundary import check_weights
from jaxem.criteria import num_free_parameters, num_observations
from jaxem.families.observed import observed
from jaxem.model import Model, PyTree, require
from jaxem.trees import rows_of

Rule = tuple[Callable[[Any], Any], str]


def whole_number(least: int) -> Rule:
    """Return the rule of a parameter that must be a whole number of at least so much."""
    return lambda x: isinstance(x, (int, np.integer)) and not isinstance(x, bool) and x >= least, f"a whole number ≥ {least}"


def number(least: float) -> Rule:
    """Return the rule of a parameter that must be a number of at least so much."""
    return lambda x: np.ndim(x) == 0 and np.asarray(x).dtype.kind in "iuf" and x >= least, f"a number ≥ {least:g}"


def one_of(*values: Any) -> Rule:
    """Return the rule of a parameter that must be one of some values."""
    return lambda x: isinstance(x, (str, bool, np.bool_)) and x in values, f"one of {', '.join(map(repr, values))}"


@contextmanager
def precision_of(*trees: PyTree) -> Iterator[None]:
    """Have JAX compute in float64 meanwhile, unless all floats that it is given, some at least, are narrower."""
    dtypes = [np.dtype(getattr(leaf, "dtype", type(leaf))) for leaf in jax.tree.leaves(trees)]
    floats = [dtype for dtype in dtypes if dtype.kind == "f"]
    if floats and all(dtype.itemsize < 8 for dtype in floats):
        yield
    else:
        with jax.enable_x64(True):
            yield


def check_rules(estimator: Any) -> None:
    """Raise ValueError for a parameter that breaks the rule that the estimator has for it."""
    for name, (holds, needs) in estimator._rules.items():
        if not holds(getattr(estimator, name)):
            raise ValueError(f"{name} must be {needs}, got {getattr(estimator, name)!r}.")


def checked_numbers(estimator: Any, X: Any, reset: bool, least: int = 1) -> Any:
    """Return X checked, as numbers (n, d), of which NaN are let pass where the estimator allows that."""
    finite = "allow-nan" if estimator.allow_nan else True
    return validate_data(estimator, X, reset=reset, dtype=estimator._dtypes, ensure_all_finite=finite, ensure_min_samples=least)


def with_holes(x: PyTree, allow_nan: bool) -> PyTree:
    """Return rows, as some of which is missing where that is allowed and any is."""
    return observed(x) if allow_nan and _has_holes(x) else x


class Estimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator):
    """A mixture that is fitted to rows X (n, d): who inherits says which, and how it is learnt."""

    _rules: dict[str, Rule]
    _dtypes: Any = (np.float64, np.float32)

    def _model(self) -> Model:
        raise NotImplementedError

    def _fitted_params(self) -> PyTree:
        raise NotImplementedError

    def _learn(self, model: Model, x: PyTree, weights: np.ndarray | None) -> None:
        raise NotImplementedError

    def _checked(self, X: Any, reset: bool) -> PyTree:
        """Return X checked, as numbers (n, d); `reset` where they are learnt from."""
        return checked_numbers(self, X, reset, 2 if reset else 1)

    def _rows(self, X: Any, reset: bool) -> PyTree:
        """Return X checked, as rows that a model takes."""
        return with_holes(self._checked(X, reset), self.allow_nan)

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit to rows X (n, d), of which each counts as often as its `sample_weight` (n,) says."""
        check_rules(self)
        x = self._rows(X, reset=True)
        weights = None if sample_weight is None else np.asarray(check_weights(sample_weight, len(rows_of(x)[0])))
        present = len(rows_of(x)[0]) if weights is None else np.count_nonzero(weights)
        if present < self.n_components:
            raise ValueError(
                f"Expected n_samples >= n_components but got n_components = {self.n_components}, n_samples = {present}"
            )
        with precision_of(x):
            self._learn(self._model(), x, weights)
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Fit to X, and return the component that each row most probably belongs to, (n,)."""
        return self.fit(X, y, sample_weight).predict(X)

    def _of_rows(self, capability: str, X: Any) -> np.ndarray:
        check_is_fitted(self)
        params = self._fitted_params()
        x = as_wide_as(params, self._rows(X, reset=False))
        with precision_of(x, params):
            return np.asarray(require(self._model(), capability)(params, x))

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the log-density of each row, (n,), in nats."""
        return self._of_rows("log_prob", X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the mean log-density of the rows, in nats; larger is better."""
        return float(np.average(self.score_samples(X), weights=sample_weight))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability that each row belongs to each component, (n, n_components)."""
        return self._of_rows("posterior", X)

    def predict(self, X: Any) -> np.ndarray:
        """Return the component that each row most probably belongs to, (n,)."""
        return self.predict_proba(X).argmax(axis=1)

    def transform(self, X: Any) -> np.ndarray:
        """Return `predict_proba(X)` as features, whose names `get_feature_names_out` tells."""
        return self.predict_proba(X)

    def bic(self, X: Any, sample_weight: Any = None) -> float:
        """Return the Bayesian information criterion on X; smaller is better."""
        return self._criterion(X, sample_weight, np.log)

    def aic(self, X: Any, sample_weight: Any = None) -> float:
        """Return Akaike's information criterion on X; smaller is better."""
        return self._criterion(X, sample_weight, lambda count: 2.0)

    def _criterion(self, X: Any, weights: Any, cost: Callable[[float], float]) -> float:
        heights, x = self.score_samples(X), self._rows(X, reset=False)
        with precision_of(x):
            count = num_observations(self._model(), x, weights)
        return self._n_parameters() * float(cost(count)) - 2 * float(heights.sum() if weights is None else heights @ weights)

    def _n_parameters(self) -> int:
        return num_free_parameters(self._model(), self._fitted_params())

    @property
    def _n_features_out(self) -> int:
        return self.n_components

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.allow_nan
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _has_holes(x: PyTree) -> bool:
    """Tell whether anything may be missing of rows: all that are no plain numbers, or NaN are among them."""
    return not isinstance(x, np.ndarray) or x.dtype.kind != "f" or bool(np.isnan(x).any())


def as_wide_as(params: PyTree, x: PyTree) -> PyTree:
    """Return rows with floats at least as wide as those of params, which would else be narrowed to theirs."""
    wide = np.result_type(np.float32, *(leaf for leaf in jax.tree.leaves(params) if leaf.dtype.kind == "f"))

    def widened(leaf: Any) -> Any:
        is_float = getattr(getattr(leaf, "dtype", None), "kind", None) == "f"
        return np.asarray(leaf, np.result_type(leaf.dtype, wide)) if is_float else leaf

    return jax.tree.map(widened, x)
