"""Fits on disk: what was written comes back, and what was changed on the way is refused."""

import os

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import families

PARAMS = jaxem.Mixture(jnp.array([0.25, 0.75]), families.Poisson(jnp.array([1.0, 3.0])))
LIKE = jax.eval_shape(lambda: PARAMS)


def a_fit(params):
    counts = jnp.arange(2, dtype=jnp.int32)
    return jaxem.Fit(params, jnp.float64(-3.5), counts[1], counts[1], jnp.array([-4.0, jnp.nan]), counts[0], 0.0)


TREES = {
    "fit": a_fit(PARAMS),
    "restarts": jaxem.Restarts(a_fit(PARAMS), jax.tree.map(lambda leaf: np.stack([leaf] * 3), a_fit(PARAMS)), jnp.array(0.5)),
    "dict, list, None and dtypes": {"a.b": [jnp.ones((0, 2), jnp.float32), None], "a": {"b": np.array([[True]])}, "n": 3},
    "one array": jnp.arange(3),
}


@pytest.mark.parametrize("name", TREES)
def test_what_is_saved_is_loaded(tmp_path, name):
    expected = TREES[name]
    jaxem.save(tmp_path / "tree", expected)
    for like in (expected, jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if np.shape(leaf) else leaf, expected)):
        received = jaxem.load(str(tmp_path / "tree"), like)
        chex.assert_trees_all_equal(received, expected)
        assert jax.tree.structure(received) == jax.tree.structure(expected)
        assert [type(leaf) for leaf in jax.tree.leaves(received)] == [type(leaf) for leaf in jax.tree.leaves(like)]
    assert os.listdir(tmp_path) == ["tree"]


def test_numpy_reads_the_arrays_without_pickle(tmp_path):
    jaxem.save(tmp_path / "params.npz", PARAMS)
    with np.load(tmp_path / "params.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["1 components.rate"], [1.0, 3.0])


def test_every_flipped_bit_and_every_cut_is_refused_in_one_line(tmp_path):
    path = tmp_path / "params.npz"
    jaxem.save(path, PARAMS)
    whole = path.read_bytes()
    flipped = [whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :] for i in range(len(whole))]
    cut = [whole[:size] for size in range(0, len(whole), 7)]
    for contents in (*flipped, *cut, whole + b"\0"):
        path.write_bytes(contents)
        with pytest.raises(ValueError, match=r"params\.npz is cut, changed, or no file that jaxem.save wrote") as refused:
            jaxem.load(path, LIKE)
        assert "\n" not in str(refused.value)
    path.write_bytes(whole)
    chex.assert_trees_all_equal(jaxem.load(path, LIKE), PARAMS)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (LIKE._replace(components=families.Exponential(LIKE.components.rate)), "holds .*Poisson.*, like has .*Exponential"),
        (LIKE._replace(weights=jnp.ones(3)), r"0 weights has shape \(2,\) and float64, like has \(3,\) and float64"),
        (jax.tree.map(jnp.float32, PARAMS), r"0 weights has shape \(2,\) and float64, like has \(2,\) and float32"),
    ],
)
def test_another_tree_shape_or_dtype_is_refused(tmp_path, like, message):
    jaxem.save(tmp_path / "params", PARAMS)
    with pytest.raises(ValueError, match=message):
        jaxem.load(tmp_path / "params", like)


def test_doubles_are_not_halved_in_silence(tmp_path):
    jaxem.save(tmp_path / "params", PARAMS)
    with jax.enable_x64(False), pytest.raises(ValueError, match="float64, which JAX has switched off"):
        jaxem.load(tmp_path / "params", jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float64), PARAMS))


@pytest.mark.parametrize("leaf", ["text", jax.random.key(0), np.array([None])], ids=["text", "key", "object"])
def test_what_is_no_number_is_refused_and_what_was_there_stays(tmp_path, leaf):
    jaxem.save(tmp_path / "params", PARAMS)
    with pytest.raises(ValueError, match="save takes arrays of numbers, got"):
        jaxem.save(tmp_path / "params", {"a": leaf})
    chex.assert_trees_all_equal(jaxem.load(tmp_path / "params", LIKE), PARAMS)


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    jaxem.save(tmp_path / "params", PARAMS)

    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        jaxem.save(tmp_path / "params", {"other": jnp.ones(2)})
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["params"]
    chex.assert_trees_all_equal(jaxem.load(tmp_path / "params", LIKE), PARAMS)


def test_save_under_a_trace_is_refused(tmp_path):
    with pytest.raises(ValueError, match="outside jit"):
        jax.jit(lambda x: jaxem.save(tmp_path / "x", x))(jnp.ones(2))
