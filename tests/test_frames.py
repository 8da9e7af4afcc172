"""Tables of pandas, polars and pyarrow go in wherever arrays do, and their columns keep their names."""

import sys

import jax.numpy as jnp
import numpy as np
import pandas
import polars
import pyarrow
import pytest

import jaxem
from jaxem import families
from jaxem.frames import column_names

X = np.random.default_rng(0).normal(size=(21, 2)) + 4 * (np.arange(21) % 2)[:, None]
COLUMNS = {"length": X[:, 0], "width": X[:, 1]}
FRAMES = {"pandas": pandas.DataFrame, "polars": polars.DataFrame, "pyarrow": pyarrow.table}
MODEL = jaxem.mixture(families.gaussian("diag"), 2)
PARAMS = jaxem.Mixture(jnp.array([0.5, 0.5]), families.Gaussian(jnp.array([[0.0, 0.0], [4.0, 4.0]]), jnp.ones((2, 2))))


@pytest.mark.parametrize("library", FRAMES)
def test_a_table_is_its_numbers(library):
    frame = FRAMES[library](COLUMNS)
    expected = jaxem.fit(MODEL, PARAMS, X, max_steps=3)
    np.testing.assert_array_equal(jaxem.fit(MODEL, PARAMS, frame, max_steps=3).history, expected.history)
    np.testing.assert_array_equal(MODEL.log_prob(PARAMS, frame), MODEL.log_prob(PARAMS, X))
    assert jaxem.bic(MODEL, expected, frame) == jaxem.bic(MODEL, expected, X)


@pytest.mark.parametrize("library", FRAMES)
def test_nulls_are_missing_and_parts_are_known_by_name(library):
    family = families.product(length=families.gaussian("diag"), count=families.poisson())
    model = jaxem.mixture(family, 2)
    spread = families.Gaussian(jnp.array([[0.0], [4.0]]), jnp.ones((2, 1)))
    params = jaxem.Mixture(jnp.array([0.5, 0.5]), {"length": spread, "count": families.Poisson(jnp.array([1.0, 3.0]))})
    lengths, counts = [None, *X[1:, 0].tolist()], [None if i == 3 else i % 4 for i in range(21)]
    frame = families.observed(FRAMES[library]({"count": counts, "other": counts, "length": lengths}))
    holes = {"length": np.array(lengths, float), "count": np.array(counts, float)}
    np.testing.assert_array_equal(model.log_prob(params, frame), model.log_prob(params, families.observed(holes)))


@pytest.mark.parametrize("library", FRAMES)
def test_names_are_carried_to_the_summary(library):
    fit, frame = jaxem.fit(MODEL, PARAMS, X), FRAMES[library](COLUMNS)
    lines = jaxem.summary(MODEL, fit, frame).splitlines()
    assert [line.split("  ")[0] for line in lines[6:]] == [
        "weights",
        "components.mean[length]",
        "components.mean[width]",
        "components.covariance[length]",
        "components.covariance[width]",
    ]
    assert [line.split()[1:] for line in lines] == [line.split()[1:] for line in jaxem.summary(MODEL, fit, X).splitlines()]


def test_the_names_of_data_are_those_of_the_one_table_in_them():
    frame = pandas.DataFrame(COLUMNS)
    assert column_names(frame) == column_names(families.Labelled(frame, jnp.zeros(21))) == ("length", "width")
    assert column_names(X) is column_names({"a": frame}) is column_names(families.Gated(frame, frame)) is None


def test_tables_that_narwhals_cannot_name_are_still_numbers():
    for columns in (["a", "a"], [0, 1]):
        np.testing.assert_array_equal(MODEL.log_prob(PARAMS, pandas.DataFrame(X, columns=columns)), MODEL.log_prob(PARAMS, X))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_without_narwhals_tables_with_names_are_read_all_the_same(monkeypatch, library):
    monkeypatch.setitem(sys.modules, "narwhals", None)
    test_a_table_is_its_numbers(library)
    test_nulls_are_missing_and_parts_are_known_by_name(library)


def test_a_lazy_table_and_a_column_of_text_are_refused():
    with pytest.raises(ValueError, match=r"data is a lazy frame, whose rows are not there yet: pass data\.collect\(\)"):
        jaxem.fit(MODEL, PARAMS, polars.LazyFrame(COLUMNS))
    with pytest.raises(ValueError, match=r"\(columns length, kind\), needs numbers"):
        jaxem.fit(MODEL, PARAMS, polars.DataFrame({"length": X[:, 0], "kind": ["a"] * 21}))
