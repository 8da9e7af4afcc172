"""The loop: how it stops, what it says, where it can be used, and what it compiles."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import Status, families
from jaxem.starts import from_responsibilities

LONDON = -1989.945859883


def london():
    counts, frequencies = jaxem.datasets.london_times_deaths()
    start = jaxem.Mixture(np.array([0.5, 0.5]), families.Poisson(np.array([1.0, 3.0])))
    return jaxem.mixture(families.poisson(), 2), start, counts, frequencies


def faithful(form="full", num_components=2, dtype="float64", seed=0):
    model = jaxem.mixture(families.gaussian(form), num_components)
    x = jaxem.datasets.faithful().astype(dtype)
    return model, model.init(jax.random.key(seed), x), x


def test_the_default_rule_ends_plain_em_within_a_ten_thousandth_of_a_nat_where_gains_shrink_by_a_hundredth():
    fit = jaxem.fit(*london())
    assert fit.status == Status.CONVERGED
    assert abs(fit.log_likelihood - LONDON) < 1e-4
    assert fit.num_evaluations > 1000
    np.testing.assert_allclose(fit.params.weights[0], 0.359885, rtol=2e-4)
    np.testing.assert_allclose(fit.params.components.rate, [1.256095, 2.663403], rtol=1e-4)


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6])
def test_the_remaining_gain_is_no_more_than_twice_the_tolerance(tol):
    fit = jaxem.fit(*london(), tol=tol)
    assert fit.status == Status.CONVERGED
    assert LONDON - fit.log_likelihood < max(2 * tol, 1e-8)


def test_tolerance_zero_ends_only_at_rounding():
    fit = jaxem.fit(*london(), tol=0)
    assert fit.status == Status.CONVERGED
    gains = np.diff(fit.history[: fit.num_steps + 1])
    assert np.abs(gains[-4:]).max() < 1e-11
    assert abs(fit.log_likelihood - LONDON) < 1e-9


def test_tolerance_minus_infinity_runs_all_steps():
    model, params, x = faithful()
    fit = jaxem.fit(model, params, x, tol=-np.inf, max_steps=200)
    assert (fit.status, fit.num_steps) == (Status.MAX_STEPS, 200)
    assert np.isfinite(fit.history).all()


@pytest.mark.thorough
@pytest.mark.parametrize("tol", [0.0, 1e-8])
@pytest.mark.parametrize("form", ["full", "tied", "diag", "spherical"])
def test_float32_does_not_spin_on_rounding_noise(form, tol):
    model, params, x = faithful(form, 3, "float32")
    single = jaxem.fit(model, params, x, tol=tol)
    double = jaxem.fit(model, jax.tree.map(lambda leaf: leaf.astype("float64"), params), x.astype("float64"))
    assert single.params.components.mean.dtype == jnp.float32
    assert single.status == Status.CONVERGED
    assert single.num_steps <= double.num_steps + 20


def test_history_holds_the_log_likelihood_of_each_iterate_and_nan_after_the_last():
    model, params, x = faithful()
    fit = jaxem.fit(model, params, x, max_steps=100)
    weights, expected = jnp.ones(272), []
    for _ in range(int(fit.num_steps) + 1):
        stats, log_likelihood = model.e_step(params, x, weights)
        expected.append(log_likelihood)
        params = model.m_step(params, stats)
    np.testing.assert_allclose(fit.history[: fit.num_steps + 1], expected, rtol=1e-14)
    assert np.isnan(fit.history[fit.num_steps + 1 :]).all()
    assert fit.history[fit.num_steps] == fit.log_likelihood


def test_zero_steps_evaluate_the_given_params():
    model, params, x = faithful()
    fit = jaxem.fit(model, params, x, max_steps=0)
    assert (fit.status, fit.num_steps, fit.num_evaluations) == (Status.MAX_STEPS, 0, 1)
    np.testing.assert_array_equal(fit.params.components.mean, params.components.mean)


def test_a_fit_from_its_own_end_stays_there():
    model, params, x = faithful()
    end = jaxem.fit(model, params, x, tol=0)
    again = jaxem.fit(model, end.params, x, tol=0)
    assert again.status == Status.CONVERGED
    np.testing.assert_allclose(again.log_likelihood, end.log_likelihood, rtol=1e-14)


def test_equal_models_built_afresh_compile_once():
    names = []
    model, params, x = faithful()
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration, **kwargs: names.append(kwargs.get("fun_name")) if "backend_compile" in event else None
    )
    jaxem.fit(model, params, x, max_steps=7)
    assert len([name for name in names if name and "_fit" in name]) == 1
    equal = jaxem.mixture(family=families.gaussian(form="full"), num_components=2)
    jaxem.fit(equal, params, x + 1, solver=jaxem.em(), max_steps=7)
    jax.monitoring.clear_event_listeners()
    assert len([name for name in names if name and "_fit" in name]) == 1
    assert equal is model
    assert families.gaussian() is families.gaussian("full")


@pytest.mark.thorough
def test_fit_works_inside_the_users_jit_and_vmap():
    model, params, x = faithful()
    expected = jaxem.fit(model, params, x, max_steps=50)
    jitted = jax.jit(lambda start, rows: jaxem.fit(model, start, rows, max_steps=50))(params, x)
    chex.assert_trees_all_close(jitted, expected, rtol=1e-12)
    weights = jnp.stack([jnp.ones(272), (jnp.arange(272) % 2).astype(float)])
    lanes = jax.vmap(lambda w: jaxem.fit(model, params, x, w, max_steps=50))(weights)
    for lane in range(2):
        alone = jaxem.fit(model, params, x, weights[lane], max_steps=50)
        np.testing.assert_allclose(lanes.log_likelihood[lane], alone.log_likelihood, rtol=1e-13)
        assert lanes.num_steps[lane] == alone.num_steps


def test_what_is_not_finite_is_said_and_the_last_finite_params_are_kept():
    model, params, x = faithful()

    def m_step(old, stats):
        new = model.m_step(old, stats)
        late = stats.counts[0] != 272
        return new._replace(weights=jnp.where(late & (jnp.abs(new.weights - old.weights).max() < 1e-2), jnp.nan, new.weights))

    fit = jaxem.fit(model._replace(m_step=m_step), params, x, max_steps=100)
    assert fit.status == Status.NONFINITE
    assert 0 < fit.num_steps < 100
    expected = model.e_step(fit.params, x, jnp.ones(272))[1]
    np.testing.assert_allclose(fit.log_likelihood, expected, rtol=1e-14)


def test_inside_jit_bad_data_end_as_nonfinite():
    model, params, x = faithful()
    fit = jax.jit(lambda rows: jaxem.fit(model, params, rows))(x.at[3, 1].set(jnp.nan))
    assert (fit.status, fit.num_steps) == (Status.NONFINITE, 0)


def test_a_log_likelihood_that_falls_beyond_rounding_is_stalled_one_step_back():
    model, params, x = faithful()
    good = jaxem.fit(model, params, x)

    def m_step(old, stats):
        new = model.m_step(old, stats)
        return new._replace(components=new.components._replace(mean=new.components.mean + 0.1))

    fit = jaxem.fit(model._replace(m_step=m_step), good.params, x)
    assert (fit.status, fit.num_steps) == (Status.STALLED, 0)
    np.testing.assert_array_equal(fit.params.components.mean, good.params.components.mean)
    assert np.isnan(fit.history[1:]).all()


@pytest.mark.each_time(2)
@pytest.mark.parametrize("form", ["full", "tied", "diag", "spherical"])
def test_an_empty_component_changes_nothing_for_the_others(form):
    model, params, x = faithful(form)
    wider = jaxem.mixture(families.gaussian(form), 3)
    covariance = params.components.covariance
    covariance = covariance if form == "tied" else jnp.concatenate([covariance, covariance[:1]])
    components = families.Gaussian(jnp.concatenate([params.components.mean, x[:1]]), covariance)
    expected = jaxem.fit(model, params, x, tol=-np.inf, max_steps=10)
    received = jaxem.fit(wider, jaxem.Mixture(jnp.append(params.weights, 0.0), components), x, tol=-np.inf, max_steps=10)
    np.testing.assert_allclose(received.history, expected.history, rtol=1e-13)


def test_a_component_without_rows_keeps_its_parameters_and_the_fit_goes_on():
    model, _, x = faithful()
    components = families.Gaussian(np.array([[3.5, 70.0], [1e4, 1e4]]), np.array([np.diag([1.0, 100.0]), np.eye(2)]))
    fit = jaxem.fit(model, jaxem.Mixture(np.array([0.5, 0.5]), components), x)
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.params.weights, [1, 0], atol=1e-15)
    np.testing.assert_allclose(fit.params.components.mean[0], x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(fit.params.components.covariance[0], jnp.cov(x.T, bias=True), rtol=1e-12)
    np.testing.assert_allclose(fit.params.components.mean[1], 1e4)


def test_status_reads_by_name():
    model, params, x = faithful()
    assert Status(jaxem.fit(model, params, x).status).name == "CONVERGED"


def test_weights_that_sum_to_one_in_few_digits_are_normalized_before_the_first_step():
    x = jaxem.datasets.faithful()
    model = jaxem.mixture(families.gaussian(), 2)
    end = jaxem.fit(model, model.init(jax.random.key(0), x), x).params
    rounded = end._replace(weights=end.weights.astype("float32").astype("float64") + 2e-7)
    again = jaxem.fit(model, rounded, x)
    assert again.status == Status.CONVERGED
    assert again.history[0] <= again.log_likelihood


@pytest.mark.each_time(1)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-7)])
@pytest.mark.parametrize("form", ["full", "tied", "diag", "spherical"])
def test_data_far_from_the_origin_fit_as_centred_data_do(form, dtype, tolerance):
    """mean / sd = 1e3; the expected values come from float64 and centred data."""
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(size=(300, 6)), rng.normal(size=(200, 6)) * 0.5 + 2])
    far = jnp.asarray(z + 1e3, dtype)
    centred = np.asarray(far, np.float64) - 1e3
    labels = np.eye(2)[(np.arange(500) >= 300).astype(int)]
    model = jaxem.mixture(families.gaussian(form), 2)
    expected = jaxem.fit(model, from_responsibilities(model, centred, labels), centred).params.components
    received = jaxem.fit(model, from_responsibilities(model, far, labels), far)
    assert received.status == Status.CONVERGED
    scale = np.abs(expected.covariance).max()
    np.testing.assert_allclose(received.params.components.covariance, expected.covariance, rtol=0, atol=tolerance * scale)


@pytest.mark.each_time(2)
@pytest.mark.parametrize("form", ["full", "tied", "diag", "spherical"])
def test_float32_at_mean_over_sd_of_ten_thousand_is_finite_or_says_so(form):
    rng = np.random.default_rng(1)
    far = jnp.asarray(np.concatenate([rng.normal(size=(300, 2)), rng.normal(size=(200, 2)) + 4]) + 1e4, "float32")
    model = jaxem.mixture(families.gaussian(form), 2)
    for seed in range(3):
        fit = jaxem.fit(model, model.init(jax.random.key(seed), far), far)
        assert np.isfinite(fit.log_likelihood)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit.params))


@pytest.mark.each_time(1)
@pytest.mark.parametrize("form", ["full", "tied", "diag", "spherical"])
def test_float32_clusters_a_thousand_sd_apart_keep_their_covariances(form):
    rng = np.random.default_rng(2)
    x = jnp.asarray(np.concatenate([rng.normal(size=(300, 6)), rng.normal(size=(200, 6)) + 1e3]), "float32")
    labels = np.eye(2)[(np.arange(500) >= 300).astype(int)]
    model = jaxem.mixture(families.gaussian(form), 2)
    expected = jaxem.fit(model, from_responsibilities(model, x.astype("float64"), labels), x.astype("float64"))
    received = jaxem.fit(model, from_responsibilities(model, x, labels), x)
    assert received.status == Status.CONVERGED
    np.testing.assert_allclose(received.params.components.covariance, expected.params.components.covariance, rtol=0, atol=2e-3)
