"""Numbers from a CSV file; whatever is not a table of finite numbers is a ValueError that says where and what to do."""

import csv
import io
import math
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

import numpy as np

DELIMITERS = (",", ";", "\t")
MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "."}


class Table(NamedTuple):
    """Column names, and values (n, d) in float64."""

    names: tuple[str, ...]
    values: np.ndarray


class _Line(NamedTuple):
    number: int
    cells: list[str]


def read_table(path: Path | Traversable, columns: str | None = None, header: bool | None = None) -> Table:
    """Return the columns of a CSV file, separated by commas, semicolons or tabs.

    columns: names or numbers from 1 on, separated by commas; None takes all. header: whether the first line holds names; None
    takes it so where it holds no number but some word.

    Raises ValueError for lines of unequal length, unknown columns, and cells that are not finite numbers; OSError for a file
    that cannot be read.
    """
    lines = _read_lines(path)
    first = lines[0].cells
    has_names = _looks_like_names(first) if header is None else header
    names = tuple(first) if has_names else tuple(f"x{i}" for i in range(1, len(first) + 1))
    if has_names and len(lines) == 1:
        raise ValueError(f"{path} holds column names but no rows.")
    chosen = range(len(names)) if columns is None else _choose(columns, names, path)
    rows = [[_number(line, i, names, path) for i in chosen] for line in lines[has_names:]]
    return Table(tuple(names[i] for i in chosen), np.array(rows, np.float64))


def _read_lines(path: Path | Traversable) -> list[_Line]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read()
        reader = csv.reader(io.StringIO(text), delimiter=_delimiter(text), skipinitialspace=True, strict=True)
        lines = [_Line(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a text file of comma-separated values: {error}.") from error
    if not lines:
        raise ValueError(f"{path} is empty.")
    width = len(lines[0].cells)
    for line in lines:
        if len(line.cells) != width:
            raise ValueError(f"{path}, line {line.number}: {len(line.cells)} cells, where line {lines[0].number} has {width}.")
    return lines


def _delimiter(text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(DELIMITERS, key=first.count)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _looks_like_names(cells: Sequence[str]) -> bool:
    words = [cell for cell in cells if cell.lower() not in MISSING]
    return bool(words) and not any(map(_is_number, words))


def _choose(columns: str, names: tuple[str, ...], path: object) -> list[int]:
    chosen = [_column(name.strip(), names, path) for name in next(csv.reader([columns]), [])]
    if not chosen:
        raise ValueError(f"--columns names no column; {path} has {', '.join(names)}.")
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"--columns {columns} names a column twice.")
    return chosen


def _column(name: str, names: tuple[str, ...], path: object) -> int:
    if names.count(name) > 1:
        raise ValueError(f"--columns: {path} has {names.count(name)} columns {name!r}: give their numbers, from 1 on.")
    if name in names:
        return names.index(name)
    if name.isdecimal() and 1 <= int(name) <= len(names):
        return int(name) - 1
    raise ValueError(f"--columns: {path} has no column {name!r}; it has {', '.join(names)} (or 1 to {len(names)}).")


def _number(line: _Line, column: int, names: tuple[str, ...], path: object) -> float:
    cell = line.cells[column]
    place = f"{path}, line {line.number}, column {names[column]!r}"
    if cell.lower() in MISSING:
        raise ValueError(f"{place}: the value is missing ({cell!r}): drop or fill in that row.")
    if not _is_number(cell):
        raise ValueError(f"{place}: {cell!r} is not a number: choose the columns of numbers by --columns.")
    value = float(cell)
    if not math.isfinite(value):
        raise ValueError(f"{place}: {cell!r} is not finite: drop or mend that row.")
    return value


def check_table(table: Table, num_components: int, source: str) -> None:
    """Raise ValueError unless all values are finite, every column varies, and there are rows for `num_components`."""
    num_rows = len(table.values)
    if num_rows < num_components:
        raise ValueError(f"{source} has {num_rows} rows, fewer than {num_components} components: lower --components.")
    if not np.isfinite(table.values).all():
        raise ValueError(f"{source} has numbers that {table.values.dtype} cannot hold: rescale them.")
    constant = [name for name, column in zip(table.names, table.values.T, strict=True) if np.ptp(column) == 0]
    if constant:
        raise ValueError(f"{source}: the same value in every row of {', '.join(constant)}: leave it out by --columns.")
