"""Little work is compiled by short ways, which change nothing but rounding, and only outside other programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import families, lowered, programs
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
    ("work", "shape", "way"),
    [
        (LEAST_WORK - 1, (8,), SHORTEST_WAY),
        (LEAST_WORK, (8,), SHORT_WAY),
        (LEAST_WORK // 4 - 1, (8, 4), SHORTEST_WAY),
        (LEAST_WORK // 4, (8, 4), SHORT_WAY),
        (LITTLE_WORK, (8, 4), SHORT_WAY),
        (LITTLE_WORK + 1, (1,), ()),
        (1, (FEW_NUMBERS + 1, 1), ()),
    ],
)
def test_the_less_work_the_shorter_the_way(monkeypatch, work, shape, way):
    asked = ways_taken(monkeypatch)
    received = compiled(lambda x: jnp.exp(x).sum(), work=lambda x: work)(np.ones(shape))
    np.testing.assert_allclose(received, np.prod(shape) * np.e, rtol=1e-12)
    assert asked[-1] == (dict(way) or None)


@pytest.mark.parametrize(("rows", "way"), [(16, SHORT_WAY), (LITTLE_WORK // programs.RUN + 1, ())])
def test_a_run_over_few_rows_takes_the_short_way_and_never_the_shortest(monkeypatch, rows, way):
    asked = ways_taken(monkeypatch)
    compiled(lambda k, x: k * x, static_argnums=0)(2.0, np.ones((rows, 2)))
    assert asked[-1] == (dict(way) or None)


def test_long_sequences_are_much_work(monkeypatch):
    asked = ways_taken(monkeypatch)
    total = compiled(lambda data: data.values.sum(), work=lambda data: 1)
    for steps, way in ((100, SHORT_WAY), (LITTLE_WORK - 1, SHORT_WAY), (LITTLE_WORK + 1, ())):
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


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Keep programs in a folder of this test's."""
    monkeypatch.setattr(lowered, "_folders", [tmp_path])
    monkeypatch.setattr(lowered, "_known", {})
    return tmp_path


TRACED = []


def scaled(power, x, family):
    TRACED.append(power)
    return {"scaled": x["a"] ** power, "sum": x["b"].sum()}


def in_another_process(monkeypatch, power, x):
    """Return what a process that has compiled nothing yet gets, and how often it traces."""
    monkeypatch.setattr(lowered, "_known", {})
    jax.clear_caches()
    TRACED.clear()
    received = compiled(scaled, static_argnums=(0, 2))(power, x, families.gaussian("full"))
    return received, len(TRACED)


def test_a_program_on_disk_is_not_traced_again(folder, monkeypatch):
    x = {"a": np.arange(3.0), "b": jnp.ones(2, jnp.float32)}
    for expected in (1, 0, 0):
        received, traced = in_another_process(monkeypatch, 2, x)
        np.testing.assert_array_equal(received["scaled"], [0, 1, 4])
        assert received["sum"] == 2 and traced == expected
    assert len(list(folder.iterdir())) == 1
    other, traced = in_another_process(monkeypatch, 3, x)
    np.testing.assert_array_equal(other["scaled"], [0, 1, 8])
    assert traced == 1 and len(list(folder.iterdir())) == 2
    other, traced = in_another_process(monkeypatch, 2, x | {"a": np.arange(4.0)})
    np.testing.assert_array_equal(other["scaled"], [0, 1, 4, 9])
    assert traced == 1


@pytest.mark.parametrize("spoil", [lambda body: body[:-1], lambda body: body[:50] + b"?" + body[51:], lambda body: b""])
def test_a_program_that_is_cut_or_changed_on_disk_is_made_again(folder, monkeypatch, spoil):
    x = {"a": np.arange(3.0), "b": np.ones(2)}
    in_another_process(monkeypatch, 2, x)
    (path,) = folder.iterdir()
    path.write_bytes(spoil(path.read_bytes()))
    for expected in (1, 0):
        received, traced = in_another_process(monkeypatch, 2, x)
        np.testing.assert_array_equal(received["scaled"], [0, 1, 4])
        assert traced == expected


def test_a_change_of_what_made_a_program_makes_another(folder, monkeypatch):
    x = {"a": np.arange(3.0), "b": np.ones(2)}
    in_another_process(monkeypatch, 2, x)
    monkeypatch.setattr(lowered, "_origin", lambda: ("another version",))
    assert in_another_process(monkeypatch, 2, x)[1] == 1


def test_what_cannot_be_kept_runs_all_the_same(folder):
    few = np.ones(3)
    np.testing.assert_array_equal(compiled(lambda x: 2 * x)(few), 2 * few)
    np.testing.assert_array_equal(compiled(doubled, static_argnums=0)(lambda: 2, few), 2 * few)
    np.testing.assert_array_equal(jax.jit(lambda x: compiled(doubled, static_argnums=0)(len, x))(few), 2 * few)
    assert list(folder.iterdir()) == []


def doubled(static, x):
    return 2 * x


def test_a_folder_that_cannot_be_written_is_no_hindrance(folder, monkeypatch):
    monkeypatch.setattr(lowered, "_folders", [folder / "absent"])
    received, traced = in_another_process(monkeypatch, 2, {"a": np.arange(3.0), "b": np.ones(2)})
    np.testing.assert_array_equal(received["scaled"], [0, 1, 4])
    assert traced == 1


def test_a_search_on_disk_finds_what_one_that_was_compiled_finds(folder, monkeypatch):
    model, x = jaxem.mixture(families.poisson(), 2), [0, 1, 0, 2, 9, 8, 11, 7]
    first = jaxem.fit_restarts(model, 0, x, num_restarts=4)
    names = sorted(path.name for path in folder.iterdir())
    assert names
    monkeypatch.setattr(lowered, "_known", {})
    jax.clear_caches()
    again = jaxem.fit_restarts(model, 0, x, num_restarts=4)
    for received, expected in zip(jax.tree.leaves(again), jax.tree.leaves(first), strict=True):
        np.testing.assert_array_equal(received, expected)
    assert sorted(path.name for path in folder.iterdir()) == names
