"""The lines of a text file of separated values, as cells; and what cells stand for numbers."""

import csv
import io
import re
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

DELIMITERS = ("\t", ";", ",")
LOOKED_AT = 1 << 16  # letters from which the delimiter is told
NAMES = {";": "semicolons", "\t": "tabs", " ": "spaces"}
MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "."}
_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
_POINT = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")


class Line(NamedTuple):
    """Cells of a line, without spaces around them, and which line it is, from one on."""

    number: int
    cells: list[str]


class Lines(NamedTuple):
    """All lines that are not blank, of one width; what separates cells; and whether numbers have decimal commas."""

    lines: list[Line]
    delimiter: str
    has_commas: bool


def read_lines(path: Path | Traversable) -> Lines:
    """Return the lines of a file whose cells are separated by commas, semicolons, tabs or spaces.

    Where commas do not separate, numbers such as 3,5 have decimal commas, unless others have points. A first line of one
    cell less, as R writes it above names of rows, begins with an empty one.
    Raises ValueError for what is no text, an empty file, and lines of unequal length; OSError for what cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read()
        delimiter = _delimiter(text)
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
        lines = [Line(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a text file of comma-separated values: {error}; save it as CSV in UTF-8.") from error
    if not lines:
        raise ValueError(f"{path} is empty.")
    lines = _of_one_width(lines, path)
    return Lines(lines, delimiter, delimiter != "," and _has_commas(lines))


def _delimiter(text: str) -> str:
    """Return what splits the first lines into equally many cells, commas last as they may be decimal; else the most frequent.

    Spaces where there is none of those in the first line, and numbers between them in the second.
    """
    lines = [line for line in text[:LOOKED_AT].splitlines() if line.strip()][:20]
    first, second = [*lines, "", ""][:2]
    if any(delimiter in first for delimiter in DELIMITERS):
        even = [delimiter for delimiter in DELIMITERS if _splits_evenly(lines, delimiter)]
        return even[0] if even else max(DELIMITERS, key=first.count)
    parts = (second or first).split()
    return " " if len(parts) > 1 and any(map(is_number, parts)) else ","


def _splits_evenly(lines: Sequence[str], delimiter: str) -> bool:
    widths = {len(cells) for cells in csv.reader(lines, delimiter=delimiter, skipinitialspace=True)}
    return len(widths) == 1 and widths != {1}


def _of_one_width(lines: list[Line], path: object) -> list[Line]:
    first, width = lines[0], len(lines[0].cells)
    if len(lines) > 1 and looks_like_names(first.cells) and all(len(line.cells) == width + 1 for line in lines[1:]):
        return [Line(first.number, ["", *first.cells]), *lines[1:]]
    for line in lines:
        if len(line.cells) != width:
            raise ValueError(f"{path}, line {line.number}: {len(line.cells)} cells, where line {first.number} has {width}.")
    return lines


def _has_commas(lines: Sequence[Line]) -> bool:
    cells = [cell for line in lines for cell in line.cells]
    return any(map(_COMMA.fullmatch, cells)) and not any(map(_POINT.fullmatch, cells))


def with_points(cell: str) -> str:
    """Return a number with a decimal comma as Python writes it, and anything else as it is."""
    return cell.replace(",", ".") if _COMMA.fullmatch(cell) else cell


def is_missing(cell: str) -> bool:
    """Tell whether a cell says that its value is not known."""
    return cell.lower() in MISSING


def is_number(cell: str) -> bool:
    """Tell whether a cell is a number, or NaN or infinite."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def looks_like_names(cells: Sequence[str]) -> bool:
    """Tell whether a first line holds names: no number, but some word."""
    words = [cell for cell in cells if not is_missing(cell)]
    return bool(words) and not any(map(is_number, words))
