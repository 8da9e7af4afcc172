"""The notebooks and what is kept of them: `python -m notebooks` runs them anew, in place, with the extra `notebooks`."""

import base64
from pathlib import Path

import nbformat

FOLDER = Path(__file__).parent
PICTURES = FOLDER.parent / ".github"
SECONDS_PER_CELL = 300


def paths():
    return sorted(FOLDER.glob("*.ipynb"))


def read(path):
    return nbformat.read(path, as_version=4)


def execute(path):
    """Return the notebook as this interpreter runs it, whatever kernels else are installed."""
    from jupyter_client.kernelspec import KernelSpecManager  # not needed to read what is kept
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    notebook, metadata = read(path), read(path).metadata
    native = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    NotebookClient(
        notebook,
        km=native,
        timeout=SECONDS_PER_CELL,
        record_timing=False,
        resources={"metadata": {"path": str(FOLDER)}},
    ).execute(cleanup_kc=True)
    notebook.metadata = metadata  # not this interpreter's version
    return notebook


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text(cell):
    """Return all that a cell printed."""
    return "".join(
        output.text if output.output_type == "stream" else output.data.get("text/plain", "") + "\n" for output in cell.outputs
    )


def pictures(cell):
    """Return the PNGs that a cell drew, as bytes."""
    return [
        base64.b64decode(output.data["image/png"])
        for output in cell.outputs
        if output.output_type == "display_data" and "image/png" in output.data
    ]


def cover(notebook):
    """Return the picture that stands for the notebook: that of the cell with the tag `cover`."""
    (cell,) = [cell for cell in code_cells(notebook) if "cover" in cell.metadata.get("tags", [])]
    (picture,) = pictures(cell)
    return picture


def cover_path(path):
    return PICTURES / f"notebook-{path.stem[0]}.png"


def main():
    for path in paths():
        notebook = execute(path)
        nbformat.write(notebook, path)
        cover_path(path).write_bytes(cover(notebook))
