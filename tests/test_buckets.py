"""Rows are padded so that programs are shared, and nothing else changes."""

from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import families
from jaxem.buckets import MOST_ROWS, pad, padded_size
from jaxem.selection import search_counts


@contextmanager
def compilations():
    """Count the programs that are compiled meanwhile."""
    found = []

    def listen(event, *_, **__):
        if event.endswith("backend_compile_duration"):
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def two_clusters(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.where(np.arange(n)[:, None] % 2, 4.0, 0.0) + rng.normal(size=(n, 2))


CASES = {
    "gaussian": (families.gaussian(), two_clusters),
    "poisson": (families.poisson(), lambda n, seed=0: np.random.default_rng(seed).poisson(two_clusters(n, seed).clip(0) + 1)),
    "product": (
        families.product(a=families.gaussian("diag"), b=families.bernoulli()),
        lambda n, seed=0: {"a": two_clusters(n, seed), "b": np.arange(n) % 2},
    ),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", CASES)
def test_padding_changes_nothing_beyond_rounding(name):
    family, draw = CASES[name]
    model, x, weights = jaxem.mixture(family, 2), draw(139), np.arange(139) % 3 + 0.5

    def everything():
        start = model.init(jax.random.key(1), x, weights)
        fit = jaxem.fit(model, start, x, weights, tol=-np.inf, max_steps=10)
        search = jaxem.fit_restarts(model, 0, x, num_restarts=3, solver=jaxem.em(), tol=-np.inf, max_steps=10)
        drawn = model.sample(jax.random.key(2), fit.params, 139)
        seen = model.posterior(fit.params, x), model.log_prob(fit.params, x)
        return start, fit, search.fits, search.best, seen, drawn, jaxem.bic(model, fit, x, weights)

    received = everything()
    with jaxem.exact_shapes():
        expected = everything()
    assert padded_size(139) == 144
    for one, other in zip(jax.tree.leaves(received), jax.tree.leaves(expected), strict=True):
        assert np.shape(one) == np.shape(other)
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-10)


@pytest.mark.each_time(1)
@pytest.mark.parametrize("name", CASES)
def test_fits_and_searches_of_other_data_in_the_same_bucket_compile_nothing(name):
    family, draw = CASES[name]

    def everything(n):
        model, x = jaxem.mixture(family, 2), draw(n, seed=n)
        fit = jaxem.fit(model, model.init(jax.random.key(n), x), x, max_steps=50)
        search = jaxem.fit_restarts(model, n, x, num_restarts=3, max_steps=50)
        model.sample(jax.random.key(n), fit.params, n)
        return model.posterior(search.best.params, x), model.log_prob(fit.params, x), jaxem.bic(model, fit, x)

    with compilations() as first:
        everything(140)
    assert first
    with compilations() as further:
        for n in (137, 138, 141, 143, 144):
            everything(n)
    assert further == []


@pytest.mark.thorough
def test_another_range_of_components_with_the_same_largest_number_compiles_nothing():
    x = np.random.default_rng(0).normal(size=(140, 2))

    def search(counts, rows):
        return search_counts(families.gaussian("diag"), 0, x[:rows], counts=counts, num_restarts=3, max_steps=20)

    search((1, 3), 140)
    with compilations() as further:
        search((2, 3), 138)
        search((3, 3), 140)
    assert further == []


def test_sizes_are_few_and_cost_at_most_an_eighth():
    counts = np.arange(1, MOST_ROWS + 1)
    sizes = np.array([padded_size(int(count)) for count in counts])
    assert (sizes >= counts).all() and (sizes[counts > 16] <= counts[counts > 16] * 1.125).all()
    assert (sizes[:16] == counts[:16]).all()
    assert len(set(sizes[255:])) == 8 * 8 + 1
    assert padded_size(MOST_ROWS + 1) == MOST_ROWS + 1
    with jaxem.exact_shapes():
        assert padded_size(137) == 137


def test_rows_are_padded_by_absent_copies_and_traced_ones_are_not():
    x = np.arange(40.0).reshape(20, 2)
    data, weights = pad({"x": x, "shared": jaxem.Shared(np.ones(3))}, np.ones(17 + 3))
    assert padded_size(20) == 20 and data["x"].shape == (20, 2)
    data, weights = pad({"x": x[:19], "shared": jaxem.Shared(np.ones(3))}, np.ones(19))
    np.testing.assert_array_equal(data["x"], [*x[:19], x[0]])
    np.testing.assert_array_equal(weights, [*np.ones(19), 0])
    assert data["shared"].value.shape == (3,)
    assert jax.jit(lambda x: pad(x)[0])(jnp.asarray(x[:19])).shape == (19, 2)


def test_frames_are_padded_too():
    class Frame:
        """As much of a pandas DataFrame as is looked at."""

        columns = ("a", "b")

        def __init__(self, values):
            self.values = values
            self.shape = values.shape
            self.iloc = self

        def __len__(self):
            return len(self.values)

        def __getitem__(self, rows):
            return Frame(self.values[rows])

        def __array__(self, dtype=None, copy=None):
            return self.values

    x = two_clusters(139)
    model = jaxem.mixture(families.gaussian(), 2)
    params = model.init(0, x)
    np.testing.assert_allclose(model.log_prob(params, Frame(x)), model.log_prob(params, x), rtol=1e-12)
    assert pad(Frame(x))[0].shape == (144, 2)


def test_concrete_data_inside_jit_are_padded_and_still_looked_at():
    model, x = jaxem.mixture(families.gaussian(), 2), jnp.asarray(two_clusters(139))
    weights = jnp.ones(139).at[3].set(0)
    start = model.init(0, x, weights)
    expected = jaxem.fit(model, start, x, weights, max_steps=5).log_likelihood
    received = jax.jit(lambda params: jaxem.fit(model, params, x, weights, max_steps=5).log_likelihood)(start)
    np.testing.assert_allclose(received, expected, rtol=1e-12)
    drawn = jax.jit(lambda key: model.init(key, x, weights))(jax.random.key(0))
    np.testing.assert_allclose(drawn.components.mean, start.components.mean, rtol=1e-9)
    spoiled = x.at[0, 0].set(jnp.nan)
    with pytest.raises(ValueError, match="data has NaN"):
        jax.jit(lambda params: jaxem.fit(model, params, spoiled, weights))(start)
