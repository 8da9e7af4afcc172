"""Tables whose columns bear names: of pandas, polars, pyarrow, and whatever else narwhals reads."""

from typing import Any

import numpy as np

from jaxem.trees import PyTree


def is_frame(x: Any) -> bool:
    """Tell whether x is a table with named columns, and no record."""
    return (hasattr(type(x), "columns") or hasattr(x, "columns")) and not hasattr(x, "_fields")


def as_frame(x: Any, name: str = "data") -> Any:
    """Return a table as narwhals has it, whoever made it, and anything else as it is.

    Without narwhals (extra `frames`), and where it does not know a table or names are not all different, that stays what it is.
    Raises ValueError for one whose rows are not there yet.
    """
    if not is_frame(x):
        return x
    try:
        import narwhals
    except ModuleNotFoundError:
        return x  # tables of pandas and polars are read without it
    try:
        frame = narwhals.from_native(x, pass_through=True)
    except narwhals.exceptions.NarwhalsError:
        return x
    if isinstance(frame, narwhals.LazyFrame):
        raise ValueError(f"{name} is a lazy frame, whose rows are not there yet: pass {name}.collect().")
    return frame


def column(frame: Any, name: Any) -> np.ndarray:
    """Return a column of a table as an array, NaN where nothing stands."""
    return np.asarray(frame.get_column(name) if hasattr(frame, "get_column") else frame[name])


def has_rows_at_hand(frame: Any) -> bool:
    """Tell whether `taken` can take rows of a table."""
    return hasattr(frame, "iloc") or hasattr(frame, "get_column")


def taken(frame: Any, rows: np.ndarray) -> Any:
    """Return rows of a table, by their numbers."""
    return frame.iloc[rows] if hasattr(frame, "iloc") else frame[rows.tolist()]


def column_names(data: PyTree) -> tuple[str, ...] | None:
    """Return the names of the columns of data, or of the one part of a record that has any; None where there are none.

    >>> import pandas
    >>> from jaxem import families
    >>> from jaxem.frames import column_names
    >>> frame = pandas.DataFrame({"length": [1.0, 2.0], "width": [0.5, None]})
    >>> column_names(families.observed(frame))
    ('length', 'width')
    """
    if is_frame(data):
        return tuple(str(name) for name in as_frame(data).columns)
    found = [names for part in getattr(data, "_fields", ()) if (names := column_names(getattr(data, part)))]
    return found[0] if len(found) == 1 else None
