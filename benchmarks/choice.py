"""Choice of a Gaussian mixture by BIC beside mclust's: `python -m benchmarks.choice [--data NAME ...] [--restarts N]`.

All fourteen forms with 1 … 9 components, by `select` from many random starts and by mclust from its one hierarchical start.
Told are the cells in which mclust's log-likelihood is higher, each beside a fit from mclust's own labels; how ours in cells
that mclust leaves out ended; and both choices.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxem
from benchmarks import report
from benchmarks.in_r import in_r
from benchmarks.mixtures import FORMS, beside_its_labels, lower_cells
from jaxem import families

MOST = 9
RESULT = Path(__file__).parent / "results" / "choice.json"
DATA = ("iris", "faithful", "diabetes")


def rows_of(name: str) -> np.ndarray:
    """Return a data set; mclust has `diabetes` (Reaven & Miller 1979): glucose, insulin and sspg of 145 persons."""
    if name != "diabetes":
        return np.asarray(getattr(jaxem.datasets, name)())
    found = in_r("mclust", 'data(diabetes); told(x = t(as.matrix(diabetes[, c("glucose", "insulin", "sspg")])))')
    if "failure" in found:
        raise ValueError(f"diabetes is mclust's: {found['failure']}")
    return np.array(found["x"]).reshape(-1, 3)


def of_mclust(x: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """Return its log-likelihoods and BIC, smaller where better, by form and number, and its labels (cells, n)."""
    script = f"""
    x <- given("x", {x.shape[0]}, {x.shape[1]})
    forms <- c({", ".join(f'"{form}"' for form in FORMS)})
    bic <- mclustBIC(x, G = 1:{MOST}, modelNames = forms, verbose = FALSE)
    value <- matrix(NA, {MOST}, length(forms)); labels <- matrix(0, nrow(x), length(value))
    for (f in seq_along(forms)) for (k in 1:{MOST}) if (is.finite(bic[k, forms[f]])) {{
      fit <- summary(bic, x, G = k, modelNames = forms[f])
      value[k, f] <- fit$loglik; labels[, (f - 1) * {MOST} + k] <- fit$classification
    }}
    told(value = value, bic = -bic[, forms], labels = labels)
    """
    found = in_r("mclust", script, x=x)
    if "failure" in found:
        raise ValueError(f"mclust: {found['failure']}")
    labels = np.array(found.pop("labels"), int).reshape(-1, x.shape[0])
    return {name: _by_form(found[name]) for name in ("value", "bic")}, labels


def _by_form(numbers: list[float | None]) -> np.ndarray:
    return np.array([np.nan if number is None else number for number in numbers]).reshape(len(FORMS), MOST)


def compared(name: str, num_restarts: int) -> dict[str, Any]:
    """Return what both find, and where they differ."""
    x = rows_of(name)
    candidates = jaxem.mixtures({form: families.gaussian(form) for form in FORMS}, range(1, MOST + 1))
    selection = jaxem.select(candidates, 0, x, num_restarts=num_restarts)
    ours = {field: np.array([row[field] for row in selection.table], float) for field in ("log_likelihood", "bic")}
    reached, status = ours["log_likelihood"].reshape(-1, MOST), [row["status"] for row in selection.table]
    theirs, labels = of_mclust(x)
    lower = [
        beside_its_labels(x, f, k, labels[f * MOST + k], reached[f, k], theirs["value"][f, k])
        for f, k in lower_cells(reached, theirs["value"])
    ]
    for cell in lower:
        cell["status"] = status[FORMS.index(cell["form"]) * MOST + cell["components"] - 1]
    f, k = np.unravel_index(np.nanargmin(theirs["bic"]), theirs["bic"].shape)
    best = selection.best
    return {
        "shape": x.shape,
        "log_likelihood": reached.tolist(),
        "bic": ours["bic"].reshape(-1, MOST).tolist(),
        "status": status,
        "mclust": {field: value.tolist() for field, value in theirs.items()},
        "lower": lower,
        "left_out_by_mclust": [
            f"{FORMS[f]} {k + 1}: {status[f * MOST + k]}" for f, k in zip(*np.nonzero(np.isnan(theirs["value"])), strict=True)
        ],
        "chosen": None if best is None else {"name": best.name, "components": best.num_components, "bic": _least(selection)},
        "chosen_by_mclust": {"name": FORMS[f], "components": int(k) + 1, "bic": float(theirs["bic"][f, k])},
        "higher": int((reached > theirs["value"] + 0.01).sum()),
        "cells": int(np.isfinite(theirs["value"]).sum()),
    }


def _least(selection: jaxem.Selection) -> float:
    best = selection.best
    return next(
        row["bic"]
        for row in selection.table
        if best is not None and (row["name"], row["num_components"]) == (best.name, best.num_components)
    )


def lines(record: dict[str, Any]) -> str:
    """Return the comparison of every data set as Markdown."""
    head = ["| data | cells of mclust | higher by .01 nats | lower | chosen | by mclust |", "|---|---|---|---|---|---|"]
    body, notes = [], []
    for name, found in record.items():
        one, other = (
            f"{c['name']} {c['components']}, BIC {c['bic']:.2f}" if c else "none"
            for c in (found["chosen"], found["chosen_by_mclust"])
        )
        body.append(f"| {name} | {found['cells']} | {found['higher']} | {len(found['lower'])} | {one} | {other} |")
        for cell in found["lower"]:
            again = cell["from its labels"]
            notes.append(
                f"- {name}, {cell['form']} {cell['components']}: {cell['ours']:.2f} {cell['status']}, mclust "
                f"{cell['theirs']:.2f}; from its labels {again['log_likelihood']:.2f} {again['status']}"
            )
        if found["left_out_by_mclust"]:
            notes.append(f"- {name}, left out by mclust: {', '.join(found['left_out_by_mclust'])}")
    return "\n".join([*head, *body, "", *notes])


def main() -> None:
    """Compare the chosen data sets, keep what was found, and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choice", description="Choice by BIC beside mclust.")
    parser.add_argument("--data", action="append", choices=DATA, help="this data set alone; may be repeated")
    parser.add_argument("--restarts", type=int, default=64, help="random starts of each cell (default 64)")
    parser.add_argument("--output", type=Path, default=RESULT, help="the JSON that is kept")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    record = json.loads(arguments.output.read_text())["data"] if arguments.output.exists() else {}
    for name in arguments.data or DATA:
        record[name] = {"restarts": arguments.restarts, **compared(name, arguments.restarts)}
        kept = {"origin": report.provenance(1, False), "data": record}
        arguments.output.write_text(json.dumps(kept, indent=1) + "\n")
    print(lines(record))


if __name__ == "__main__":
    main()
