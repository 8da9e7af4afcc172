"""jaxem's estimators put to scikit-learn's own tests: `python -m benchmarks.scikit_learn`, exit code 1 for a surprise.

Each estimator goes through `check_estimator`; `sklearn/mixture/tests/test_gaussian_mixture.py`, which comes with scikit-learn,
runs with `jaxem.sklearn.GaussianMixture` in the place of theirs. What fails there is listed with its reason.
"""

import os
import sys
from typing import Any

import pytest
import sklearn.mixture
from sklearn.utils.estimator_checks import check_estimator

from jaxem import families
from jaxem.sklearn import GaussianMixture, Mixture

ESTIMATORS = (
    GaussianMixture(),
    GaussianMixture(allow_nan=True),
    GaussianMixture(2, covariance_type="diag"),
    Mixture(families.gaussian("diag")),
    Mixture(families.gaussian("diag"), 2, n_init=2),
)
WHERE_STARTS_DIFFER = {
    "check_sample_weight_equivalence_on_dense_data": "it has rows in another order, among which other starts are drawn"
}
TESTS = "sklearn.mixture.tests.test_gaussian_mixture"
PRIVATE = "a test of private names"
REASONS = {
    "test_gaussian_mixture_precisions_init": f"{PRIVATE}: it calls _set_parameters and _initialize",
    "test_gaussian_mixture_all_init_does_not_estimate_gaussian_parameters": f"{PRIVATE}: it counts calls of one",
}


class Outcomes:
    """What pytest tells of each test."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.passed = self.skipped = 0

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count a test, by its name."""
        if report.failed:
            self.failed.append(report.nodeid.rpartition("::")[2])
        elif report.when == "call" or report.skipped:
            self.passed += report.passed
            self.skipped += report.skipped


def check_all() -> bool:
    """Print how each estimator fares in `check_estimator`; tell whether all checks are passed."""
    sound = True
    for estimator in ESTIMATORS:
        expected = WHERE_STARTS_DIFFER if estimator.n_components > 1 else {}
        checks = check_estimator(estimator, on_fail=None, on_skip=None, expected_failed_checks=expected)
        ends = [check["status"] for check in checks]
        counts = ", ".join(f"{ends.count(end)} {end}" for end in sorted(set(ends)))
        print(f"check_estimator({estimator}): {counts}")
        for check in checks:
            if check["status"] in ("failed", "xfail"):
                print(f"  {check['check_name']}: {expected.get(check['check_name']) or check['exception']!r}")
        sound &= "failed" not in ends
    return sound


def run_their_tests(*options: str) -> bool:
    """Print which of scikit-learn's tests fail, and why; tell whether they are those that are known to."""
    sklearn.mixture.GaussianMixture = GaussianMixture
    os.environ["SKLEARN_RUN_FLOAT32_TESTS"] = "1"
    outcomes = Outcomes()
    settings = ["-q", "-n", "0", "-p", "no:cacheprovider", "-c", "/dev/null", "--pyargs", TESTS, "--tb=no", *options]
    pytest.main(settings, plugins=[outcomes])
    print(f"{TESTS}: {outcomes.passed} passed, {len(outcomes.failed)} failed, {outcomes.skipped} skipped")
    for name in outcomes.failed:
        print(f"  {name}: {REASONS.get(name.partition('[')[0], 'NOT EXPECTED')}")
    return {name.partition("[")[0] for name in outcomes.failed} == set(REASONS)


if __name__ == "__main__":
    raise SystemExit(not all([check_all(), run_their_tests(*sys.argv[1:])]))
