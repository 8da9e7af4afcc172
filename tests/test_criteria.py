"""Free parameters and information criteria, counted by hand."""

import math

import jax
import numpy as np
import pytest

import jaxem
from jaxem import families


@pytest.mark.parametrize(
    ("family", "dim", "expected"),
    [
        (families.gaussian("full"), 4, 2 + 3 * 4 + 3 * 10),
        (families.gaussian("tied"), 4, 2 + 3 * 4 + 10),
        (families.gaussian("diag"), 4, 2 + 3 * 4 + 3 * 4),
        (families.gaussian("spherical"), 4, 2 + 3 * 4 + 3),
        (families.poisson(), 4, 2 + 3 * 4),
        (families.bernoulli(), 4, 2 + 3 * 4),
    ],
)
def test_free_parameters_of_a_mixture_of_three(family, dim, expected):
    model = jaxem.mixture(family, 3)
    x = jax.random.bernoulli(jax.random.key(0), 0.5, (20, dim)).astype("float64")
    assert jaxem.num_free_parameters(model, model.init(jax.random.key(0), x)) == expected


def test_criteria_follow_their_formulas_with_and_without_weights():
    x = jaxem.datasets.faithful()
    model = jaxem.mixture(families.gaussian(), 2)
    fit = jaxem.fit(model, model.init(jax.random.key(0), x), x)
    deviance = -2 * float(fit.log_likelihood)
    assert jaxem.aic(model, fit, x) == pytest.approx(22 + deviance)
    assert jaxem.aicc(model, fit, x) == pytest.approx(22 + deviance + 2 * 11 * 12 / (272 - 12))
    assert jaxem.aicc(model, fit, x, np.full(272, 2)) == pytest.approx(22 + deviance + 2 * 11 * 12 / (544 - 12))
    assert jaxem.aicc(model, fit, x[:12]) == math.inf
    assert jaxem.bic(model, fit, x) == pytest.approx(11 * math.log(272) + deviance)
    assert jaxem.bic(model, fit, x, np.full(272, 2)) == pytest.approx(11 * math.log(544) + deviance)
