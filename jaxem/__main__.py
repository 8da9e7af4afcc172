"""Mixtures for a table of numbers, from a shell: `python -m jaxem [DATA.csv]`."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxem
from jaxem.files import write_whole
from jaxem.lowered import keep_in
from jaxem.model import Model, require
from jaxem.models.mixture import mixture
from jaxem.shell import picture, prediction, saved
from jaxem.shell.arguments import parser as parser_of
from jaxem.shell.candidates import Candidate, preferred
from jaxem.shell.comparison import compare
from jaxem.shell.job import Job, prepare
from jaxem.shell.kinds import KINDS
from jaxem.shell.report import head_report, labels_report, model_report, table_report
from jaxem.shell.search import search


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 nothing finite found, 2 bad input, 130 interrupted.

    Bad input is one line on stderr, said before anything is fitted.
    """
    parser = parser_of(jaxem.__version__)
    try:
        args = parser.parse_args(argv)
        try:
            finish = (_prediction if args.model or args.predict else _fit)(args)
        except (OSError, ValueError) as error:
            parser.error(_one_line(error))
        return finish()
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt:
        return 130
    except (OSError, jax.errors.JaxRuntimeError) as error:  # a disk or memory that filled up meanwhile
        print(f"{parser.prog}: error: {_one_line(error)}", file=sys.stderr)
        return 2


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


def _fit(args: argparse.Namespace) -> Callable[[], int]:
    """Fit what was asked for, and return what reports it; raise ValueError or OSError for what cannot be done."""
    job = prepare(args)
    with _precision(args.dtype):
        candidates = search(job)
    return partial(_report, job, candidates)


def _prediction(args: argparse.Namespace) -> Callable[[], int]:
    """Compute what was asked for, and return what tells it; raise ValueError or OSError for what cannot be done."""
    question = prediction.prepare(args)
    with _precision(question.known.params.weights.dtype.name):
        return partial(_tell, args.out, prediction.answer(question))


@contextmanager
def _precision(dtype: str) -> Iterator[None]:
    """Compute in `dtype` meanwhile; not by a context of JAX, which other threads would not see."""
    before = bool(jax.config.read("jax_enable_x64"))
    jax.config.update("jax_enable_x64", dtype == "float64")
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def _report(job: Job, candidates: Sequence[Candidate]) -> int:
    chosen = preferred(candidates)
    with _precision(job.table.values.dtype.name):
        parts = [head_report(job), table_report(candidates, chosen), model_report(chosen, job, len(candidates))]
        posterior = _posterior(job, chosen) if chosen and (job.out or job.plot or job.table.labels) else None
        if chosen and posterior is not None and job.table.labels:
            compared = compare(job.table.labels, posterior.argmax(1), chosen.num_components, job.table.weights)
            parts.append(labels_report(compared))
        _show("\n\n".join(parts) + "\n")
        if chosen and posterior is not None:
            _write(job, candidates, chosen, posterior)
    return 0 if chosen else 1


def _model(job: Job, chosen: Candidate) -> Model:
    return mixture(KINDS[job.kind].make(chosen.form), chosen.num_components)


def _posterior(job: Job, chosen: Candidate) -> np.ndarray:
    posterior = require(_model(job, chosen), "posterior")
    return np.asarray(posterior(chosen.best.params, jax.tree.map(jnp.asarray, job.table.data)))


def _show(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader has seen enough; the files are written all the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(job: Job, candidates: Sequence[Candidate], chosen: Candidate, posterior: np.ndarray) -> None:
    if job.out:
        saved.write(job.out, job, candidates, chosen, posterior)
    if job.plot:
        suffix = job.plot.suffix[1:].lower()
        model = _model(job, chosen)
        with _precision(job.table.values.dtype.name):
            figure = picture.draw(job.table, Path(job.source).name, model, candidates, chosen, posterior)
        write_whole(job.plot, lambda file: figure.savefig(file, format=suffix))


def _tell(out: Path | None, text: str) -> int:
    if out:
        write_whole(out, lambda file: file.write(text.encode()))
    else:
        _show(text.removesuffix("\n"))
    return 0


def _exit(code: int) -> None:
    """Leave at once where threads may still be fitting; a thread in compiled code cannot be stopped otherwise."""
    if code == 130:
        print(file=sys.stderr)
        os._exit(code)
    sys.exit(code)


def _keep_compiled() -> None:
    """Have JAX keep compiled programs for the next run, unless it has been told where, or the folder cannot be written."""
    if os.environ.get("JAX_COMPILATION_CACHE_DIR") or not jax.config.values["jax_enable_compilation_cache"]:
        return
    try:
        folder = _cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # read-only, or no home
        return
    if os.access(folder, os.W_OK):
        warnings.filterwarnings("ignore", message=".*compilation cache.*")  # a full disk: then the next run compiles again
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        keep_in(folder)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxem"


if __name__ == "__main__":
    _keep_compiled()
    _exit(main())
