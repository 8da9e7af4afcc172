"""Strict settings for every test: float64 on, no silent promotion of ranks or dtypes; pytest makes warnings errors."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest

DATA = Path(__file__).parent / "data"
COMPILED = "JAX_COMPILATION_CACHE_DIR"

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_disable_most_optimizations", True)  # nearly all the time of these tests is XLA's compilation


def pytest_configure(config):
    """Let all processes of one session share what each has compiled, in a folder that ends with the session."""
    if not hasattr(config, "workerinput"):
        os.environ[COMPILED] = config.compiled = tempfile.mkdtemp(prefix="jaxem-tests-")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    jax.config.update("jax_compilation_cache_dir", os.environ[COMPILED])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def pytest_unconfigure(config):
    if hasattr(config, "compiled"):
        shutil.rmtree(config.compiled, ignore_errors=True)


def read_json(name):
    return json.loads((DATA / f"{name}.json").read_text())


def read_csv(name):
    return np.genfromtxt(DATA / f"{name}.csv", delimiter=",", skip_header=1)


@pytest.fixture(autouse=True)
def forget_compiled_functions():
    """Thousands of compiled functions in one process run into Linux's limit of 65 530 memory maps, which ends it."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()


@pytest.fixture
def reference():
    return read_json


@pytest.fixture
def table():
    return read_csv
