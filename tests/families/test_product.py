"""Products of families: rows of several parts, against plain loops over rows and parts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_em import bernoulli_log_mass, e_step, normal_log_density, poisson_log_mass

import jaxem
from jaxem import Status, families

MIXED = families.product(size=families.gaussian("diag"), visits=families.poisson(), flags=families.bernoulli())
MODEL = jaxem.mixture(MIXED, 2)
PARAMS = jaxem.Mixture(
    jnp.array([0.4, 0.6]),
    {
        "size": families.Gaussian(jnp.array([[0.0, 1.0], [4.0, -3.0]]), jnp.array([[1.0, 0.5], [0.25, 2.0]])),
        "visits": families.Poisson(jnp.array([1.0, 6.0])),
        "flags": families.Bernoulli(jnp.array([[0.1, 0.5, 0.8], [0.7, 0.5, 0.3]])),
    },
)


def drawn(num_rows=120, seed=0):
    """Rows of the model at PARAMS, by NumPy alone, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(num_rows) % 5 < 3).astype(int)
    size, visits, flags = (jax.tree.map(np.asarray, PARAMS.components[name]) for name in ("size", "visits", "flags"))
    return {
        "size": size.mean[labels] + rng.normal(size=(num_rows, 2)) * np.sqrt(size.covariance[labels]),
        "visits": rng.poisson(visits.rate[labels]),
        "flags": (rng.random((num_rows, 3)) < flags.probs[labels]).astype(int),
    }, labels


DATA, LABELS = drawn()


def log_density(n, k):
    size, visits, flags = (PARAMS.components[name] for name in ("size", "visits", "flags"))
    return (
        normal_log_density(DATA["size"][n], np.asarray(size.mean[k]), np.diag(np.asarray(size.covariance[k])))
        + poisson_log_mass(DATA["visits"][n], np.asarray(visits.rate[k]))
        + bernoulli_log_mass(DATA["flags"][n], np.asarray(flags.probs[k]))
    )


def test_the_log_density_of_a_row_is_the_sum_over_its_parts():
    received, _ = MIXED.evaluate(PARAMS.components, MIXED.prepare(DATA, None))
    expected = [[log_density(n, k) for k in range(2)] for n in range(120)]
    np.testing.assert_allclose(received, expected, rtol=1e-11)


def test_an_em_step_is_that_of_a_plain_loop_over_rows():
    weights = np.random.default_rng(1).uniform(0, 2, 120)
    responsibilities, expected = e_step(np.arange(120), weights, np.asarray(PARAMS.weights), log_density)
    stats, received = MODEL.e_step(PARAMS, DATA, jnp.asarray(weights))
    np.testing.assert_allclose(received, expected, rtol=1e-12)
    new = MODEL.m_step(PARAMS, stats)
    counts = responsibilities.sum(0)
    np.testing.assert_allclose(new.weights, counts / counts.sum(), rtol=1e-12)
    for k in range(2):
        share = responsibilities[:, k] / counts[k]
        mean = share @ DATA["size"]
        np.testing.assert_allclose(new.components["size"].mean[k], mean, rtol=1e-10)
        np.testing.assert_allclose(new.components["size"].covariance[k], share @ (DATA["size"] - mean) ** 2, rtol=1e-10)
        np.testing.assert_allclose(new.components["visits"].rate[k], share @ DATA["visits"], rtol=1e-10)
        np.testing.assert_allclose(new.components["flags"].probs[k], share @ DATA["flags"], rtol=1e-10)


@pytest.mark.thorough
def test_restarts_find_the_clusters_that_were_drawn():
    search = jaxem.fit_restarts(MODEL, jax.random.key(0), DATA, num_restarts=16, num_continued=16)
    assert search.best.status == Status.CONVERGED
    received = np.asarray(MODEL.posterior(search.best.params, DATA)).argmax(1)
    assert max((received == LABELS).mean(), (received != LABELS).mean()) > 0.98
    assert jaxem.num_reached(search) >= 8


def test_all_parts_of_a_start_belong_to_the_same_seeds():
    """Clusters that every part tells apart: a start whose parts were seeded apart would mix them up."""
    rng = np.random.default_rng(2)
    labels = np.arange(60) % 3
    data = {"a": rng.normal(size=(60, 1)) + 50 * labels[:, None], "b": rng.poisson(1 + 200 * labels)}
    model = jaxem.mixture(families.product(a=families.gaussian(), b=families.poisson()), 3)
    for seed in range(8):
        start = model.init(jax.random.key(seed), data).components
        order = np.argsort(start["a"].mean[:, 0])
        assert (np.diff(start["b"].rate[order]) > 0).all()


def test_samples_have_the_shapes_and_the_moments_of_their_parts():
    data, labels = MODEL.sample(jax.random.key(0), PARAMS, 20_000)
    assert {name: part.shape for name, part in data.items()} == {"size": (20_000, 2), "visits": (20_000,), "flags": (20_000, 3)}
    for k in range(2):
        own = labels == k
        np.testing.assert_allclose(data["size"][own].mean(0), PARAMS.components["size"].mean[k], atol=0.06)
        np.testing.assert_allclose(data["visits"][own].mean(0), PARAMS.components["visits"].rate[k], atol=0.08)
        np.testing.assert_allclose(data["flags"][own].mean(0), PARAMS.components["flags"].probs[k], atol=0.03)


def test_samples_like_given_data_have_as_many_rows():
    data, labels = MODEL.sample(jax.random.key(0), PARAMS, DATA)
    assert labels.shape == (120,)
    assert data["size"].shape == (120, 2)


def test_a_product_has_the_free_parameters_of_its_factors():
    assert jaxem.num_free_parameters(MODEL, PARAMS) == 1 + 2 * (2 + 2) + 2 + 2 * 3


class Record(NamedTuple):
    flags: object
    visits: object
    size: object


class Frame:
    """As much of a DataFrame as a product needs: names, and a column by name."""

    def __init__(self, columns):
        self._columns = columns

    @property
    def columns(self):
        return list(self._columns)

    @property
    def shape(self):
        return len(next(iter(self._columns.values()))), len(self._columns)

    def __getitem__(self, name):
        return self._columns[name]


def test_rows_may_be_a_dict_a_record_or_a_frame_whose_columns_bear_the_names():
    expected = MODEL.log_prob(PARAMS, DATA)
    np.testing.assert_array_equal(MODEL.log_prob(PARAMS, Record(**DATA)), expected)
    model = jaxem.mixture(families.product(a=families.poisson(), b=families.bernoulli()), 2)
    params = jaxem.Mixture([0.5, 0.5], {"a": families.Poisson([1.0, 2.0]), "b": families.Bernoulli([0.2, 0.9])})
    columns = {"a": np.arange(6), "b": np.arange(6) % 2}
    received = model.log_prob(params, Frame(columns | {"c": np.array(["more"] * 6)}))
    np.testing.assert_array_equal(received, model.log_prob(params, columns))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({name: part for name, part in DATA.items() if name != "flags"}, "data needs size, visits, flags.* got size, visits"),
        (DATA | {"colour": DATA["visits"]}, "data has colour beside size, visits, flags: leave that out"),
        (DATA["size"], "data needs size, visits, flags, as a dict of arrays, a record or a DataFrame; got .* without names"),
        (DATA | {"visits": DATA["visits"][:50]}, r"data has arrays of \[50, 120\] rows"),
        (DATA | {"visits": DATA["visits"] + 0.5}, "data needs counts, whole numbers"),
    ],
)
def test_rows_without_the_right_parts_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        jaxem.fit(MODEL, PARAMS, data)


@pytest.mark.parametrize(
    ("factors", "message"),
    [({}, "product needs at least one factor"), ({"a": families.gaussian}, "a must be a Family, .* with its parentheses")],
)
def test_what_is_no_family_is_no_factor(factors, message):
    with pytest.raises(ValueError, match=message):
        families.product(**factors)


def test_a_collapse_in_one_part_is_reported():
    """Five rows of one value in the continuous part."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(60, 1)), np.full((5, 1), 9.0)])
    data = {"x": x, "count": rng.poisson(3, 65)}
    model = jaxem.mixture(families.product(x=families.gaussian("diag"), count=families.poisson()), 2)
    components = {
        "x": families.Gaussian([[0.0], [9.0]], [[1.0], [1.0]]),
        "count": families.Poisson([3.0, 3.0]),
    }
    fit = jaxem.fit(model, jaxem.Mixture([0.9, 0.1], components), data)
    assert fit.status == Status.DEGENERATE
