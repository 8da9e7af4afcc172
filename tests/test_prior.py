"""Priors: conjugate ones, of weights, and any other; what a fit climbs, and what is called reached."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats as scipy_stats

import jaxem
from jaxem import Mixture, Status, families
from jaxem.families import BetaPrior, GammaPrior, Poisson
from jaxem.families.exponential import ExponentialStats
from jaxem.families.priors import log_beta, log_dirichlet, log_gamma
from jaxem.families.shares import ShareStats

RNG = np.random.default_rng(2)
COUNTS = np.random.default_rng(0).poisson(np.where(np.arange(50) % 3, 2.0, 9.0))
START = Mixture(jnp.array([0.5, 0.5]), Poisson(jnp.array([1.0, 5.0])))
CONCENTRATION = 3.0
PRIOR = GammaPrior(4.0, 0.5)


def test_log_densities_of_priors_are_those_of_scipy():
    rate, probs = np.array([[0.3, 2.0], [5.0, 0.7]]), np.array([[0.2, 0.9], [0.5, 1e-3]])
    expected = scipy_stats.gamma.logpdf(rate, [2.0, 3.0], scale=1 / 0.5).sum()
    np.testing.assert_allclose(log_gamma(GammaPrior((2.0, 3.0), 0.5), jnp.asarray(rate)), expected, rtol=1e-13)
    expected = scipy_stats.beta.logpdf(probs, 1.0, 4.5).sum()
    np.testing.assert_allclose(log_beta(BetaPrior(1.0, 4.5), jnp.asarray(probs)), expected, rtol=1e-13)
    alpha, shares = np.array([1.0, 2.5, 4.0]), np.array([0.2, 0.5, 0.3])
    expected = scipy_stats.dirichlet.logpdf(shares, alpha)
    np.testing.assert_allclose(log_dirichlet(jnp.asarray(alpha), jnp.asarray(shares)), expected, rtol=1e-13)


def test_at_the_edge_a_prior_that_says_nothing_of_it_is_finite_and_another_minus_infinite():
    zero = jnp.zeros(1)
    assert log_gamma(GammaPrior(1.0, 2.0), zero) == pytest.approx(math.log(2))
    assert log_gamma(GammaPrior(1.5, 2.0), zero) == -np.inf
    assert log_beta(BetaPrior(1.0, 1.0), zero) == pytest.approx(0, abs=1e-14)
    assert log_beta(BetaPrior(1.0, 2.0), zero + 1) == -np.inf


def plain_map(pi, rate, num_steps):
    """EM for the mode by loops over rows, under a Dirichlet and Gamma priors; log-likelihood and log-prior at each iterate."""
    values = []
    for _ in range(num_steps + 1):
        counts, total, log_likelihood = np.zeros(2), np.zeros(2), 0.0
        for x in COUNTS:
            joint = [pi[k] * math.exp(x * math.log(rate[k]) - rate[k] - math.lgamma(x + 1)) for k in range(2)]
            shares = np.array(joint) / sum(joint)
            counts, total, log_likelihood = counts + shares, total + shares * x, log_likelihood + math.log(sum(joint))
        log_prior = scipy_stats.dirichlet.logpdf(pi, [CONCENTRATION] * 2)
        values.append((log_likelihood, log_prior + scipy_stats.gamma.logpdf(rate, PRIOR.shape, scale=1 / PRIOR.rate).sum()))
        last = pi, rate
        pi = (counts + CONCENTRATION - 1) / (counts + CONCENTRATION - 1).sum()
        rate = (total + PRIOR.shape - 1) / (counts + PRIOR.rate)
    return np.array(values), last


def test_steps_under_priors_of_weights_and_rates_are_those_of_a_plain_loop():
    model = jaxem.mixture(families.poisson(PRIOR), 2, concentration=CONCENTRATION)
    values, (pi, rate) = plain_map(np.array([0.5, 0.5]), np.array([1.0, 5.0]), 20)
    fit = jaxem.fit(model, START, COUNTS, tol=-np.inf, max_steps=20)
    np.testing.assert_allclose(fit.history, values.sum(1), rtol=1e-12)
    np.testing.assert_allclose([fit.log_likelihood, fit.log_prior], values[-1], rtol=1e-12)
    np.testing.assert_allclose(fit.params.weights, pi, rtol=1e-10)
    np.testing.assert_allclose(fit.params.components.rate, rate, rtol=1e-10)
    assert "log-prior" in repr(fit)


def dirichlet_and_gamma(params):
    """The same priors, as a function of the parameters."""
    alpha = jnp.full(2, CONCENTRATION, params.weights.dtype)
    return log_dirichlet(alpha, params.weights) + log_gamma(PRIOR, params.components.rate)


def test_any_prior_that_is_conjugate_leads_to_the_closed_form():
    closed = jaxem.mixture(families.poisson(PRIOR), 2, concentration=CONCENTRATION)
    open_ = jaxem.with_prior(jaxem.mixture(families.poisson(), 2), dirichlet_and_gamma)
    stats = closed.e_step(START, jnp.asarray(COUNTS, float), jnp.ones(50))[0]
    expected, received = closed.m_step(START, stats), open_.m_step(START, stats)
    np.testing.assert_allclose(received.weights, expected.weights, rtol=1e-12)
    np.testing.assert_allclose(received.components.rate, expected.components.rate, rtol=1e-12)
    assert open_.log_prior(START) == closed.log_prior(START)


def test_a_flat_prior_of_weights_changes_no_step_and_has_the_density_that_others_come_near():
    weights = np.array([0.2, 0.5, 0.3])
    flat, near, none = (jaxem.mixture(families.poisson(), 3, concentration=a) for a in (1, 1 + 1e-9, None))
    params = Mixture(jnp.asarray(weights), Poisson(jnp.array([1.0, 5.0, 9.0])))
    np.testing.assert_allclose(flat.log_prior(params), scipy_stats.dirichlet.logpdf(weights, np.ones(3)), rtol=1e-13)
    np.testing.assert_allclose(near.log_prior(params), flat.log_prior(params), atol=1e-8)
    assert none.log_prior is None
    stats = none.e_step(params, jnp.asarray(COUNTS, float), jnp.ones(50))[0]
    np.testing.assert_array_equal(flat.m_step(params, stats).weights, none.m_step(params, stats).weights)
    two = jaxem.mixture(families.poisson(), 2, concentration=np.array([2.0, 1.0]))
    assert two is jaxem.mixture(families.poisson(), 2, concentration=[2, 1])
    assert jaxem.mixture(families.poisson(), 3, concentration=[1, 1, 1]) is flat


def test_an_absent_component_has_no_part_in_the_prior_of_weights():
    three, two = (jaxem.mixture(families.poisson(), k, concentration=CONCENTRATION) for k in (3, 2))
    padded = Mixture(jnp.append(START.weights, 0.0), Poisson(jnp.append(START.components.rate, 3.0)))
    expected = jaxem.fit(two, START, COUNTS, tol=-np.inf, max_steps=5)
    received = jaxem.fit(three, padded, COUNTS, tol=-np.inf, max_steps=5)
    assert received.params.weights[2] == 0
    np.testing.assert_allclose(received.params.weights[:2], expected.params.weights, rtol=1e-12)
    np.testing.assert_allclose(received.history, expected.history, rtol=1e-13)


def test_a_component_without_rows_goes_where_the_prior_is_highest():
    model = jaxem.mixture(families.poisson(PRIOR), 2)
    far = START._replace(components=Poisson(jnp.array([4.0, 1e8])))
    fit = jaxem.fit(model, far, COUNTS, tol=-np.inf, max_steps=1)
    assert fit.params.weights[1] == 0
    np.testing.assert_allclose(fit.params.components.rate[1], (PRIOR.shape - 1) / PRIOR.rate, rtol=1e-12)


def test_a_prior_keeps_columns_of_zeros_from_the_edge_from_the_first_start_on():
    x = jnp.asarray(np.stack([np.zeros(20), np.arange(20) % 2], 1), float)
    for family, expected in (
        (families.bernoulli(BetaPrior(2.0, 3.0)), [1 / 23, 11 / 23]),
        (families.poisson(GammaPrior(2.0, 1.0)), [1 / 21, 11 / 21]),
    ):
        model = jaxem.single(family)
        start = model.init(0, x)
        assert np.isfinite(model.log_prior(start))
        received = model.m_step(start, model.e_step(start, model.prepare(x, None), jnp.ones(20))[0])
        np.testing.assert_allclose(received[0][0], expected, rtol=1e-12)


def test_every_conjugate_family_has_the_mode_of_its_textbook():
    alpha, rate = np.array([2.0, 1.0, 4.0]), GammaPrior((2.0, 3.0), 0.5)
    counts = jnp.asarray(RNG.integers(0, 9, (2, 3)), float)
    seen = np.asarray(counts) + alpha - 1
    normalized = seen / seen.sum(1, keepdims=True)
    prior = families.DirichletPrior(alpha)
    family = families.categorical(3, prior)
    old = families.Categorical(jnp.ones((2, 3)) / 3)
    np.testing.assert_allclose(family.m_step(old, counts).probs, normalized, rtol=1e-14)
    expected = sum(scipy_stats.dirichlet.logpdf(row, alpha) for row in normalized)
    np.testing.assert_allclose(family.log_prior(families.Categorical(jnp.asarray(normalized))), expected, rtol=1e-13)
    shares = ShareStats(counts, counts, counts, jnp.zeros(()))
    np.testing.assert_allclose(families.multinomial(prior).m_step(None, shares).probs, normalized, rtol=1e-14)
    exponential = families.exponential(rate)
    received = exponential.m_step(None, ExponentialStats(jnp.array([3.0, 5.0]), jnp.ones((2, 2)))).rate
    np.testing.assert_allclose(received, [[4 / 1.5, 5 / 1.5], [6 / 1.5, 7 / 1.5]], rtol=1e-14)
    assert exponential.degenerate is None
    two = ShareStats(counts[:, :2], counts[:, :2], counts[:, :2], jnp.zeros(()))
    received = families.binomial(BetaPrior(2.0, 3.0)).m_step(families.Binomial(jnp.zeros(2)), two).probs
    np.testing.assert_allclose(received, (counts[:, 0] + 1) / (counts[:, 0] + counts[:, 1] + 3), rtol=1e-14)


def test_a_prior_of_categories_leaves_out_those_that_a_column_has_not():
    family = families.categorical((2, 3), families.DirichletPrior(2.0))
    probs = family.m_step(families.Categorical(jnp.ones((1, 2, 3)) / 3), jnp.zeros((1, 2, 3))).probs
    np.testing.assert_allclose(probs, [[[0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]]], rtol=1e-14)
    expected = scipy_stats.dirichlet.logpdf([0.5, 0.5], [2, 2]) + scipy_stats.dirichlet.logpdf([1 / 3] * 3, [2] * 3)
    np.testing.assert_allclose(family.log_prior(families.Categorical(probs)), expected, rtol=1e-13)


def test_starts_are_ranked_and_counted_by_log_likelihood_plus_log_prior():
    """Params that stay where they start: the likelihood is higher at 0, what is climbed at 1."""
    model = jaxem.Model(
        lambda theta, x, weights: (x.sum(), -theta * weights.sum()),
        lambda theta, stats: theta,
        log_prior=lambda theta: 20 * theta,
    )
    search = jaxem.fit_restarts(model, 0, np.ones(10), starts=np.array([0.0, 1.0, 0.0]), num_continued=3)
    assert search.best.params == 1
    assert jaxem.num_reached(search) == 1
    np.testing.assert_array_equal(search.fits.height, [0, 10, 0])


def shy_of_small_variances(params):
    """Inverse-Gamma priors of the variances."""
    return -(2 * jnp.log(params.components.covariance) + 0.1 / params.components.covariance).sum()


def no_opinion(params):
    return 0 * params.weights.sum()


@pytest.mark.parametrize(("log_prior", "expected"), [(shy_of_small_variances, "CONVERGED"), (no_opinion, "DEGENERATE")])
def test_a_collapse_is_prevented_by_a_prior_that_speaks_against_it_and_reported_under_another(log_prior, expected):
    x = np.concatenate([np.random.default_rng(0).normal(size=(40, 1)), np.full((5, 1), 9.0)])
    start = Mixture([0.9, 0.1], families.Gaussian(np.array([[0.0], [9.0]]), np.ones((2, 1))))
    fit = jaxem.fit(jaxem.with_prior(jaxem.mixture(families.gaussian("diag"), 2), log_prior), start, x)
    assert Status(fit.status).name == expected
    assert np.isfinite(fit.log_likelihood)
    if expected == "CONVERGED":  # the mode of five rows without spread: (S + 0.2) / (N + 4)
        np.testing.assert_allclose(fit.params.components.covariance[1, 0], 0.2 / 9, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: families.poisson(GammaPrior(0.5, 1.0)), r"prior\.shape must be a number ≥ 1, .*got 0\.5"),
        (lambda: families.poisson(GammaPrior(2.0, 0.0)), r"prior\.rate must be a number > 0, .*got 0\.0"),
        (lambda: families.poisson(2.0), r"prior must be a families\.GammaPrior, got 2\.0"),
        (lambda: families.bernoulli(BetaPrior(2.0, np.nan)), r"prior\.b must be a number ≥ 1, .*got nan"),
        (lambda: jaxem.mixture(families.poisson(), 2, concentration=0.5), r"concentration must be a number ≥ 1.*got 0\.5"),
        (lambda: jaxem.mixture(families.poisson(), 2, concentration=[1, 2, 3]), r"one for each of the 2 components"),
        (
            lambda: jaxem.mixture(families.poisson(), 2, families.poisson(), 2.0),
            "concentration is a prior of weights, and a gate",
        ),
        (lambda: jaxem.with_prior(jaxem.single(families.poisson()), 1.0), r"log_prior must be a function of params, got 1\.0"),
        (lambda: jaxem.with_prior(jaxem.Model(len, len), len), r"needs model\.expected_log_joint"),
        (
            lambda: jaxem.fit(
                jaxem.with_prior(jaxem.mixture(families.poisson(), 2), lambda params: params.weights), START, COUNTS
            ),
            r"log_prior\(params\) must return a scalar, in nats, got shape \(2,\)",
        ),
        (
            lambda: jaxem.fit(jaxem.single(families.poisson(GammaPrior((2.0, 3.0), 1.0))), Poisson([1.0]), COUNTS),
            r"prior has 2 numbers, needs one, or 1",
        ),
    ],
)
def test_what_is_no_prior_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_prior_is_part_of_what_a_family_is_known_by():
    assert families.poisson(GammaPrior(2, 1)) is families.poisson(GammaPrior(2.0, np.float32(1)))
    assert families.poisson(prior=None) is families.poisson()
    assert jax.tree.leaves(families.poisson(GammaPrior([2.0, 3.0], 1.0)).parts[1]) == [2.0, 3.0, 1.0]
