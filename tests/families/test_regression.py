"""Regressions and gates against flexmix and mixtools, SciPy, and Newton's method written out."""

import csv
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from conftest import DATA

import jaxem
from jaxem import Status, families
from jaxem.families import GLM, Gated, LinearRegression, Regression, SoftmaxRegression


def columns(name, *wanted):
    with (DATA / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [np.array([float(row[column]) for row in rows]) for column in wanted]


def powers(x, most):
    return np.stack([x**power for power in range(most + 1)], 1)


def shipped(data, *wanted):
    return [np.asarray(data[column], float) for column in wanted]


def npreg():
    x, normal, count = shipped(jaxem.datasets.npreg(), "x", "yn", "yp")
    return Regression(powers(x, 2), normal), Regression(powers(x, 1), count)


def nitric_oxide():
    x, y = shipped(jaxem.datasets.ethanol(), "nitric_oxide", "equivalence")
    return Regression(powers(x, 1), y)


def concomitant():
    x1, x2, w, y = columns("NregFix", "x1", "x2", "w", "y")
    return Gated(powers(w, 1), Regression(np.stack([np.ones(200), x2, x1], 1), y))


def beta_blockers():
    deaths, total, center, treated = shipped(jaxem.datasets.beta_blockers(), "deaths", "total", "center", "treated")
    return families.groups(Regression(powers(treated, 1), deaths, trials=total), center)


def npreg_by_group():
    x, y, group = shipped(jaxem.datasets.npreg(), "x", "yb", "id2")
    return families.groups(Regression(powers(x, 1), y), group)


BOTH = families.product(a=families.linear_regression(), b=families.glm("poisson"))
REFERENCES = {
    "npreg_gauss_2": (lambda: jaxem.mixture(families.linear_regression(), 2), lambda: npreg()[0]),
    "npreg_poisson_2": (lambda: jaxem.mixture(families.glm("poisson"), 2), lambda: npreg()[1]),
    "npreg_gauss_poisson_2": (lambda: jaxem.mixture(BOTH, 2), lambda: dict(zip("ab", npreg(), strict=True))),
    "npreg_binomial_2": (lambda: jaxem.mixture(families.grouped(families.glm("binomial")), 2), npreg_by_group),
    "betablocker_fix_3": (
        lambda: jaxem.mixture(families.grouped(families.glm("binomial", common=(1,))), 3),
        beta_blockers,
    ),
    "mixtools_no_regmix_2": (lambda: jaxem.mixture(families.linear_regression(), 2), nitric_oxide),
    "mixtools_no_hme_2": (
        lambda: jaxem.mixture(families.linear_regression(), 2, gate=families.softmax_regression()),
        lambda: Gated(nitric_oxide().x, nitric_oxide()),
    ),
    "nregfix_conc_3": (
        lambda: jaxem.mixture(families.linear_regression(), 3, gate=families.softmax_regression()),
        concomitant,
    ),
}


def reached(fit, name, reference):
    expected, model = reference(name), REFERENCES[name][0]()
    np.testing.assert_allclose(fit.log_likelihood, expected["verified"]["ml_loglik"], rtol=0, atol=1e-6)
    assert fit.status == Status.CONVERGED
    assert jaxem.num_free_parameters(model, fit.params) == expected["expected"]["n_params"]


@pytest.mark.each_time(1)
@pytest.mark.parametrize(
    "name", ["npreg_gauss_2", "npreg_poisson_2", "npreg_binomial_2", "mixtools_no_regmix_2", "mixtools_no_hme_2"]
)
def test_half_of_64_starts_and_more_reach_the_maximum_of_flexmix_or_mixtools(name, reference):
    model, data = (make() for make in REFERENCES[name])
    search = jaxem.fit_restarts(model, 0, data, num_restarts=64, num_continued=64)
    reached(search.best, name, reference)
    assert jaxem.num_reached(search) >= 32


@pytest.mark.thorough
def test_two_responses_of_one_label_have_the_maximum_of_flexmix(reference):
    name = "npreg_gauss_poisson_2"
    model, data = (make() for make in REFERENCES[name])
    a = LinearRegression(np.array([[15.0, 9.5, -1.0], [0.0, 5.0, 0.0]]), np.full(2, 12.0))
    start = jaxem.Mixture(np.full(2, 0.5), {"a": a, "b": GLM(np.array([[1.0, 0.1], [2.0, -0.2]]))})
    reached(jaxem.fit(model, start, data), name, reference)


@pytest.mark.thorough
def test_centers_that_share_an_effect_of_treatment_have_the_maximum_of_flexmix(reference):
    name = "betablocker_fix_3"
    model, data = (make() for make in REFERENCES[name])
    start = jaxem.Mixture(np.full(3, 1 / 3), GLM(np.array([[-2.8, -0.2], [-1.6, -0.2], [-2.2, -0.2]])))
    fit = jaxem.fit(model, start, data)
    reached(fit, name, reference)
    expected = reference(name)
    np.testing.assert_allclose(fit.params.components.coefficients, expected["verified"]["params_ml"]["coef"], rtol=1e-4)
    np.testing.assert_allclose(jaxem.bic(model, fit, data), expected["expected"]["bic"], atol=1e-4)


def test_concomitant_variables_have_the_maximum_of_flexmix(reference):
    name = "nregfix_conc_3"
    model, data = (make() for make in REFERENCES[name])
    lines = LinearRegression(np.array([[-7.0, 4.0, 9.0], [2.0, 5.0, 0.0], [1.0, 5.0, 9.0]]), np.ones(3))
    fit = jaxem.fit(model, jaxem.Mixture(SoftmaxRegression(np.zeros((2, 3))), lines), data)
    reached(fit, name, reference)
    expected = reference(name)["verified"]["params_ml"]
    np.testing.assert_allclose(fit.params.components.coefficients, expected["coef"], rtol=1e-3)
    np.testing.assert_allclose(fit.params.weights.coefficients[:, 1:], expected["mixing_logits_or_concomitant"], rtol=1e-3)


def test_the_first_steps_on_the_ethanol_data_are_those_of_mixtools(reference):
    given = reference("mixtools_no_regmix_2")
    start = given["init"]
    components = LinearRegression(np.array(start["beta"]), np.array(start["sd"]) ** 2)
    model = jaxem.mixture(families.linear_regression(), 2)
    fit = jaxem.fit(model, jaxem.Mixture(np.array(start["weights"]), components), nitric_oxide())
    expected = given["expected"]["loglik_trajectory"]
    np.testing.assert_allclose(fit.history[: len(expected)], expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(fit.params.components.coefficients, given["expected"]["beta"], rtol=1e-4)
    np.testing.assert_allclose(np.sqrt(fit.params.components.variance), given["expected"]["sd"], rtol=1e-4)


def test_experts_and_gate_on_the_ethanol_data_are_those_of_mixtools(reference):
    expected = reference("mixtools_no_hme_2")["verified"]["params_ml"]
    model, data = (make() for make in REFERENCES["mixtools_no_hme_2"])
    start = jaxem.Mixture(
        SoftmaxRegression(np.zeros((2, 2))), LinearRegression(np.array([[0.5, 0.1], [1.2, -0.1]]), np.full(2, 0.01))
    )
    fit = jaxem.fit(model, start, data)
    np.testing.assert_allclose(fit.params.components.coefficients, expected["beta"], rtol=1e-4)
    gate = fit.params.weights.coefficients
    np.testing.assert_array_equal(gate[:, 0], 0)
    np.testing.assert_allclose(gate[:, 1], np.ravel(expected["gate"]), rtol=2e-3)


ROWS, RNG = 40, np.random.default_rng(0)
X = np.stack([np.ones(ROWS), RNG.normal(size=ROWS), RNG.uniform(-1, 2, ROWS)], 1)
OFFSET, TRIALS = RNG.normal(size=ROWS) / 2, RNG.integers(1, 12, ROWS)
SHARES = RNG.dirichlet(np.ones(2), ROWS) * RNG.integers(0, 3, ROWS)[:, None]
COEFFICIENTS = np.array([[0.5, -0.4, 0.2], [1.0, 0.3, -0.6]])
LABELS = np.arange(ROWS) % 2
ETA = X @ COEFFICIENTS.T + OFFSET[:, None]
OWN = ETA[np.arange(ROWS), LABELS]
RESPONSES = {
    "linear": OWN + RNG.normal(size=ROWS) / 2,
    "poisson": RNG.poisson(np.exp(OWN)),
    "binomial": RNG.binomial(TRIALS, 1 / (1 + np.exp(-OWN))),
    "gamma": RNG.gamma(4, np.exp(OWN) / 4),
    "negative binomial": RNG.negative_binomial(2, 2 / (2 + np.exp(OWN + 1))),
}
DISPERSION = np.array([0.3, 0.6])


def family_and_data(name, common=()):
    family = families.linear_regression(common) if name == "linear" else families.glm(name, common)
    return family, Regression(X, RESPONSES[name], OFFSET, TRIALS if name == "binomial" else None)


def params_of(name):
    if name == "linear":
        return LinearRegression(COEFFICIENTS, DISPERSION)
    return GLM(COEFFICIENTS, DISPERSION if name in ("gamma", "negative binomial") else None)


def log_mass(name, eta, y, dispersion):
    """Log-densities from SciPy's parameters, which are neither η nor φ."""
    if name == "gamma":
        return scipy.stats.gamma.logpdf(y, 1 / dispersion, scale=dispersion * np.exp(eta))
    return scipy.stats.nbinom.logpmf(y, 1 / dispersion, 1 / (1 + dispersion * np.exp(eta)))


@pytest.mark.parametrize("name", RESPONSES)
def test_the_log_density_of_a_response_is_that_of_scipy(name):
    family, data = family_and_data(name)
    y = RESPONSES[name][:, None]
    expected = {
        "linear": lambda: scipy.stats.norm.logpdf(y, ETA, np.sqrt([[0.3, 0.6]])),
        "poisson": lambda: scipy.stats.poisson.logpmf(y, np.exp(ETA)),
        "binomial": lambda: scipy.stats.binom.logpmf(y, TRIALS[:, None], 1 / (1 + np.exp(-ETA))),
    }.get(name, lambda: log_mass(name, ETA, y, DISPERSION[None]))()
    received, _ = family.evaluate(jax.tree.map(jnp.asarray, params_of(name)), family.prepare(data, None))
    np.testing.assert_allclose(received, expected, rtol=1e-11, atol=1e-12)


def scores(name, eta, y):
    """Slopes and information of one response, from the textbook's mean and variance functions."""
    if name == "linear":
        return y - eta, np.ones_like(eta)
    if name == "poisson":
        return y - np.exp(eta), np.exp(eta)
    share = 1 / (1 + np.exp(-eta))
    return y - TRIALS * share, TRIALS * share * (1 - share)


def plain_newton(name, common, variance):
    """The M-step by Newton's method on one design of all coefficients, own ones first, dense and without guard."""
    own = [j for j in range(3) if j not in common]
    size = 2 * len(own) + len(common)
    designs = np.zeros((2, ROWS, size))
    for k in range(2):
        designs[k][:, k * len(own) : (k + 1) * len(own)] = X[:, own]
        designs[k][:, 2 * len(own) :] = X[:, list(common)]
    theta = np.zeros(size)
    for _ in range(60):
        slope, information = np.zeros(size), np.zeros((size, size))
        for k, n in itertools.product(range(2), range(ROWS)):
            score, weight = (v[n] for v in scores(name, designs[k] @ theta + OFFSET, RESPONSES[name]))
            slope += SHARES[n, k] / variance[k] * score * designs[k][n]
            information += SHARES[n, k] / variance[k] * weight * np.outer(designs[k][n], designs[k][n])
        theta = theta + np.linalg.solve(information, slope)
        if np.abs(slope).max() < 1e-10:
            break
    coefficients = np.zeros((2, 3))
    coefficients[:, own] = theta[: 2 * len(own)].reshape(2, -1)
    coefficients[:, list(common)] = theta[2 * len(own) :]
    return coefficients


@pytest.mark.each_time(2)
@pytest.mark.parametrize(("name", "common"), [("linear", (1,)), ("poisson", ()), ("binomial", (0, 2))])
def test_an_m_step_is_newtons_method_to_its_end(name, common):
    family, data = family_and_data(name, common)
    rows = family.prepare(data, jnp.asarray(SHARES.sum(1)))
    start = jax.tree.map(jnp.asarray, params_of(name))
    start = start._replace(coefficients=start.coefficients.at[:, jnp.array(common, int)].set(0.1))
    received = family.m_step(start, family.evaluate(start, rows)[1](jnp.asarray(SHARES)))
    variance = np.ones(2) if name != "linear" else np.asarray(received.variance)
    expected = plain_newton(name, common, variance)
    np.testing.assert_allclose(received.coefficients, expected, rtol=1e-7, atol=1e-9)
    if name == "linear":
        squares = (RESPONSES[name][:, None] - X @ expected.T - OFFSET[:, None]) ** 2
        np.testing.assert_allclose(received.variance, (SHARES * squares).sum(0) / SHARES.sum(0), rtol=1e-9)


@pytest.mark.parametrize(("name", "common"), [("gamma", (1,)), ("negative binomial", ())])
def test_a_search_from_where_an_m_step_ends_finds_nothing_to_gain(name, common):
    family, data = family_and_data(name, common)
    start = jax.tree.map(jnp.asarray, params_of(name))
    start = start._replace(coefficients=start.coefficients.at[:, jnp.array(common, int)].set(0.1))
    stats = family.evaluate(start, family.prepare(data, None))[1](jnp.asarray(SHARES))
    received = jax.jit(family.m_step)(start, stats)
    own = [j for j in range(3) if j not in common]

    def loss(free):
        coefficients = np.zeros((2, 3))
        coefficients[:, own], coefficients[:, list(common)] = free[: 2 * len(own)].reshape(2, -1), free[2 * len(own) : -2]
        eta = X @ coefficients.T + OFFSET[:, None]
        return -(SHARES * log_mass(name, eta, RESPONSES[name][:, None], np.exp(free[-2:]))).sum()

    beta = np.asarray(received.coefficients)
    end = np.concatenate([beta[:, own].ravel(), beta[0, list(common)], np.log(received.dispersion)])
    gained = loss(end) - scipy.optimize.minimize(loss, end, method="BFGS", options={"gtol": 1e-9}).fun
    assert 0 <= gained < 1e-10
    assert loss(end + 1e-3) > loss(end) + 1e-7
    np.testing.assert_allclose(family.expected_log_prob(received, stats), -loss(end), rtol=1e-12)


@pytest.mark.thorough
def test_counts_that_vary_less_than_poisson_ones_converge_at_the_least_dispersion():
    fit = fitted(jaxem.single(families.glm("negative binomial")), Regression(X[:, :2], np.arange(ROWS) % 2 + 3))
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.params.dispersion, 1e-10)
    expected = fitted(jaxem.single(families.glm("poisson")), Regression(X[:, :2], np.arange(ROWS) % 2 + 3))
    np.testing.assert_allclose(fit.params.coefficients, expected.params.coefficients, rtol=1e-7, atol=1e-9)


def test_gamma_responses_on_a_curve_end_at_the_floor_of_the_dispersion():
    fit = fitted(jaxem.single(families.glm("gamma")), Regression(X[:, :2], np.exp(X[:, 0] - X[:, 1])))
    assert fit.status == Status.DEGENERATE
    np.testing.assert_allclose(fit.params.coefficients, [[1, -1]], rtol=1e-7)
    np.testing.assert_allclose(fit.params.dispersion, 1e-10)


def test_one_variance_for_all_is_that_of_all_residuals():
    family = families.linear_regression(variance="shared")
    rows = family.prepare(Regression(X, RESPONSES["linear"]), None)
    start = LinearRegression(jnp.asarray(COEFFICIENTS), jnp.asarray(0.4))
    received = family.m_step(start, family.evaluate(start, rows)[1](jnp.asarray(SHARES)))
    squares = 0.0
    for k in range(2):
        root = np.sqrt(SHARES[:, k])
        expected, left, *_ = np.linalg.lstsq(root[:, None] * X, root * RESPONSES["linear"], rcond=None)
        np.testing.assert_allclose(received.coefficients[k], expected, rtol=1e-9)
        squares += left[0]
    assert received.variance.shape == ()
    np.testing.assert_allclose(received.variance, squares / SHARES.sum(), rtol=1e-12)


def test_common_coefficients_are_equal_and_count_once():
    family, data = family_and_data("poisson", (0, 2))
    model = jaxem.mixture(family, 2)
    params = model.init(0, data)
    received = model.m_step(params, model.e_step(params, data, jnp.ones(ROWS))[0]).components.coefficients
    np.testing.assert_array_equal(received[0, [0, 2]], received[1, [0, 2]])
    assert jaxem.num_free_parameters(model, params) == 1 + (2 * 3 - 2)


def test_a_component_without_rows_keeps_its_own_coefficients_and_takes_the_common_ones():
    family, data = family_and_data("poisson", (0,))
    model = jaxem.mixture(family, 2)
    start = jaxem.Mixture(jnp.array([1.0, 0.0]), GLM(jnp.asarray(COEFFICIENTS).at[:, 0].set(0.5)))
    new = model.m_step(start, model.e_step(start, data, jnp.ones(ROWS))[0]).components.coefficients
    np.testing.assert_array_equal(new[1, 1:], start.components.coefficients[1, 1:])
    assert new[1, 0] == new[0, 0] != 0.5


def test_a_gate_is_fitted_as_by_newtons_method_written_out():
    gate, q, k = families.softmax_regression(), 3, 3
    shares = np.random.default_rng(1).dirichlet(np.ones(k), ROWS)
    theta = np.zeros((k - 1) * q)
    for _ in range(30):
        logits = np.concatenate([np.zeros((ROWS, 1)), X @ theta.reshape(k - 1, q).T], 1)
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        slope = ((shares - p)[:, 1:].T @ X).ravel()
        information = np.zeros((len(theta), len(theta)))
        for n in range(ROWS):
            spread = np.diag(p[n, 1:]) - np.outer(p[n, 1:], p[n, 1:])
            information += np.kron(spread, np.outer(X[n], X[n]))
        theta = theta + np.linalg.solve(information, slope)
    start = SoftmaxRegression(jnp.zeros((q, k)))
    received = gate.m_step(start, gate.evaluate(start, gate.prepare(X, None))[1](jnp.asarray(shares)))
    np.testing.assert_allclose(received.coefficients[:, 1:], theta.reshape(k - 1, q).T, rtol=1e-8, atol=1e-10)


def test_an_m_step_from_far_away_does_not_go_down():
    family, data = family_and_data("poisson")
    rows, m_step = family.prepare(data, None), jax.jit(family.m_step)
    far = GLM(jnp.asarray(COEFFICIENTS + np.array([[40.0, -30, 25]])))
    stats = family.evaluate(far, rows)[1](jnp.asarray(SHARES))
    before = family.expected_log_prob(far, stats)
    for _ in range(4):
        far = m_step(far, stats)
        after = family.expected_log_prob(far, stats)
        assert after >= before - 1e-12 * abs(before)
        before = after
    np.testing.assert_allclose(far.coefficients, plain_newton("poisson", (), np.ones(2)), rtol=1e-6)


def fitted(model, data):
    return jaxem.fit(model, model.init(0, data), data)


def separated(dtype):
    group = np.arange(ROWS) % 4 == 0
    x = np.stack([np.ones(ROWS), group], 1).astype(dtype)
    return x, np.where(group, 0, RNG.integers(0, 2, ROWS)).astype(dtype), group


@pytest.mark.each_time(1)
@pytest.mark.parametrize(("name", "dtype"), [("binomial", "float64"), ("poisson", "float32")])
def test_a_coefficient_on_its_way_to_infinity_ends_finite_and_degenerate(name, dtype):
    x, y, group = separated(dtype)
    fit = fitted(jaxem.single(families.glm(name)), Regression(x, y))
    assert fit.status == Status.DEGENERATE
    assert -1000 < fit.params.coefficients[0, 1] < -12
    share = y[~group].mean()
    expected = np.log(share / (1 - share)) if name == "binomial" else np.log(share)
    np.testing.assert_allclose(fit.params.coefficients[0, 0], expected, rtol=1e-4)


def test_a_gate_that_is_sure_of_its_labels_ends_finite_and_degenerate():
    x, _, group = separated("float64")
    gated = jaxem.mixture(families.poisson(), 2, gate=families.softmax_regression())
    fit = fitted(gated, Gated(x, np.where(group, 1000, 1)))
    assert fit.status == Status.DEGENERATE
    assert np.isfinite(fit.params.weights.coefficients).all()


def test_a_steep_slope_is_no_separation():
    rng = np.random.default_rng(2)
    x = np.stack([np.ones(2000), rng.uniform(0, 100, 2000)], 1)
    fit = fitted(jaxem.single(families.glm("poisson")), Regression(x, rng.poisson(np.exp(x[:, 1] - 95))))
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.params.coefficients, [[-95, 1]], rtol=0.05)


def test_points_on_a_line_end_at_the_floor_of_the_variance():
    t = np.arange(20.0)
    fit = fitted(jaxem.single(families.linear_regression()), Regression(powers(t, 1), 3 + 2 * t))
    assert fit.status == Status.DEGENERATE
    np.testing.assert_allclose(fit.params.coefficients, [[3, 2]], rtol=1e-9)
    np.testing.assert_allclose(fit.params.variance, 1e-10 * np.var(3 + 2 * t), rtol=1e-9)


@pytest.mark.thorough
def test_columns_a_thousand_deviations_from_zero_keep_their_digits_in_float32():
    rng = np.random.default_rng(4)
    x = powers(rng.normal(size=300).astype("float32") + np.float32(1000), 1)
    near = powers(x[:, 1].astype(float) - 1000, 1)
    for family, y in (
        (families.linear_regression(), near @ [2, 0.5] + rng.normal(size=300)),
        (families.glm("poisson"), rng.poisson(np.exp(near @ [1, 0.5]))),
    ):
        received = fitted(jaxem.single(family), Regression(x, y.astype("float32"))).params.coefficients[0]
        expected = np.linalg.lstsq(near, y, rcond=None)[0]
        for _ in range(20 if y.dtype == int else 0):
            mean = np.exp(near @ expected)
            expected = expected + np.linalg.solve(near.T * mean @ near, near.T @ (y - mean))
        assert received.dtype == "float32"
        np.testing.assert_allclose(received, [expected[0] - 1000 * expected[1], expected[1]], rtol=1e-4)


def test_absent_rows_are_as_if_left_out_whatever_stands_in_them():
    weights = np.where(np.arange(ROWS) % 5 == 0, 0.0, 1 + np.arange(ROWS) % 3)
    kept, r = weights > 0, jnp.asarray(SHARES / np.maximum(SHARES.sum(1, keepdims=True), 1e-9) * weights[:, None])
    family, data = family_and_data("poisson")
    rows, start = family.prepare(data, jnp.asarray(weights)), GLM(jnp.asarray(COEFFICIENTS))
    spoiled = rows._replace(y=jnp.where(kept, rows.y, jnp.nan), offset=jnp.where(kept, rows.offset, jnp.inf))
    new, expected = (family.m_step(start, family.evaluate(start, each)[1](r)) for each in (spoiled, rows))
    np.testing.assert_array_equal(new.coefficients, expected.coefficients)
    fewer = family.prepare(jax.tree.map(lambda leaf: leaf[kept], data), jnp.asarray(weights[kept]))
    expected = family.m_step(start, family.evaluate(start, fewer)[1](r[kept]))
    np.testing.assert_allclose(new.coefficients, expected.coefficients, rtol=1e-9)


def test_samples_keep_columns_offsets_and_trials():
    model = jaxem.mixture(families.glm("binomial"), 2)
    data = family_and_data("binomial")[1]
    drawn, labels = model.sample(jax.random.key(0), jaxem.Mixture(jnp.array([0.5, 0.5]), GLM(COEFFICIENTS)), data)
    assert set(np.asarray(labels)) == {0, 1}
    for received, expected in ((drawn.x, X), (drawn.offset, OFFSET), (drawn.trials, TRIALS)):
        np.testing.assert_array_equal(received, expected)
    assert ((np.asarray(drawn.y) >= 0) & (np.asarray(drawn.y) <= TRIALS)).all()


@pytest.mark.parametrize(
    ("family", "data", "message"),
    [
        (families.glm("poisson"), X, r"data must be families\.Regression\(x, y, offset=None, trials=None\), got ndarray"),
        (families.glm("poisson"), Regression(X[:, 0], X[:, 0]), r"x has shape \(40,\), needs \(n, p\): x\[:, None\]"),
        (families.linear_regression(), Regression(X, None), r"y is None, needs \(n,\): one response for each row of x"),
        (families.glm("poisson"), Regression(X, X[:, :1]), r"y has shape \(40, 1\), needs \(40,\): one for each row of x"),
        (families.glm("poisson"), Regression(X, X[:, 1]), r"y needs counts, whole numbers ≥ 0; got .* in row"),
        (families.glm("gamma"), Regression(X, np.arange(ROWS)), "y needs numbers > 0; got 0 in row 0"),
        (families.glm("binomial"), Regression(X, np.full(ROWS, 2)), "y needs successes, .* got 2 in row 0"),
        (families.glm("poisson"), Regression(X, np.ones(ROWS), None, TRIALS), "trials belong to binomial responses"),
        (families.linear_regression(), Regression(X * np.nan, X[:, 1]), r"x: data has NaN or infinite values \(columns \[0"),
        (families.linear_regression(), Regression(X, X[:, 1], np.full(ROWS, np.nan)), "offset: data has NaN"),
        (families.linear_regression(), Regression(X[:, [0, 1, 1]], X[:, 2]), r"x has columns \[2\] that are zero or linear"),
        (families.linear_regression(), Regression(X, np.ones(ROWS)), "y less offset is the same in all rows"),
        (families.linear_regression((3,)), Regression(X, X[:, 1]), "common names column 3 of x, which has 3: 0 to 2"),
    ],
)
def test_what_is_no_regression_is_refused_by_the_name_of_its_field(family, data, message):
    with pytest.raises(ValueError, match=message):
        jaxem.mixture(family, 2).init(0, data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: families.glm("normal"), "distribution must be one of 'poisson', .* got 'normal'"),
        (lambda: families.linear_regression(variance="none"), "variance must be 'each' or 'shared'"),
        (lambda: families.linear_regression("ab"), "common must be a tuple of column numbers"),
        (lambda: families.glm("poisson", (-1,)), "common must name columns of x from 0 on"),
        (
            lambda: jaxem.mixture(families.glm("poisson"), 2).sample(0, jaxem.Mixture([0.5, 0.5], GLM([[1.0], [2.0]])), 9),
            r"like must be families\.Regression data",
        ),
        (
            lambda: jaxem.single(families.glm("poisson")).log_prob(GLM([[1.0]]), Regression(X, RESPONSES["poisson"])),
            "x has 3 columns, expected 1, as params.coefficients has",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
