"""How far what takes long has come: a bar where tqdm is installed, else a line on stderr."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
from jax import Array


class Bar(NamedTuple):
    """Something that shows how much is done: `update` is told how much more, `close` ends it."""

    update: Callable[[int], object]
    close: Callable[[], object]


_shown: list[Callable[[int], None]] = []  # compiled programs know functions, not which bar is theirs


@contextmanager
def progress_of(what: str, total: int, is_shown: bool) -> Iterator[None]:
    """Show meanwhile how many of `total` are done, if at all: as `advance` is told, and all at the end."""
    if not is_shown:
        yield
        return
    bar, done = (_tqdm(what, total) or _line(what, total)), 0

    def more(count: int) -> None:
        nonlocal done
        count = min(count, total - done)
        done += count
        if count:
            bar.update(count)

    _shown.append(more)
    try:
        yield
        jax.effects_barrier()
        more(total - done)
    finally:
        _shown.remove(more)
        bar.close()


def advance(count: Any) -> None:
    """Tell the innermost of what is shown that `count` more are done."""
    if _shown:
        _shown[-1](int(count))


def advance_from_device(count: Array) -> None:
    """Tell the same from within a compiled program."""
    jax.debug.callback(advance, count)


def _tqdm(what: str, total: int) -> Bar | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it lacks for a prettier bar in a notebook
            from tqdm.auto import tqdm

            bar = tqdm(total=total, desc=what)
    except ImportError:
        return None
    return Bar(bar.update, bar.close)


def _line(what: str, total: int) -> Bar:
    done = 0

    def update(count: int) -> None:
        nonlocal done
        done += count
        print(f"\r{what}: {done} of {total}", end="", file=sys.stderr, flush=True)

    return Bar(update, lambda: print(file=sys.stderr))
