"""Columns alone and given others: the textbook's formulas, by dense algebra one component at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_em import normal_log_density
from scipy.stats import multivariate_t

import jaxem
from jaxem import Mixture, families
from jaxem.families import Gaussian

RNG = np.random.default_rng(0)
ROOTS = RNG.normal(size=(2, 4, 4))
MATRICES = ROOTS @ ROOTS.transpose(0, 2, 1) + np.eye(4)
MEAN = RNG.normal(size=(2, 4))
WEIGHTS = np.array([0.3, 0.7])
COVARIANCES = {
    "full": MATRICES,
    "tied": MATRICES[0],
    "diag": MATRICES.diagonal(axis1=1, axis2=2).copy(),
    "spherical": np.array([0.5, 2.0]),
}
X = RNG.normal(size=(6, 4))


def full(name):
    return np.asarray(families.full_covariances(name, Gaussian(MEAN, COVARIANCES[name])))


def log_density(x, weights, mean, covariance):
    """The mixture's, row by row."""
    terms = [
        [np.log(w) + normal_log_density(row, m, c) for w, m, c in zip(weights, mean, covariance, strict=True)] for row in x
    ]
    return np.logaddexp.reduce(np.array(terms), axis=1)


@pytest.mark.parametrize("name", COVARIANCES)
def test_a_marginal_and_the_conditional_given_it_make_up_the_whole(name):
    model, params = jaxem.mixture(families.gaussian(name), 2), Mixture(WEIGHTS, Gaussian(MEAN, COVARIANCES[name]))
    alone, theta = jaxem.marginal(model, params, [2, 0])
    some = np.ix_([0, 1], [2, 0], [2, 0])
    expected = log_density(X[:, [2, 0]], WEIGHTS, MEAN[:, [2, 0]], full(name)[some])
    received = np.asarray(alone.log_prob(theta, X[:, [2, 0]]))
    np.testing.assert_allclose(received, expected, rtol=1e-11)
    rest, given = jaxem.conditional(model, params, [2, 0], X[:, [2, 0]])
    assert rest is jaxem.mixture(families.gaussian(name), 2)
    left = jax.vmap(lambda p, row: rest.log_prob(p, row[None])[0])(given, jnp.asarray(X[:, [1, 3]]))
    np.testing.assert_allclose(received + left, log_density(X, WEIGHTS, MEAN, full(name)), rtol=1e-10)


def test_a_conditional_is_the_regression_of_each_component():
    params = Mixture(WEIGHTS, Gaussian(MEAN, MATRICES))
    _, given = jaxem.conditional(jaxem.mixture(families.gaussian(), 2), params, (1, 3), X[0, [1, 3]])
    for k in range(2):
        cc, rc = MATRICES[k][np.ix_([1, 3], [1, 3])], MATRICES[k][np.ix_([0, 2], [1, 3])]
        expected = MEAN[k, [0, 2]] + rc @ np.linalg.solve(cc, X[0, [1, 3]] - MEAN[k, [1, 3]])
        np.testing.assert_allclose(given.components.mean[k], expected, rtol=1e-11)
        expected = MATRICES[k][np.ix_([0, 2], [0, 2])] - rc @ np.linalg.solve(cc, rc.T)
        np.testing.assert_allclose(given.components.covariance[k], expected, rtol=1e-10)
    np.testing.assert_allclose(given.weights.sum(), 1, rtol=1e-14)


def test_a_model_made_of_a_mixture_is_taken_for_that_with_what_it_holds_put_back():
    plain, params = jaxem.mixture(families.gaussian(), 2), Mixture(jnp.asarray(WEIGHTS), Gaussian(MEAN, jnp.asarray(MATRICES)))
    frozen, start = jaxem.freeze(plain, params, lambda p: p.components.mean)
    expected = jaxem.marginal(plain, params, -1)[1]
    known = jaxem.mixture(families.labelled(families.gaussian()), 2, concentration=2)
    prior = families.NormalInverseWishart(0.0, 0.1, 6.0, np.eye(4))
    mode = jaxem.mixture(families.gaussian(prior=prior), 2)
    made = (jaxem.chunked(frozen, 10), start), (jaxem.gradient_m_step(frozen), start), (known, params), (mode, params)
    for model, theta in made:
        received = jaxem.marginal(model, theta, [3])[1]
        jax.tree.map(np.testing.assert_array_equal, received, expected)
    one = jaxem.single(families.gaussian())
    received = jaxem.marginal(one, Gaussian(MEAN[:1], MATRICES[:1]), [0])[1]
    assert received.weights == 1 and received.components.covariance == MATRICES[0, 0, 0]


@pytest.mark.parametrize(("name", "dof"), [("full", None), ("tied", 5.0), ("diag", "tied"), ("spherical", 3.0)])
def test_so_do_those_of_student_t_components(name, dof):
    nu = {None: np.array([2.0, 30.0]), "tied": np.array(4.0)}.get(dof)
    params = Mixture(WEIGHTS, families.StudentT(MEAN, COVARIANCES[name], nu))
    model, each = jaxem.mixture(families.student_t(name, dof), 2), np.broadcast_to(dof if nu is None else nu, 2)

    def log_density(columns):
        terms = [
            np.log(WEIGHTS[k])
            + multivariate_t.logpdf(X[:, columns], MEAN[k, columns], full(name)[k][np.ix_(columns, columns)], each[k])
            for k in range(2)
        ]
        return np.logaddexp.reduce(terms, axis=0)

    alone, theta = jaxem.marginal(model, params, [2, 0])
    received = np.asarray(alone.log_prob(theta, X[:, [2, 0]]))
    np.testing.assert_allclose(received, log_density([2, 0]), rtol=1e-11)
    rest, given = jaxem.conditional(model, params, [2, 0], X[:, [2, 0]])
    left = jax.vmap(lambda p, row: rest.log_prob(p, row[None])[0])(given, jnp.asarray(X[:, [1, 3]]))
    np.testing.assert_allclose(received + left, log_density([0, 1, 2, 3]), rtol=1e-10)


def test_degrees_of_freedom_at_their_cap_stay_there():
    """A fit to Gaussian data ends at the cap; what is left of it is a start like any other."""
    params = Mixture(WEIGHTS, families.StudentT(MEAN, COVARIANCES["spherical"], np.array([1e8, 3.0])))
    rest, given = jaxem.conditional(jaxem.mixture(families.student_t("spherical"), 2), params, [2, 0], X[0, [2, 0]])
    np.testing.assert_array_equal(given.components.dof, [1e8, 5])
    assert rest.constraints.components.dof.contains(given.components.dof)


def test_a_form_of_shared_axes_is_full_in_part():
    components = Gaussian(MEAN, families.Eigen(np.array([1.0, 2.0]), np.array([2.0, 0.5, 1.0, 1.0]), None))
    received = jaxem.marginal(jaxem.mixture(families.gaussian("VEI"), 2), Mixture(WEIGHTS, components), [0, 1])[1]
    np.testing.assert_allclose(received.components.covariance, [np.diag([2, 0.5]), np.diag([4, 1])], rtol=1e-14)


def test_a_conditional_may_be_traced():
    model, params = jaxem.mixture(families.gaussian(), 2), Mixture(WEIGHTS, Gaussian(MEAN, MATRICES))
    expected = jaxem.conditional(model, params, [0], X[:, :1])[1]
    received = jax.jit(lambda values: jaxem.conditional(model, params, [0], values)[1])(X[:, :1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), received, expected)


PARAMS = Mixture(WEIGHTS, Gaussian(MEAN, MATRICES))
FULL = jaxem.mixture(families.gaussian(), 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jaxem.marginal(FULL, PARAMS, [0, 4]), r"columns must be whole numbers below 4.*got \[0, 4\]"),
        (lambda: jaxem.marginal(FULL, PARAMS, [0, -4]), "none of them twice"),
        (lambda: jaxem.marginal(FULL, PARAMS, []), "columns must be whole numbers"),
        (lambda: jaxem.conditional(FULL, PARAMS, range(4), X), r"columns \[0, 1, 2, 3\] are all that there are"),
        (lambda: jaxem.conditional(FULL, PARAMS, [0], X), r"values has shape \(6, 4\), needs \(1,\) or \(m, 1\)"),
        (
            lambda: jaxem.marginal(jaxem.mixture(families.poisson(), 2), Mixture(WEIGHTS, families.Poisson(WEIGHTS)), 0),
            r"a mixture of Gaussian or Student-t components, got one of poisson",
        ),
        (lambda: jaxem.marginal(jaxem.Model(len, len), PARAMS, 0), r"needs a model built by mixture.*Model\(e_step, m_step"),
        (lambda: jaxem.marginal(FULL, PARAMS.components, 0), "params has structure"),
    ],
)
def test_columns_that_there_are_not_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
