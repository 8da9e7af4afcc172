"""Hidden Markov models of any family as an estimator, whose methods take X and lengths as hmmlearn's do."""

from typing import Any, Self

import jax
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from jaxem.arrays import at_least_one
from jaxem.criteria import num_free_parameters
from jaxem.fitting import Fit
from jaxem.forecasting import viterbi
from jaxem.model import Family, Model, PyTree, require
from jaxem.models.hmm import hmm
from jaxem.sequences import Sequences, sequences
from jaxem.sklearn.base import Rule, as_wide_as, check_rules, precision_of, whole_number, with_holes
from jaxem.sklearn.mixture import OF_SEARCHES, best_found, checked_for, has_converged, seed_of
from jaxem.trees import rows_of


class HMM(BaseEstimator):
    """A hidden Markov model of any family, found from `n_init` random starts.

    X: time steps (n_samples, n_features) of all sequences, one after the other, whose `lengths` sum to n_samples, None for one
    sequence; or whatever the family takes, a dict, DataFrame or record, with n_samples rows. `tol` is in nats of all sequences
    together, as in `fit`; `allow_nan` has NaN (-1 among codes) missing at random. Fitted: `startprob_`, `transmat_`, `params_`
    (of the states), `fit_` (a `jaxem.Fit`), `converged_`, `n_iter_`.

    >>> import numpy as np
    >>> from jaxem import families
    >>> from jaxem.sklearn import HMM
    >>> X = np.random.default_rng(0).poisson([[2.0]] * 60 + [[12.0]] * 60 + [[2.0]] * 60)
    >>> model = HMM(families.poisson(), n_states=2, random_state=0).fit(X, lengths=[100, 80])
    >>> print(model.params_.rate.shape, np.flatnonzero(np.diff(model.predict(X, [100, 80]))))
    (2, 1) [ 59 119]
    """

    _rules: dict[str, Rule] = {  # noqa: RUF012
        "n_states": whole_number(1),
        **OF_SEARCHES,
    }
    _dtypes = "numeric"
    fit_: Fit

    def __init__(
        self,
        family: Family,
        n_states: int = 1,
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
        self.n_states = n_states
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.allow_nan = allow_nan

    def _model(self) -> Model:
        return hmm(self.family, self.n_states)

    def _sequences(self, X: Any, lengths: Any, reset: bool = False) -> Sequences:
        """Return X cut into sequences, of which entries may be missing where that is allowed."""
        x = with_holes(checked_for(self, X, reset), self.allow_nan)
        if not reset:
            x = as_wide_as(self.fit_.params, x)
        ends = np.cumsum(_checked_lengths(lengths, len(rows_of(x)[0])))
        return sequences([jax.tree.map(lambda leaf, a=a, b=b: leaf[a:b], x) for a, b in zip([0, *ends], ends, strict=False)])

    def fit(self, X: Any, lengths: Any = None) -> Self:
        """Fit to sequences whose time steps stand one after the other in X."""
        check_rules(self)
        x, model = self._sequences(X, lengths, reset=True), self._model()
        with precision_of(x):
            self.fit_ = best_found(self, model, x)
        self.startprob_, self.transmat_, self.params_ = self.fit_.params
        self.converged_, self.n_iter_ = has_converged(self.fit_), int(self.fit_.num_steps)
        return self

    def _of_sequences(self, ask: Any, X: Any, lengths: Any) -> tuple[Any, Sequences]:
        check_is_fitted(self)
        x = self._sequences(X, lengths)
        with precision_of(x, self.fit_.params):
            return jax.tree.map(np.asarray, ask(self._model(), self.fit_.params, x)), x

    def decode(self, X: Any, lengths: Any = None) -> tuple[float, np.ndarray]:
        """Return log p of all sequences and their most probable paths, in nats, and these paths, (n_samples,)."""
        (paths, log_prob), x = self._of_sequences(viterbi, X, lengths)
        return float(log_prob.sum()), _in_a_row(paths, x)

    def predict(self, X: Any, lengths: Any = None) -> np.ndarray:
        """Return the most probable path of each sequence, (n_samples,)."""
        return self.decode(X, lengths)[1]

    def predict_proba(self, X: Any, lengths: Any = None) -> np.ndarray:
        """Return the probability of each state at each time step given its whole sequence, (n_samples, n_states)."""
        q, x = self._of_sequences(lambda model, *given: require(model, "posterior")(*given), X, lengths)
        return _in_a_row(q.states, x)

    def score(self, X: Any, lengths: Any = None) -> float:
        """Return the log-likelihood of all sequences, in nats; larger is better."""
        return self._height(X, lengths)[0]

    def score_samples(self, X: Any, lengths: Any = None) -> tuple[float, np.ndarray]:
        """Return the log-likelihood of all sequences, and the probability of each state at each time step."""
        return self.score(X, lengths), self.predict_proba(X, lengths)

    def bic(self, X: Any, lengths: Any = None) -> float:
        """Return the Bayesian information criterion, of n_samples observations; smaller is better."""
        height, steps = self._height(X, lengths)
        return self._n_parameters() * float(np.log(steps)) - 2 * height

    def aic(self, X: Any, lengths: Any = None) -> float:
        """Return Akaike's information criterion; smaller is better."""
        return 2 * self._n_parameters() - 2 * self.score(X, lengths)

    def _height(self, X: Any, lengths: Any) -> tuple[float, int]:
        """Return the log-likelihood of all sequences, and how many time steps they have."""
        heights, x = self._of_sequences(lambda model, *given: require(model, "log_prob")(*given), X, lengths)
        return float(heights.sum()), int(np.sum(x.lengths))

    def _n_parameters(self) -> int:
        return num_free_parameters(self._model(), self.fit_.params)

    def sample(self, n_samples: int = 1) -> tuple[PyTree, np.ndarray]:
        """Return the n_samples time steps of one sequence drawn from the model, and the state at each."""
        check_is_fitted(self)
        steps = at_least_one("n_samples", n_samples)
        with precision_of(self.fit_.params):
            drawn, states = require(self._model(), "sample")(seed_of(self.random_state), self.fit_.params, (1, steps))
        return jax.tree.map(lambda leaf: np.asarray(leaf[0]), drawn.values), np.asarray(states[0])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.allow_nan
        return tags


def _checked_lengths(lengths: Any, steps: int) -> np.ndarray:
    """Return lengths as whole numbers that sum to the number of time steps; else raise ValueError."""
    known = np.asarray([steps] if lengths is None else lengths)
    if known.ndim != 1 or known.dtype.kind not in "iu" or not (known > 0).all() or known.sum() != steps:
        raise ValueError(f"lengths must be whole numbers ≥ 1 that sum to the {steps} rows of X, got {lengths!r}.")
    return known


def _in_a_row(values: np.ndarray, x: Sequences) -> np.ndarray:
    """Return what is known of each time step, (n, t, …), as X has them, (n_samples, …)."""
    return values[np.arange(values.shape[1])[None] < np.asarray(x.lengths)[:, None]]
