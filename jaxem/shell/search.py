"""The search for all forms and numbers of components that were asked for, and what is told of it meanwhile."""

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

from jaxem.restarts import Restarts
from jaxem.selection import search_counts
from jaxem.shell.candidates import Candidate, candidate
from jaxem.shell.job import Job
from jaxem.shell.kinds import KINDS


def search(job: Job) -> list[Candidate]:
    """Search every form, each with all numbers of components at once; in threads, so that an interrupt is heard meanwhile.

    A form is a program to compile, which as many threads do at once as there are cores.
    """
    tell, pool = _progress(job), ThreadPoolExecutor(min(len(job.forms), os.cpu_count() or 1))
    table, numbers = job.table, job.counts

    def run(form: str) -> list[Restarts]:
        family, starts = KINDS[job.kind].make(form), job.num_restarts
        return search_counts(family, job.seed, table.data, table.weights, counts=numbers, num_restarts=starts)

    try:
        tell(0)
        searches = {form: pool.submit(run, form) for form in job.forms}
        for done, search in enumerate(as_completed(searches.values()), 1):
            search.result()
            tell(done)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    found = ((form, zip(numbers, search.result(), strict=True)) for form, search in searches.items())
    return [candidate(job.kind, form, k, one, table) for form, ones in found for k, one in ones]


def _progress(job: Job) -> Callable[[int], None]:
    """Return what tells on stderr how many forms are done: in one line that is rewritten on a terminal, in lines elsewhere."""
    start, terminal, forms, numbers = time.perf_counter(), sys.stderr.isatty(), len(job.forms), len(job.counts)

    def tell(done: int) -> None:
        part = f"{done} of {forms} forms" if forms > 1 else f"{numbers} of {numbers} numbers of components"
        line = f"{f'fitted {part}' if done else 'compiling and fitting'}, {time.perf_counter() - start:.1f} s"
        if terminal:
            print(f"\r\x1b[K{line}", end="\n" if done == forms else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    return tell
