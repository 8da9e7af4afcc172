"""Student-t components against scipy's density, reference fits, a general optimizer, and EM without the expansion."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import DATA
from scipy import stats
from scipy.optimize import minimize_scalar

import jaxem
from jaxem import Status, families
from jaxem.families.student_t.density import log_density
from jaxem.families.student_t.freedom import better_dof

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_densities_are_those_of_scipy_from_few_degrees_of_freedom_to_the_gaussian_case(dim):
    x = RNG.normal(size=(7, dim)) * 3
    scale = np.cov(RNG.normal(size=(dim, 20))).reshape(dim, dim)
    dof = np.array([0.3, 1.0, 4.0, 60.0, 1e8])
    distance = np.einsum("ni,ij,nj->n", x, np.linalg.inv(scale), x)
    received = log_density(jnp.tile(distance, (5, 1)), jnp.asarray(dof), dim) - 0.5 * np.linalg.slogdet(scale)[1]
    expected = [stats.multivariate_t.logpdf(x, np.zeros(dim), scale, df=nu) for nu in dof[:4]]
    np.testing.assert_allclose(received[:4], np.reshape(expected, (4, 7)), rtol=1e-12)
    gaussian = stats.multivariate_normal.logpdf(x, np.zeros(dim), scale)
    assert (np.abs(received[4] - gaussian) < (distance**2 + dim**2) / 1e8).all()


def test_two_components_of_old_faithful_are_those_of_the_reference(reference):
    expected = reference("student_t_faithful_2_nu4")["expected"]
    x, model = jaxem.datasets.faithful(), jaxem.mixture(families.student_t(dof=4), 2)
    start = model.init(jax.random.key(0), x)
    fit = jaxem.fit(model, start, x, tol=1e-8)
    assert fit.status == Status.CONVERGED
    assert fit.params.components.dof is None
    np.testing.assert_allclose(fit.log_likelihood, expected["loglik"], atol=1e-6)
    np.testing.assert_allclose(jaxem.bic(model, fit, x), expected["bic"], atol=1e-5)
    order = jnp.argsort(fit.params.weights)
    np.testing.assert_allclose(fit.params.components.location[order], expected["means"], rtol=1e-4)
    np.testing.assert_allclose(fit.params.components.scale[order], expected["scale_matrices"], rtol=1e-3)


def test_heavy_tails_in_many_columns_take_few_steps(reference):
    """Plain EM takes 442 from the moments of the rows."""
    x = np.loadtxt(DATA / "mvt_data_n200_p25_df1.csv", delimiter=",")
    expected = next(case for case in reference("mvt_pxem") if case["p"] == 25)
    start = families.StudentT(x.mean(0)[None], np.cov(x.T, bias=True)[None])
    fit = jaxem.fit(jaxem.single(families.student_t(dof=1.0)), start, x, tol=1e-7)
    assert fit.status == Status.CONVERGED
    assert fit.num_evaluations <= 25
    constant = 200 * (math.lgamma(13) - math.lgamma(0.5) - 12.5 * math.log(math.pi))  # which the reference leaves out
    np.testing.assert_allclose(constant - fit.log_likelihood, expected["pxem_nll"], rtol=0, atol=1e-6)


@pytest.mark.each_time(1)
@pytest.mark.parametrize("one_for_all", [False, True])
def test_degrees_of_freedom_are_the_likeliest_for_given_distances(one_for_all):
    distance = jnp.asarray(np.stack([RNG.standard_t(3, 60) ** 2, RNG.standard_t(9, 60) ** 2]))
    r = jnp.asarray(RNG.dirichlet(np.ones(2), 60))

    def loss(inverse, parts):
        nu = jnp.full(2, 1 / inverse)
        return -float((r.T * log_density(distance, nu, 1))[parts].sum())

    received = jnp.asarray(8.0) if one_for_all else jnp.array([0.5, 40.0])
    improve = jax.jit(better_dof, static_argnums=3)
    for _ in range(5):
        received = improve(received, distance, r, 1)
    groups = [slice(None)] if one_for_all else [0, 1]
    expected = [
        1 / minimize_scalar(loss, bounds=(1e-8, 20), args=(g,), options={"xatol": 1e-10}, method="bounded").x for g in groups
    ]
    np.testing.assert_allclose(np.atleast_1d(received), expected, rtol=1e-4)


def test_newton_steps_that_would_go_beyond_the_gaussian_case_end_at_the_likeliest_all_the_same():
    """From 8 degrees of freedom the first step would, though there are about twenty."""
    dim, middles = 8, (np.arange(400) + 0.5) / 400
    distance = jnp.asarray(dim * stats.f.ppf(middles, dim, 20))[None]
    r, received = jnp.ones((400, 1)), jnp.array([8.0])
    for _ in range(4):
        received = better_dof(received, distance, r, dim)
    expected = minimize_scalar(
        lambda nu: -float(log_density(distance, jnp.array([nu]), dim).sum()), bounds=(5, 100), method="bounded"
    ).x
    np.testing.assert_allclose(received, expected, rtol=1e-4)


@pytest.mark.thorough
def test_rows_with_light_tails_end_in_the_gaussian_case():
    x = np.linspace(-1, 1, 60)
    model = jaxem.single(families.student_t())
    fit = jaxem.fit(model, model.init(0, x), x, tol=1e-9)
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.params.dof, [1e8])
    np.testing.assert_allclose(fit.log_likelihood, stats.norm.logpdf(x, x.mean(), x.std()).sum(), rtol=1e-8)


def test_a_free_fit_of_one_component_is_a_maximum_in_each_parameter():
    x = RNG.standard_t(3, 60) * 2 + 1
    model = jaxem.single(families.student_t())
    fit = jaxem.fit(model, model.init(0, x), x, tol=1e-9)

    def log_likelihood(location, scale, dof):
        return stats.t.logpdf(x, dof, location, np.sqrt(scale)).sum()

    best = [float(leaf.ravel()[0]) for leaf in fit.params]
    np.testing.assert_allclose(fit.log_likelihood, log_likelihood(*best), rtol=1e-12)
    for place in range(3):
        for factor in (0.99, 1.01):
            other = [value * (factor if place == i else 1) for i, value in enumerate(best)]
            assert log_likelihood(*other) < fit.log_likelihood


@pytest.mark.parametrize("dof", [0, -1.0, np.nan, True, "each"])
def test_what_are_no_degrees_of_freedom_is_refused(dof):
    with pytest.raises(ValueError, match="dof must be a positive number, 'tied' or None, got"):
        families.student_t(dof=dof)


def test_another_form_is_refused():
    with pytest.raises(ValueError, match="form must be one of 'full', 'tied', 'diag', 'spherical', got 'VEV'"):
        families.student_t("VEV")


def test_forms_have_the_names_that_those_of_gaussians_have():
    names = {"VVV": "full", "V": "full", "EEE": "tied", "E": "tied", "VVI": "diag", "VII": "spherical"}
    assert all(families.student_t(name) is families.student_t(form) for name, form in names.items())
