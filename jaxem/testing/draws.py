"""Whether samples are of the model that they are said to be of.

The gradient of log p(x | θ) has mean zero over draws from p(x | θ), and so have the differences between drawn labels and
their posterior: both are put to a t-test over batches.
"""

from typing import Any

import jax
import numpy as np

from jaxem.boundary import ready
from jaxem.model import PyTree
from jaxem.testing.bench import SLOPE, Bench
from jaxem.testing.compare import flat, names
from jaxem.testing.evidence import HERE, sample
from jaxem.trees import is_shared

BATCHES = 32
FAR = 7.0  # standard errors: at 31 degrees of freedom once in 10⁷


def keys(seed: np.ndarray, num: int) -> list[Any]:
    """Return that many random keys."""
    return [jax.random.key(int(number)) for number in np.random.default_rng([8, *seed]).integers(2**31, size=num)]


def assert_samples_follow(bench: Bench, law: str) -> None:
    """Raise AssertionError unless `sample` draws what `log_prob` and `posterior` say; passed over for families without."""
    model, ones = bench.model, np.ones_like(bench.weights)
    try:
        sample(model, keys(bench.seed, 1)[0], bench.params, bench.data)
    except ValueError as error:
        if "family.sample" in str(error):
            return
        raise
    slopes, excess = [], []
    for key in keys(bench.seed, BATCHES):
        drawn, latents = sample(model, key, bench.params, bench.data)
        found = bench.at(bench.params, data=as_data(model.prepare, drawn, bench.data, law), weights=ones)
        assert np.isfinite(found.log_likelihood), f"{law}: sample draws what is impossible at its params."
        slopes.append(flat(found.survey.extra, HERE))
        excess.append(excess_of(latents, found.posterior))
    floor = SLOPE * bench.eps * bench.slope_scale
    where = names(bench.here.survey.free, HERE)
    assert_centred(
        np.stack(slopes), floor, where, f"{law}: sample does not follow log_prob: over draws, its gradient at params"
    )
    known = [part for part in excess if part is not None]
    if len(known) == BATCHES:
        k = found.posterior.shape[1]
        labels = [f" {j} where the posterior says {i}" for i in range(k) for j in range(k)]
        what = f"{law}: the latents of sample do not follow the posterior: the excess of label"
        assert_centred(np.stack(known), SLOPE * bench.eps * ones.sum(), labels, what)


def as_data(prepare: Any, drawn: PyTree, data: PyTree, law: str) -> PyTree:
    """Return what was drawn as prepared data; AssertionError where it is not alike the data of the check."""
    try:
        drawn = jax.device_get(ready(prepare, drawn))
    except ValueError as error:
        raise AssertionError(f"{law}: sample draws what is no data. {error}") from error
    received, expected = (
        [
            (jax.tree_util.keystr(path), np.shape(leaf), np.asarray(leaf).dtype.name)
            for path, leaf in jax.tree.leaves_with_path(tree, is_leaf=is_shared)
            if not is_shared(leaf)
        ]
        for tree in (drawn, data)
    )
    assert received == expected, f"{law}: sample draws data of {received}, expected what is like the data, {expected}."
    return drawn


def excess_of(latents: Any, posterior: Any) -> np.ndarray | None:
    """Return Σ_n r_ni ([z_n = j] - r_nj), (k · k,), where latents are labels and the posterior responsibilities (n, k)."""
    latents = np.asarray(latents) if isinstance(latents, (np.ndarray, jax.Array)) else None
    if latents is None or latents.dtype.kind not in "iu" or not (isinstance(posterior, np.ndarray) and posterior.ndim == 2):
        return None
    if latents.shape != posterior.shape[:1]:
        return None
    r = posterior.astype(np.float64)
    return (r.T @ ((latents[:, None] == np.arange(r.shape[1])) - r)).ravel()


def assert_centred(sums: np.ndarray, floor: Any, where: list[str], what: str) -> None:
    """Raise AssertionError unless sums over batches (batches, p) have mean zero, by a t-test of each column."""
    mean, error = sums.mean(0), sums.std(0, ddof=1) / np.sqrt(len(sums))
    allowed = FAR * error + floor
    excess = np.where(np.isfinite(mean), np.abs(mean) - allowed, -np.inf)
    if excess.max(initial=-np.inf) > 0:
        worst = int(excess.argmax())
        raise AssertionError(f"{what}{where[worst]} has mean {mean[worst]:.4g}, and its standard error is {error[worst]:.3g}.")
