"""What takes long shows how far it has come, where that is asked for, and comes to the same."""

import sys
import types

import chex
import jax
import numpy as np
import pytest

import jaxem
from jaxem import families
from jaxem.progress import advance, progress_of

X = np.random.default_rng(0).poisson([2.0, 9.0] * 20)
MODEL = jaxem.mixture(families.poisson(), 2)
SEARCH = {"num_restarts": 4, "num_continued": 2, "short_steps": 2, "num_lanes": 1}


@pytest.fixture
def bars(monkeypatch):
    """What a stand-in for tqdm is told: for each bar its name, total, and the counts that came."""
    told = []

    def tqdm(total, desc):
        told.append((desc, total, []))
        return types.SimpleNamespace(update=told[-1][2].append, close=lambda: told[-1][2].append("closed"))

    monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=tqdm))
    return told


def test_a_search_tells_each_run_that_ends_and_finds_the_same(bars):
    expected = jaxem.fit_restarts(MODEL, 0, X, **SEARCH)
    received = jaxem.fit_restarts(MODEL, 0, X, **SEARCH, progress=True)
    chex.assert_trees_all_equal(received, expected)
    ((name, total, counts),) = bars
    assert (name, total, counts) == ("runs", 6, [1, 1, 1, 1, 1, 1, "closed"])


def test_without_tqdm_it_is_a_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    jaxem.fit_restarts(MODEL, 0, X, **SEARCH, progress=True)
    captured = capsys.readouterr()
    assert captured.err.split("\r")[-1] == "runs: 6 of 6\n" and captured.out == ""


@pytest.mark.parametrize(("told", "counts"), [([3, 4], [3, 2, "closed"]), ([3], [3, 2, "closed"]), ([], [5, "closed"])])
def test_a_bar_ends_at_its_total_whatever_it_was_told(told, counts, bars):
    with progress_of("runs", 5, True):
        for count in told:
            advance(count)
    assert bars == [("runs", 5, counts)]


def test_it_is_off_inside_jit_and_unasked(bars, capsys):
    jax.jit(lambda key: jaxem.fit_restarts(MODEL, key, X, **SEARCH, progress=True).best.status)(jax.random.key(0))
    jaxem.fit_restarts(MODEL, 0, X, **SEARCH)
    assert bars == [] and capsys.readouterr().err == ""


@pytest.mark.thorough
def test_samples_and_data_sets_are_counted(bars):
    fit = jaxem.fit(MODEL, jaxem.Mixture([0.5, 0.5], families.Poisson([2.0, 9.0])), X)
    jaxem.bootstrap(MODEL, 0, fit, X, num_samples=5, progress=True)
    jaxem.fit_each(MODEL, 0, X.reshape(2, 20), num_restarts=2, progress=True)
    ends = [(name, total, counts.pop(), sum(counts)) for name, total, counts in bars]
    assert ends == [("samples", 5, "closed", 5), ("data sets", 2, "closed", 2)]


def test_candidates_that_fail_are_counted_and_the_bar_is_closed(bars):
    too_many = {k: jaxem.mixture(families.poisson(), k) for k in (50, 60)}
    with pytest.raises(ValueError, match="none of the candidates"):
        jaxem.select(too_many, 0, X, num_restarts=2, progress=True)
    assert bars == [("candidates", 2, [1, 1, "closed"])]
