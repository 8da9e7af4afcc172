"""Whatever data a model takes, as a table of named columns of numbers that can be drawn."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxem.families.censored import Censored
from jaxem.families.labelled import Labelled
from jaxem.families.observed import Observed
from jaxem.frames import as_frame, is_frame
from jaxem.model import PyTree
from jaxem.trees import Gated


class Columns(NamedTuple):
    """Names, and values (n, d) in float64, NaN where one is missing.

    origins  of each column, in which part of the data it stands, None where there are no parts, and at which place there
    is_flat  the data are (n,)
    """

    names: tuple[str, ...]
    values: np.ndarray
    origins: tuple[tuple[str | None, int], ...]
    is_flat: bool


def columns_of(data: PyTree) -> Columns:
    """Return the columns of data; ValueError for what is no table of numbers.

    Columns without a name are x, or x1, x2, …; parts of a dict or record bear its names, and what is None has no part in it.
    """
    if isinstance(data, Labelled | Gated):
        return columns_of(data.data)
    if isinstance(data, Censored):
        return columns_of(data.value)
    if isinstance(data, Observed):
        found = columns_of(data.values)
        return found._replace(values=np.where(np.asarray(data.mask).reshape(found.values.shape), found.values, np.nan))
    if is_frame(data):
        frame = as_frame(data)
        return _array(np.asarray(frame), [str(name) for name in frame.columns])
    parts = data._asdict() if hasattr(data, "_asdict") else data
    if isinstance(parts, Mapping):
        return _beside({str(name): columns_of(part) for name, part in parts.items() if part is not None})
    return _array(np.asarray(np.ma.filled(np.ma.asarray(data, float), np.nan) if np.ma.isMA(data) else data), None)


def chosen(found: Columns, columns: Any) -> list[int]:
    """Return the places of columns given by name or number, all for None; ValueError for what is no column, or none twice."""
    if columns is None:
        return list(range(len(found.names)))
    given = [columns] if isinstance(columns, str) or np.ndim(columns) == 0 else list(columns)
    places = [found.names.index(c) if c in found.names else c for c in given]
    size = len(found.names)
    legal = all(hasattr(c, "__index__") and not isinstance(c, bool) and -size <= c < size for c in places)
    if not places or not legal or len({c % size for c in places}) < len(places):
        raise ValueError(f"columns must be names or numbers, none twice, got {columns!r}: there are {_listed(found)}.")
    return [int(c) % size for c in places]


def _listed(found: Columns) -> str:
    return ", ".join(found.names[:10]) + ("" if len(found.names) <= 10 else f", … ({len(found.names)} in all)")


def _beside(parts: Mapping[str, Columns]) -> Columns:
    if not parts or len({len(part.values) for part in parts.values()}) > 1:
        raise ValueError("data has no parts, or parts of different numbers of rows: there is no table to draw.")
    several = {part: len(found.names) > 1 for part, found in parts.items()}
    origins = [(part, place) for part, found in parts.items() for place in range(len(found.names))]
    names = tuple(f"{part}{place + 1}" if several[part] else part for part, place in origins)
    return Columns(names, np.concatenate([found.values for found in parts.values()], 1), tuple(origins), False)


def _array(x: np.ndarray, names: Sequence[str] | None) -> Columns:
    try:
        values = x.astype(float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"data has entries that are no numbers ({error}): there is nothing to draw.") from error
    if values.ndim not in (1, 2) or 0 in values.shape:
        raise ValueError(f"data has an array of shape {values.shape}, which cannot be drawn: needs rows (n,) or (n, d).")
    is_flat = values.ndim == 1
    values = values[:, None] if is_flat else values
    given = names or (["x"] if is_flat else [f"x{i}" for i in range(1, 1 + values.shape[1])])
    return Columns(tuple(given), values, tuple((None, i) for i in range(values.shape[1])), is_flat)
