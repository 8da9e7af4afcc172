"""Peers that are R packages: arrays go over in files, times are taken inside R, and what it found comes back as JSON."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import PATIENCE

BEFORE = """
given <- function(name, ...) {{
  file <- file.path("{folder}", name)
  array(readBin(file, "double", n = file.size(file) / 8), dim = c(...))
}}
timed <- function(run) {{ invisible(gc()); t <- system.time(found <- run())[["elapsed"]]; list(seconds = t, found = found) }}
told <- function(...) {{
  fields <- list(...)
  number <- function(v) paste0("[", paste(ifelse(is.finite(v), formatC(v, digits = 15, format = "g"), "null"), collapse = ","), "]")
  cat("\\n{{", paste0('"', names(fields), '":', vapply(fields, number, ""), collapse = ","), "}}\\n", sep = "")
}}
suppressPackageStartupMessages(library({package}))
"""  # noqa: E501


def in_r(package: str, script: str, **arrays: Any) -> dict[str, Any]:
    """Run `script` with `given(name, dim …)` for each array, read in R's order; return the fields it gives `told`, flat.

    Where R or the package is missing, or the script fails, the field `failure` says so.
    """
    if shutil.which("Rscript") is None:
        return {"failure": "R is not installed"}
    with tempfile.TemporaryDirectory() as folder:
        for name, array in arrays.items():
            np.asarray(array, np.float64).ravel(order="F").tofile(Path(folder) / name)
        program = BEFORE.format(folder=folder, package=package) + script
        command = ["Rscript", "--vanilla", "-e", program]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return {"failure": f"no end after {PATIENCE} s"}
    if done.returncode != 0:
        return {"failure": (done.stderr.strip().splitlines() or ["ended without a word"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])
