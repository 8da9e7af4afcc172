import contextlib
import io
import itertools
import re
from pathlib import Path

import pytest

from notebooks import families

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = sorted((ROOT / "notebooks" / "pages").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)\)|`((?:jaxem|notebooks|tests)/[\w/.]*)`")

each = pytest.mark.parametrize("path", [README, *PAGES], ids=lambda path: path.stem)


def examples(path):
    """Return the Python blocks in order, each with the text block that follows it at once, or None."""
    text = path.read_text()
    for block, after in itertools.pairwise([*BLOCK.finditer(text), None]):
        if block[1] == "python":
            adjacent = after is not None and after[1] == "text" and not text[block.end() : after.start()].strip()
            yield block[2], after[2] if adjacent else None


@pytest.mark.each_time(1)
@each
def test_every_python_block_runs_and_prints_what_the_page_says(path):
    namespace = {"__name__": path.stem}
    for code, expected in examples(path):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, str(path), "exec"), namespace)
        received = printed.getvalue()
        assert received == (expected or ""), code


@each
def test_every_text_block_is_the_output_of_a_python_block(path):
    expected = len(re.findall(r"^```text$", path.read_text(), re.MULTILINE))
    received = sum(output is not None for _, output in examples(path))
    assert received == expected


def test_readme_shows_what_its_code_prints():
    assert sum(output is not None for _, output in examples(README)) >= 5


@pytest.mark.parametrize("path", [README, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.stem)
def test_the_files_that_are_named_exist(path):
    named = LINK.findall(path.read_text())
    assert named
    for target in (link or path for link, path in named):
        if not target.endswith("NAME.py"):
            assert (ROOT / target).exists(), target


def test_every_family_has_a_place_on_their_page_and_a_picture():
    rows = [line for line in families.page().splitlines() if line.startswith("| !")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)
    shown = re.findall(r"\(families/(\w+)\.png\) \| \[`(\w+)`\]", families.page())
    assert len(shown) > 20
    assert all(picture == name and (families.PICTURES / f"{name}.png").exists() for picture, name in shown)
