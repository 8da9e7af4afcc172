"""Responsibilities to start from, drawn as scikit-learn draws them."""

import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus

INIT_PARAMS = ("kmeans", "k-means++", "random", "random_from_data")


def responsibilities(
    kind: str, x: np.ndarray, weights: np.ndarray | None, num_components: int, random: np.random.RandomState
) -> np.ndarray:
    """Return responsibilities (n, k) for rows x (n, d): of clusters, of one row for each component, or at random."""
    shape = len(x), num_components
    if kind == "random":
        drawn = random.uniform(size=shape).astype(x.dtype)
        return drawn / drawn.sum(1, keepdims=True)
    rows, labels = np.arange(shape[0]), np.arange(shape[1])
    if kind == "kmeans":
        labels = KMeans(num_components, n_init=1, random_state=random).fit(x, sample_weight=weights).labels_
    elif kind == "k-means++":
        rows = kmeans_plusplus(x, num_components, sample_weight=weights, random_state=random)[1]
    else:
        chances = None if weights is None else weights / weights.sum()
        rows = random.choice(shape[0], shape[1], replace=False, p=chances)
    found = np.zeros(shape, x.dtype)
    found[rows, labels] = 1
    return found


def filled(x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return rows with the mean of its column in each hole, NaN: something to draw clusters on."""
    present = x if weights is None else x[weights > 0]
    return np.where(np.isnan(x), np.nanmean(present, axis=0, keepdims=True), x)
