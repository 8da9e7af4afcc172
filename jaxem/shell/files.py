"""Files written whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def _part(path: Path) -> Path:
    """Return a name beside `path`, in the same file system, that no one else uses."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def check_target(option: str, path: Path, suffixes: tuple[str, ...]) -> None:
    """Raise ValueError unless `path` has one of the suffixes and a file can be written there."""
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{option} {path} must end in {' or '.join(suffixes)}.")
    if path.is_dir():
        raise ValueError(f"{option} {path} is a directory.")
    try:
        _part(path).touch()
        _part(path).unlink()
    except OSError as error:
        raise ValueError(f"{option} {path} cannot be written: {error.strerror}.") from error


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write to a new file beside `path` and put it in its place at the end; leave nothing behind on failure."""
    part = _part(path)
    try:
        with part.open("wb") as file:
            write(file)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
