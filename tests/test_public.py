"""What is public: each name says what it is, shows how it is used, and is put to the laws."""

import doctest
import importlib.metadata
import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import jax
import models
import numpy as np
import pytest
from test_solvers import SOLVERS

import jaxem
from jaxem import components, constraints, datasets, families, initialize, plots, seeds, sklearn, testing

ROOT = Path(__file__).parent.parent
OF_THE_PACKAGE = (jaxem, families, plots, sklearn, testing)  # name what they take from elsewhere; others do not
MODULES = (components, constraints, datasets, initialize, seeds)


def is_own(module, value):
    if not (inspect.isroutine(inspect.unwrap(value)) or inspect.isclass(value)):
        return False
    return f"{value.__module__}.".startswith(f"{module.__name__}.")


def public_names():
    """Each public function and class, by the name that a user types."""
    names = {}
    for module in OF_THE_PACKAGE:
        given = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
        names |= {f"{module.__name__}.{name}": getattr(module, name) for name in given}
    for module in MODULES:
        alias = "jaxem.initialize" if module is initialize else module.__name__
        own = {name: value for name, value in vars(module).items() if not name.startswith("_") and callable(value)}
        names |= {f"{alias}.{name}": value for name, value in own.items() if is_own(module, value)}
    return {name: value for name, value in names.items() if not isinstance(value, types.ModuleType)}


PUBLIC = public_names()


def test_there_are_public_names():
    expected = {"jaxem.fit", "jaxem.families.gaussian", "jaxem.constraints.interval", "jaxem.initialize.jitter"}
    assert expected | {"jaxem.seeds.kmeans_plusplus", "jaxem.testing.check_model", "jaxem.datasets.iris"} <= PUBLIC.keys()


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_says_what_it_is_and_shows_how_it_is_used(name):
    text = inspect.getdoc(PUBLIC[name]) or ""
    first = text.partition("\n")[0]
    assert first and not first.startswith(PUBLIC[name].__name__ + "("), f"{name} has no docstring of its own"
    assert doctest.DocTestParser().get_examples(text), f"{name} has no example, a line that starts with >>>"


RUN_DOCTESTS = """
import doctest, importlib, sys
results = [doctest.testmod(importlib.import_module(name)) for name in sys.argv[1:]]
print(sum(result.attempted for result in results), "examples")
raise SystemExit(sum(result.failed for result in results))
"""


def modules_in(package):
    """Return the modules in a package of jaxem; for jaxem itself, those that are in no other."""
    every = ["jaxem", *(found.name for found in pkgutil.walk_packages(jaxem.__path__, "jaxem."))]
    inner = [name for name in every if importlib.import_module(name).__package__ != "jaxem"]
    chosen = [name for name in every if name not in inner] if package == "jaxem" else inner
    return [name for name in chosen if name.startswith(package) and not name.endswith("__main__")]


MANY_EXAMPLES = ("jaxem", "jaxem.families", "jaxem.plots")
PACKAGES = sorted({".".join(name.split(".")[:2]) for name in modules_in("jaxem.")} - {"jaxem.shell"})


@pytest.mark.parametrize(
    "package", [pytest.param(name, marks=[pytest.mark.thorough] * (name in MANY_EXAMPLES)) for name in ("jaxem", *PACKAGES)]
)
def test_all_examples_give_what_they_say_in_the_default_precision(package):
    """In a process of their own: these tests run in float64, and strict about ranks and dtypes."""
    modules = modules_in(package)
    command = [sys.executable, "-W", "error", "-c", RUN_DOCTESTS, *modules]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert run.returncode == 0, run.stdout + run.stderr
    finder, distinct = doctest.DocTestFinder(), {id(value): value for value in PUBLIC.values() if value.__module__ in modules}
    in_public = sum(len(test.examples) for value in distinct.values() for test in finder.find(value, module=False)[:1])
    assert int(run.stdout.split()[-2]) >= in_public > 0


def test_dir_lists_what_is_public_and_nothing_else():
    assert dir(jaxem) == sorted([*jaxem.__all__, "__version__"])
    assert all(not name.startswith("_") for name in jaxem.__all__)
    assert set(jaxem.__all__) >= {name.removeprefix("jaxem.") for name in PUBLIC if name.count(".") == 1}
    modules = {name for name in jaxem.__all__ if isinstance(getattr(jaxem, name), types.ModuleType)}
    assert modules == {"components", "constraints", "datasets", "families", "initialize", "plots", "seeds", "testing"}


def test_all_that_all_names_is_there():
    assert all(hasattr(jaxem, name) for name in jaxem.__all__)


def test_the_version_is_that_of_the_distribution():
    expected = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert jaxem.__version__ == expected == importlib.metadata.version("jaxem")


def log_joint(params, x, z):
    return -((x - params[z]) ** 2)


BUILT = {
    "mixture": jaxem.mixture(families.gaussian(), 2),
    "single": jaxem.single(families.poisson()),
    "product": jaxem.mixture(families.product(a=families.gaussian(), b=families.poisson()), 2),
    "labelled": jaxem.mixture(families.labelled(families.gaussian()), 2),
    "chunked": jaxem.chunked(jaxem.mixture(families.gaussian(), 2), 10),
    "gradient M-step": jaxem.gradient_m_step(jaxem.mixture(families.gaussian(), 2)),
    "from_log_joint": jaxem.from_log_joint(log_joint, 2),
}


@pytest.mark.parametrize("name", BUILT)
def test_help_of_each_function_of_a_built_model_says_what_it_does(name):
    functions = {field: value for field, value in BUILT[name]._asdict().items() if callable(value)}
    assert {"e_step", "m_step", "posterior", "log_prob", "expected_log_joint"} <= functions.keys()
    silent = [field for field, function in functions.items() if len(function.__doc__ or "") < 20]
    assert not silent, f"functions of a built model without a docstring: {silent}"


PARAMETERS = {
    "e_step": ["params", "data", "weights"],
    "m_step": ["params", "stats"],
    "init": ["key", "data", "weights"],
    "expected_log_joint": ["params", "stats"],
    "posterior": ["params", "data"],
    "statistics": ["params", "data", "weights", "posterior"],
    "log_prob": ["params", "data"],
    "sample": ["key", "params", "like"],
    "prepare": ["data", "weights"],
    "degenerate": ["params", "stats"],
}


@pytest.mark.parametrize("name", BUILT)
def test_functions_of_built_models_take_the_arguments_that_the_record_names(name):
    for field, expected in PARAMETERS.items():
        function = getattr(BUILT[name], field)
        if function is not None:
            assert list(inspect.signature(function).parameters) == expected, field


def constructors_in(record):
    """The names of all that a record was built of, as its `parts` tell."""
    if isinstance(record, (jaxem.Model, jaxem.Family)) and record.parts:
        constructor, arguments = record.parts
        yield {"_from_arguments": "from_log_joint"}.get(constructor.__name__, constructor.__name__.lstrip("_"))
        for argument in jax.tree.leaves(arguments, is_leaf=lambda node: isinstance(node, (jaxem.Model, jaxem.Family))):
            yield from constructors_in(argument)


def returns(kind):
    """The public functions that return such a record."""
    found = {name: value for name, value in PUBLIC.items() if inspect.isroutine(inspect.unwrap(value))}
    return {
        name.rpartition(".")[2]
        for name, value in found.items()
        if inspect.signature(value).return_annotation in (kind, kind.__name__)
    }


def test_every_family_structure_and_transform_has_a_row_in_the_table_of_models(monkeypatch):
    monkeypatch.setattr(models, "drawn", lambda model, data: (model, None, data))  # rows without a start: nothing to compile
    expected = returns(jaxem.Model) | returns(jaxem.Family)
    assert {"gaussian", "product", "mixture", "single", "chunked", "from_log_joint"} <= expected
    rows = [*models.MODELS.values(), *models.FAMILIES.values()]
    received = {name for row in rows for name in constructors_in(row.build(row.dtypes[0])[0])}
    assert expected <= received, f"without a row in tests/models.py: {sorted(expected - received)}"


def test_every_solver_has_a_row_in_the_table_of_solvers():
    assert returns(jaxem.Solver) == set(SOLVERS)


def sentences():
    """The sentences of README and of all docstrings."""
    texts = [(ROOT / "README.md").read_text()]
    for found in pkgutil.walk_packages(jaxem.__path__, "jaxem."):
        if not found.name.endswith("__main__"):
            module = importlib.import_module(found.name)
            texts += [inspect.getdoc(value) or "" for value in [module, *vars(module).values()] if hasattr(value, "__doc__")]
    texts += [status.message for status in jaxem.Status]
    return {" ".join(sentence.split()) for text in texts for sentence in re.split(r"(?<=[.;:])\s", text)}


def test_converged_is_nowhere_called_a_maximum():
    said = [sentence for sentence in sentences() if "CONVERGED" in sentence and "maximum" in sentence.lower()]
    assert [sentence for sentence in said if not re.search(r"\b(no|not|never)\b", sentence)] == []


def test_datasets_are_of_the_default_dtype_in_either_precision():
    for name in ("faithful", "iris"):
        assert getattr(datasets, name)().dtype == np.dtype("float64")
        with jax.enable_x64(False):
            assert getattr(datasets, name)().dtype == np.dtype("float32")
