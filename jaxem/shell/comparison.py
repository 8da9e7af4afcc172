"""How components agree with labels that are known: a cross table, and the adjusted Rand index."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxem.shell.lines import is_missing


class Comparison(NamedTuple):
    """Labels in the order of the alphabet, how many rows of each each component holds (labels, k), and their agreement."""

    labels: list[str]
    counts: np.ndarray
    adjusted_rand: float
    unlabelled: int


def compare(labels: Sequence[str], components: np.ndarray, num_components: int, weights: np.ndarray | None) -> Comparison:
    """Return how components (n,) agree with labels; rows without a label are left out, and each counts by its weight.

    The index is of pairs of rows, and takes weights only where they are whole numbers, so many equal rows.
    """
    known = np.array([not is_missing(label) for label in labels])
    names, place = np.unique(np.array(labels)[known], return_inverse=True)
    counts, rows = np.zeros((2, len(names), num_components))
    np.add.at(counts, (place, components[known]), 1.0 if weights is None else weights[known])
    np.add.at(rows, (place, components[known]), 1.0)
    whole = weights is None or (weights == np.floor(weights)).all()
    return Comparison(names.tolist(), counts, adjusted_rand(counts if whole else rows), int((~known).sum()))


def adjusted_rand(counts: np.ndarray) -> float:
    """Return the adjusted Rand index of a cross table: 1 for equal groupings, 0 on average for independent ones.

    NaN where there are no two rows to be together or apart.

    (Σ_ij C(n_ij, 2) - E) / (½ (A + B) - E),  A = Σ_i C(n_i., 2),  B = Σ_j C(n_.j, 2),  E = A B / C(n, 2)
    Hubert & Arabie (1985), eq. 5.
    """
    together, rows, columns, pairs = (
        float((n * (n - 1) / 2).sum()) for n in (counts, counts.sum(1), counts.sum(0), counts.sum())
    )
    if not pairs > 0:
        return math.nan
    expected = rows * columns / pairs
    most = (rows + columns) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)
