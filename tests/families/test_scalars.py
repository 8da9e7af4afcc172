"""Families of one number, against SciPy's densities: their formulas, their M-steps, and what lies on their boundaries."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import jaxem
from jaxem import Status, families


class Case(NamedTuple):
    """A family, params of two components, and SciPy's log-density in the order of the record's fields."""

    family: jaxem.Family
    params: Any
    log_density: Any
    sharp: Any  # params of one component that float32 can hardly hold, and where to look at it


CASES = {
    "exponential": Case(
        families.exponential(),
        families.Exponential([0.2, 3.0]),
        lambda x, rate: scipy.stats.expon.logpdf(x, scale=1 / rate),
        None,
    ),
    "gamma": Case(
        families.gamma(),
        families.Gamma([0.4, 30.0], [2.0, 5.0]),
        lambda x, shape, rate: scipy.stats.gamma.logpdf(x, shape, scale=1 / rate),
        ((1e6, 2e4), np.linspace(49.8, 50.2, 9)),
    ),
    "log-normal": Case(
        families.log_normal(),
        families.LogNormal([-1.0, 4.0], [0.5, 1.5]),
        lambda x, location, scale: scipy.stats.lognorm.logpdf(x, scale, scale=np.exp(location)),
        ((4.0, 1e-3), np.exp(np.linspace(3.996, 4.004, 9))),
    ),
    "weibull": Case(
        families.weibull(),
        families.Weibull([0.7, 6.0], [2.0, 50.0]),
        lambda x, shape, scale: scipy.stats.weibull_min.logpdf(x, shape, scale=scale),
        ((1e3, 50.0), np.linspace(49.8, 50.1, 9)),
    ),
    "beta": Case(
        families.beta(),
        families.Beta([0.6, 40.0], [3.0, 8.0]),
        lambda x, a, b: scipy.stats.beta.logpdf(x, a, b),
        ((6e5, 2e5), np.linspace(0.748, 0.752, 9)),
    ),
    "negative binomial": Case(
        families.negative_binomial(),
        families.NegativeBinomial([3.0, 60.0], [0.7, 9.0]),
        lambda x, mean, size: scipy.stats.nbinom.logpmf(x, size, size / (size + mean)),
        ((4e4, 1e5), np.round(np.linspace(39000, 41000, 9))),
    ),
}
EACH = pytest.mark.parametrize("name", CASES)


def params_of(case, dtype="float64"):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), case.params, is_leaf=lambda node: isinstance(node, list))


def drawn(case, num=4000):
    labels = np.arange(num) % 2
    x = case.family.sample(jax.random.key(1), params_of(case), jnp.asarray(labels), None)
    return np.asarray(x), np.eye(2)[labels]


def standard_errors(loss, num, step=1e-3):
    """By second differences of minus the log-likelihood at zero."""
    moves = step * np.eye(num)
    curvature = [[sum(s * t * loss(s * a + t * b) for s in (1, -1) for t in (1, -1)) for a in moves] for b in moves]
    return np.sqrt(np.diag(np.linalg.inv(np.array(curvature) / (4 * step**2))))


def log_density(case, params, x):
    return jax.jit(lambda params, x: case.family.evaluate(params, x)[0])(params, case.family.prepare(jnp.asarray(x), None))


@EACH
def test_the_log_density_is_that_of_scipy_entry_by_entry(name):
    case = CASES[name]
    x = drawn(case, 40)[0]
    expected = np.stack([case.log_density(x, *theta) for theta in zip(*case.params, strict=True)], 1)
    for dtype, rtol, atol in (("float64", 1e-11, 1e-11), ("float32", 2e-6, 3e-5)):
        received = log_density(case, params_of(case, dtype), x.astype(dtype))
        assert received.dtype == dtype
        np.testing.assert_allclose(received, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.sharp])
def test_in_float32_a_sharp_component_keeps_the_digits_that_its_data_have(name):
    case = CASES[name]
    theta, x = case.sharp
    x = np.asarray(x, np.float32)
    params = type(case.params)(*(jnp.asarray([leaf], "float32") for leaf in theta))
    received = log_density(case, params, x)[:, 0]
    np.testing.assert_allclose(received, case.log_density(x.astype(float), *theta), atol=1e-3)


@EACH
def test_columns_are_independent(name):
    case = CASES[name]
    x = drawn(case, 40)[0].reshape(20, 2)
    params = params_of(case)
    each = [log_density(case, params, column) for column in x.T]
    wide = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf], 1), params)
    received = log_density(case, wide, x)
    np.testing.assert_allclose(received, sum(each), rtol=1e-12)


@EACH
def test_the_m_step_on_its_own_draws_recovers_the_parameters_and_leaves_nothing_to_gain(name):
    case = CASES[name]
    x, shares = drawn(case)
    family, rows = case.family, case.family.prepare(jnp.asarray(x), None)
    params = jax.jit(family.init)(rows, shares)
    params = jax.jit(lambda params: family.m_step(params, family.evaluate(params, rows)[1](jnp.asarray(shares))))(params)
    for k, theta in enumerate(zip(*params, strict=True)):
        mine, theta, true = x[shares[:, k] > 0], np.array(theta), np.array([leaf[k] for leaf in case.params])

        def loss(free, mine=mine, theta=theta):
            return -case.log_density(mine, *theta * np.exp(free)).sum()

        here = np.zeros(len(theta))
        assert loss(here) - scipy.optimize.minimize(loss, here, tol=1e-12).fun < 1e-6
        np.testing.assert_array_less(np.abs(np.log(theta / true)), 6 * standard_errors(loss, len(theta)))


@EACH
def test_what_lies_outside_the_domain_is_refused(name):
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"data (needs|has NaN or infinite)"):
            CASES[name].family.prepare(np.array([[0.5, 0.5], [0.2, wrong]]), None)


@pytest.mark.each_time(2)
@pytest.mark.parametrize("name", ["exponential", "gamma", "log-normal", "weibull", "beta"])
def test_equal_rows_end_finite_and_held(name):
    family = CASES[name].family
    model, x = jaxem.single(family), np.full(8, 0.25 if name != "exponential" else 0.0)
    fit = jaxem.fit(model, model.init(0, x), x)
    assert fit.status == Status.DEGENERATE
    assert np.isfinite(fit.log_likelihood) and all(np.isfinite(leaf).all() for leaf in fit.params)


def test_waiting_times_in_tiny_units_are_not_taken_for_zeros_in_float32():
    family, x = families.exponential(), np.asarray([1e-25, 3e-25], "float32")
    received = family.init(family.prepare(x, None), jnp.ones((2, 1), "float32")).rate
    np.testing.assert_allclose(received, 5e24, rtol=1e-6)


def test_gamma_components_take_numbers_of_sixty_decades_in_float32():
    x = np.float32(10.0 ** np.random.default_rng(0).uniform(-30, 30, 300))
    model = jaxem.single(families.gamma())
    fit = jaxem.fit(model, model.init(0, x), x)
    assert fit.status == Status.CONVERGED
    mean = x.astype(float).mean()
    excess = np.log(mean) - np.log(x.astype(float)).mean()
    shape = scipy.optimize.brentq(lambda a: np.log(a) - scipy.special.digamma(a) - excess, 1e-6, 1e3)
    np.testing.assert_allclose(fit.params.shape, [shape], rtol=1e-5)
    np.testing.assert_allclose(fit.params.rate, [shape / mean], rtol=1e-5)


def test_a_mixture_of_gammas_ends_where_mixtools_does(reference, table):
    found, x = reference("mixtools_eruptions_gamma_2"), table("eruptions")
    start = {name: np.array(value) for name, value in found["init"].items()}
    model = jaxem.mixture(families.gamma(), 2)
    fit = jaxem.fit(model, jaxem.Mixture(start["weights"], families.Gamma(start["shape"], 1 / start["scale"])), x)
    expected, order = found["verified"]["params_ml"], np.argsort(-fit.params.weights)
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.log_likelihood, found["verified"]["ml_loglik"], atol=1e-6)
    np.testing.assert_allclose(fit.params.weights[order], expected["weights"], rtol=1e-4)
    np.testing.assert_allclose(fit.params.components.shape[order], expected["shape"], rtol=1e-4)
    np.testing.assert_allclose(1 / fit.params.components.rate[order], expected["scale"], rtol=1e-4)


@pytest.mark.thorough
def test_counts_that_vary_no_more_than_poisson_ones_end_converged_as_poisson():
    x = np.arange(60) % 5
    models = (jaxem.mixture(family(), 1) for family in (families.negative_binomial, families.poisson))
    mine, poisson = (jaxem.fit(model, model.init(0, x), x) for model in models)
    assert mine.status == Status.CONVERGED and mine.params.components.size == 1e10
    np.testing.assert_allclose(mine.log_likelihood, poisson.log_likelihood, rtol=1e-9)


@pytest.mark.each_time(1)
@pytest.mark.parametrize("x", [np.zeros(6), np.full(6, 7), np.array([0.0, 5.0])])
def test_counts_that_tell_little_end_finite(x):
    model = jaxem.mixture(families.negative_binomial(), 2)
    fit = jaxem.fit(model, model.init(0, x), x)
    assert fit.status == Status.CONVERGED and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit.params))


def test_a_table_of_counts_and_a_pass_over_rows_give_the_same():
    case = CASES["negative binomial"]
    few, many = np.arange(80.0) % 40, np.arange(600.0) * 3
    received = log_density(case, params_of(case), np.concatenate([few, many]))
    expected = [log_density(case, params_of(case), x) for x in (few, many[:100])]
    np.testing.assert_allclose(received[:180], np.concatenate(expected), rtol=1e-12)


def test_under_a_trace_counts_are_tallied_as_they_are_at_hand():
    family, x = families.negative_binomial(), np.array([[3.0, 0.0], [0.0, 0.0], [9.0, 2.0], [3.0, 2.0]])
    traced, at_hand = jax.jit(lambda x: family.prepare(x, None))(x), family.prepare(x, None)
    for data in (traced, at_hand):
        values = np.asarray(data.values.value)
        np.testing.assert_array_equal(
            [values[j, place] for row in np.asarray(data.places) for j, place in enumerate(row)], x.ravel()
        )
