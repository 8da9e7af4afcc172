"""The estimators: scikit-learn's numbers from scikit-learn's parameters, and what goes beyond them.

All of its own checks and tests are run by `python -m benchmarks.scikit_learn`.
"""

import itertools
import pickle
import warnings

import jax
import numpy as np
import pandas
import pytest
import scipy.stats
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Theirs
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxem import families
from jaxem.sklearn import HMM, GaussianMixture, Mixture

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(64, 2)) + np.array([[3.0, 0.0]]) * (np.arange(64) % 2)[:, None]
MEANS = np.array([[0.0, 0.0], [3.0, 0.0]])
ATTRIBUTES = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_", "lower_bounds_")
OF_ROWS = ("predict", "predict_proba", "score_samples", "score", "bic", "aic")


@pytest.mark.parametrize("form", ["full", "tied", "diag", "spherical"])
def test_the_numbers_are_those_of_scikit_learn(form):
    given = {"covariance_type": form, "tol": 1e-5, "random_state": 3, "reg_covar": 1e-3}
    expected, received = Theirs(2, **given).fit(X), GaussianMixture(2, **given).fit(X)
    for name in ATTRIBUTES:
        np.testing.assert_allclose(getattr(received, name), getattr(expected, name), rtol=1e-8, atol=1e-10, err_msg=name)
    for name in OF_ROWS:
        np.testing.assert_allclose(getattr(received, name)(X), getattr(expected, name)(X), rtol=1e-8, atol=1e-10, err_msg=name)
    assert (received.n_iter_, received.converged_) == (expected.n_iter_, expected.converged_)
    assert received.lower_bound_ == pytest.approx(expected.lower_bound_, rel=1e-12)
    for mine, theirs in zip(received.sample(9), expected.sample(9), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-8)


@pytest.mark.parametrize("kind", ["random", "random_from_data", "k-means++"])
def test_starts_are_those_of_scikit_learn(kind):
    given = {"init_params": kind, "max_iter": 0, "random_state": 0}
    expected, received = Theirs(2, **given).fit(X), GaussianMixture(2, **given).fit(X)
    np.testing.assert_allclose(received.means_, expected.means_, rtol=1e-8)
    np.testing.assert_allclose(received.weights_, expected.weights_ / expected.weights_.sum(), rtol=1e-8)
    assert (received.n_iter_, received.converged_) == (0, False)


def test_a_component_that_starts_on_one_row_is_as_wide_as_what_is_added_in_float32_too():
    given = {"init_params": "random_from_data", "max_iter": 0, "random_state": 0, "reg_covar": 1e-6}
    received = GaussianMixture(2, **given).fit((X + 50).astype("float32"))
    np.testing.assert_allclose(received.covariances_, 1e-6 * np.array([np.eye(2)] * 2), atol=1e-9)


def test_float64_is_fitted_in_float64_whatever_jax_is_set_to():
    expected = Theirs(2, random_state=0).fit(X)
    with jax.enable_x64(False):
        received = GaussianMixture(2, random_state=0).fit(X)
        np.testing.assert_allclose(received.means_, expected.means_, rtol=1e-10)
        np.testing.assert_allclose(received.score_samples(X), expected.score_samples(X), rtol=1e-10)
        half = GaussianMixture(2, random_state=0).fit(X.astype("float32"))
    assert {getattr(half, name).dtype.name for name in ATTRIBUTES[:5]} == {"float32"}
    assert half.predict_proba(X.astype("float32")).dtype == np.float32
    np.testing.assert_allclose(half.means_, expected.means_, rtol=1e-4)


def test_a_weight_is_so_many_rows_and_zero_none():
    weights = np.arange(64) % 3
    given = {"means_init": MEANS, "weights_init": [0.5, 0.5], "precisions_init": np.array([np.eye(2)] * 2)}
    expected = Theirs(2, **given).fit(np.repeat(X, weights, axis=0))
    received = GaussianMixture(2, **given).fit(np.where(weights[:, None] > 0, X, 1e6), sample_weight=weights)
    np.testing.assert_allclose(received.means_, expected.means_, rtol=1e-8)
    np.testing.assert_allclose(received.covariances_, expected.covariances_, rtol=1e-8)
    repeated = np.repeat(X, weights, axis=0)
    for name in ("score", "bic", "aic"):
        np.testing.assert_allclose(
            getattr(received, name)(X, sample_weight=weights), getattr(expected, name)(repeated), rtol=1e-8
        )


@pytest.mark.thorough
def test_nan_is_missing_where_it_may_be_and_refused_elsewhere():
    holes = X.copy()
    holes[::5, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        GaussianMixture(2).fit(holes)
    with pytest.raises(ValueError, match=r"columns \[1\] have no observed value in rows of positive weight"):
        GaussianMixture(2, allow_nan=True).fit(holes, sample_weight=np.arange(64) % 5 == 0)
    model = GaussianMixture(2, allow_nan=True, tol=1e-6, random_state=0).fit(holes)
    expected = sum(
        w * scipy.stats.norm.pdf(holes[0, 0], m[0], c[0, 0] ** 0.5)
        for w, m, c in zip(model.weights_, model.means_, model.covariances_, strict=True)
    )
    assert model.score_samples(holes)[0] == pytest.approx(np.log(expected), rel=1e-10)
    np.testing.assert_allclose(model.predict_proba(holes).mean(0), model.weights_, atol=1e-3)


def test_a_warm_start_goes_on_where_the_last_fit_ended():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        expected = GaussianMixture(2, max_iter=2, tol=1e-9, random_state=0).fit(X)
        received = GaussianMixture(2, max_iter=1, tol=1e-9, random_state=0, warm_start=True).fit(X).fit(X)
    np.testing.assert_allclose(received.means_, expected.means_, rtol=1e-12)
    assert received.lower_bound_ == pytest.approx(expected.lower_bound_, rel=1e-12)


def test_it_goes_through_clone_pickle_pipelines_grids_and_frames():
    frame = pandas.DataFrame(X, columns=["length", "width"])
    model = GaussianMixture(2, random_state=0).set_output(transform="pandas")
    assert clone(model).get_params() == model.get_params()
    pipeline = make_pipeline(StandardScaler(), model).fit(frame)
    shares = pipeline.transform(frame)
    assert list(shares.columns) == ["gaussianmixture0", "gaussianmixture1"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(pipeline)).predict(frame), np.asarray(shares).argmax(1))
    assert list(model.fit(frame).feature_names_in_) == ["length", "width"]
    grid = GridSearchCV(GaussianMixture(random_state=0), {"n_components": [1, 2]}, cv=2).fit(X)
    expected = GridSearchCV(Theirs(random_state=0), {"n_components": [1, 2]}, cv=2).fit(X)
    np.testing.assert_allclose(grid.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"], rtol=1e-8)


def test_attributes_set_by_hand_are_what_rows_are_told_by():
    model = GaussianMixture(2)
    model.weights_, model.means_, model.precisions_cholesky_ = np.array([0.5, 0.5]), MEANS, np.array([np.eye(2)] * 2)
    expected = [scipy.stats.multivariate_normal.pdf(X, mean, np.eye(2)) for mean in MEANS]
    np.testing.assert_allclose(model.score_samples(X), np.log(np.mean(expected, axis=0)), rtol=1e-8)


def test_a_collapse_is_refused_at_the_start_and_told_where_a_floor_holds_it():
    with pytest.raises(ValueError, match="ill-defined empirical covariance"):
        GaussianMixture(2, reg_covar=0, init_params="random_from_data").fit(X)
    sharp = {"means_init": np.array([[0.0, 0.0], X[1]]), "precisions_init": np.array([np.eye(2), 1e6 * np.eye(2)])}
    with pytest.warns(ConvergenceWarning, match="floor under its variances"):
        model = GaussianMixture(2, reg_covar=0, weights_init=[0.9, 0.1], **sharp).fit(X)
    assert not model.converged_ and np.isfinite(model.score(X))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"covariance_type": "VVV"}, "covariance_type must be one of 'full', 'tied', 'diag', 'spherical', got 'VVV'"),
        ({"n_components": 0}, "n_components must be a whole number ≥ 1, got 0"),
        ({"tol": -1.0}, r"tol must be a number ≥ 0, got -1\.0"),
        ({"init_params": None}, "init_params must be one of 'kmeans'"),
        ({"n_components": 65}, "Expected n_samples >= n_components but got n_components = 65, n_samples = 64"),
        ({"means_init": [[1.0, 2.0]], "n_components": 2}, r"'means' should have the shape of \(2, 2\), but got \(1, 2\)"),
    ],
)
def test_parameters_that_make_no_sense_are_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(**given).fit(X)


def test_verbose_prints_how_each_start_went(capsys):
    GaussianMixture(2, random_state=0, verbose=2, verbose_interval=2, n_init=2).fit(X)
    printed = capsys.readouterr().out
    assert "Initialization 1" in printed and "Iteration 2\t mean log-likelihood change" in printed and "converged" in printed


COUNTS = RANDOM.poisson(np.where(np.arange(64) % 2, 2.0, 15.0))[:, None]


@pytest.mark.thorough
def test_a_mixture_of_any_family_is_that_of_fit_restarts():
    model = Mixture(families.poisson(), 2, n_init=4, random_state=0).fit(COUNTS)
    rates, weights = model.params_.rate[:, 0], model.weights_
    by_hand = weights * scipy.stats.poisson.pmf(COUNTS, rates)
    np.testing.assert_allclose(model.score_samples(COUNTS), np.log(by_hand.sum(1)), rtol=1e-8)
    np.testing.assert_allclose(model.predict_proba(COUNTS), by_hand / by_hand.sum(1, keepdims=True), rtol=1e-8)
    np.testing.assert_allclose(rates, (model.predict_proba(COUNTS) * COUNTS).sum(0) / (64 * weights), rtol=1e-4)
    assert model.score(COUNTS) == pytest.approx(model.lower_bound_, rel=1e-10)
    assert model.bic(COUNTS) == pytest.approx(3 * np.log(64) - 2 * 64 * model.lower_bound_, rel=1e-10)
    assert (model.converged_, model.n_features_in_) == (True, 1)
    rows, labels = pickle.loads(pickle.dumps(clone(model).fit(COUNTS))).sample(5)
    assert rows.shape == (5, 1) and set(labels) <= {0, 1}


@pytest.mark.thorough
def test_parts_by_name_may_be_columns_of_a_frame():
    family = families.product(size=families.gaussian("diag"), count=families.poisson())
    frame = pandas.DataFrame({"size": X[:, 0], "count": COUNTS[:, 0]})
    model = Mixture(family, 2, n_init=2, random_state=0).fit(frame)
    parts = {"size": X[:, 0], "count": COUNTS[:, 0].tolist()}
    np.testing.assert_allclose(model.score_samples(parts), model.score_samples(frame), rtol=1e-12)
    assert list(model.feature_names_in_) == ["size", "count"] and set(model.params_) == {"size", "count"}


LENGTHS = [40, 24]
STEPS = RANDOM.poisson(np.where(np.arange(64) // 13 % 2, 2.0, 15.0))[:, None]


def paths_weighed(model, counts):
    """Return log p(x, z) of all paths of a short sequence, by products along each, and the paths."""
    density = scipy.stats.poisson.logpmf(counts, model.params_.rate[:, 0])
    paths = np.array(list(itertools.product(range(2), repeat=len(counts))))
    with np.errstate(divide="ignore"):
        start, move = np.log(model.startprob_), np.log(model.transmat_)
    steps = density[np.arange(len(counts)), paths].sum(1) + move[paths[:, :-1], paths[:, 1:]].sum(1)
    return start[paths[:, 0]] + steps, paths


@pytest.mark.thorough
def test_a_hidden_markov_model_takes_x_and_lengths():
    model = HMM(families.poisson(), n_states=2, n_init=4, random_state=0).fit(STEPS, LENGTHS)
    assert model.converged_ and model.score(STEPS, LENGTHS) == pytest.approx(float(model.fit_.log_likelihood), rel=1e-9)
    short, lengths = STEPS[8:18], [4, 6]
    found = [paths_weighed(model, part) for part in (short[:4], short[4:])]
    assert model.score(short, lengths) == pytest.approx(sum(np.logaddexp.reduce(heights) for heights, _ in found), rel=1e-9)
    best, path = model.decode(short, lengths)
    assert best == pytest.approx(sum(heights.max() for heights, _ in found), rel=1e-9)
    np.testing.assert_array_equal(path, np.concatenate([paths[heights.argmax()] for heights, paths in found]))
    chances = [np.exp(heights - np.logaddexp.reduce(heights)) @ paths for heights, paths in found]
    np.testing.assert_allclose(model.predict_proba(short, lengths)[:, 1], np.concatenate(chances), rtol=1e-7, atol=1e-12)
    assert model.bic(STEPS, LENGTHS) == pytest.approx(5 * np.log(64) - 2 * model.score(STEPS, LENGTHS), rel=1e-9)
    rows, states = pickle.loads(pickle.dumps(model)).sample(7)
    assert rows.shape == (7, 1) and states.shape == (7,) and set(states) <= {0, 1}


@pytest.mark.parametrize("lengths", [[40, 23], [64, 0], [40.0, 24.0], 64])
def test_lengths_that_do_not_cut_x_up_are_refused(lengths):
    with pytest.raises(ValueError, match=r"lengths must be whole numbers ≥ 1 that sum to the 64 rows of X"):
        HMM(families.poisson(), 2).fit(STEPS, lengths)
