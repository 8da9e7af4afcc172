"""The notebooks are the guide: kept with what they print and draw, and they print the same when they are run again."""

import re

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

import nbformat

from notebooks.kept import code_cells, cover, cover_path, execute, paths, pictures, read, text

NOTEBOOKS = paths()
LARGEST = 60_000  # bytes of a picture
STEPS_TAKEN = re.compile(r"\d+ steps?, \d+ E-steps?")  # an accelerated solver's hang on the rounding of the processor

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_eight_notebooks():
    expected = ["1_quickstart", "2_the_bound", "3_your_own_model", "4_many_data_sets"]
    expected += ["5_mixtures_in_practice", "6_regressions_and_experts", "7_a_tour_of_families", "8_sequences"]
    received = [path.stem for path in NOTEBOOKS]
    assert received == expected


@each_notebook
def test_a_notebook_is_kept_as_one_run_from_top_to_bottom_left_it(path):
    notebook = read(path)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output.get("name", output.output_type) for cell in cells for output in cell.outputs}
    assert kinds <= {"stdout", "display_data", "execute_result"}, "no error, and nothing on stderr"


@each_notebook
def test_a_notebook_draws_pictures_that_are_small(path):
    drawn = [picture for cell in code_cells(read(path)) for picture in pictures(cell)]
    assert len(drawn) >= 3
    assert max(map(len, drawn)) < LARGEST


@each_notebook
def test_a_notebook_leads_to_the_others_the_laws_and_readme(path):
    links = set(re.findall(r"\]\(([^)#:]+)", "".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")))
    assert links == {"../README.md", "../jaxem/model.py"} | {other.name for other in NOTEBOOKS} - {path.name}
    assert all((path.parent / link).exists() for link in links)


@each_notebook
def test_the_picture_that_readme_shows_is_that_of_the_notebook(path):
    assert cover_path(path).read_bytes() == cover(read(path))


@pytest.mark.thorough
@each_notebook
def test_a_notebook_run_again_prints_the_same_and_draws_as_many_pictures(path):
    kept, again = code_cells(read(path)), code_cells(execute(path))
    for expected, received in zip(kept, again, strict=True):
        assert STEPS_TAKEN.sub("…", text(received)) == STEPS_TAKEN.sub("…", text(expected)), expected.id
        assert len(pictures(received)) == len(pictures(expected)), expected.id
