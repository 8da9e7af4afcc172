"""A fit in words and columns, and the criterion that charges for overlap, counted by hand."""

import numpy as np
import pytest

import jaxem
from jaxem import families
from jaxem.families import Poisson

X, WEIGHTS = np.array([0.0, 1.0, 2.0, 5.0, 9.0, 12.0]), np.array([3.0, 2.0, 0.0, 1.0, 2.0, 1.0])
MODEL = jaxem.mixture(families.poisson(), 2)


def fitted():
    return jaxem.fit(MODEL, jaxem.Mixture([0.5, 0.5], Poisson([1.0, 9.0])), X, WEIGHTS)


def test_the_classification_likelihood_charges_for_rows_that_could_be_elsewhere():
    fit = fitted()
    rates, shares = np.asarray(fit.params.components.rate), np.asarray(fit.params.weights)
    joint = shares * np.exp(-rates) * rates ** X[:, None]
    most = (joint / joint.sum(1, keepdims=True)).max(1)
    expected = jaxem.bic(MODEL, fit, X, WEIGHTS) - 2 * WEIGHTS @ np.log(most)
    np.testing.assert_allclose(jaxem.icl(MODEL, fit, X, WEIGHTS), expected, rtol=1e-12)


def test_a_summary_sets_components_side_by_side_with_their_errors():
    fit = fitted()
    errors = fit.params._replace(components=Poisson(np.array([0.123, np.nan])))
    text = jaxem.summary(MODEL, fit, X, errors, WEIGHTS)
    lines = text.splitlines()
    (first, second), (light, heavy) = fit.params.components.rate, fit.params.weights
    assert lines[0].startswith("mixture(poisson(), 2): CONVERGED")
    assert lines[1].startswith("MAXIMUM, a local maximum")
    assert lines[2].endswith("3 free parameters, 9 observations")
    assert lines[-1].split() == ["components.rate", f"{first:.2f}", "±", "0.12", f"{second:.5g}"]
    assert lines[-2].split() == ["weights", f"{light:.2f}", "±", f"{light:.2f}", f"{heavy:.2f}", "±", f"{heavy:.2f}"]
    assert jaxem.summary(MODEL, fit, X.tolist(), errors, WEIGHTS.tolist()) == text
    for others in ({"rate": 1.0}, jaxem.Mixture(np.ones(3), Poisson(np.ones(3)))):
        with pytest.raises(ValueError, match="errors must be"):
            jaxem.summary(MODEL, fit, X, others)


def test_a_summary_tells_of_a_fit_whose_parameters_are_all_on_their_bounds():
    model = jaxem.single(families.bernoulli())
    fit = jaxem.fit(model, families.Bernoulli([[0.5]]), np.zeros((3, 1)))
    assert jaxem.certify(model, fit, np.zeros((3, 1))).condition == 1
    assert jaxem.summary(model, fit, np.zeros((3, 1))).splitlines()[1].startswith("BOUNDARY")


@pytest.mark.thorough
def test_what_all_components_have_in_common_stands_below():
    x = jaxem.datasets.faithful()
    model = jaxem.mixture(families.gaussian("tied"), 2)
    lines = jaxem.summary(model, jaxem.fit(model, model.init(0, x), x), x).splitlines()
    assert [line.split()[0] for line in lines[5:9]] == ["parameter", "weights", "components.mean[0]", "components.mean[1]"]
    assert [line.split()[:2] for line in lines[10:12]] == [["of", "all"], ["components.covariance[0,", "0]"]]


def test_parameters_of_components_of_several_kinds_stand_under_their_own_numbers():
    model = jaxem.mixture(families.union((families.exponential(), 1), (families.gamma(), 2)), 3)
    x = np.random.default_rng(0).gamma(3.0, 1.0, 60)
    start = jaxem.Mixture([0.4, 0.3, 0.3], (families.Exponential([1.0]), families.Gamma([3.0, 9.0], [1.0, 2.0])))
    lines = jaxem.summary(model, jaxem.fit(model, start, x, max_steps=1), x).splitlines()
    columns = {line.split()[0]: line for line in lines if line.startswith(("parameter", "components", "weights"))}
    second = columns["parameter"].index("2")
    for name, line in columns.items():
        if name.startswith("components.1"):
            assert not line[len(name) : columns["parameter"].index("1") + 1].strip(), line
    assert any(name.startswith("components.1") for name in columns) and second > 0


def test_a_fit_that_is_not_finite_is_summed_up_in_its_status():
    model = jaxem.mixture(families.poisson(), 2)
    fit = jaxem.fit(model, jaxem.Mixture([0.5, 0.5], families.Poisson([1.0, 3.0])), [1.0, 2.0, 5.0])
    text = jaxem.summary(model, fit._replace(status=np.int32(jaxem.Status.NONFINITE)), [1.0, 2.0, 5.0])
    assert "NONFINITE" in text and len(text.splitlines()) == 1
