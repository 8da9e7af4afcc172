"""Gaussian mixtures for a table of numbers, from a shell: `python -m jaxem [DATA.csv]`."""

import argparse
import importlib.util
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import families
from jaxem.datasets import csv_file
from jaxem.files import write_whole
from jaxem.models.mixture import mixture
from jaxem.selection import search_counts
from jaxem.shell import picture
from jaxem.shell.candidates import Candidate, candidate, preferred
from jaxem.shell.files import check_target
from jaxem.shell.report import model_report, table_report
from jaxem.shell.table import Table, check_table, read_table

DESCRIPTION = """\
usage: python -m jaxem [DATA.csv] [options]

Fit Gaussian mixtures to the columns of a CSV file, each from many random starts, and choose the number of components by BIC.
Without a file: the eruptions of Old Faithful.

Compiled programs are kept in ~/.cache/jaxem (or under XDG_CACHE_HOME, or JAX_COMPILATION_CACHE_DIR), for the next run."""


class Job(NamedTuple):
    """What is to be done, once every argument has been found sound."""

    source: str
    table: Table
    counts: range
    covariance: str
    num_restarts: int
    seed: int
    out: Path | None
    plot: Path | None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 nothing finite found, 2 bad input, 130 interrupted.

    Bad input is one line on stderr, said before anything is fitted.
    """
    parser = _parser()
    try:
        args = parser.parse_args(argv)
        try:
            job = _prepare(args)
            with _precision(args.dtype):
                candidates = _search(job)
        except (OSError, ValueError) as error:
            parser.error(_one_line(error))
        with _precision(args.dtype):
            chosen = _report(job, candidates)
        return 0 if chosen else 1
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt:
        return 130
    except OSError as error:  # a disk that filled up meanwhile
        print(f"{parser.prog}: error: {_one_line(error)}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxem",
        usage=argparse.SUPPRESS,  # else a bad argument would be told in several lines
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("data", nargs="?", type=Path, metavar="DATA.csv", help="a CSV file, with column names in its first line or without")
    add("--columns", metavar="A,B", help="the columns to fit, by name or by number from 1 on (all)")
    add("--header", action=argparse.BooleanOptionalAction, help="whether the first line holds names (if it holds no number)")
    add("--components", type=_counts, default="1-6", metavar="K", help="number of components, or a range like 1-6 (1-6)")
    add("--covariance", choices=("full", "tied", "diag", "spherical"), default="full", help="form of covariance (full)")
    add("--restarts", type=_whole(1, 1_000), default=64, metavar="N", help="random starts for each number (64)")
    add("--seed", type=_whole(0, 2**32 - 1), default=0, metavar="S", help="seed of the starts (0)")
    add("--dtype", choices=("float64", "float32"), default="float64", help="precision of the fit (float64)")
    add("--out", type=Path, metavar="FIT.npz", help="write the chosen model, its labels and the search to this file")
    add("--plot", type=Path, metavar="FIT.png", help="draw it to this .png, .pdf or .svg; needs matplotlib")
    return parser


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


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


def _prepare(args: argparse.Namespace) -> Job:
    """Read the data and check every argument; raise ValueError or OSError for what cannot be done."""
    if args.out:
        check_target("--out", args.out, (".npz",))
    if args.plot:
        check_target("--plot", args.plot, (".png", ".pdf", ".svg"))
        if importlib.util.find_spec("matplotlib") is None:
            raise ValueError("--plot needs matplotlib: pip install 'jaxem[plot]'.")
    source = str(args.data) if args.data else "Old Faithful"
    table = read_table(args.data or csv_file("faithful"), args.columns, args.header)
    with np.errstate(over="ignore"):
        table = table._replace(values=table.values.astype(args.dtype))
    check_table(table, args.components[-1], source)
    return Job(source, table, args.components, args.covariance, args.restarts, args.seed, args.out, args.plot)


@contextmanager
def _precision(dtype: str) -> Iterator[None]:
    """Compute in `dtype` meanwhile; not by a context of JAX, which other threads would not see."""
    before = bool(jax.config.read("jax_enable_x64"))
    jax.config.update("jax_enable_x64", dtype == "float64")
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def _report(job: Job, candidates: Sequence[Candidate]) -> Candidate | None:
    values = job.table.values
    title = f"{job.source}: {len(values)} rows of {', '.join(job.table.names)}"
    how = f"{job.covariance} covariance; {job.num_restarts} random start{'s'[: job.num_restarts - 1]} each; {values.dtype}"
    chosen = preferred(candidates)
    _show(f"{title}\n{how}\n\n{table_report(candidates, chosen)}\n\n{model_report(chosen, job.table, len(candidates))}\n")
    if chosen:
        _write(job, candidates, chosen)
    return chosen


def _search(job: Job) -> list[Candidate]:
    """Search every number of components at once; in a thread, so that an interrupt is heard meanwhile."""
    family, tell, pool = families.gaussian(job.covariance), _progress(len(job.counts)), ThreadPoolExecutor(1)
    try:
        tell(0)
        run = partial(search_counts, family, job.seed, job.table.values, counts=job.counts, num_restarts=job.num_restarts)
        found = pool.submit(run).result()
        tell(len(job.counts))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return [candidate(job.covariance, k, one, job.table.values) for k, one in zip(job.counts, found, strict=True)]


def _progress(total: int) -> Callable[[int], None]:
    """Return what tells on stderr how many are done: in one line that is rewritten on a terminal, in lines elsewhere."""
    start, terminal = time.perf_counter(), sys.stderr.isatty()

    def tell(done: int) -> None:
        state = "compiling and fitting" if done == 0 else f"fitted {done} of {total} numbers of components"
        line = f"{state}, {time.perf_counter() - start:.1f} s"
        if terminal:
            print(f"\r\x1b[K{line}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    return tell


def _show(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader has seen enough; the files are written all the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(job: Job, candidates: Sequence[Candidate], chosen: Candidate) -> None:
    model = mixture(families.gaussian(job.covariance), chosen.num_components)
    posterior = np.asarray(model.posterior(chosen.best.params, jnp.asarray(job.table.values)))  # type: ignore[misc]
    if job.out:
        write_whole(job.out, lambda file: _save(file, job, candidates, chosen, posterior))
    if job.plot:
        suffix = job.plot.suffix[1:].lower()
        figure = picture.draw(job.table, Path(job.source).name, candidates, chosen, posterior.argmax(1))
        write_whole(job.plot, lambda file: figure.savefig(file, format=suffix))


def _save(file: BinaryIO, job: Job, candidates: Sequence[Candidate], chosen: Candidate, posterior: np.ndarray) -> None:
    """Write the chosen model and, under names that begin with `search_`, what was found for each number of components."""
    best = chosen.best
    np.savez(
        file,
        weights=np.asarray(best.params.weights),
        mean=np.asarray(best.params.components.mean),
        covariance=np.asarray(best.params.components.covariance),
        full_covariance=chosen.covariances,
        covariance_form=job.covariance,
        log_likelihood=float(best.log_likelihood),
        bic=chosen.bic,
        status=chosen.best.status,
        labels=posterior.argmax(1),
        posterior=posterior,
        columns=np.array(job.table.names),
        seed=job.seed,
        num_restarts=job.num_restarts,
        search_components=np.array([c.num_components for c in candidates]),
        search_log_likelihood=np.array([float(c.best.log_likelihood) for c in candidates]),
        search_bic=np.array([c.bic for c in candidates]),
        search_reached_best=np.array([c.reached for c in candidates]),
        search_status=np.array([int(c.best.status) for c in candidates]),
    )


def _exit(code: int) -> None:
    """Leave at once where threads may still be fitting; a thread in compiled code cannot be stopped otherwise."""
    if code == 130:
        print(file=sys.stderr)
        os._exit(code)
    sys.exit(code)


def _keep_compiled() -> None:
    """Have JAX keep compiled programs for the next run, unless it has been told where, or the folder cannot be written."""
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
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


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxem"


if __name__ == "__main__":
    _keep_compiled()
    _exit(main())
