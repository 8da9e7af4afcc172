"""Many data sets at once give what each gives alone."""

import jax
import numpy as np
import pytest

import jaxem
from jaxem import Status, families

SIZES = [60, 57, 60, 58, 59]  # which fits alone run by one program


def two_clusters(rng, n):
    return np.where(np.arange(n)[:, None] % 2, 3.0, 0.0) + rng.normal(size=(n, 2))


def two_rates(rng, n):
    return rng.poisson(np.where(np.arange(n) % 2, 2.0, 9.0)).astype(float)


CASES = {
    "gaussian": (families.gaussian(), two_clusters),
    "diag": (families.gaussian("diag"), two_clusters),
    "poisson": (families.poisson(), two_rates),
    "product": (
        families.product(size=families.gaussian("diag"), count=families.poisson()),
        lambda rng, n: {"size": two_clusters(rng, n), "count": two_rates(rng, n)},
    ),
}


def ragged(draw, dtype):
    """Data sets of different sizes, stacked, with NaN in the rows that are absent; and each alone."""
    rng = np.random.default_rng(1)
    alone = [jax.tree.map(lambda leaf: leaf.astype(dtype), draw(rng, n)) for n in SIZES]
    most = max(SIZES)

    def padded(*leaves):
        return np.stack([np.concatenate([np.full((most - len(x), *x.shape[1:]), np.nan, dtype), x]) for x in leaves])

    return jax.tree.map(padded, *alone), np.arange(most)[None] >= most - np.array(SIZES)[:, None], alone


@pytest.mark.each_time(1)
@pytest.mark.parametrize(("name", "dtype"), [*((name, np.float64) for name in CASES), ("gaussian", np.float32)])
def test_each_data_set_ends_as_by_fit_restarts_alone(name, dtype, monkeypatch):
    """In blocks of two, the last of which slides back; by EM, as starts that SQUAREM takes to one end tie but for rounding."""
    monkeypatch.setattr("jaxem.each.ROWS_IN_A_BLOCK", 2 * max(SIZES))
    family, draw = CASES[name]
    model, told = jaxem.mixture(family, 2), []
    data, present, alone = ragged(draw, dtype)
    settings = {"num_restarts": 4, "num_continued": 2, "short_steps": 5, "max_steps": 60, "tol": 1e-3, "solver": jaxem.em()}
    received = jaxem.fit_each(model, 3, data, present, **settings, on_progress=told.append)
    assert told == [2, 4, 5]
    assert received.statuses.shape == (5, 4) and received.num_reached.shape == (5,)
    assert received.best.history.shape == (5, 0)
    rtol = 1e-9 if dtype is np.float64 else 1e-5
    for i, (key, x) in enumerate(zip(jax.random.split(jax.random.key(3), 5), alone, strict=True)):
        expected = jaxem.fit_restarts(model, key, x, **settings)
        best = jax.tree.map(lambda leaf, i=i: leaf[i], received.best)
        np.testing.assert_allclose(best.log_likelihood, expected.best.log_likelihood, rtol=rtol)
        if dtype is np.float64:
            np.testing.assert_array_equal(received.statuses[i], expected.fits.status)
            assert received.num_reached[i] == jaxem.num_reached(expected)
            assert best.num_steps == expected.best.num_steps
            for one, other in zip(jax.tree.leaves(best.params), jax.tree.leaves(expected.best.params), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.each_time(1)
@pytest.mark.parametrize("empty", [0, 3])
def test_a_data_set_without_rows_ends_nonfinite_and_harms_no_other(empty):
    data, present, _ = ragged(two_clusters, np.float64)
    present[empty] = False
    each = jaxem.fit_each(jaxem.mixture(families.gaussian(), 2), jax.random.PRNGKey(0), data, present, num_restarts=2)
    assert each.best.status[empty] == Status.NONFINITE
    assert (np.delete(np.asarray(each.best.status), empty) == Status.CONVERGED).all()


@pytest.mark.parametrize(
    ("data", "weights", "message"),
    [
        (np.zeros(5), None, r"same leading axes, m data sets of n rows; got \[\(5,\)\]"),
        ({"a": np.zeros((2, 5)), "b": np.zeros((2, 4))}, None, "same leading axes"),
        (np.ones((2, 5)), np.ones(5), r"weights has shape \(5,\) .*, needs numbers \(2, 5\)"),
        (np.ones((2, 5)), -np.ones((2, 5)), "weights has NaN, infinite or negative values"),
        (np.ones((2, 5)), np.zeros((2, 5)), "weights are all zero"),
        (np.full((2, 5), 0.5), None, "data needs counts"),
    ],
)
def test_bad_data_and_weights_are_refused(data, weights, message):
    with pytest.raises(ValueError, match=message):
        jaxem.fit_each(jaxem.mixture(families.poisson(), 2), 0, data, weights)


def test_it_says_that_it_cannot_be_traced():
    model, x = jaxem.mixture(families.poisson(), 2), np.ones((2, 5))
    for call, given in (
        (lambda key: jaxem.fit_each(model, key, x), jax.random.key(0)),
        (lambda x: jaxem.fit_each(model, 0, x), x),
        (lambda weights: jaxem.fit_each(model, 0, x, weights), x),
    ):
        with pytest.raises(ValueError, match="outside jit"):
            jax.jit(call)(given)
