"""Strict settings for every test: float64 on, no silent promotion of ranks or dtypes; pytest makes warnings errors."""

import gc
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"
QUICK = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"

sys.path.append(str(ROOT))  # for `benchmarks`, behind an installed jaxem
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_disable_most_optimizations", True)  # nearly all the time of these tests is compilation
jax.config.update("jax_traceback_in_locations_limit", 0)  # programs that do not say which lines they come from are made faster


gc.set_threshold(50_000)  # traces are many small objects, few of them in circles


def pytest_configure(config):
    """Have the compiler spare what costs it most, in this process and those that it starts."""
    if not hasattr(config, "workerinput") and compiler_knows(QUICK):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # in processes that these tests start, as here
    os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # the user's stays as it is


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark as thorough all cases of a test but as many, spread evenly, as its mark `each_time` says to run each time."""
    for _, cases in itertools.groupby(items, lambda item: item.nodeid.partition("[")[0]):
        cases = list(cases)
        mark = cases[0].get_closest_marker("each_time")
        number = mark.args[0] if mark else len(cases)
        for place, item in enumerate(cases):
            if place and place * number // len(cases) == (place - 1) * number // len(cases):
                item.add_marker(pytest.mark.thorough)


def compiler_knows(flags):
    """Tell whether XLA takes these flags; it ends the process where it does not know one."""
    ask = [sys.executable, "-c", "from jaxlib import xla_client; xla_client.CompileOptions()"]
    return subprocess.run(ask, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True).returncode == 0


def read_json(name):
    return json.loads((DATA / f"{name}.json").read_text())


def read_csv(name):
    return np.genfromtxt(DATA / f"{name}.csv", delimiter=",", skip_header=1)


@pytest.fixture(autouse=True)
def forget_compiled_functions(tests_run=itertools.count()):
    """Thousands of compiled functions in one process run into Linux's limit of 65 530 memory maps, which ends it."""
    yield
    maps = Path("/proc/self/maps")
    if next(tests_run) % 8 == 0 and maps.exists() and maps.read_bytes().count(b"\n") > 45_000:
        jax.clear_caches()


@pytest.fixture
def reference():
    return read_json


@pytest.fixture
def table():
    return read_csv
