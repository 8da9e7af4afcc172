"""Choice among models: criteria against mclust and closed forms, and what may not win."""

import math

import numpy as np
import pytest

import jaxem
from jaxem import families

X, WEIGHTS = np.array([0.0, 1.0, 2.0, 5.0, 9.0, 12.0]), np.array([3.0, 2.0, 1.0, 1.0, 2.0, 1.0])
SINGLE = jaxem.single(families.poisson())


def poisson_log_prob(x, rate):
    return x * np.log(rate) - rate - np.array([math.lgamma(one + 1) for one in x])


@pytest.mark.thorough
def test_a_grid_of_mixtures_has_the_criteria_of_mclust_and_prints_them_by_form_and_number(reference):
    forms = {form: families.gaussian(form) for form in ("EII", "VVI")}
    done = []
    found = jaxem.select(jaxem.mixtures(forms, (2, 1)), 0, jaxem.datasets.iris(), num_restarts=4, on_progress=done.append)
    assert [(row["name"], row["num_components"]) for row in found.table] == [("EII", 2), ("EII", 1), ("VVI", 2), ("VVI", 1)]
    for row in (found.table[0], found.table[2]):
        expected = reference(f"mclust_iris_{row['name']}_2")["expected"]
        np.testing.assert_allclose(row["log_likelihood"], expected["loglik"], rtol=1e-8)
        np.testing.assert_allclose(row["bic"], expected["bic"], rtol=1e-8)
        assert row["num_free_parameters"] == expected["n_params"] and row["status"] == "CONVERGED"
    assert (found.best.name, found.best.num_components, done) == ("VVI", 2, [2, 4])
    assert found.best.model == jaxem.mixture(forms["VVI"], 2) and found.best.fit.params.weights.shape == (2,)
    lines = [line.split() for line in str(found).splitlines()]
    assert lines[1] == ["components", "2", "1"]
    assert lines[3] == ["VVI", f"*{found.table[2]['bic']:.2f}", f"{found.table[3]['bic']:.2f}"]


def test_what_failed_or_is_degenerate_stays_in_the_table_and_never_wins():
    held = SINGLE._replace(degenerate=lambda params, stats: params.rate[0] > 0)
    candidates = {"too many": jaxem.mixture(families.poisson(), 7), "held": held, "one": SINGLE}
    found = jaxem.select(candidates, 0, X, WEIGHTS, criterion="aicc", num_restarts=1)
    expected = 2 - 2 * WEIGHTS @ poisson_log_prob(X, WEIGHTS @ X / 10) + 4 / (10 - 2)
    assert [row["status"] for row in found.table] == ["FAILED", "DEGENERATE", "CONVERGED"]
    assert "lower num_components" in found.table[0]["message"] and found.best.name == "one"
    np.testing.assert_allclose([row["aicc"] for row in found.table], [np.nan, expected, expected], rtol=1e-10)
    lines = [line.split() for line in str(found).splitlines()]
    assert lines[1:4] == [["too", "many", "-"], ["held", f"({expected:.2f})"], ["one", f"*{expected:.2f}"]]
    assert jaxem.select({"held": held}, 0, X, num_restarts=1).best is None
    with pytest.raises(ValueError, match=r"none of the candidates.*too many: data has 6 rows"):
        jaxem.select({"too many": candidates["too many"]}, 0, X)


@pytest.mark.thorough
def test_rows_left_out_one_at_a_time_judge_a_rate_by_the_others():
    """A Gamma(a, b) prior has the mode (a - 1 + Σ w x) / (b + Σ w); here it draws the rate from 4 to 2."""
    others, counts = WEIGHTS @ X - WEIGHTS * X, 10 - WEIGHTS
    expected = [WEIGHTS @ poisson_log_prob(X, rate) for rate in ((others + 19) / (counts + 20), others / counts)]
    candidates = {"prior": jaxem.single(families.poisson(families.GammaPrior(20.0, 20.0))), "none": SINGLE}
    found = jaxem.select(candidates, 0, X, WEIGHTS, criterion="cv", num_folds=6, num_restarts=1)
    np.testing.assert_allclose([row["cv"] for row in found.table], expected, rtol=1e-8)
    assert expected[1] > expected[0] and found.best.name == "none"


def test_a_family_that_cannot_be_searched_at_once_is_searched_number_by_number():
    candidates = jaxem.mixtures({"prior": families.poisson(families.GammaPrior(2.0, 1.0))}, (1, 7))
    one, seven = jaxem.select(candidates, 0, X, num_restarts=1).table
    rate = (X.sum() + 2 - 1) / (6 + 1)
    np.testing.assert_allclose(one["log_likelihood"], poisson_log_prob(X, rate).sum(), rtol=1e-10)
    assert seven["status"] == "FAILED" and math.isnan(seven["bic"])


@pytest.mark.parametrize(
    ("candidates", "more", "message"),
    [
        ({}, {}, "candidates must be a dict of at least one Model"),
        ({"a": families.poisson()}, {}, r"model must be a Model, got Family: jaxem\.mixture"),
        ({"a": SINGLE}, {"criterion": "BIC"}, "criterion must be one of bic, aic, aicc, icl, cv, got 'BIC'"),
        ({"a": SINGLE}, {"num_restarts": 0}, "num_restarts must be at least 1"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(candidates, more, message):
    with pytest.raises(ValueError, match=message):
        jaxem.select(candidates, 0, X, **more)


@pytest.mark.parametrize(
    ("given", "counts", "message"),
    [
        ({}, (1,), "families must be a dict of at least one"),
        ({"a": SINGLE}, (1,), r"families\['a'\] must be a Family"),
        ({"a": families.poisson()}, (1, 1), "num_components must be different numbers"),
        ({"a": families.poisson()}, (0,), "num_components must be at least 1"),
    ],
)
def test_what_makes_no_mixtures_is_refused(given, counts, message):
    with pytest.raises(ValueError, match=message):
        jaxem.mixtures(given, counts)
