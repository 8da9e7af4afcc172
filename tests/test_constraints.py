"""Each domain: there and back, what it contains, and how many free parameters it has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import polar

from jaxem import constraints
from jaxem.orthonormal import SHEETS

CASES = {
    "real": (constraints.real, np.array([[-1.0, 2.0], [0.0, 3.0]]), 4),
    "positive": (constraints.positive, np.array([0.1, 2.0, 30.0]), 3),
    "interval": (constraints.interval(-1, 3), np.array([-0.5, 2.9]), 2),
    "simplex": (constraints.simplex, np.array([[0.2, 0.3, 0.5], [0.01, 0.01, 0.98]]), 4),
    "simplexes": (constraints.simplexes((2, 3)), np.array([[[0.4, 0.6, 0.0], [0.2, 0.3, 0.5]]]), 3),
    "unit sphere": (constraints.unit_sphere, np.array([[0.6, 0.0, 0.8], [0.0, -0.6, -0.8]]), 4),
    "positive definite": (constraints.positive_definite, np.array([[[2.0, 0.5], [0.5, 1.0]], [[1.0, 0.0], [0.0, 9.0]]]), 6),
    "ordered": (constraints.ordered, np.array([-3.0, 0.5, 0.6]), 3),
    "unit product": (constraints.unit_product, np.array([[0.5, 4.0, 0.5], [1.0, 0.1, 10.0]]), 4),
    "orthonormal": (constraints.orthonormal, np.linalg.qr(np.arange(18.0).reshape(2, 3, 3) % 5)[0], 6),
    "orthonormal, reflected or turned by π": (
        constraints.orthonormal,
        np.stack([np.diag([-1.0, -1.0, 1.0]), np.eye(3)[::-1], np.diag([1.0, -1.0, 1.0]), -np.eye(3)]),
        12,
    ),
    "contrasts": (constraints.contrasts, np.array([[0.0, 1.5, -2.0], [0.0, 0.1, 3.0]]), 4),
}


def compiled(constraint):
    maps = {name: jax.jit(getattr(constraint, name)) for name in ("constrain", "unconstrain", "contains")}
    return constraint._replace(**maps)


CASES = {name: (compiled(constraint), value, count) for name, (constraint, value, count) in CASES.items()}
OUTSIDE = {
    "real": np.array([np.nan]),
    "positive": np.array([1.0, -0.1]),
    "interval": np.array([3.1]),
    "simplex": np.array([0.5, 0.6]),
    "simplexes": np.array([[[0.4, 0.5, 0.1], [0.2, 0.3, 0.5]]]),
    "unit sphere": np.array([0.6, 0.79]),
    "positive definite": np.array([[1.0, 2.0], [2.0, 1.0]]),
    "ordered": np.array([1.0, 0.0]),
    "unit product": np.array([1.0, 1.1]),
    "orthonormal": np.array([[1.0, 0.1], [0.0, 1.0]]),
    "contrasts": np.array([[0.1, 1.0], [0.0, 1.0]]),
}


@pytest.mark.each_time(12)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_a_round_trip_changes_nothing(name, dtype):
    constraint, value, _ = CASES[name]
    value = jnp.asarray(value, dtype)
    received = constraint.constrain(constraint.unconstrain(value))
    assert received.dtype == value.dtype
    np.testing.assert_allclose(received, value, rtol=100 * jnp.finfo(dtype).eps, atol=SHEETS * jnp.finfo(dtype).eps)


@pytest.mark.parametrize("name", CASES)
def test_any_unconstrained_value_lands_in_the_domain_and_comes_back(name):
    constraint, value, _ = CASES[name]
    shape = constraint.unconstrain(jnp.asarray(value)).shape
    free = jax.random.normal(jax.random.key(0), shape, "float64")
    assert constraint.contains(constraint.constrain(free))
    np.testing.assert_allclose(constraint.unconstrain(constraint.constrain(free)), free, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_the_free_parameters_are_as_many_as_the_unconstrained_ones(name):
    constraint, value, expected = CASES[name]
    assert constraint.num_free(value.shape) == expected
    assert constraint.unconstrain(jnp.asarray(value)).size == expected


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_lies_outside_is_told(name):
    constraint = CASES[name][0]
    assert not constraint.contains(jnp.asarray(OUTSIDE[name]))
    assert constraint.contains(jnp.asarray(CASES[name][1]))


def test_one_constraint_stands_for_a_subtree_and_none_for_real():
    params = {"a": {"b": jnp.array([1.0]), "c": jnp.array([2.0])}, "d": jnp.array([-1.0])}
    domains = constraints.broadcast({"a": constraints.positive, "d": constraints.real}, params)
    assert domains == [constraints.positive, constraints.positive, constraints.real]
    assert constraints.broadcast(None, params) == [constraints.real] * 3


def test_retract_marks_shares_whose_signs_are_all_wrong():
    assert np.isnan(constraints.retract(constraints.simplex, np.array([-1.0, -3.0]))).all()


def test_retract_mends_rounding_and_marks_what_lies_outside():
    params = {"p": jnp.array([0.5, 0.5 + 1e-9]), "s": jnp.array([-1.0])}
    received = constraints.retract({"p": constraints.simplex, "s": constraints.positive}, params)
    np.testing.assert_allclose(received["p"].sum(), 1, rtol=1e-15)
    assert np.isnan(received["s"]).all()


def test_columns_that_are_alike_are_told_mended_and_counted_once():
    domain, x = constraints.alike((1,)), jnp.array([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    assert domain.contains(x) and not domain.contains(x.at[2, 1].set(5.01))
    np.testing.assert_array_equal(domain.constrain(domain.unconstrain(x)), x)
    np.testing.assert_array_equal(domain.mend(x.at[2, 1].set(5.01)), x)
    np.testing.assert_array_equal(domain.constrain(x.at[2, 1].set(8.0))[:, 1], np.full(3, 6.0))
    assert domain.num_free(x.shape) == 4
    for wrong in ((1, 1), (-1,), (0.5,)):
        with pytest.raises(ValueError, match="distinct whole numbers"):
            constraints.alike(wrong)


def test_every_direction_along_an_axis_or_a_diagonal_has_a_place_from_which_all_ways_lead():
    points = np.stack([*np.eye(3), *-np.eye(3), np.ones(3) / np.sqrt(3), -np.ones(3) / np.sqrt(3)])
    free = constraints.unit_sphere.unconstrain(jnp.asarray(points))
    np.testing.assert_allclose(constraints.unit_sphere.constrain(free), points, atol=1e-15)
    slopes = jax.jit(jax.vmap(jax.jacobian(constraints.unit_sphere.constrain)))(free)
    np.testing.assert_array_less(0.05, np.linalg.svd(slopes, compute_uv=False)[:, -1])


def test_retract_finds_the_nearest_orthonormal_matrices_reflections_too():
    exact = np.stack([np.eye(3), np.diag([1.0, -1.0, -1.0]), -np.eye(3)])
    far = jnp.asarray(exact + 0.2 * np.random.default_rng(0).normal(size=exact.shape))
    expected = np.stack([polar(matrix)[0] for matrix in np.asarray(far)])
    np.testing.assert_allclose(constraints.retract(constraints.orthonormal, far), expected, atol=1e-14)
    assert np.isnan(constraints.retract(constraints.orthonormal, jnp.zeros((2, 2)))).all()


def test_retract_scales_to_a_product_of_one():
    received = constraints.retract(constraints.unit_product, jnp.array([2.0, 8.0]))
    np.testing.assert_allclose(received, [0.5, 2.0], rtol=1e-15)
    assert np.isnan(constraints.retract(constraints.unit_product, jnp.array([2.0, -8.0]))).all()


def test_mending_orthonormal_matrices_takes_out_what_does_not_turn():
    matrix = np.linalg.qr(np.arange(9.0).reshape(3, 3) % 4)[0]
    change = np.random.default_rng(0).normal(size=(3, 3))
    received = jax.jvp(constraints.orthonormal.mend, (jnp.asarray(matrix),), (jnp.asarray(change),))[1]
    expected = (polar(matrix + 1e-6 * change)[0] - polar(matrix - 1e-6 * change)[0]) / 2e-6
    np.testing.assert_allclose(received, expected, atol=1e-8)
