"""Factors of matrices against NumPy, one by one, and their derivatives against differences and JAX's own."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxem.matrices import (
    MOST_FACTORED,
    MOST_MULTIPLIED,
    MOST_SOLVED,
    MOST_UNROLLED,
    cholesky,
    eigh,
    factor,
    is_positive_definite,
    log_det_and_trace,
    product,
)

SIZES = [1, 2, MOST_UNROLLED, MOST_UNROLLED + 1, 12]
LARGE = [MOST_SOLVED + 1, 3 * MOST_SOLVED - 1, MOST_FACTORED, MOST_FACTORED + 3]


def matrices(dim, batch=(3, 2), dtype=np.float64):
    x = np.random.default_rng(dim).normal(size=(*batch, dim, dim + 3))
    return (x @ x.swapaxes(-1, -2)).astype(dtype)


def each(function, batch):
    return np.array([[function(matrix) for matrix in row] for row in batch])


@pytest.mark.each_time(5)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", SIZES)
def test_factors_are_those_of_numpy_with_or_without_jit_and_vmap(dim, dtype):
    given, rtol = matrices(dim, dtype=dtype), 2e3 * np.finfo(dtype).eps
    wide = given.astype(np.float64)
    expected = (
        each(np.linalg.cholesky, wide),
        each(lambda m: np.linalg.inv(np.linalg.cholesky(m)), wide),
        each(lambda m: np.linalg.slogdet(m)[1], wide),
    )
    for function in (factor, jax.jit(factor), jax.vmap(factor), jax.vmap(jax.vmap(factor))):
        for received, right in zip(function(given), expected, strict=True):
            assert received.dtype == dtype
            np.testing.assert_allclose(received, right, rtol=rtol, atol=rtol * np.abs(right).max())


@pytest.mark.each_time(6)
@pytest.mark.parametrize("batch", [(), (1, 2), (3, 4)])
@pytest.mark.parametrize("dim", LARGE)
def test_large_factors_are_those_of_numpy_whatever_the_blocks_and_the_batch(dim, batch):
    given = matrices(dim, batch) / dim
    lower = np.linalg.cholesky(given)
    received = jax.jit(factor)(given)
    for one, right in zip(received, (lower, np.linalg.inv(lower), np.linalg.slogdet(given)[1]), strict=True):
        np.testing.assert_allclose(one, right, rtol=1e-9, atol=1e-9 * np.abs(right).max())
    assert not np.triu(received[0], 1).any() and not np.triu(received[1], 1).any()


@pytest.mark.parametrize("dim", [2, 12, 40])
def test_the_slopes_of_determinant_and_trace_are_those_of_the_textbook_twice(dim):
    """∇ (a log|Σ| + b tr(Σ⁻¹ S)) = a P - b P S P, P = Σ⁻¹, whose change along V is -a P V P + b (P V P S P + P S P V P)."""
    sigma, scatter, along = matrices(dim, (3,))
    slope = jax.jit(jax.grad(lambda x, s: 3 * log_det_and_trace(x, s)[0] + 2 * log_det_and_trace(x, s)[1], (0, 1)))
    p = np.linalg.inv(sigma)
    psp, pvp = p @ scatter @ p, p @ along @ p
    change = jax.jvp(lambda x: slope(x, scatter)[0], (sigma,), (along,))[1]
    expected = (3 * p - 2 * psp, 2 * p), -3 * pvp + 2 * (pvp @ scatter @ p + psp @ along @ p)
    for received, right in zip((*slope(sigma, scatter), change), (*expected[0], expected[1]), strict=True):
        np.testing.assert_allclose(received, right, rtol=1e-7, atol=1e-8 * np.abs(right).max())


@pytest.mark.parametrize("dim", [*SIZES, *LARGE])
def test_what_has_no_factor_is_told_apart_matrix_by_matrix(dim):
    flat = np.zeros((dim, dim)) if dim == 1 else np.ones((dim, dim)) - 1e-12 * np.eye(dim)
    batch = np.stack([np.eye(dim), flat, -np.eye(dim), np.full((dim, dim), np.nan), 1e-30 * np.eye(dim)])
    np.testing.assert_array_equal(jax.jit(is_positive_definite)(batch), [True, False, False, False, True])


@pytest.mark.parametrize("dim", SIZES)
def test_first_and_second_derivatives_are_those_of_the_determinant_and_the_inverse(dim):
    """∇ log|Σ| = Σ⁻¹, and its derivative along V is -Σ⁻¹ V Σ⁻¹; in reverse mode, twice."""
    sigma, along = matrices(dim)[0], matrices(dim)[1]
    slope = jax.jit(jax.grad(lambda x: factor(x)[2].sum()))
    inverse = np.linalg.inv(sigma)
    np.testing.assert_allclose(slope(sigma), inverse, rtol=1e-9, atol=1e-9 * np.abs(inverse).max())
    received, expected = jax.jvp(slope, (sigma,), (along,))[1], -inverse @ along @ inverse
    np.testing.assert_allclose(received, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


def dot_generals(jaxpr):
    """All matrix products in a jaxpr, those inside its calls and loops too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda node: hasattr(node, "jaxpr")):
            if hasattr(inner, "jaxpr"):
                yield from dot_generals(inner.jaxpr)


@pytest.mark.parametrize(
    "function", [lambda x: cholesky(x)[1].sum(), lambda x: eigh(x)[1].sum(), lambda x: log_det_and_trace(x, x)[1].sum()]
)
def test_products_in_derivatives_are_in_full_precision(function):
    products = list(dot_generals(jax.make_jaxpr(jax.grad(function))(matrices(MOST_MULTIPLIED + 1)).jaxpr))
    assert products
    assert all(str(equation.params["precision"]).count("HIGHEST") == 2 for equation in products)


@pytest.mark.parametrize("dim", [2, MOST_UNROLLED + 1])
def test_derivatives_of_both_factors_are_those_of_jax(dim):
    sigma, along = matrices(dim)[0, 0], matrices(dim)[0, 1]

    def by_jax(x):
        lower = jnp.linalg.cholesky(x)
        return lower, jnp.linalg.inv(lower)

    for function, other in ((cholesky, by_jax), (eigh, jnp.linalg.eigh)):
        received, expected = (jax.jvp(jax.jit(f), (sigma,), (along,))[1] for f in (function, other))
        assert_same(received, tuple(expected), 1e-9)
        weights = jax.tree.map(jnp.cos, function(sigma))
        received, expected = (
            jax.jit(jax.grad(lambda x, f=f, ws=weights: sum(jnp.vdot(w, part) for w, part in zip(ws, f(x), strict=True))))(
                sigma
            )
            for f in (function, other)
        )
        assert_same(received + received.T, expected + expected.T, 1e-8)


def assert_same(received, expected, rtol):
    for one, other in zip(jax.tree.leaves(received), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * np.abs(np.asarray(other)).max())


@pytest.mark.parametrize("dim", [1, 3, 8])
def test_eigenvalues_are_those_of_numpy_and_vectors_give_the_matrix_back(dim):
    given = matrices(dim)
    values, vectors = eigh(given)
    np.testing.assert_allclose(values, each(np.linalg.eigvalsh, given), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(vectors * values[..., None, :] @ vectors.mT, given, rtol=1e-9, atol=1e-9)


MIXED_FITS = """
import sys, threading, time
import jax, numpy as np
import jaxem
from jaxem import families

def work(seed, end):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(300, 24)).astype("float32")
    model = jaxem.mixture(families.gaussian(["full", "tied"][seed % 2]), 2)
    while time.monotonic() < end:
        search = jaxem.fit_restarts(model, seed, x, num_restarts=4, max_steps=30, solver=jaxem.em())
        assert np.isfinite(search.best.log_likelihood)

end = time.monotonic() + float(sys.argv[1])
threads = [threading.Thread(target=work, args=(seed, end)) for seed in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print("ended")
"""


@pytest.mark.thorough
def test_fits_in_four_threads_end():
    """LAPACK's batched calls from several threads at once can lock up for good: here there are none."""
    command = [sys.executable, "-c", MIXED_FITS, "3"]
    received = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert received.stdout.split() == ["ended"], received.stderr


@pytest.mark.parametrize("dim", [3, 5, 7])
def test_products_written_out_are_those_of_calls(dim):
    a, b = np.random.default_rng(0).normal(size=(2, 4, 1, dim, dim))
    expected = np.einsum("kmij,kmjl->kmil", a, b)
    np.testing.assert_allclose(product(jnp.asarray(a), jnp.asarray(b)), expected, rtol=1e-12, atol=1e-12)
