"""What rows do to a fit, against refits without a little of each; and rows foretold, against loops over folds."""

import numpy as np
import pytest
from scipy.special import gammaln

import jaxem
from jaxem import families

POISSONS = jaxem.mixture(families.poisson(), 2)
DEATHS = tuple(map(np.asarray, jaxem.datasets.london_times_deaths()))


def test_influence_is_what_refits_without_a_little_of_each_row_say():
    x, weights = DEATHS
    start = jaxem.Mixture(np.array([0.4, 0.6]), families.Poisson(np.array([1.0, 3.0])))
    fit = jaxem.polish(POISSONS, jaxem.fit(POISSONS, start, x, weights, max_steps=100), x, weights)
    received = jaxem.influence(POISSONS, fit, x, weights)
    assert received.shape == (10, 4)
    for row in (0, 3, 9):
        ends = []
        for share in (1e-4, -1e-4):
            moved = np.where(np.arange(10) == row, (1 - share) * weights, weights)
            params = jaxem.polish(POISSONS, fit, x, moved).params
            ends.append(np.concatenate([params.weights, params.components.rate]))
        np.testing.assert_allclose(received[row], (ends[0] - ends[1]) / 2e-4, rtol=1e-5, atol=1e-8)


def test_rows_of_weight_zero_do_nothing_and_what_is_held_does_not_change():
    x, weights = np.array([[0.0, 1.0], [0.0, 0.0], [0.0, 1.0]]), np.array([1.0, 1.0, 0.0])
    model = jaxem.single(families.bernoulli())
    received = jaxem.influence(model, jaxem.fit(model, model.init(0, x, weights), x, weights), x, weights)
    np.testing.assert_allclose(received, [[0, -(1 - 0.5) / 2], [0, -(0 - 0.5) / 2], [0, 0]], atol=1e-12)


def test_each_row_is_foretold_by_the_mean_of_the_rows_of_other_folds():
    x = np.random.default_rng(0).poisson(4.0, 23).astype(float)
    weights = np.where(np.arange(23) == 5, 0.0, 1.0 + np.arange(23) % 2)
    received = jaxem.cross_validate(jaxem.single(families.poisson()), 0, x, weights, num_folds=22)
    for row in range(23):
        rest = np.where(np.arange(23) == row, 0, weights)
        rate = (rest * x).sum() / rest.sum()
        expected = (x[row] * np.log(rate) - rate - gammaln(x[row] + 1)) if weights[row] else 0.0
        np.testing.assert_allclose(received[row], expected, rtol=1e-10)


@pytest.mark.thorough
def test_folds_are_of_about_equal_size_and_each_is_searched_anew():
    x = np.concatenate([np.zeros(20), np.full(20, 50.0)])
    one, two = (jaxem.cross_validate(jaxem.mixture(families.poisson(), k), 0, x, num_folds=4) for k in (1, 2))
    assert two.sum() > one.sum() + 100
    levels = np.unique(np.asarray(one[:20]).round(6))  # a row of its fold is foretold by one rate
    assert 1 < len(levels) <= 4


@pytest.mark.thorough
def test_folds_whose_best_fit_has_collapsed_foretell_nothing():
    x = np.repeat([0.0, 5.0], 6)[:, None]
    assert np.isnan(jaxem.cross_validate(jaxem.mixture(families.gaussian(), 2), 0, x, num_folds=3, num_restarts=2)).all()


def test_folds_that_cannot_be_are_refused():
    model, x = jaxem.single(families.poisson()), np.arange(5.0)
    for num_folds in (1, 6):
        with pytest.raises(ValueError, match="num_folds must be at least 2 and at most the 5 rows"):
            jaxem.cross_validate(model, 0, x, num_folds=num_folds)
