"""Zeros of another origin, against flexmix and plain loops."""

import csv
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from conftest import DATA
from plain_em import poisson_log_mass

import jaxem
from jaxem import Status, families
from jaxem.families import GLM, Poisson, Regression, Trials, ZeroInflated

FAMILY = families.zero_inflated(families.poisson())
COUNTS = np.random.default_rng(0).poisson(np.where(np.arange(60) % 3, 4.0, 0.0))
PARAMS = ZeroInflated(jnp.array([0.3, 0.0]), Poisson(jnp.array([2.0, 5.0])))


def dental():
    with (DATA / "dmft.csv").open() as file:
        rows = list(csv.DictReader(file))
    dummies = [("Gender", "male"), ("Ethnic", "white"), ("Ethnic", "black")]
    dummies += [("Treatment", name) for name in ("educ", "all", "enrich", "rinse", "hygiene")]
    x = [[1.0, math.log(float(row["Begin"]) + 0.5), *(float(row[c] == level) for c, level in dummies)] for row in rows]
    return Regression(np.array(x), np.array([float(row["End"]) for row in rows]))


def test_zero_inflated_poisson_regression_has_the_maximum_of_flexmix(reference):
    expected, data = reference("dmft_zip_reg"), dental()
    model = jaxem.single(families.zero_inflated(families.glm("poisson")))
    fit = jaxem.fit(model, model.init(0, data), data, solver=jaxem.squarem())
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.log_likelihood, expected["verified"]["ml_loglik"], rtol=0, atol=1e-6)
    log_odds, *coefficients = expected["verified"]["theta_ml"]
    np.testing.assert_allclose(fit.params.zero, 1 / (1 + np.exp(-log_odds)), rtol=1e-3)
    np.testing.assert_allclose(fit.params.components.coefficients[0], coefficients, rtol=1e-3, atol=1e-5)
    assert jaxem.num_free_parameters(model, fit.params) == expected["expected"]["n_params"]


def plain_log_mass(count, k):
    share, rate = float(PARAMS.zero[k]), float(PARAMS.components.rate[k])
    return math.log(share * (count == 0) + (1 - share) * math.exp(poisson_log_mass(count, rate)))


@pytest.mark.thorough
def test_a_step_is_that_of_a_plain_loop_over_both_origins_of_a_zero():
    r = np.random.default_rng(1).dirichlet(np.ones(2), 60)
    log_prob, statistics = FAMILY.evaluate(PARAMS, FAMILY.prepare(COUNTS, None))
    expected = [[plain_log_mass(count, k) for k in range(2)] for count in COUNTS]
    np.testing.assert_allclose(log_prob, expected, rtol=1e-12)
    new = FAMILY.m_step(PARAMS, statistics(jnp.asarray(r)))
    for k in range(2):
        zeros, others, total = 0.0, 0.0, 0.0
        for n, count in enumerate(COUNTS):
            chance = float(PARAMS.zero[k]) * (count == 0) / math.exp(plain_log_mass(count, k))
            zeros, others = zeros + r[n, k] * chance, others + r[n, k] * (1 - chance)
            total += r[n, k] * (1 - chance) * count
        np.testing.assert_allclose(new.zero[k], zeros / (zeros + others), rtol=1e-11)
        np.testing.assert_allclose(new.components.rate[k], total / others, rtol=1e-11)


def test_one_component_is_the_family_alone():
    start = jax.tree.map(lambda leaf: leaf[:1], PARAMS)
    alone = jaxem.fit(jaxem.single(FAMILY), start, COUNTS)
    mixed = jaxem.fit(jaxem.mixture(FAMILY, 1), jaxem.Mixture(np.ones(1), start), COUNTS)
    np.testing.assert_allclose(alone.history[:9], mixed.history[:9], rtol=1e-12)
    np.testing.assert_allclose(alone.params.zero, mixed.params.components.zero, rtol=1e-9)


def test_all_zeros_and_no_zeros_end_finite():
    for x in (np.zeros(20, int), np.full(20, 3)):
        fit = jaxem.fit(jaxem.single(FAMILY), jax.tree.map(lambda leaf: leaf[:1], PARAMS), x)
        assert fit.status == Status.CONVERGED
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit.params))
    np.testing.assert_allclose(fit.params.zero, 0, atol=1e-12)


@pytest.mark.parametrize("data", [Trials([0, 3, 0, 5], [5] * 4), Regression(np.ones((4, 1)), [0, 3, 0, 5])])
def test_samples_are_like_the_data_with_zeros_in_place(data):
    family = families.binomial() if isinstance(data, Trials) else families.glm("poisson")
    components = jaxem.families.Binomial([0.999]) if isinstance(data, Trials) else GLM([[5.0]])
    drawn, _ = jaxem.single(families.zero_inflated(family)).sample(0, ZeroInflated([1.0], components), data)
    assert type(drawn) is type(data)
    np.testing.assert_array_equal(drawn.successes if isinstance(data, Trials) else drawn.y, 0)
    drawn, _ = jaxem.single(families.zero_inflated(family)).sample(0, ZeroInflated([0.0], components), data)
    assert (np.asarray(drawn.successes if isinstance(data, Trials) else drawn.y) > 0).all()


@pytest.mark.thorough
def test_what_was_observed_of_a_row_is_zero_or_not_whatever_stands_in_its_holes():
    x, seen = np.array([[0, 9], [0, 0], [9, 9], [3, 0]]), np.array([[1, 0], [1, 1], [0, 0], [1, 1]], bool)
    params = ZeroInflated(jnp.array([0.3]), Poisson(jnp.array([[2.0, 5.0]])))
    rows = FAMILY.prepare(families.Observed(np.where(seen, x, np.nan), seen), None)
    mass = np.where(seen, scipy.stats.poisson.pmf(x, [2.0, 5.0]), 1).prod(1)
    expected = 0.3 * (np.where(seen, x, 0) == 0).all(1) + 0.7 * mass
    np.testing.assert_allclose(np.exp(FAMILY.evaluate(params, rows)[0][:, 0]), expected, rtol=1e-12)
    drawn = FAMILY.sample(jax.random.key(0), params._replace(zero=jnp.ones(1)), jnp.zeros(4, int), rows)
    np.testing.assert_array_equal(drawn.values, np.where(seen, 0, np.nan))


def test_what_is_no_array_of_counts_is_refused():
    model = jaxem.single(families.zero_inflated(families.product(a=families.poisson())))
    with pytest.raises(ValueError, match="inflate the factors of a product one by one"):
        model.init(0, {"a": [0, 1]})
    with pytest.raises(ValueError, match="must be a Family"):
        families.zero_inflated(families.poisson)
