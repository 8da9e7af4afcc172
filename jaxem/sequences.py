"""Data that are sequences: one row each, of so many time steps, padded to the longest."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.arrays import as_arrays, at_least_one, is_traced
from jaxem.frames import as_frame, column, is_frame
from jaxem.trees import PyTree, rows_of


class Sequences(NamedTuple):
    """Sequences of time steps: values (n, t, *event), any tree of them, of which row n has the first lengths_n.

    values   what was seen at each step, as the family of a hidden Markov model takes its rows, with an axis of time
    lengths  (n,) whole numbers from 1 to t; what stands beyond them is not looked at

    >>> from jaxem import Sequences
    >>> Sequences(values=[[1.0, 2.0], [3.0, 3.0]], lengths=[2, 1]).lengths
    [2, 1]
    """

    values: PyTree
    lengths: Any


def sequences(xs: Any) -> Sequences:
    """Return a list of sequences, trees with leaves (t_i, *event), as `Sequences`; of what is no list, a single one.

    Places beyond a length repeat the first step of the sequence. A step may be a record or a dict, of families made of others,
    with holes (`families.observed`), with labels (`families.labelled`). A list of numbers is one sequence.
    Raises ValueError for a sequence without steps, for leaves of one that differ in length, and for sequences that are built
    in different ways.

    >>> import jaxem
    >>> x = jaxem.sequences([[3.0, 1.0, 2.0], [5.0]])
    >>> print(x.values.tolist(), x.lengths)
    [[3.0, 1.0, 2.0], [5.0, 5.0, 5.0]] [3 1]
    """
    if isinstance(xs, Sequences):
        return xs
    listed = isinstance(xs, (list, tuple)) and not hasattr(xs, "_fields")
    if listed and not len(xs):
        raise ValueError("xs has no sequences, needs at least one.")
    each = (
        {f"xs[{i}]": x for i, x in enumerate(xs)}
        if listed and not all(map(_is_number, xs))
        else {"xs": list(xs) if listed else xs}
    )
    trees = [_as_steps(x, name) for name, x in each.items()]
    lengths = np.array([_length(x, name) for name, x in zip(each, trees, strict=True)])
    _check_alike(trees)
    return Sequences(jax.tree.map(lambda *leaves: _padded(leaves, int(lengths.max())), *trees), lengths)


def sequences_from(frame: Any, by: str, columns: str | Sequence[str] | None = None) -> Sequences:
    """Return rows of a DataFrame in long format as `Sequences`, one for each id in the column `by`.

    columns: names, whose values become (n, t, len(columns)), or one name, (n, t); None for all columns but `by`. Rows keep
    their order, and ids come in order of first appearance. frame: of pandas, any that narwhals reads, or a dict of columns;
    nulls become NaN, which `families.observed` takes for missing.
    Raises ValueError for names that the frame lacks, for what is no number, and for nulls among the ids.

    >>> import jaxem
    >>> frame = {"id": ["b", "a", "b"], "count": [3, 1, 2]}
    >>> x = jaxem.sequences_from(frame, by="id", columns="count")
    >>> print(x.values.tolist(), x.lengths)
    [[3, 2], [1, 1]] [2 1]
    """
    named, get = _columns_of(frame)
    names = [name for name in named if name != by] if columns is None else [columns] if isinstance(columns, str) else columns
    absent = [name for name in (by, *names) if name not in named]
    if absent or not names:
        raise ValueError(f"frame has columns {named}, needs {by!r} and at least one more; it lacks {absent}.")
    parts = [get(name) for name in names]
    ids = get(by)
    if {len(part) for part in parts} != {len(ids)} or not len(ids):
        raise ValueError(f"frame has columns of {len(ids)} and {[len(part) for part in parts]} rows, needs as many in each.")
    values = parts[0] if isinstance(columns, str) else np.stack(parts, 1)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"columns {list(names)} have dtype {values.dtype}, need numbers: turn them into numbers first.")
    if any(each is None or (each != each) is not False for each in ids.tolist()):
        raise ValueError(f"by={by!r} has nulls, needs an id for each row: drop those rows.")
    seen: dict[Any, int] = {}
    row = np.array([seen.setdefault(each, len(seen)) for each in ids.tolist()], int)
    in_turn = values[np.argsort(row, kind="stable")]
    return sequences(np.split(in_turn, np.cumsum(np.bincount(row))[:-1]))


def check_sequences(data: Any) -> Sequences:
    """Return `Sequences` as arrays; ValueError for what is none, and where shapes or lengths are no such.

    Under a trace lengths are taken to be right.
    """
    if not isinstance(data, Sequences):
        raise ValueError(
            f"data must be jaxem.Sequences(values, lengths), got {type(data).__name__}: jaxem.sequences([x1, x2, …]) makes "
            "them, and jaxem.sequences(x) a single one."
        )
    values, lengths = as_arrays(data.values, "values"), data.lengths
    lengths = lengths if hasattr(lengths, "dtype") else np.asarray(lengths)
    shapes = {np.shape(leaf)[:2] for leaf in rows_of(values)}
    if len(shapes) != 1 or len(min(shapes)) < 2 or np.shape(lengths) != min(shapes)[:1] or 0 in min(shapes):
        raise ValueError(
            f"values has leading axes {sorted(shapes)} and lengths {np.shape(lengths)}: needs (n, t) in each leaf, and (n,)."
        )
    most = min(shapes)[1]
    if lengths.dtype.kind not in "iu":
        raise ValueError(f"lengths has dtype {lengths.dtype}, needs whole numbers from 1 to t = {most}.")
    if not is_traced(lengths) and not ((np.asarray(lengths) >= 1) & (np.asarray(lengths) <= most)).all():
        low, high = np.min(lengths), np.max(lengths)
        raise ValueError(f"lengths has values from {low} to {high}, needs whole numbers from 1 to t = {most}.")
    return Sequences(values, jnp.asarray(lengths))


def pair_of(like: Any) -> tuple[int, int] | None:
    """Return (n, t), where `like` is a pair of numbers of sequences and of steps; None where it is something else.

    Raises ValueError for numbers below one.
    """
    if not isinstance(like, (tuple, list)) or len(like) != 2:
        return None
    if not all(hasattr(each, "__index__") and np.ndim(each) == 0 for each in like):
        return None
    return at_least_one("like[0]", like[0]), at_least_one("like[1]", like[1])


def _is_number(x: Any) -> bool:
    return isinstance(x, (bool, int, float, np.generic)) or getattr(x, "ndim", None) == 0


def _as_steps(x: PyTree, name: str) -> PyTree:
    """Return a sequence with each leaf an array, those of a DataFrame too."""
    return jax.tree.map(lambda leaf: np.asarray(leaf) if is_frame(leaf) else leaf, as_arrays(x, name))


def _length(x: PyTree, name: str) -> int:
    lengths = sorted({np.shape(leaf)[:1] for leaf in jax.tree.leaves(x)})
    if len(lengths) != 1 or lengths == [()]:
        got = "no arrays" if not lengths else f"leaves of leading axes {lengths}"
        raise ValueError(f"{name} has {got}, needs the same number of time steps in each leaf, (t, *event).")
    if lengths[0][0] == 0:
        raise ValueError(f"{name} has no time steps, needs at least one: leave that sequence out.")
    return int(lengths[0][0])


def _check_alike(trees: list[PyTree]) -> None:
    """Raise ValueError unless all sequences are trees of one structure, whose steps have the same shapes."""
    structure, first = str(jax.tree.structure(trees[0])), [np.shape(leaf)[1:] for leaf in jax.tree.leaves(trees[0])]
    for i, tree in enumerate(trees):
        if (received := str(jax.tree.structure(tree))) != structure:
            raise ValueError(f"xs[{i}] has structure {received}, xs[0] has {structure}: these must agree.")
        steps = [np.shape(leaf)[1:] for leaf in jax.tree.leaves(tree)]
        if steps != first:
            raise ValueError(f"xs[{i}] has steps of shape {steps}, xs[0] has {first}: these must agree.")


def _padded(leaves: tuple[Any, ...], most: int) -> Any:
    """Return leaves (t_i, *event) as one (n, most, *event), with the first step of each in the places beyond its length."""
    if is_traced(leaves):
        return jnp.stack([jnp.concatenate([x, jnp.repeat(x[:1], most - len(x), 0)]) for x in leaves])
    arrays = [np.asarray(leaf) for leaf in leaves]
    first = np.stack([x[0] for x in arrays]).astype(np.result_type(*arrays))
    rows = np.repeat(first[:, None], most, 1)
    for row, x in zip(rows, arrays, strict=True):
        row[: len(x)] = x
    return rows


def _columns_of(frame: Any) -> tuple[list[str], Any]:
    """Return the names of a frame's columns, and the function from a name to its values as a NumPy array."""
    if isinstance(frame, Mapping):
        return list(frame), lambda name: np.asarray(frame[name])
    if not is_frame(frame):
        raise ValueError(f"frame is a {type(frame).__name__}, needs a DataFrame, or a dict of columns.")
    known = as_frame(frame, "frame")
    return list(known.columns), lambda name: column(known, name)
