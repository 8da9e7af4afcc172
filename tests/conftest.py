"""Strict settings for every test: float64 on, no silent promotion of ranks or dtypes; pytest makes warnings errors."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

DATA = Path(__file__).parent / "data"

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_disable_most_optimizations", True)  # nearly all the time of these tests is XLA's compilation


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
