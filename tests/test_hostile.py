"""Hostile but legal data: every end is true. Some of the cases of `benchmarks/hostile.py`, which runs them all."""

import pytest

from benchmarks.hostile import cases, search, untrue

SOME = cases(seeds=1)[::4]


@pytest.mark.each_time(3)
@pytest.mark.parametrize("case", SOME, ids=lambda case: f"{case.family}, {case.dtype}, {case.name}")
def test_every_end_is_true_and_its_log_likelihood_that_of_its_params_in_plain_numpy(case):
    assert untrue(case, search(case).fits) == []


def test_the_cases_are_of_every_family_in_both_float_types():
    assert len(SOME) >= 36
    assert {(case.family, case.dtype) for case in SOME} == {(case.family, case.dtype) for case in cases(seeds=1)}
