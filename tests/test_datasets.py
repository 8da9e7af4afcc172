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


def test_candy_and_house_votes_count_the_people_that_were_asked():
    counts, frequencies = datasets.candy()
    np.testing.assert_array_equal(counts, range(21))
    assert float(frequencies.sum()) == 456
    votes, parties = datasets.house_votes()
    assert votes.shape == (435, 16)
    assert set(np.unique(votes)) == {-1, 0, 1}
    np.testing.assert_array_equal(np.bincount(parties), [267, 168])


def test_lifetimes_galaxies_and_turtles_are_as_many_and_as_large_as_published():
    lifetimes, galaxies, turtles = datasets.device_lifetimes(), datasets.galaxies(), datasets.turtles()
    assert (lifetimes.size, galaxies.size, turtles.size) == (50, 82, 76)
    np.testing.assert_allclose([lifetimes.min(), lifetimes.max()], [0.1, 86])
    np.testing.assert_allclose(galaxies.mean(), 20828.17 + (26960 - 26690) / 82, atol=0.01)  # R's MASS has a slip in the 78th
    assert all((np.diff(x) >= 0).all() for x in (lifetimes, galaxies, turtles))


def test_npreg_has_two_groups_of_a_hundred_in_fours():
    columns = datasets.npreg()
    np.testing.assert_array_equal(np.bincount(columns["class"]), [0, 100, 100])
    np.testing.assert_array_equal(np.bincount(columns["id2"])[1:], np.full(50, 4))
    assert all(len(set(columns["class"][columns["id2"] == i].tolist())) == 1 for i in range(1, 51))
    assert columns["yp"].dtype == columns["yb"].dtype == jnp.result_type(int)


def test_columns_of_regressions_have_the_rows_that_were_measured():
    ethanol, trial = datasets.ethanol(), datasets.beta_blockers()
    assert {name: column.shape for name, column in ethanol.items()} == {"equivalence": (88,), "nitric_oxide": (88,)}
    np.testing.assert_array_equal(np.bincount(trial["center"])[1:], np.full(22, 2))
    assert (trial["deaths"] < trial["total"]).all()
    assert int(trial["treated"].sum()) == 22


def test_data_sets_have_the_default_float_dtype():
    for load in (datasets.faithful, datasets.iris, datasets.galaxies, lambda: datasets.london_times_deaths()[1]):
        received = load()
        assert isinstance(received, jax.Array)
        assert received.dtype == jnp.result_type(float)


def test_earthquakes_and_the_nile_have_the_years_and_means_that_are_published():
    earthquakes, nile = datasets.earthquakes(), datasets.nile()
    np.testing.assert_array_equal(earthquakes["year"], range(1900, 2007))
    np.testing.assert_array_equal(nile["year"], range(1871, 1971))
    np.testing.assert_allclose(np.mean(earthquakes["count"]), 19.36, atol=0.005)
    np.testing.assert_allclose(np.var(np.asarray(earthquakes["count"]), ddof=1), 51.57, atol=0.005)
    np.testing.assert_allclose(np.mean(nile["volume"]), 919.35)
