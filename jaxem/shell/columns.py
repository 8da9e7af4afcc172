"""Which columns of a table are meant, by names, numbers from one on, and ranges of them."""

import csv
from collections.abc import Sequence


def find_columns(option: str, text: str, names: Sequence[str], path: object) -> list[int]:
    """Return the places of the columns that `text` lists: names or numbers, or ranges such as 1-4, 3- or a-c, between commas.

    A name goes before a number, so that a column called 2000 is found by it.
    Raises ValueError for a column that there is not, or twice.
    """
    parts = [part.strip() for part in next(csv.reader([text]), [])]
    chosen = [place for part in parts for place in _range(option, part, names, path)]
    if not chosen:
        raise ValueError(f"{option} names no column; {path} has {', '.join(names)}.")
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"{option} {text} names a column twice.")
    return chosen


def find_column(option: str, text: str, names: Sequence[str], path: object) -> int:
    """Return the place of the one column that `text` names, by name or by number; ValueError where there is none."""
    place = _place(text.strip(), names)
    if names.count(text.strip()) > 1:
        count = names.count(text.strip())
        raise ValueError(f"{option}: {path} has {count} columns {text.strip()!r}: give their numbers, from 1 on.")
    if place is None:
        raise ValueError(f"{option}: {path} has no column {text.strip()!r}; it has {', '.join(names)} (or 1 to {len(names)}).")
    return place


def _range(option: str, part: str, names: Sequence[str], path: object) -> Sequence[int]:
    if _place(part, names) is None:
        for at in (at for at, letter in enumerate(part) if letter == "-"):
            first, last = _place(part[:at].strip(), names), _place(part[at + 1 :].strip() or str(len(names)), names)
            if first is not None and last is not None:
                return _forwards(option, part, first, last)
    return [find_column(option, part, names, path)]


def _forwards(option: str, part: str, first: int, last: int) -> range:
    if last < first:
        raise ValueError(f"{option}: {part} runs backwards: give the first column before the last.")
    return range(first, last + 1)


def _place(text: str, names: Sequence[str]) -> int | None:
    if text in names:
        return names.index(text)
    return int(text) - 1 if text.isdecimal() and 1 <= int(text) <= len(names) else None
