"""Numbers from a CSV file; whatever is not a table of finite numbers is a ValueError that says where and what to do."""

import math
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxem.families.observed import observed
from jaxem.shell.columns import find_column, find_columns
from jaxem.shell.lines import NAMES, Lines, is_missing, is_number, looks_like_names, read_lines, with_points

ABSENT_VALUE = "the value is missing ({}): fill it in, or --missing drop, or --missing fit."
ABSENT_WEIGHT = "the weight is missing ({}): fill it in; 0 leaves a row out."
MOST_LABELS = 50  # different words in a column of labels
ROWS = "(numbers of rows)"
WORDS = "words"


class Table(NamedTuple):
    """Column names and values (n, d) in float64; the line of each row, its weight and its label; and what was left out."""

    names: tuple[str, ...]
    values: np.ndarray
    lines: Sequence[int] = ()
    weights: np.ndarray | None = None
    labels: Sequence[str] | None = None
    notes: tuple[str, ...] = ()

    @property
    def data(self) -> Any:
        """The values, as what a family takes: NaN, where there is any, is missing."""
        return observed(self.values) if np.isnan(self.values).any() else self.values


class _File(NamedTuple):
    """A file by columns: their names, their cells, and the line of each row."""

    path: object
    names: tuple[str, ...]
    columns: list[tuple[str, ...]]
    lines: list[int]


def read_table(
    path: Path | Traversable,
    columns: str | None = None,
    header: bool | None = None,
    weights: str | None = None,
    labels: str | None = None,
    wanted: Sequence[str] = (),
    missing: str = "refuse",
) -> Table:
    """Return the columns of a CSV file, separated by commas, semicolons, tabs or spaces, with decimal points or commas.

    columns: names, numbers from 1 on, or ranges of them, between commas; None takes all but those of words, of nothing, and
    of the numbers of rows, and says so in `notes`. header: whether the first line holds names; None takes it so where it
    holds no number but some word. weights, labels: the columns of those, which are left out of the values. wanted: names of
    columns that a model has, which are found by name or, where there are no names, in order. missing: "refuse" values that
    are missing, "drop" their rows, or "fit" them as NaN.

    Raises ValueError for lines of unequal length, unknown columns, cells that are not finite numbers, weights that are
    negative or all zero, and labels that hardly repeat; OSError for a file that cannot be read.
    """
    read = read_lines(path)
    file = _by_columns(read, header, path)
    weighing = None if weights is None else find_column("--weights", weights, file.names, path)
    labelling = None if labels is None else find_column("--labels", labels, file.names, path)
    apart = [place for place in (weighing, labelling) if place is not None]
    chosen, left = _chosen(file, columns, wanted, apart)
    _check_apart(chosen, apart, file)
    table = Table(
        tuple(file.names[i] for i in chosen),
        np.stack([_numbers(file, i, missing) for i in chosen], axis=1),
        file.lines,
        None if weighing is None else _weights(file, weighing),
        None if labelling is None else _labels(file, labelling),
        (*_format(read), *([f"left out: {'; '.join(left)}"] if left else [])),
    )
    return _without_holes(table, path) if missing == "drop" else table


def _without_holes(table: Table, path: object) -> Table:
    whole = ~np.isnan(table.values).any(1)
    dropped = int((~whole).sum())
    if not whole.any():
        raise ValueError(f"{path}: every row has a missing value: choose other columns, or --missing fit.")
    return table._replace(
        values=table.values[whole],
        lines=[line for line, keep in zip(table.lines, whole, strict=True) if keep],
        weights=None if table.weights is None else table.weights[whole],
        labels=None if table.labels is None else [label for label, keep in zip(table.labels, whole, strict=True) if keep],
        notes=(*table.notes, *([f"dropped: {dropped} row{'s'[: dropped != 1]} with missing values"] if dropped else [])),
    )


def _by_columns(read: Lines, header: bool | None, path: object) -> _File:
    lines, first = read.lines, read.lines[0].cells
    cells = [with_points(cell) for cell in first] if read.has_commas else first
    has_names = looks_like_names(cells) if header is None else header
    names = tuple((has_names and name) or f"x{i}" for i, name in enumerate(first, 1))
    rows = lines[has_names:]
    if not rows:
        raise ValueError(f"{path} holds column names but no rows.")
    columns = list(zip(*(line.cells for line in rows), strict=True))
    if read.has_commas:
        columns = [tuple(map(with_points, column)) for column in columns]
    if not (has_names and first[0]):
        names = (ROWS if has_names and _counts_rows(columns[0]) else names[0], *names[1:])
    return _File(path, names, columns, [line.number for line in rows])


def _counts_rows(column: Sequence[str]) -> bool:
    """Tell whether a column holds 0, 1, 2, … or 1, 2, 3, …, as R and pandas write it under no name."""
    return column[0] in ("0", "1") and list(column) == [str(i) for i in range(int(column[0]), int(column[0]) + len(column))]


def _chosen(file: _File, columns: str | None, wanted: Sequence[str], apart: Sequence[int]) -> tuple[list[int], list[str]]:
    """Return the places of the columns to take, and what is said of those that were left out."""
    if columns is not None:
        places = find_columns("--columns", columns, file.names, file.path)
        if len(places) > 1 and file.names[places[0]] == ROWS:
            raise ValueError(
                f"--columns {columns}: column 1 of {file.path} holds the numbers of rows: data begin with column 2."
            )
        return places, []
    if not wanted:
        return _numeric(file, apart)
    missing = [name for name in wanted if name not in file.names]
    if missing and not (_nameless(file.names) or _nameless(wanted)):
        raise ValueError(
            f"{file.path} has no column {missing[0]!r}: name those that stand for {', '.join(wanted)} by --columns."
        )
    return (_numeric(file, apart)[0], []) if missing else ([file.names.index(name) for name in wanted], [])


def _nameless(names: Sequence[str]) -> bool:
    return all(name[:1] == "x" and name[1:].isdecimal() for name in names)


def _numeric(file: _File, apart: Sequence[int]) -> tuple[list[int], list[str]]:
    """Return the places of columns of numbers, and of each other one its name and what it holds."""
    kinds = {i: _kind(file, i) for i in range(len(file.names)) if i not in apart}
    chosen = [i for i, kind in kinds.items() if kind is None]
    if not chosen:
        held = ", ".join(f"{file.names[i]} ({kind})" for i, kind in kinds.items())
        raise ValueError(f"{file.path} has no column of numbers to fit: it has {held or 'no other column'}.")
    left = [f"{file.names[i]} ({kind})" if kind else file.names[i] for i, kind in kinds.items() if kind is not None]
    groups = [file.names[i] for i, kind in kinds.items() if kind == WORDS and len(set(file.columns[i])) <= MOST_LABELS]
    hint = [f"--labels {groups[0]} compares that with the components"] if groups and not apart else []
    return chosen, [", ".join(left), *hint] if left else []


def _kind(file: _File, place: int) -> str | None:
    """Return what a column holds that is not to be fitted; None for numbers, of which less than half may be mistyped."""
    if file.names[place] == ROWS:
        return ""
    column = file.columns[place]
    if _as_floats(column) is not None:
        return None
    known = [cell for cell in column if not is_missing(cell)]
    if not known:
        return "empty"
    return None if 2 * sum(map(is_number, known)) >= len(known) else WORDS


def _check_apart(chosen: Sequence[int], apart: Sequence[int], file: _File) -> None:
    if len(set(apart)) < len(apart):
        raise ValueError(f"--weights and --labels both name {file.names[apart[0]]!r}: give two columns.")
    both = [file.names[i] for i in apart if i in chosen]
    if both:
        raise ValueError(f"--columns names {both[0]!r}, and so does --weights or --labels: leave it out of one of them.")


def _format(read: Lines) -> list[str]:
    said = [f"separated by {NAMES[read.delimiter]}"] if read.delimiter in NAMES else []
    return [", ".join([*said, *(["decimal commas"] if read.has_commas else [])])] if said else []


def _as_floats(column: Sequence[str]) -> np.ndarray | None:
    try:
        values = np.array(column, dtype=np.float64)
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None


def _numbers(file: _File, place: int, missing: str = "refuse", absent: str = ABSENT_VALUE) -> np.ndarray:
    values = _as_floats(file.columns[place])
    if values is None:
        name, cells = file.names[place], zip(file.lines, file.columns[place], strict=True)
        return np.array([_number(f"{file.path}, line {line}, column {name!r}", cell, missing, absent) for line, cell in cells])
    return values


def _number(place: str, cell: str, missing: str, absent: str) -> float:
    if is_missing(cell):
        if missing != "refuse":
            return math.nan
        raise ValueError(f"{place}: {absent.format(repr(cell))}")
    if not is_number(cell):
        raise ValueError(f"{place}: {cell!r} is not a number: mend it, or choose the columns of numbers by --columns.")
    value = float(cell)
    if not math.isfinite(value):
        raise ValueError(f"{place}: {cell!r} is not finite: drop or mend that row.")
    return value


def _weights(file: _File, place: int) -> np.ndarray:
    weights = _numbers(file, place, absent=ABSENT_WEIGHT)
    if weights.min() < 0:
        line, name = file.lines[int(weights.argmin())], file.names[place]
        raise ValueError(f"{file.path}, line {line}, column {name!r}: a weight must be at least 0, got {weights.min():g}.")
    if weights.sum() == 0:
        raise ValueError(f"{file.path}: all weights in column {file.names[place]!r} are 0: no row is left.")
    return weights


def _labels(file: _File, place: int) -> Sequence[str]:
    column = file.columns[place]
    number = len(set(column))
    if number > MOST_LABELS:
        raise ValueError(
            f"--labels: column {file.names[place]!r} has {number} different values in {len(column)} rows: labels are those of "
            f"groups, at most {MOST_LABELS}."
        )
    return column


def check_table(table: Table, num_components: int, source: str, may_be_constant: bool = False) -> None:
    """Raise ValueError unless all values are finite, every column varies, and there are rows for `num_components`."""
    present = table.values if table.weights is None else table.values[table.weights > 0]
    if len(present) < num_components:
        weighted = "" if table.weights is None else " of weight above 0"
        raise ValueError(
            f"{source} has {len(present)} rows{weighted}, fewer than {num_components} components: lower --components."
        )
    if np.isinf(table.values).any():
        raise ValueError(f"{source} has numbers that {table.values.dtype} cannot hold: rescale them.")
    constant = [name for name, column in zip(table.names, present.T, strict=True) if _is_constant(column)]
    if constant and not may_be_constant:
        raise ValueError(f"{source}: the same value in every row of {', '.join(constant)}: leave it out by --columns.")


def _is_constant(column: np.ndarray) -> bool:
    known = column[~np.isnan(column)]
    return not known.size or bool(np.ptp(known) == 0)
