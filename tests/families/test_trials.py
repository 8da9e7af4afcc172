"""Binomial, multinomial and categorical components: sums over all outcomes, SciPy's masses, and boundaries."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxem
from jaxem import Status, families


def log_mass(family, params, data):
    return np.asarray(jax.jit(lambda params, x: family.evaluate(params, x)[0])(params, family.prepare(data, None)))


def test_binomial_and_multinomial_log_masses_are_those_of_scipy_in_float32_at_millions_of_trials():
    for dtype, atol in (("float64", 1e-9), ("float32", 2e-2)):  # an ulp of a deviance of 2e5 nats is 0.016
        probs = np.array([[1, 4, 3], [2, 2, 4], [0, 4, 4]], dtype) / np.asarray(8, dtype)
        x = np.array([[3, 4, 5], [200_000, 500_000, 300_000], [0, 2, 1], [0, 0, 0]])
        expected = np.stack([scipy.stats.multinomial.logpmf(x, x.sum(1), p.astype(float)) for p in probs], 1)
        received = log_mass(families.multinomial(), families.Multinomial(jnp.asarray(probs)), jnp.asarray(x, dtype))
        np.testing.assert_allclose(received, expected, rtol=1e-6, atol=atol)
        data = families.Trials(jnp.asarray(x[:, 0], dtype), jnp.asarray(x.sum(1), dtype))
        received = log_mass(families.binomial(), families.Binomial(jnp.asarray(probs[:, 0])), data)
        expected = scipy.stats.binom.logpmf(x[:, :1], x.sum(1, keepdims=True), probs[None, :, 0].astype(float))
        np.testing.assert_allclose(received, expected, rtol=1e-6, atol=atol)


def test_masses_sum_to_one_over_all_outcomes():
    rows = np.array([x for x in itertools.product(range(6), repeat=3) if sum(x) == 5], float)
    params = families.Multinomial(jnp.array([[0.2, 0.5, 0.3], [0.7, 0.3, 0.0]]))
    np.testing.assert_allclose(np.exp(log_mass(families.multinomial(), params, rows)).sum(0), 1, rtol=1e-13)
    codes = np.array(list(itertools.product(range(2), range(3))), float)
    params = families.Categorical(jnp.array([[[0.2, 0.8, 0.0], [0.1, 0.3, 0.6]]]))
    received = np.exp(log_mass(families.categorical((2, 3)), params, codes))[:, 0]
    np.testing.assert_allclose(received, np.outer([0.2, 0.8], [0.1, 0.3, 0.6]).ravel(), rtol=1e-14)


def test_one_column_of_codes_and_one_of_trials_have_parameters_without_a_column():
    codes = jaxem.mixture(families.categorical(3), 2)
    assert codes.init(0, [0, 1, 2, 2]).components.probs.shape == (2, 3)
    tried = jaxem.mixture(families.binomial(), 2)
    assert tried.init(0, families.Trials([0, 1, 3], [4, 4, 3])).components.probs.shape == (2,)


@pytest.mark.thorough
def test_a_mixture_of_multinomials_ends_where_mixtools_does(reference, table):
    found, x = reference("mixtools_water_multinomial_3"), table("waterdata_counts")
    model = jaxem.mixture(families.multinomial(), 3)
    start = jaxem.Mixture(np.array(found["init"]["weights"]), families.Multinomial(np.array(found["init"]["theta"])))
    start = jax.tree.map(lambda leaf: leaf / leaf.sum(-1, keepdims=True), start)
    fit = jaxem.fit(model, start, x, solver=jaxem.squarem())
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.log_likelihood, found["verified"]["loglik_with_coefficient"], atol=1e-5)
    order = np.argsort(-fit.params.weights)
    np.testing.assert_allclose(fit.params.weights[order], found["expected"]["weights"], rtol=1e-3)
    np.testing.assert_allclose(fit.params.components.probs[order], found["expected"]["theta"], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "data"),
    [
        (families.binomial(), families.Trials([0.0, 0, 0, 0], [3.0, 3, 3, 3])),
        (families.binomial(), families.Trials([1.0, 0, 1, 0], [1.0, 1, 1, 1])),
        (families.binomial(), families.Trials([2.0, 3, 0, 1], [2.0, 3, 0, 1])),
        (families.multinomial(), [[0.0, 3], [0, 3], [0, 1], [0, 0]]),
        (families.categorical(4), [[0.0, 3], [1, 3], [0, 3], [1, 3]]),
    ],
)
def test_zeros_ones_one_trial_and_constant_columns_end_converged_and_finite(family, data):
    model = jaxem.mixture(family, 2)
    fit = jaxem.fit(model, model.init(0, data), data)
    assert fit.status == Status.CONVERGED and np.isfinite(fit.log_likelihood)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit.params))


def test_samples_keep_trials_and_totals():
    data = families.Trials([[1.0, 2.0]] * 5, [[4.0, 9.0]] * 5)
    model = jaxem.single(families.binomial())
    drawn, _ = model.sample(0, families.Binomial(jnp.array([[0.3, 0.9]])), data)
    np.testing.assert_array_equal(drawn.trials, data.trials)
    rows = np.array([[3.0, 0, 1], [5, 5, 5]])
    model = jaxem.single(families.multinomial())
    drawn, _ = model.sample(0, families.Multinomial(jnp.array([[0.3, 0.3, 0.4]])), rows)
    np.testing.assert_array_equal(drawn.sum(1), rows.sum(1))
    with pytest.raises(ValueError, match="like must be data"):
        model.sample(0, families.Multinomial(jnp.array([[0.3, 0.3, 0.4]])), 5)


@pytest.mark.parametrize(
    ("family", "data", "says"),
    [
        (families.binomial(), np.zeros(3), "data must be families.Trials"),
        (families.binomial(), families.Trials([1, 5], [2, 3]), "successes has more"),
        (families.binomial(), families.Trials([1, 0.5], [2, 3]), "successes: data needs counts"),
        (families.binomial(), families.Trials([1, 0], [2, -3]), "trials: data needs counts"),
        (families.binomial(), families.Trials([1, 0], [[2, 3]]), "trials has shape"),
        (families.multinomial(), [1, 2], "needs .n, d."),
        (families.multinomial(), [[1, -2]], "counts"),
        (families.categorical(3), [0, 3], "codes, whole numbers from 0 to 2"),
        (families.categorical((2, 3)), [[0, 2], [2, 2]], r"columns \[0\]"),
        (families.categorical((2, 3)), [[0, 2, 1]], "3 columns, needs 2"),
    ],
)
def test_what_is_no_such_data_is_refused_by_name(family, data, says):
    with pytest.raises(ValueError, match=says):
        family.prepare(data, None)


def test_numbers_of_categories_are_whole():
    for wrong in (0, 2.5, True, (), (2, 0)):
        with pytest.raises(ValueError, match=r"num_categories|columns"):
            families.categorical(wrong)
    assert families.categorical([2, 3]) is families.categorical((2, 3))


@pytest.mark.thorough
def test_trials_of_which_successes_or_their_number_are_missing_say_nothing():
    family, nan = families.binomial(), np.nan
    successes, trials = np.array([[1, nan], [3, 2], [2, 1]]), np.array([[4, 9], [4, 4], [nan, 4]])
    data = families.observed(families.Trials(successes, trials))
    params = families.Binomial(jnp.array([[0.3, 0.6]]))
    x = family.prepare(data, jnp.ones(3))
    log_prob, statistics = family.evaluate(params, x)
    expected = scipy.stats.binom.logpmf(successes, trials, params.probs)
    np.testing.assert_allclose(log_prob[:, 0], np.nansum(expected, 1), rtol=1e-13)
    np.testing.assert_allclose(family.m_step(params, statistics(jnp.ones((3, 1)))).probs, [[4 / 8, 3 / 8]], rtol=1e-15)
    none = family.m_step(params, statistics(jnp.array([[1.0], [0.0], [0.0]]))).probs
    np.testing.assert_allclose(none, [[1 / 4, 0.6]], rtol=1e-15)
    with pytest.raises(ValueError, match=r"columns \[1\] have no observed value"):
        family.prepare(data, jnp.array([1.0, 0.0, 0.0]))
