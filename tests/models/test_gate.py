"""A mixture with a gate, π_k a function of covariates, against plain loops."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_em import e_step, poisson_log_mass

import jaxem
from jaxem import Family, Status, constraints, families
from jaxem.families import Gated

GROUPS = np.arange(80) % 2
COUNTS = np.random.default_rng(0).poisson(np.where(np.random.default_rng(1).random(80) < 0.3 + 0.4 * GROUPS, 2, 9))
DATA = Gated(GROUPS, COUNTS)
TABLE = np.array([[0.3, 0.7], [0.8, 0.2]])
RATES = np.array([1.5, 8.0])
PARAMS = jaxem.Mixture(jnp.asarray(TABLE), families.Poisson(jnp.asarray(RATES)))


def tabulated(num_groups):
    """The gate of a table (groups, k): the share of each label in each of the groups that rows are told to be of."""

    def evaluate(table, group):
        member = (group[:, None] == jnp.arange(num_groups)[None]).astype(table.dtype)
        return jnp.log(table)[group], lambda responsibilities: member.T @ responsibilities

    def share(stats):
        return stats / stats.sum(1, keepdims=True)

    return Family(
        evaluate,
        lambda table, stats: share(stats),
        lambda table, stats: (stats * jnp.log(table)).sum(),
        lambda group, responsibilities: share(
            evaluate(jnp.ones((num_groups, 1), responsibilities.dtype), group)[1](responsibilities)
        ),
        constraints=constraints.on_axes(constraints.simplex, (1,)),
    )


MODEL = jaxem.mixture(families.poisson(), 2, gate=tabulated(2))


def plain_step(table, rates):
    """One EM step by a loop over rows, each with the proportions of its own group."""
    responsibilities, log_likelihood = np.zeros((80, 2)), 0.0
    for n, (group, count) in enumerate(zip(GROUPS, COUNTS, strict=True)):
        shares, value = e_step([count], [1.0], table[group], lambda row, k: poisson_log_mass(row, rates[k]))
        responsibilities[n], log_likelihood = shares[0], log_likelihood + value
    new = np.array([[responsibilities[GROUPS == g, k].sum() for k in range(2)] for g in range(2)])
    rates = responsibilities.T @ COUNTS / responsibilities.sum(0)
    return new / new.sum(1, keepdims=True), rates, responsibilities, log_likelihood


def test_twenty_steps_are_those_of_a_plain_loop():
    table, rates, expected = TABLE, RATES, []
    for _ in range(21):
        last = table, rates
        table, rates, _, log_likelihood = plain_step(table, rates)
        expected.append(log_likelihood)
    fit = jaxem.fit(MODEL, PARAMS, DATA, tol=-np.inf, max_steps=20)
    np.testing.assert_allclose(fit.history, expected, rtol=1e-12)
    np.testing.assert_allclose(fit.params.weights, last[0], rtol=1e-9)
    np.testing.assert_allclose(fit.params.components.rate, last[1], rtol=1e-9)


def test_posterior_and_log_prob_are_bayes_rule_with_the_proportions_of_the_row():
    _, _, responsibilities, log_likelihood = plain_step(TABLE, RATES)
    np.testing.assert_allclose(MODEL.posterior(PARAMS, DATA), responsibilities, atol=1e-13)
    np.testing.assert_allclose(MODEL.log_prob(PARAMS, DATA).sum(), log_likelihood, rtol=1e-12)


@pytest.mark.thorough
def test_restarts_find_proportions_that_differ_between_groups():
    search = jaxem.fit_restarts(MODEL, jax.random.key(0), DATA, num_restarts=8, num_continued=8)
    assert search.best.status == Status.CONVERGED
    assert search.best.log_likelihood >= jaxem.fit(MODEL, PARAMS, DATA).log_likelihood - 1e-6
    low = int(np.argmin(search.best.params.components.rate))
    np.testing.assert_allclose(search.best.params.weights[:, low], [0.3, 0.7], atol=0.2)


def test_one_group_is_a_mixture_without_a_gate():
    data, plain = Gated(np.zeros(80, int), COUNTS), jaxem.mixture(families.poisson(), 2)
    gated = jaxem.mixture(families.poisson(), 2, gate=tabulated(1))
    received = jaxem.fit(gated, PARAMS._replace(weights=jnp.array([[0.4, 0.6]])), data)
    expected = jaxem.fit(plain, PARAMS._replace(weights=jnp.array([0.4, 0.6])), COUNTS)
    np.testing.assert_allclose(received.log_likelihood, expected.log_likelihood, rtol=1e-13)
    np.testing.assert_allclose(received.params.weights[0], expected.params.weights, rtol=1e-9)


def test_samples_follow_the_gate_and_keep_its_covariates():
    like = Gated(np.arange(20_000) % 2, np.zeros(20_000, int))
    data, labels = MODEL.sample(jax.random.key(0), PARAMS, like)
    np.testing.assert_array_equal(data.gate, like.gate)
    for group in range(2):
        np.testing.assert_allclose(labels[like.gate == group].mean(), TABLE[group, 1], atol=0.02)
    for k in range(2):
        np.testing.assert_allclose(data.data[labels == k].mean(), RATES[k], rtol=0.03)


def test_a_gate_is_counted_by_its_own_constraint():
    assert jaxem.num_free_parameters(MODEL, PARAMS) == 2 * 1 + 2


def test_rows_of_probability_zero_under_the_gate_belong_to_the_other_label():
    params = PARAMS._replace(weights=jnp.array([[1.0, 0.0], [0.5, 0.5]]))
    received = MODEL.posterior(params, DATA)
    np.testing.assert_array_equal(received[GROUPS == 0], [[1.0, 0.0]] * 40)
    expected = [poisson_log_mass(count, RATES[0]) for count in COUNTS[GROUPS == 0]]
    np.testing.assert_allclose(MODEL.log_prob(params, DATA)[GROUPS == 0], expected, rtol=1e-12)
    assert math.isfinite(jaxem.fit(MODEL, params, DATA).log_likelihood)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: jaxem.fit(MODEL, PARAMS, COUNTS),
            r"data must be families\.Gated\(gate, data\) where there is a gate, got ndarray",
        ),
        (lambda: MODEL.sample(jax.random.key(0), PARAMS, 10), "like must be data: labels depend on the gate's covariates"),
        (lambda: jaxem.mixture(families.poisson(), 2, gate=families.poisson), "gate must be a Family"),
        (lambda: jaxem.fit(MODEL, PARAMS, Gated(GROUPS[:5], COUNTS)), r"data has arrays of \[5, 80\] rows"),
    ],
)
def test_what_a_gate_cannot_take_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
