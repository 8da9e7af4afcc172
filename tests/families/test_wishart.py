"""The normal-inverse-Wishart prior: its density by scipy's, the mode by loops, mclust's maximum, and what it prevents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats as scipy_stats

import jaxem
from jaxem import Mixture, Status, families
from jaxem.families import Eigen, Gaussian, NormalInverseWishart

RNG = np.random.default_rng(5)
X = RNG.normal(size=(30, 3)) @ np.array([[1.0, 0.5, 0.0], [0.0, 2.0, -0.3], [0.0, 0.0, 0.7]]) + [5.0, -2.0, 0.0]
R = RNG.dirichlet(np.ones(2), 30)
M, KAPPA, NU = np.array([4.0, -1.0, 0.5]), 1.5, 4.5
SCALE = np.array([[2.0, 0.4, 0.0], [0.4, 3.0, -0.2], [0.0, -0.2, 1.0]])
SCALES = {"full": SCALE, "tied": SCALE, "diag": np.array([2.0, 3.0, 1.0]), "spherical": 2.5}


def textbook_mode(form):
    """Means and covariances (k, d, d) under the prior, by loops over rows: Fraley & Raftery (2007), table 1."""
    (n, d), k, counts = X.shape, 2, R.sum(0)
    means, scatters = [], []
    for j in range(k):
        mean = (sum(r * x for r, x in zip(R[:, j], X, strict=True)) + KAPPA * M) / (counts[j] + KAPPA)
        scatter = KAPPA * np.outer(M - mean, M - mean)
        for r, x in zip(R[:, j], X, strict=True):
            scatter = scatter + r * np.outer(x - mean, x - mean)
        means.append(mean)
        scatters.append(scatter)
    covariances = {
        "full": lambda j: (scatters[j] + SCALE) / (NU + counts[j] + d + 2),
        "tied": lambda j: (sum(scatters) + SCALE) / (NU + n + k + d + 1),
        "diag": lambda j: (np.diag(np.diag(scatters[j])) + np.diag(SCALES["diag"])) / (NU + counts[j] + 3),
        "spherical": lambda j: np.eye(d) * (np.trace(scatters[j]) + SCALES["spherical"]) / (NU + (counts[j] + 1) * d + 2),
    }
    return np.array(means), np.array([covariances[form](j) for j in range(k)])


def textbook_log_density(form, means, covariances):
    of_means = sum(scipy_stats.multivariate_normal.logpdf(mu, M, c / KAPPA) for mu, c in zip(means, covariances, strict=True))
    each = {
        "full": lambda c: scipy_stats.invwishart.logpdf(c, NU, SCALE),
        "tied": lambda c: scipy_stats.invwishart.logpdf(c, NU, SCALE),
        "diag": lambda c: scipy_stats.invgamma.logpdf(np.diag(c), NU / 2, scale=SCALES["diag"] / 2).sum(),
        "spherical": lambda c: scipy_stats.invgamma.logpdf(c[0, 0], NU / 2, scale=SCALES["spherical"] / 2),
    }[form]
    return of_means + sum(each(c) for c in (covariances[:1] if form == "tied" else covariances))


OLD = {
    "V": (jnp.ones((2, 1, 1)), jnp.ones((2, 1))),
    "E": (jnp.ones((1, 1)), Eigen(jnp.array(1.0), jnp.ones(1))),
    "full": jnp.stack([jnp.eye(3)] * 2),
    "tied": jnp.eye(3),
    "diag": jnp.ones((2, 3)),
    "spherical": jnp.ones(2),
}
MEANS = jnp.array([[5.0, -2.0, 0.0], [6.0, 0.0, 1.0]])


def mode(form, prior, params, x):
    """Return means, covariances (k, d, d), and the log-prior after one M-step from the responsibilities R."""
    family = families.gaussian(form, prior=prior)

    @jax.jit
    def updated(params, x):
        new = family.m_step(params, family.evaluate(params, x)[1](jnp.asarray(R)))
        return new.mean, families.full_covariances(form, new), family.log_prior(new)

    return updated(params, family.prepare(x, None))


@pytest.mark.parametrize("form", SCALES)
def test_the_m_step_is_the_mode_of_the_textbook_and_the_density_scipys(form):
    prior = NormalInverseWishart(M, KAPPA, NU, SCALES[form])
    mean, covariances, log_prior = mode(form, prior, Gaussian(MEANS, OLD[form]), X)
    means, expected = textbook_mode(form)
    np.testing.assert_allclose(mean, means, rtol=1e-12)
    np.testing.assert_allclose(covariances, expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(log_prior, textbook_log_density(form, means, expected), rtol=1e-12)


def test_one_column_has_the_same_mode_by_either_name():
    """V and E of mclust are full and tied: ς² is a matrix of one entry there."""
    x = jnp.asarray(X[:, :1])
    prior = NormalInverseWishart(M[0], KAPPA, NU, 2.0)
    for form, other in (("V", "diag"), ("E", "EEI")):
        found = [
            mode(name, prior, Gaussian(jnp.ones((2, 1)), one), x) for name, one in zip((form, other), OLD[form], strict=True)
        ]
        for one, two in zip(*found, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-12)


def test_without_shrinkage_means_are_those_of_the_rows():
    mean, covariances, log_prior = mode("full", NormalInverseWishart(M, 0, NU, SCALE), Gaussian(MEANS, OLD["full"]), X)
    means = R.T @ X / R.sum(0)[:, None]
    np.testing.assert_allclose(mean, means, rtol=1e-12)
    scatter = (R[:, 0, None] * (X - means[0])).T @ (X - means[0])
    np.testing.assert_allclose(covariances[0], (scatter + SCALE) / (NU + R[:, 0].sum() + 3 + 1), rtol=1e-11)
    expected = sum(scipy_stats.invwishart.logpdf(np.asarray(c), NU, SCALE) for c in covariances)
    np.testing.assert_allclose(log_prior, expected, rtol=1e-12)


def test_a_fit_ends_at_the_maximum_of_mclust(reference, table):
    case, x = reference("map_faithful_VVI_2"), jaxem.datasets.faithful()
    prior = families.default_prior(case["covariance_model"], x, case["k"])
    for field in ("mean", "shrinkage", "dof", "scale"):
        np.testing.assert_allclose(getattr(prior, field), case["prior"][field], rtol=1e-12)
    model = jaxem.mixture(families.gaussian("VVI", prior=prior), 2)
    one_hot = (table("faithful_split3")[:, None] == [0, 1]).astype(float)
    start = jaxem.initialize.from_responsibilities(model, x, one_hot)
    fit = jaxem.fit(model, start, x, tol=1e-13)
    expected = case["expected"]
    order = np.argsort(fit.params.components.mean[:, 0])
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.log_likelihood, expected["loglik"], atol=case["tolerance"]["loglik_abs"])
    np.testing.assert_allclose(fit.params.weights[order], expected["weights"], rtol=1e-4)
    np.testing.assert_allclose(fit.params.components.mean[order], expected["means"], rtol=1e-4)
    variances = [np.diag(c) for c in expected["covariances"]]
    np.testing.assert_allclose(fit.params.components.covariance[order], variances, rtol=1e-4)
    np.testing.assert_allclose(fit.history[fit.num_steps], fit.log_likelihood + model.log_prior(fit.params), rtol=1e-13)


def test_the_default_prior_is_that_of_fraley_and_raftery():
    x = np.asarray(jaxem.datasets.iris())[:, :3]
    prior = families.default_prior("VVV", x, 3)
    np.testing.assert_allclose(prior.mean, [5.843333, 3.057333, 3.758], atol=1e-6)  # mclust's defaultPrior
    first_row = [0.32964706, -0.02040014, 0.6126270]
    np.testing.assert_allclose(prior.scale[0], first_row, atol=1e-7)
    assert (prior.shrinkage, prior.dof) == (0.01, 5)
    assert families.default_prior("EII", x, 3).scale == pytest.approx(0.6397099, abs=1e-7)
    one = families.default_prior("V", x[:, 0], 3)
    assert (one.dof, one.scale[0, 0]) == (3, pytest.approx(0.07618817, abs=1e-8))


def test_holes_tell_the_default_prior_what_was_observed():
    x = X.copy()
    x[::4, 1], x[1::5, 2] = np.nan, np.nan
    prior = families.default_prior("full", families.observed(x), 1)
    np.testing.assert_allclose(prior.mean, np.nanmean(x, 0), rtol=1e-12)
    np.testing.assert_allclose(np.diag(prior.scale), np.nanvar(x, 0, ddof=1), rtol=1e-12)
    assert np.linalg.eigvalsh(prior.scale)[0] > 0
    assert families.default_prior("VII", families.observed(x), 1).scale == pytest.approx(np.diag(prior.scale).mean())


def test_a_collapse_is_prevented_and_a_component_without_rows_goes_where_the_prior_is_highest():
    x = np.concatenate([np.random.default_rng(0).normal(size=(40, 2)), np.full((5, 2), 9.0)])
    prior = families.default_prior("full", x, 3)
    model = jaxem.mixture(families.gaussian("full", prior=prior), 3)
    mean = np.array([[0.0, 0.0], [9.0, 9.0], [1e6, 1e6]])
    start = Mixture([0.8, 0.2, 0.0], Gaussian(mean, np.broadcast_to(np.eye(2), (3, 2, 2))))
    fit = jaxem.fit(model, start, x)
    assert fit.status == Status.CONVERGED
    history = fit.history[: fit.num_steps + 1]
    assert np.diff(history).min() > -1e-11 * np.abs(history).max()
    np.testing.assert_allclose(fit.params.components.mean[2], x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(fit.params.components.covariance[2], prior.scale / (4 + 2 + 2), rtol=1e-12)
    off = np.array([9.0, 9.0]) - x.mean(0)  # the mode of five rows without spread
    expected = (prior.scale + 0.01 * 5 / 5.01 * np.outer(off, off)) / (4 + 5 + 4)
    np.testing.assert_allclose(fit.params.components.covariance[1], expected, rtol=1e-6)


def test_the_density_of_an_orientation_that_varies_is_that_of_each_covariance():
    prior = NormalInverseWishart(M, KAPPA, NU, SCALE)
    turn = np.linalg.qr(np.eye(3) + 0.3 * np.tri(3))[0]
    params = Gaussian(jnp.asarray(X[:2]), Eigen(jnp.array(1.5), jnp.array([2.0, 0.5, 1.0]), jnp.stack([jnp.eye(3), turn])))
    expected = textbook_log_density("full", X[:2], np.asarray(families.full_covariances("EEV", params)))
    np.testing.assert_allclose(families.gaussian("EEV", prior=prior).log_prior(params), expected, rtol=1e-12)


def fitted(prior, form="full"):
    model = jaxem.single(families.gaussian(form, prior=prior))
    return jaxem.fit(model, model.init(0, X), X)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: families.gaussian(prior=2.0), r"prior must be a families\.NormalInverseWishart, got 2\.0"),
        (lambda: families.gaussian(prior=NormalInverseWishart(M, -1, NU, SCALE)), r"prior\.shrinkage must be a number ≥ 0"),
        (lambda: families.gaussian(prior=NormalInverseWishart(M, 1, 2, SCALE)), r"prior\.dof must be a number > 2, got 2"),
        (lambda: families.gaussian(prior=NormalInverseWishart(np.nan, 1, NU, SCALE)), r"prior\.mean must be a number.*got nan"),
        (lambda: families.gaussian(prior=NormalInverseWishart(M, 1, NU, -SCALE)), r"prior\.scale must be a positive definite"),
        (
            lambda: families.gaussian("diag", prior=NormalInverseWishart(M, 1, NU, SCALE)),
            r"prior\.scale must be a number > 0, or",
        ),
        (lambda: families.gaussian("VII", prior=NormalInverseWishart(M, 1, NU, M)), r"prior\.scale must be a number > 0, got"),
        (lambda: fitted(NormalInverseWishart(M[:2], 1, NU, SCALE)), r"prior\.mean has 2 numbers, needs one, or 3"),
        (lambda: fitted(NormalInverseWishart(M, 1, NU, SCALE[:2, :2])), r"prior\.scale is a matrix \(2, 2\), needs \(3, 3\)"),
        (lambda: fitted(NormalInverseWishart(M, 1, NU, (1.0, 2.0)), "EEI"), r"prior\.scale has 2 numbers, needs one, or 3"),
        (lambda: families.default_prior("full", X[:3], 2), "columns are linearly dependent.*diagonal form"),
        (lambda: families.default_prior("diag", X[:1], 2), r"columns \[0, 1, 2\] have fewer than two values"),
        (lambda: families.default_prior("diag", 0 * X, 2), r"columns \[0, 1, 2\] are constant"),
        (lambda: families.default_prior("diag", np.full((3, 2), np.nan), 2), r"NaN.*families\.observed"),
        (lambda: families.default_prior("VXX", X, 2), "form must be one of"),
        (lambda: families.default_prior("full", X, 0), "num_components must be at least 1"),
    ],
)
def test_what_is_no_such_prior_is_refused(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()


def test_a_prior_is_part_of_what_a_family_is_known_by():
    prior = NormalInverseWishart(M, 1, NU, SCALE)
    again = NormalInverseWishart(M.tolist(), np.float32(1), NU, jnp.asarray(SCALE))
    assert families.gaussian("VVV", prior=prior) is families.gaussian(prior=again) is not families.gaussian()
