"""What is to be done, once every argument has been found sound."""

import argparse
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxem.datasets import csv_file
from jaxem.shell.files import check_target
from jaxem.shell.kinds import KINDS, check_numbers, forms_of
from jaxem.shell.table import Table, check_table, read_table


class Job(NamedTuple):
    """A fit of a table: its family, the forms of covariance and numbers of components to choose from, and where to write."""

    source: str
    table: Table
    kind: str
    forms: Sequence[str]
    counts: range
    num_restarts: int
    seed: int
    out: Path | None
    plot: Path | None


def prepare(args: argparse.Namespace) -> Job:
    """Read the data and check every argument; raise ValueError or OSError for what cannot be done."""
    if args.out:
        check_target("--out", args.out, (".npz",))
    if args.plot:
        _check_plot(args)
    source = str(args.data) if args.data else "Old Faithful"
    apart = {"weights": args.weights, "labels": args.labels}
    table = read_table(args.data or csv_file("faithful"), args.columns, args.header, **apart, missing=args.missing)
    forms = forms_of(args.family, args.covariance, len(table.names))
    check_numbers(args.family, table, source)
    with np.errstate(over="ignore"):
        weights = None if table.weights is None else table.weights.astype(args.dtype)
        table = table._replace(values=table.values.astype(args.dtype), weights=weights)
    check_table(table, args.components[-1], source, KINDS[args.family].counts)
    return Job(source, table, args.family, forms, args.components, args.restarts, args.seed, args.out, args.plot)


def _check_plot(args: argparse.Namespace) -> None:
    check_target("--plot", args.plot, (".png", ".pdf", ".svg"))
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib: pip install 'jaxem[plot]'.")
