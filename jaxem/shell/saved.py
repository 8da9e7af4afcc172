"""The file of a fit: what `--out` writes and `--predict` reads again."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxem.constraints import Constraint
from jaxem.files import load, save
from jaxem.model import Model
from jaxem.models.mixture import mixture
from jaxem.shell.candidates import Candidate
from jaxem.shell.job import Job
from jaxem.shell.kinds import KINDS


class Saved(NamedTuple):
    """A chosen model with its labels from 0 on, and, under names that begin with `search_`, what was found of each candidate.

    `about` is JSON in bytes: columns, family, form, number of components, and how they were searched.
    """

    about: Any
    params: Any
    full_covariance: Any
    log_likelihood: Any
    bic: Any
    status: Any
    labels: Any
    posterior: Any
    search_form: Any  # its place among the forms that `about` lists
    search_components: Any
    search_log_likelihood: Any
    search_bic: Any
    search_reached_best: Any
    search_status: Any


class Known(NamedTuple):
    """A mixture from a file: its columns, its family by name, and its parameters."""

    columns: list[str]
    kind: str
    model: Model
    params: Any


def write(path: Path, job: Job, candidates: Sequence[Candidate], chosen: Candidate, posterior: np.ndarray) -> None:
    """Write the chosen model, and what was found of each candidate."""
    about = {
        "columns": job.table.names,
        "family": job.kind,
        "form": chosen.form,
        "num_components": chosen.num_components,
        "source": job.source,
        "forms": list(job.forms),
        "seed": job.seed,
        "num_restarts": job.num_restarts,
    }
    saved = Saved(
        np.frombuffer(json.dumps(about).encode(), np.uint8),
        chosen.best.params,
        chosen.covariances,
        np.asarray(chosen.best.log_likelihood),
        chosen.bic,
        np.asarray(chosen.best.status),
        posterior.argmax(1),
        posterior,
        np.array([job.forms.index(c.form) for c in candidates]),
        np.array([c.num_components for c in candidates]),
        np.array([float(c.best.log_likelihood) for c in candidates]),
        np.array([c.bic for c in candidates]),
        np.array([c.reached for c in candidates]),
        np.array([int(c.best.status) for c in candidates]),
    )
    save(path, saved)


def read(path: Path) -> Known:
    """Return the mixture in a file that `write` wrote; ValueError for another, a cut or a changed one."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            leaves = [archive[name] for name in archive.files if name != "structure"]
        about = json.loads(bytes(leaves[0]))
        model = mixture(KINDS[about["family"]].make(about["form"]), about["num_components"])
        saved: Saved = load(path, _like(model, bool(about["form"]), leaves))
    except (ValueError, KeyError, IndexError, TypeError, StopIteration, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"--model {path} is no file that --out of this command wrote, or was changed since.") from error
    return Known(about["columns"], about["family"], model, saved.params)


def _like(model: Model, has_form: bool, leaves: Sequence[np.ndarray]) -> Saved:
    """Return a tree of the structure that `write` gives to a fit of `model`."""
    left = iter(leaves)

    def take(_: Any = None) -> np.ndarray:
        return next(left)

    about = take()
    params = jax.tree.map(take, model.constraints, is_leaf=lambda node: isinstance(node, Constraint))
    covariance = take() if has_form else None
    return Saved(about, params, covariance, *left)
