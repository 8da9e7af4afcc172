"""Standard errors against published ones, formulas in closed form, finite differences, and one another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import DATA
from models import linkage
from scipy.special import gammaln

import jaxem
from jaxem import families
from jaxem.families import Gated, LinearRegression, Poisson, Regression, SoftmaxRegression

CELLS, ANIMALS = np.arange(4), np.array([125.0, 18.0, 20.0, 34.0])
POISSONS = jaxem.mixture(families.poisson(), 2)
DEATHS = jaxem.datasets.london_times_deaths()


def london(tol=0.0):
    start = jaxem.Mixture([0.5, 0.5], Poisson([1.0, 3.0]))
    return jaxem.fit(POISSONS, start, *DEATHS, solver=jaxem.squarem(), tol=tol)


def by_differences(log_prob, theta, weights, h=1e-4):
    """Observed information and Σ w s sᵀ of rows' log p, by central differences in plain NumPy."""

    def scores(theta):
        return np.stack([(log_prob(theta + h * e) - log_prob(theta - h * e)) / (2 * h) for e in np.eye(theta.size)], 1)

    seconds = [weights @ (scores(theta + h * e) - scores(theta - h * e)) / (2 * h) for e in np.eye(theta.size)]
    return -np.stack(seconds), scores(theta).T @ (weights[:, None] * scores(theta))


def test_linkage_has_the_standard_error_of_the_literature():
    fit = jaxem.fit(linkage(), 0.5, CELLS, ANIMALS, tol=0)
    found = jaxem.standard_errors(linkage(), fit, CELLS, ANIMALS)
    np.testing.assert_allclose(found.errors, 0.0514673492, rtol=1e-8)


def test_london_times_errors_are_those_of_a_plain_program_by_every_method():
    fit, (x, weights) = london(), map(np.asarray, DEATHS)
    theta = np.array([fit.params.weights[0], *fit.params.components.rate])

    def log_prob(theta):
        first, second = (np.exp(x * np.log(rate) - rate - gammaln(x + 1)) for rate in theta[1:])
        return np.log(theta[0] * first + (1 - theta[0]) * second)

    information, squares = by_differences(log_prob, theta, weights)
    inverse = np.linalg.inv(information)
    expected = dict.fromkeys(("observed", "louis", "oakes"), inverse)
    expected |= {"sandwich": inverse @ squares @ inverse, "opg": np.linalg.inv(squares)}
    names = jaxem.parameter_names(POISSONS, fit.params)
    assert names == ("weights[0]", "weights[1]", "components.rate[0]", "components.rate[1]")
    places = [names.index(name) for name in ("weights[0]", "components.rate[0]", "components.rate[1]")]
    for method, covariance in expected.items():
        received = jaxem.standard_errors(POISSONS, fit, *DEATHS, method=method)
        np.testing.assert_allclose(received.covariance[np.ix_(places, places)], covariance, rtol=2e-5)
        assert (received.unidentified, received.boundary) == ((), ())
    published = jaxem.standard_errors(POISSONS, fit, *DEATHS).errors
    received = [published.weights[0], *published.components.rate]
    np.testing.assert_allclose(received, [0.194684, 0.350030, 0.250478], atol=1e-6)


@pytest.mark.thorough
def test_louis_and_oakes_give_the_observed_information_and_rows_are_one_block_or_many():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(700, 2)) + 3 * (np.arange(700)[:, None] % 2))
    model = jaxem.mixture(families.gaussian("diag"), 2)
    fit = jaxem.fit(model, model.init(0, x), x, tol=0)
    expected = jaxem.standard_errors(model, fit, x).covariance
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    for method in ("louis", "oakes"):
        received = jaxem.standard_errors(model, fit, x, method=method).covariance
        assert np.abs((received - expected) / scale).max() < 1e-10
    blocks = jaxem.standard_errors(jaxem.chunked(model, 90), fit, x).covariance
    assert np.abs((blocks - expected) / scale).max() < 1e-10


@pytest.mark.thorough
def test_a_rate_of_many_rows_has_the_error_in_closed_form():
    x = np.random.default_rng(0).poisson(3.0, 70_000)
    model = jaxem.single(families.poisson())
    fit = jaxem.fit(model, model.init(0, x), x)
    for method, variance in {"observed": x.mean(), "sandwich": x.var(), "opg": x.mean() ** 2 / x.var()}.items():
        received = jaxem.standard_errors(model, fit, x, method=method).errors.rate
        np.testing.assert_allclose(received, [np.sqrt(variance / x.size)], rtol=1e-9)


def ratios(errors, params):
    """Standard errors of the logarithms of standard deviations."""
    return np.ravel(errors / params / 2)


@pytest.mark.thorough
def test_regressions_have_the_errors_of_flexmix_data(reference):
    rows = jaxem.datasets.npreg()
    x, y = np.asarray(rows["x"], float), np.asarray(rows["yn"], float)
    expected = np.array(reference("npreg_gauss_2")["verified"]["se_theta"])
    model = jaxem.mixture(families.linear_regression(), 2)
    lines = LinearRegression(np.array([[15.0, 10.0, -1.0], [0.0, 5.0, 0.0]]), np.full(2, 12.0))
    data = Regression(np.stack([x**power for power in range(3)], 1), y)
    fit = jaxem.fit(model, jaxem.Mixture(np.full(2, 0.5), lines), data, tol=0, solver=jaxem.squarem())
    found = jaxem.standard_errors(model, fit, data)
    received = [np.ravel(found.errors.components.coefficients), ratios(found.errors.components[1], fit.params.components[1])]
    received += [np.sqrt(np.diag(found.free_covariance)[:1])]
    np.testing.assert_allclose(np.concatenate(received), expected, rtol=1e-6)


@pytest.mark.thorough
def test_a_gate_and_its_experts_have_the_errors_of_flexmix_data(reference):
    rows = (DATA / "NregFix.csv").read_text().replace('"', "").splitlines()
    x1, x2, w, y = np.loadtxt(rows, delimiter=",", skiprows=1).T[:4]
    expected = np.array(reference("nregfix_conc_3")["verified"]["se_theta"])
    ones = np.ones(200)
    data = Gated(np.stack([ones, w], 1), Regression(np.stack([ones, x2, x1], 1), y))
    model = jaxem.mixture(families.linear_regression(), 3, gate=families.softmax_regression())
    lines = LinearRegression(np.array([[-7.0, 4.0, 9.0], [2.0, 5.0, 0.0], [1.0, 5.0, 9.0]]), np.ones(3))
    start = jaxem.Mixture(SoftmaxRegression(np.zeros((2, 3))), lines)
    fit = jaxem.fit(model, start, data, tol=0, solver=jaxem.squarem())
    errors = jaxem.standard_errors(model, fit, data).errors
    received = [np.ravel(errors.components.coefficients), ratios(errors.components[1], fit.params.components[1])]
    received += [np.ravel(errors.weights.coefficients[:, 1:])]
    np.testing.assert_allclose(np.concatenate(received), expected, rtol=1e-6)
    np.testing.assert_array_equal(errors.weights.coefficients[:, 0], 0)


@pytest.mark.parametrize("method", ["sandwich", "opg"])
def test_a_weight_of_two_is_the_row_twice(method):
    x, model = np.array([0.0, 1.0, 1.0, 4.0, 7.0]), jaxem.single(families.poisson())
    fit = jaxem.fit(model, model.init(0, x), x, np.array([1, 2, 1, 2, 1]))
    expected = jaxem.standard_errors(model, fit, np.repeat(x, [1, 2, 1, 2, 1]), method=method)
    received = jaxem.standard_errors(model, fit, x, np.array([1, 2, 1, 2, 1]), method=method)
    np.testing.assert_allclose(received.errors.rate, expected.errors.rate, rtol=1e-12)


def test_a_saddle_and_what_cannot_be_told_are_named_and_have_no_errors():
    saddle = jaxem.fit(POISSONS, jaxem.Mixture([0.5, 0.5], Poisson([2.0, 2.0])), *DEATHS)
    found = jaxem.standard_errors(POISSONS, saddle, *DEATHS)
    assert found.unidentified == jaxem.parameter_names(POISSONS, saddle.params)
    assert np.isnan(found.covariance).all()


@pytest.mark.thorough
def test_two_classes_of_two_answers_are_unidentified_and_a_third_answer_mends_that():
    rng, classes = np.random.default_rng(1), np.arange(4000) % 2
    x = (rng.random((4000, 3)) < np.where(classes, 0.2, 0.8)[:, None]).astype(float)
    model = jaxem.mixture(families.bernoulli(), 2)
    for columns, unidentified in ((2, 6), (3, 0)):
        fit = jaxem.fit(model, model.init(0, x[:, :columns]), x[:, :columns], solver=jaxem.squarem())
        assert len(jaxem.standard_errors(model, fit, x[:, :columns]).unidentified) == unidentified


def test_what_lies_on_the_boundary_is_held_and_the_others_have_the_errors_given_that():
    """An answer that one class never gives, which EM nears for ever, and one that nobody gives."""
    rng, classes = np.random.default_rng(2), np.arange(3000) % 3 == 0
    chances = np.where(classes[:, None], [0.7, 0.8, 0.6, 0.0], [0.0, 0.2, 0.3, 0.0])
    x = (rng.random((3000, 4)) < chances).astype(float)
    model = jaxem.mixture(families.bernoulli(), 2)
    fit = jaxem.fit(model, model.init(0, x), x)
    zero = int(np.argmin(fit.params.components.probs[:, 0]))
    found = jaxem.standard_errors(model, fit, x)
    at_zero = f"components.probs[{zero}, 0]"
    expected = {at_zero, "components.probs[0, 3]", "components.probs[1, 3]"}
    assert set(found.boundary) == expected and found.unidentified == ()

    def whole(theta):
        probs = np.insert(np.clip(theta[1:], 0, 1), 3 * zero, 0).reshape(2, 3)
        return np.array([theta[0], 1 - theta[0]]), probs

    def log_prob(theta):
        shares, probs = whole(theta)
        density = np.prod(np.where(x[:, None, :3] > 0, probs[None], 1 - probs[None]), 2)
        return np.log(density @ shares)

    theta = np.concatenate([fit.params.weights[:1], np.delete(np.ravel(fit.params.components.probs[:, :3]), 3 * zero)])
    information = by_differences(log_prob, theta, np.ones(3000))[0]
    errors = np.sqrt(np.diag(np.linalg.inv(information)))
    np.testing.assert_allclose(found.errors.weights[0], errors[0], rtol=1e-4)
    received = np.delete(np.ravel(found.errors.components.probs[:, :3]), 3 * zero)
    np.testing.assert_allclose(received, errors[1:], rtol=1e-4)
    assert found.errors.components.probs[zero, 0] == 0


@pytest.mark.thorough
def test_a_component_that_is_absent_leaves_the_errors_of_the_others_alone():
    model = jaxem.mixture(families.poisson(), 3)
    fit = london()
    (first, second), rates = fit.params.weights, fit.params.components.rate
    params = jaxem.Mixture(jnp.stack([first, jnp.zeros_like(first), second]), Poisson(jnp.insert(rates, 1, 2.0)))
    found = jaxem.standard_errors(model, fit._replace(params=params), *DEATHS)
    expected = jaxem.standard_errors(POISSONS, fit, *DEATHS)
    assert (found.unidentified, found.boundary) == (("components.rate[1]",), ("weights[1]",))
    np.testing.assert_allclose(found.errors.components.rate[::2], expected.errors.components.rate, rtol=1e-9)


@pytest.mark.thorough
def test_float32_has_two_digits_of_the_errors_and_in_double_precision_nearly_all():
    expected = jaxem.standard_errors(POISSONS, london(), *DEATHS).errors.components.rate
    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float32"), (london(), *DEATHS))
    received = jaxem.standard_errors(POISSONS, *single).errors.components.rate
    assert received.dtype == jnp.float32
    np.testing.assert_allclose(received, expected, rtol=1e-5)
    with jax.enable_x64(False):
        single = jax.tree.map(np.asarray, single)
        received = jaxem.standard_errors(POISSONS, *single).errors.components.rate
    np.testing.assert_allclose(received, expected, rtol=1e-2)


@pytest.mark.each_time(1)
@pytest.mark.parametrize(("double", "power", "rtol"), [(True, 2, 1e-4), (False, 1, 0.05)])
def test_calendar_years_are_collinear_with_one_and_have_their_errors_all_the_same(double, power, rtol):
    rng, years = np.random.default_rng(0), np.arange(1990.0, 2021)
    rows, y = years[:, None] ** np.arange(power + 1), 0.2 * (years - 2010) + rng.normal(size=31)
    turned, triangle = np.linalg.qr(rows)
    left = y - turned @ (turned.T @ y)
    expected = np.sqrt((left @ left) / 31 * (np.linalg.inv(triangle) ** 2).sum(1))
    with jax.enable_x64(double):
        model, data = jaxem.single(families.linear_regression()), Regression(rows, y)
        found = jaxem.standard_errors(model, jaxem.fit(model, model.init(0, data), data), data)
    assert found.unidentified == ()
    np.testing.assert_allclose(found.errors.coefficients[0], expected, rtol=rtol)


def test_a_prior_adds_its_curvature():
    x = np.array([3.0, 1.0, 2.0, 6.0])
    model = jaxem.single(families.poisson(families.GammaPrior(3.0, 0.5)))
    fit = jaxem.fit(model, model.init(0, x), x)
    rate = (x.sum() + 2) / (4 + 0.5)
    np.testing.assert_allclose(jaxem.standard_errors(model, fit, x).errors.rate, [rate / np.sqrt(x.sum() + 2)], rtol=1e-9)


def test_what_is_no_question_is_refused_by_name():
    x, model = np.array([0.0, 1.0, 4.0]), jaxem.single(families.poisson())
    fit = jaxem.fit(model, model.init(0, x), x)
    with pytest.raises(ValueError, match="method must be one of"):
        jaxem.standard_errors(model, fit, x, method="hessian")
    with pytest.raises(ValueError, match="at least two rows"):
        jaxem.standard_errors(model, fit, x, np.array([1.0, 0.0, 0.0]), method="sandwich")
    with pytest.raises(ValueError, match="fit must be a Fit"):
        jaxem.standard_errors(model, fit.params, x)
    with pytest.raises(ValueError, match='use "oakes"'):
        rows = model._replace(posterior=lambda params, data: {"shares": data})
        jaxem.standard_errors(rows, fit, x, method="louis")
