import jax
import jax.numpy as jnp
import numpy as np

from jaxem import datasets


def test_faithful_has_the_moments_that_r_prints_for_it():
    x = datasets.faithful()
    assert x.shape == (272, 2)
    np.testing.assert_allclose(x.mean(0), [3.487783, 70.897059], atol=1e-6)
    np.testing.assert_allclose(x.min(0), [1.6, 43])
    np.testing.assert_allclose(x.max(0), [5.1, 96])


def test_iris_has_the_species_means_that_fisher_printed():
    x = datasets.iris()
    assert x.shape == (150, 4)
    expected = [[5.006, 3.428, 1.462, 0.246], [5.936, 2.770, 4.260, 1.326], [6.588, 2.974, 5.552, 2.026]]
    np.testing.assert_allclose(x.reshape(3, 50, 4).mean(1), expected, atol=1e-6)


def test_london_times_deaths_counts_every_day_of_three_years():
    counts, frequencies = datasets.london_times_deaths()
    np.testing.assert_array_equal(counts, range(10))
    assert float(frequencies.sum()) == 365 + 365 + 366
    assert float(counts @ frequencies) == 2364


def test_data_sets_have_the_default_float_dtype():
    for load in (datasets.faithful, datasets.iris, lambda: datasets.london_times_deaths()[1]):
        received = load()
        assert isinstance(received, jax.Array)
        assert received.dtype == jnp.result_type(float)
