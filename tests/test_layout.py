"""The house has floors: a file imports only from floors below its own, or beside it without a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "jaxem"
FLOORS = [
    {
        "frames",
        "model",
        "at_once",
        "chains",
        "constraints",
        "numerics",
        "special",
        "tails",
        "bessel",
        "matrices",
        "kalman",
        "kalman_in_parallel",
        "square_roots",
        "shared_gains",
        "orthonormal",
        "progress",
        "trees",
        "stopping",
        "seeds",
        "datasets",
    },
    {"arrays", "components", "files", "lowered", "programs", "sequences", "solvers"},
    {"families"},
    {
        "blocks",
        "boundary",
        "buckets",
        "charts",
        "climbing",
        "freezing",
        "gradient",
        "implicit",
        "information",
        "prior",
        "reparametrize",
    },
    {"models"},
    {"each", "faces", "fitting", "identified", "polishing", "products", "race", "restarts", "selection", "starts"},
    {
        "bound",
        "certificate",
        "choice",
        "criteria",
        "errors",
        "forecasting",
        "impute",
        "influence",
        "likelihood_ratio",
        "marginal",
        "matching",
        "reports",
        "resampling",
        "testing",
        "validation",
    },
    {"plots", "sklearn", "shell", "__init__", "__main__"},
]
FILES = sorted(PACKAGE.rglob("*.py"))


def module(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def floor(name):
    room = name.split(".")[1] if "." in name else "__init__"
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def imported(path):
    """Return the modules of this package that a file imports, wherever in it."""
    names = {module(file) for file in FILES}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jaxem":
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from (inner & names) or {node.module}


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_file_imports_from_no_floor_above_its_own(path):
    above = [name for name in imported(path) if floor(name) > floor(module(path))]
    assert above == []


def test_no_imports_run_in_a_circle():
    graph = {module(path): set(imported(path)) - {module(path)} for path in FILES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(FILES)
