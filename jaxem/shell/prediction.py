"""Which component each of new rows belongs to, by a mixture from a file, as CSV."""

import argparse
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.shell.files import check_target
from jaxem.shell.kinds import check_numbers
from jaxem.shell.saved import Known, read
from jaxem.shell.table import Table, read_table

MEANT_FOR_FITS = ("data", "labels", "weights", "plot", "covariance")


class Question(NamedTuple):
    """A mixture, and new rows of its columns."""

    known: Known
    table: Table


def prepare(args: argparse.Namespace) -> Question:
    """Read a mixture and the rows to tell of; raise ValueError or OSError for what cannot be done."""
    if not (args.model and args.predict):
        raise ValueError("--model FIT.npz, which --out wrote, and --predict NEW.csv go together: give both.")
    given = [name for name in MEANT_FOR_FITS if getattr(args, name) is not None]
    if given:
        name = "DATA.csv" if given[0] == "data" else f"--{given[0]}"
        raise ValueError(f"{name} is of a fit: leave it out beside --predict, which names the file of new rows.")
    if args.missing == "drop":
        raise ValueError("--missing drop: rows left out would have no line in the answer: --missing fit tells of them as well.")
    if args.out:
        check_target("--out", args.out, (".csv",))
    known = read(args.model)
    table = read_table(args.predict, args.columns, args.header, wanted=known.columns, missing=args.missing)
    if len(table.names) != len(known.columns):
        needs = f"the model has {len(known.columns)} columns, {', '.join(known.columns)}"
        raise ValueError(f"{args.predict}: {needs}; got {len(table.names)}: choose them by --columns.")
    check_numbers(known.kind, table, str(args.predict))
    return Question(known, table)


def answer(question: Question) -> str:
    """Return CSV: for each row its most probable component, from one on, and the probability of each."""
    known, dtype = question.known, question.known.params.weights.dtype
    rows = question.table._replace(values=question.table.values.astype(dtype)).data
    posterior = np.asarray(known.model.posterior(known.params, jax.tree.map(jnp.asarray, rows)))  # type: ignore[misc]
    heading = ["component", *(f"probability_{i}" for i in range(1, posterior.shape[1] + 1))]
    rows = zip(posterior.argmax(1) + 1, posterior, strict=True)
    lines = [heading, *([str(label), *(f"{share:.6g}" for share in shares)] for label, shares in rows)]
    return "".join(",".join(line) + "\n" for line in lines)
