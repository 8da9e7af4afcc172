"""Shared and restricted parameters: the steps of a plain loop under the same restriction, and the right count."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_em import e_step, normal_log_density

import jaxem
from jaxem import Mixture, Status, constraints, families
from jaxem.families import Gaussian, Poisson

X = np.asarray(jaxem.datasets.faithful())[:60]
DIAG = jaxem.mixture(families.gaussian("diag"), 2)
MEANS = np.array([[2.0, 55.0], [4.2, 80.0]])


def spread_covariance(p):
    return p._replace(components=Gaussian(p.components.mean, p.components.covariance * jnp.ones((2, 1))))


def pooled(p):
    return p._replace(components=Gaussian(p.components.mean, p.components.covariance.mean(0, keepdims=True)))


def spread_mean(p):
    return p._replace(components=Gaussian(p.components.mean * jnp.ones((2, 1)), p.components.covariance))


def plain(x, mean, variance, update, num_steps):
    """EM by loops over rows; `update(x, shares, variance) -> mean, variance`, (2, 2) each."""
    pi, values = np.array([0.5, 0.5]), []
    for _ in range(num_steps + 1):
        last = pi, mean, variance

        def density(row, k, mean=mean, variance=variance):
            return normal_log_density(row, mean[k], np.diag(variance[k]))

        shares, value = e_step(x, np.ones(60), pi, density)
        values.append(value)
        pi, (mean, variance) = shares.mean(0), update(x, shares, variance)
    return np.array(values), last


def equal_variances(x, shares, variance):
    mean = shares.T @ x / shares.sum(0)[:, None]
    squares = sum(shares[n, k] * (x[n] - mean[k]) ** 2 for n in range(60) for k in range(2)) / 60
    return mean, np.array([squares, squares])


def common_mean(x, shares, variance):
    """One mean for both, by turns with the variances about it until neither moves: the M-step of this restriction."""
    for _ in range(500):
        precision = shares.sum(0)[:, None] / variance
        each = shares.T @ x / shares.sum(0)[:, None]
        one = (precision * each).sum(0) / precision.sum(0)
        variance = np.array([shares[:, k] @ (x - one) ** 2 / shares[:, k].sum() for k in range(2)])
    return np.array([one, one]), variance


def test_equal_variances_take_the_steps_of_a_plain_loop_and_count_once():
    model = jaxem.reparametrize(DIAG, spread_covariance, DIAG.constraints, pooled)
    variance = np.array([[0.3, 40.0]])
    values, (_, mean, last) = plain(X, MEANS, variance.repeat(2, 0), equal_variances, 10)
    fit = jaxem.fit(model, Mixture([0.5, 0.5], Gaussian(MEANS, variance)), X, tol=-np.inf, max_steps=10)
    np.testing.assert_allclose(fit.history, values, rtol=1e-11)
    np.testing.assert_allclose(fit.params.components.covariance[0], last[0], rtol=1e-8)
    whole = jaxem.thaw(model, fit.params)
    np.testing.assert_array_equal(whole.components.covariance[0], whole.components.covariance[1])
    np.testing.assert_allclose(whole.components.mean, mean, rtol=1e-8)
    assert jaxem.num_free_parameters(model, fit.params) == 1 + 4 + 2
    start = model.init(0, X)
    np.testing.assert_allclose(start.components.covariance[0], DIAG.init(0, X).components.covariance.mean(0), rtol=1e-12)


def test_a_common_mean_takes_the_steps_of_a_plain_loop_and_counts_once():
    model = jaxem.reparametrize(DIAG, spread_mean, DIAG.constraints)
    x = np.array([1.0, -2.0]) + np.random.default_rng(0).normal(size=(60, 2)) * np.where(np.arange(60) % 2, 0.5, 4.0)[:, None]
    start, variance = np.zeros((1, 2)), np.array([[1.0, 1.0], [10.0, 20.0]])
    values, (_, mean, last) = plain(x, start.repeat(2, 0), variance, common_mean, 6)
    fit = jaxem.fit(model, Mixture([0.5, 0.5], Gaussian(start, variance)), x, tol=-np.inf, max_steps=6)
    np.testing.assert_allclose(fit.history, values, rtol=1e-9)
    np.testing.assert_allclose(fit.params.components.mean[0], mean[0], rtol=1e-6)
    np.testing.assert_allclose(fit.params.components.covariance, last, rtol=1e-5)
    assert jaxem.num_free_parameters(model, fit.params) == 1 + 2 + 4
    assert model.init is None


def line(params, row, z):
    residual = row["y"] - params["intercept"][z] - params["slope"][z] * row["x"]
    return -0.5 * residual**2 - jnp.log(jnp.sqrt(8 * jnp.pi)).astype(residual.dtype)


def parallel(params):
    return {"intercept": params["intercept"], "slope": params["slope"] * jnp.ones(2)}


def test_a_common_slope_is_that_of_parallel_lines_told_apart():
    """Lines so far apart that labels are certain: least squares about the means of each group."""
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=40), np.arange(40) % 2
    data = {"x": x, "y": 100 * z + 1.5 * x + rng.normal(size=40)}
    model = jaxem.reparametrize(jaxem.from_log_joint(line, 2), parallel)
    fit = jaxem.fit(model, {"intercept": [0.0, 90.0], "slope": 0.0}, data)
    assert fit.status == Status.CONVERGED
    off = [(x[z == k] - x[z == k].mean(), data["y"][z == k] - data["y"][z == k].mean()) for k in range(2)]
    expected = sum((a * b).sum() for a, b in off) / sum((a * a).sum() for a, _ in off)
    np.testing.assert_allclose(fit.params["slope"], expected, rtol=1e-7)
    assert jaxem.num_free_parameters(model, fit.params) == 3


def with_a_third(phi):
    return Mixture(jnp.append(0.7 * phi["others"], 0.3), phi["components"])


def test_one_weight_is_held_and_the_others_share_the_rest():
    counts = np.random.default_rng(1).poisson(np.array([1.0, 6.0, 30.0])[np.arange(60) % 3])
    domain = {"others": constraints.simplex, "components": Poisson(constraints.non_negative)}
    three = jaxem.mixture(families.poisson(), 3)
    model = jaxem.reparametrize(three, with_a_third, domain)
    phi = {"others": jnp.array([0.5, 0.5]), "components": Poisson(jnp.array([1.0, 6.0, 30.0]))}
    stats = three.e_step(with_a_third(phi), jnp.asarray(counts, float), jnp.ones(60))[0]
    received = model.m_step(phi, stats)
    np.testing.assert_allclose(received["others"], stats.counts[:2] / stats.counts[:2].sum(), rtol=1e-11)
    np.testing.assert_allclose(received["components"].rate, three.m_step(with_a_third(phi), stats).components.rate, rtol=1e-11)
    assert jaxem.num_free_parameters(model, phi) == 1 + 3


def test_a_reparametrized_model_is_known_by_its_arguments_and_pickles():
    model = jaxem.reparametrize(DIAG, spread_covariance, DIAG.constraints, pooled)
    assert jaxem.reparametrize(DIAG, spread_covariance, DIAG.constraints, pooled) is model
    assert pickle.loads(pickle.dumps(model)) == model
    start = model.init(0, X)
    np.testing.assert_allclose(model.log_prob(start, X), DIAG.log_prob(spread_covariance(start), X), rtol=1e-13)
    labels = model.sample(jax.random.key(0), start, 50)[1]
    assert labels.shape == (50,)


def a_tuple(p):
    return p.weights, p.components


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jaxem.reparametrize(DIAG, "pooled"), r"to_params must be a function of parameters, got 'pooled'"),
        (lambda: jaxem.reparametrize(DIAG, pooled, None, 1), r"from_params must be a function of parameters, got 1"),
        (lambda: jaxem.reparametrize(DIAG, pooled, "positive"), r"constraints must be a tree of jaxem\.constraints"),
        (lambda: jaxem.reparametrize(jaxem.Model(len, len), pooled), r"needs model\.expected_log_joint"),
        (
            lambda: jaxem.reparametrize(DIAG, a_tuple).log_prob(DIAG.init(0, X), X),
            r"to_params\(params\) must return parameters of mixture",
        ),
    ],
)
def test_what_cannot_be_re_expressed_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
