"""The arguments of `python -m jaxem`, and what is said of each."""

import argparse
from collections.abc import Callable
from pathlib import Path

from jaxem.shell.kinds import KINDS

DESCRIPTION = """\
usage: python -m jaxem [DATA.csv] [options]
       python -m jaxem --model FIT.npz --predict NEW.csv [--out LABELS.csv]

Fit mixtures to the columns of a CSV file, each from many random starts, and choose the number of components by BIC; or tell
for new rows which component of such a mixture each belongs to. Without a file: the eruptions of Old Faithful.

Compiled programs are kept in ~/.cache/jaxem (or under XDG_CACHE_HOME, or JAX_COMPILATION_CACHE_DIR), for the next run."""


def parser(version: str) -> argparse.ArgumentParser:
    """Return the parser of all arguments; what is bad is told in one line."""
    made = argparse.ArgumentParser(
        prog="python -m jaxem",
        usage=argparse.SUPPRESS,  # else a bad argument would be told in several lines
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("data", nargs="?", type=Path, metavar="DATA.csv", help="a CSV file, with column names in its first line or without")
    add("--columns", metavar="A,B", help="the columns to fit: names, numbers from 1 on, ranges like 1-4 (all of numbers)")
    add("--labels", metavar="COLUMN", help="known groups, which are not fitted but compared with the components")
    add("--weights", metavar="COLUMN", help="how often each row counts, which is not fitted")
    add("--header", action=argparse.BooleanOptionalAction, help="whether the first line holds names (if it holds no number)")
    add(
        "--missing",
        choices=("refuse", "drop", "fit"),
        default="refuse",
        help="rows with empty cells: leave out, or fit (refuse)",
    )
    add("--family", type=_family, default="gaussian", metavar="NAME", help=f"{', '.join(KINDS)} (gaussian)")
    add("--components", type=_counts, default="1-6", metavar="K", help="number of components, or a range like 1-6 (1-6)")
    add("--covariance", metavar="FORM", help="forms between commas, full, tied, diag, spherical or mclust's; or all (full)")
    add("--restarts", type=_whole(1, 1_000), default=64, metavar="N", help="random starts for each number (64)")
    add("--seed", type=_whole(0, 2**32 - 1), default=0, metavar="S", help="seed of the starts (0)")
    add("--dtype", choices=("float64", "float32"), default="float64", help="precision of the fit (float64)")
    add("--out", type=Path, metavar="FIT.npz", help="write the chosen model, its labels and the search to this file")
    add("--plot", type=Path, metavar="FIT.png", help="draw it to this .png, .pdf or .svg; needs matplotlib")
    add("--model", type=Path, metavar="FIT.npz", help="a model that --out wrote, for --predict")
    add("--predict", type=Path, metavar="NEW.csv", help="rows to tell component and probabilities of, as CSV")
    add("--version", action="version", version=f"jaxem {version}")
    return made


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"needs a whole number from {low} to {high}, got {text!r}")
        return int(text)

    return parse


def _counts(text: str) -> range:
    low, dash, high = text.partition("-")
    ends = (low, high if dash else low)
    if not all(end.isdecimal() for end in ends) or not 1 <= int(ends[0]) <= int(ends[1]):
        raise argparse.ArgumentTypeError(f"needs a number of components, at least 1, or a range like 1-6, got {text!r}")
    return range(int(ends[0]), int(ends[1]) + 1)


def _family(text: str) -> str:
    name = text.lower().replace("-", "_")
    if name not in KINDS:
        raise argparse.ArgumentTypeError(f"needs one of {', '.join(KINDS)}, got {text!r}")
    return name
