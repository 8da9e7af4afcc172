import contextlib
import io
import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples():
    """Return the Python blocks in order, each with the text block that follows it at once, or None."""
    blocks = list(BLOCK.finditer(README.read_text()))
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if block[1] == "python":
            adjacent = after is not None and after[1] == "text" and not README.read_text()[block.end() : after.start()].strip()
            yield block[2], after[2] if adjacent else None


def test_every_python_block_runs_and_prints_what_the_readme_says():
    namespace, shown = {"__name__": "readme"}, 0
    for code, expected in examples():
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, str(README), "exec"), namespace)
        received = printed.getvalue()
        assert received == (expected or ""), code
        shown += expected is not None
    assert shown >= 5


def test_every_text_block_is_the_output_of_a_python_block():
    expected = len(re.findall(r"^```text$", README.read_text(), re.MULTILINE))
    received = sum(output is not None for _, output in examples())
    assert received == expected


def test_the_files_that_the_readme_names_exist():
    named = re.findall(r"\]\(([^)#:]+)\)|`((?:jaxem|notebooks|tests)/[\w/.]*)`", README.read_text())
    assert named
    for target in (link or path for link, path in named):
        assert (README.parent / target).exists(), target
