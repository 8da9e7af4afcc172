"""Little work is compiled by short ways, which change nothing but rounding, and only outside other programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import programs
from jaxem.programs import FEW_NUMBERS, LEAST_WORK, LITTLE_WORK, SHORT_WAY, SHORTEST_WAY, compiled


def ways_taken(monkeypatch):
    """Return the list of options that `compiled` will have asked the compiler for."""
    asked, jit = [], jax.jit

    def told(function, **options):
        asked.append(options.get("compiler_options"))
        return jit(function, **options)

    monkeypatch.setattr(programs.jax, "jit", told)
    return asked


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="short ways are the CPU compiler's")
@pytest.mark.parametrize(
    ("work", "numbers", "way"),
    [
        (LEAST_WORK, FEW_NUMBERS, SHORTEST_WAY),
        (LEAST_WORK + 1, 1, SHORT_WAY),
        (LITTLE_WORK, FEW_NUMBERS, SHORT_WAY),
        (LITTLE_WORK + 1, 1, ()),
        (1, FEW_NUMBERS + 1, ()),
    ],
)
def test_the_less_work_the_shorter_the_way(monkeypatch, work, numbers, way):
    asked = ways_taken(monkeypatch)
    received = compiled(lambda x: jnp.exp(x).sum(), work=lambda x: work)(np.ones(numbers))
    np.testing.assert_allclose(received, numbers * np.e, rtol=1e-12)
    assert asked[-1] == (dict(way) or None)


@pytest.mark.parametrize(("rows", "way"), [(16, SHORT_WAY), (LITTLE_WORK // programs.RUN + 1, ())])
def test_a_run_over_few_rows_takes_the_short_way_and_never_the_shortest(monkeypatch, rows, way):
    asked = ways_taken(monkeypatch)
    compiled(lambda k, x: k * x, static_argnums=0)(2.0, np.ones((rows, 2)))
    assert asked[-1] == (dict(way) or None)


def test_long_sequences_are_much_work(monkeypatch):
    asked = ways_taken(monkeypatch)
    total = compiled(lambda data: data.values.sum(), work=lambda data: 1)
    for steps, way in ((100, SHORTEST_WAY), (LEAST_WORK + 1, SHORT_WAY), (LITTLE_WORK + 1, ())):
        assert total(jaxem.sequences(np.ones(steps, np.int32))) == steps
        assert asked[-1] == (dict(way) or None)


def test_a_part_of_another_program_is_compiled_as_that_is():
    double, few = compiled(lambda x: 2 * x), np.ones(3)
    transformed = {
        "jit": jax.jit(lambda x: double(x))(few),
        "jit of a constant": jax.jit(lambda x: x - few + double(few))(few),
        "vmap": jax.vmap(double)(few),
        "grad": 2 * jax.grad(lambda x: double(x).sum())(few) / 2,
        "looked at under a trace": jax.jit(lambda x: x - few + np.asarray(at_once(double, few)))(few),
    }
    for how, received in transformed.items():
        np.testing.assert_array_equal(received, 2 * few, err_msg=how)


def at_once(function, x):
    with jax.ensure_compile_time_eval():
        return function(x)
