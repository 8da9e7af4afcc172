"""Gaussian rows with holes, against plain loops over rows: what was observed of each, and what is expected of the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import holed, two_clusters
from plain_em import normal_log_density

import jaxem
from jaxem import Status, families
from jaxem.families.gaussian import missing
from jaxem.families.gaussian.geometry import MATRICES

RNG = np.random.default_rng(1)
DATA = holed(two_clusters(3, "float64"))
X, SEEN = np.asarray(DATA.values), np.asarray(DATA.mask)
MEAN = np.array([[0.0, 0.5, -0.5], [3.0, 2.5, 3.5]])
ROOTS = np.eye(3) + 0.4 * RNG.normal(size=(2, 3, 3))
FULL = ROOTS @ ROOTS.transpose(0, 2, 1)
FORMS = {
    "full": FULL,
    "tied": FULL[0],
    "diag": np.diagonal(FULL, axis1=1, axis2=2),
    "spherical": np.array([1.5, 0.7]),
}


def params_of(form):
    return jaxem.Mixture(jnp.array([0.4, 0.6]), families.Gaussian(jnp.asarray(MEAN), jnp.asarray(FORMS[form])))


def expected_rows(covariances):
    """Responsibilities, log-densities, and for each row and component the expected row and the covariance of its holes."""
    r, log_prob = np.zeros((60, 2)), np.zeros(60)
    rows, left = np.zeros((60, 2, 3)), np.zeros((60, 2, 3, 3))
    for n in range(60):
        o, m = np.flatnonzero(SEEN[n]), np.flatnonzero(~SEEN[n])
        for k, (mean, sigma) in enumerate(zip(MEAN, covariances, strict=True)):
            slope = sigma[np.ix_(m, o)] @ np.linalg.inv(sigma[np.ix_(o, o)])
            rows[n, k, o], rows[n, k, m] = X[n, o], mean[m] + slope @ (X[n, o] - mean[o])
            left[n, k][np.ix_(m, m)] = sigma[np.ix_(m, m)] - slope @ sigma[np.ix_(o, m)]
            r[n, k] = [0.4, 0.6][k] * np.exp(normal_log_density(X[n, o], mean[o], sigma[np.ix_(o, o)]))
        log_prob[n] = np.log(r[n].sum())
    return r / r.sum(1, keepdims=True), log_prob, rows, left


@pytest.mark.parametrize("form", FORMS)
def test_an_em_step_fills_holes_by_what_is_expected_of_them(form):
    params, model = params_of(form), jaxem.mixture(families.gaussian(form), 2)
    r, log_prob, rows, left = expected_rows(np.asarray(families.full_covariances(form, params.components)))
    np.testing.assert_allclose(model.log_prob(params, DATA), log_prob, rtol=1e-12, atol=1e-13)
    new = model.m_step(params, model.e_step(params, DATA, jnp.ones(60))[0])
    means = np.einsum("nk,nkd->kd", r, rows) / r.sum(0)[:, None]
    off = rows - means[None]
    scatter = np.einsum("nk,nki,nkj->kij", r, off, off) + np.einsum("nk,nkij->kij", r, left)
    expected = {
        "full": scatter / r.sum(0)[:, None, None],
        "tied": scatter.sum(0) / 60,
        "diag": np.diagonal(scatter, axis1=1, axis2=2) / r.sum(0)[:, None],
        "spherical": np.trace(scatter, axis1=1, axis2=2) / 3 / r.sum(0),
    }[form]
    np.testing.assert_allclose(new.components.mean, means, rtol=1e-11)
    np.testing.assert_allclose(new.components.covariance, expected, rtol=1e-10, atol=1e-12)


def test_a_row_of_which_nothing_was_observed_says_nothing_and_counts():
    model, params = jaxem.mixture(families.gaussian(), 2), params_of("full")
    assert not SEEN[5].any()
    assert model.log_prob(params, DATA)[5] == 0
    np.testing.assert_allclose(model.posterior(params, DATA)[5], [0.4, 0.6], rtol=1e-14)
    np.testing.assert_allclose(model.e_step(params, DATA, jnp.ones(60))[0].counts.sum(), 60, rtol=1e-14)


@pytest.mark.thorough
def test_the_maximum_on_old_faithful_with_holes_is_that_of_direct_optimization(reference, table):
    case, x, labels = reference("missing_faithful_full_2"), table("faithful_missing"), table("faithful_split3")
    expected, data = case["expected"], families.observed(x)
    model = jaxem.mixture(families.gaussian(), 2)
    start = jaxem.initialize.from_responsibilities(model, data, np.eye(2)[labels.astype(int)])
    fit = jaxem.fit(model, start, data, solver=jaxem.squarem())
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.log_likelihood, expected["loglik"], atol=1e-5)
    np.testing.assert_allclose(fit.params.weights, expected["weights"], rtol=1e-3)
    np.testing.assert_allclose(fit.params.components.mean, expected["means"], rtol=1e-3)
    np.testing.assert_allclose(fit.params.components.covariance, expected["covariances"], rtol=1e-3)
    np.testing.assert_allclose(jaxem.bic(model, fit, data), expected["bic"], atol=1e-4)


@pytest.mark.each_time(1)
@pytest.mark.parametrize("form", ["full", "diag"])
def test_a_start_from_known_labels_has_the_means_and_variances_of_what_was_observed(form):
    labels = (X[:, 0] > 1.5).astype(int)
    start = jaxem.initialize.from_responsibilities(jaxem.mixture(families.gaussian(form), 2), DATA, np.eye(2)[labels])
    covariances = families.full_covariances(form, start.components)
    for k in range(2):
        own = np.where(SEEN, X, np.nan)[labels == k]
        np.testing.assert_allclose(start.components.mean[k], np.nanmean(own, 0), rtol=1e-7)
        np.testing.assert_allclose(np.diagonal(covariances[k]), np.nanvar(own, 0), rtol=1e-5)
        assert (np.linalg.eigvalsh(covariances[k]) > 0).all()


def test_rows_in_tiles_of_one_pattern_are_as_each_by_itself():
    """Blocks of 500 rows in up to eight patterns; and as many patterns as rows, which are taken one by one."""
    rng = np.random.default_rng(2)
    seen = rng.random((500, 3)) < 0.7
    rows, mean = jnp.asarray(np.where(seen, rng.normal(size=(500, 3)), 0)), jnp.asarray(MEAN)
    weights = jnp.asarray(rng.random((500, 2)))

    @jax.jit
    def found(gaps):
        *densities, moments = missing.evaluate(MATRICES, jnp.asarray(FULL), rows, mean, gaps)
        return densities, moments(weights, weights)

    by_pattern = missing.gaps(jnp.asarray(seen), True)
    each = missing.Gaps(by_pattern.seen, jnp.arange(500, dtype="int32"), jaxem.Shared(by_pattern.seen))
    assert by_pattern.table.value.shape == (8, 3)
    for one, other in zip(*map(jax.tree.leaves, (found(by_pattern), found(each))), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.thorough
def test_under_jit_where_patterns_cannot_be_looked_at_a_fit_is_the_same():
    model, params = jaxem.mixture(families.gaussian(), 2), params_of("full")
    inside = jax.jit(lambda values: jaxem.fit(model, params, families.observed(values), max_steps=5).log_likelihood)
    expected = jaxem.fit(model, params, DATA, max_steps=5).log_likelihood
    np.testing.assert_allclose(inside(jnp.where(SEEN, X, np.nan)), expected, rtol=1e-13)


def test_data_that_are_all_observed_are_as_they_would_be_without_a_mask():
    model = jaxem.mixture(families.gaussian(), 2)
    received = model.prepare(families.observed(X), None)
    assert jax.tree.structure(received) == jax.tree.structure(model.prepare(X, None))


def test_without_a_word_holes_are_refused_and_the_cure_is_named():
    model = jaxem.mixture(families.gaussian(), 2)
    with pytest.raises(ValueError, match=r"NaN .*families\.observed\(data\)"):
        jaxem.fit(model, params_of("full"), np.where(SEEN, X, np.nan))
    constant = families.observed(np.where(SEEN, np.where([True, False, True], X, 2.0), np.nan))
    with pytest.raises(ValueError, match=r"columns \[1\] are constant"):
        jaxem.fit(model, params_of("full"), constant)
