"""The bootstrapped likelihood ratio against closed forms and the χ² that holds where models are regular."""

import math

import numpy as np
import pytest

import jaxem
from jaxem import families

ONE, TWO = jaxem.single(families.poisson()), jaxem.mixture(families.poisson(), 2)


@pytest.mark.thorough
def test_replicates_of_a_regular_test_follow_chi_squared():
    """Equal variances in two columns against any: one degree of freedom, so a mean of 1 ± 0.14 over 99 data sets."""
    x = np.random.default_rng(0).normal(size=(200, 2))
    small, large = (jaxem.single(families.gaussian(form)) for form in ("spherical", "diag"))
    found = jaxem.likelihood_ratio_test(small, large, 0, x, num_samples=99, num_restarts=1)
    variances = x.var(0)
    expected = 200 * (2 * math.log(variances.mean()) - np.log(variances).sum())
    np.testing.assert_allclose(found.statistic, expected, rtol=1e-6)
    assert abs(found.replicates.mean() - 1) < 0.43 and found.replicates.min() > -1e-9
    assert found.p_value == (1 + np.count_nonzero(found.replicates >= expected)) / 100


@pytest.mark.thorough
def test_two_components_are_needed_where_there_are_two_and_not_where_counts_vary_less_than_one_lets_them():
    counts, two, one = np.arange(12.0), np.array([9, 13, 9, 5, 1, 2, 4, 6, 9, 10, 8, 4.0]), np.zeros(12)
    one[2:5] = 20, 40, 20
    needed, not_needed = (
        jaxem.likelihood_ratio_test(ONE, TWO, 0, counts, weights, num_samples=9, num_restarts=2) for weights in (two, one)
    )
    assert needed.p_value == 0.1 and needed.statistic > 10 * needed.replicates.max()
    np.testing.assert_allclose(not_needed.statistic, 0, atol=1e-6)
    assert not_needed.p_value > 0.2


@pytest.mark.thorough
def test_what_cannot_be_tested_is_refused():
    x = np.array([0.0, 1.0, 4.0, 5.0])
    held = ONE._replace(degenerate=lambda params, stats: params.rate[0] > 0)
    for large, weights, message in (
        (TWO, np.array([0.5, 1.0, 1.0, 1.0]), "weights must be whole numbers"),
        (held, None, "model_large ends Fit: DEGENERATE"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxem.likelihood_ratio_test(ONE, large, 0, x, weights, num_samples=1, num_restarts=1)
