"""The documentation as a site: `python -m notebooks site`, once jaxem is installed with its extra `docs`.

Pages written by hand stand in `pages`; the others are made of docstrings, of README and of the notebooks as they are kept,
none of which is run. A warning is an error.
"""

import logging
import re
import shutil
import tempfile
from pathlib import Path

from mkdocs.commands.build import build
from mkdocs.config import load_config

from notebooks import families, reference
from notebooks.kept import FOLDER, paths, pictures, read, text

ROOT = FOLDER.parent
SOURCES = FOLDER / "pages"
PLACE = ROOT / "build" / "site"
OF_README = {
    "tour.md": (
        *("A tour", "Many data sets at once", "A model in ten lines", "A family in one file"),
        *("What is there", "How soon", "Limits"),
    ),
    "benchmarks.md": ("How fast",),
}
TITLES = {"tour.md": "A tour", "benchmarks.md": "Benchmarks"}
LINKS = {"jaxem/model.py": "laws.md", "../jaxem/model.py": "../laws.md", "README.md": "index.md", "../README.md": "../index.md"}


def sections(readme):
    """Return the sections of README by title."""
    _, *parts = re.split(r"^## (.+)$", readme, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def from_readme(page):
    found = sections((ROOT / "README.md").read_text())
    body = "\n".join(f"## {name}\n{found[name]}" for name in OF_README[page])
    return relinked(f"# {TITLES[page]}\n\n{body}")


def relinked(markdown):
    """Return Markdown whose links lead to pages, not to files of the repository; sections of README are those of the tour."""
    markdown = re.sub(r"\]\(((?:\.\./)?)README\.md#", r"](\1tour.md#", markdown)

    def target(match):
        page = re.sub(r"^(?:notebooks/)?(.+)[.]ipynb$", r"\1.md", match[1])
        return f"]({LINKS.get(page, page)})"

    return re.sub(r"\]\(([^)#:]+)\)", target, markdown)


def title(path):
    """Return the first heading of a notebook."""
    return re.match(r"# (.+)", read(path).cells[0].source)[1]


def guide(path, folder):
    """Return a notebook as a page; what it drew goes into the folder."""
    blocks = []
    for number, cell in enumerate(read(path).cells):
        if cell.cell_type == "markdown":
            blocks.append(relinked(cell.source))
            continue
        blocks.append(f"```python\n{cell.source}\n```")
        printed = re.sub(r"<Figure size .+>\n?", "", text(cell)).rstrip()
        if printed:
            blocks.append(f"```text\n{printed}\n```")
        for place, picture in enumerate(pictures(cell)):
            name = f"{path.stem}-{number}-{place}.png"
            (folder / name).write_bytes(picture)
            blocks.append(f"![Drawn by the code above]({name})")
    return "\n\n".join(blocks)


def written(docs):
    """Write all pages into a folder."""
    shutil.copytree(SOURCES, docs, dirs_exist_ok=True)
    (docs / "guide").mkdir()
    pages = {page: from_readme(page) for page in OF_README}
    pages |= {"contributing.md": relinked((ROOT / "CONTRIBUTING.md").read_text())}
    pages |= {"changelog.md": (ROOT / "CHANGELOG.md").read_text(), "laws.md": reference.laws(), "families.md": families.page()}
    pages |= {f"guide/{path.stem}.md": guide(path, docs / "guide") for path in paths()}
    for name, markdown in (pages | reference.pages()).items():
        (docs / name).parent.mkdir(exist_ok=True)
        (docs / name).write_text(markdown)


def main(place=PLACE):
    """Build the site; end with an error where mkdocs warns."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        docs = Path(folder) / "docs"
        docs.mkdir()
        written(docs)
        config = load_config(str(SOURCES / "mkdocs.yml"), docs_dir=str(docs), site_dir=str(place), strict=True)
        (of_guide,) = [entry for entry in config.nav if "Guide" in entry]
        of_guide["Guide"] = [{title(path): f"guide/{path.stem}.md"} for path in paths()]
        build(config)
    print(f"the site is in {place}")
