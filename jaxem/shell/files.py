"""Files that are to be written, asked about beforehand."""

from pathlib import Path

from jaxem.files import part_of


def check_target(option: str, path: Path, suffixes: tuple[str, ...]) -> None:
    """Raise ValueError unless `path` has one of the suffixes and a file can be written there."""
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{option} {path} must end in {' or '.join(suffixes)}.")
    if path.is_dir():
        raise ValueError(f"{option} {path} is a directory.")
    try:
        part_of(path).touch()
        part_of(path).unlink()
    except OSError as error:
        raise ValueError(f"{option} {path} cannot be written: {error.strerror}.") from error
