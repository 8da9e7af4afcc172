"""The notebooks are the guide: they run, they draw, and they are kept as source, without what a run leaves behind."""

import json
import sys
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SECONDS_PER_CELL = 300

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture
def kernel_of_this_interpreter(tmp_path, monkeypatch):
    """The name of a kernel that is the interpreter these tests run in, whatever else is installed."""
    name = "the-interpreter-of-these-tests"
    folder = tmp_path / "kernels" / name
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": command, "display_name": name, "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    return name


def test_there_are_three_notebooks():
    expected = ["1_quickstart", "2_the_bound", "3_your_own_model"]
    received = [path.stem for path in NOTEBOOKS]
    assert received == expected


@each_notebook
def test_a_notebook_is_kept_without_outputs_and_execution_counts(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert code_cells(notebook)
    for cell in code_cells(notebook):
        assert cell.outputs == [], f"outputs in cell {cell.id}"
        assert cell.execution_count is None, f"an execution count in cell {cell.id}"


@each_notebook
def test_a_notebook_runs_and_draws_pictures(path, kernel_of_this_interpreter):
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook,
        kernel_name=kernel_of_this_interpreter,
        timeout=SECONDS_PER_CELL,
        resources={"metadata": {"path": str(FOLDER)}},
    ).execute()
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    received = sum("image/png" in output.get("data", {}) for output in outputs)
    assert received >= 3
