"""What must run in an interpreter of its own: `python -m benchmarks.fresh TASK JSON` prints what it measured as JSON.

Nothing but the standard library is imported up here, so that imports can be timed.
"""

import json
import sys
import time
from typing import Any


def first_fit_jaxem() -> dict[str, Any]:
    """Time `import jaxem`, and from there to the first fit of Old Faithful, compilation included."""
    start = time.perf_counter()
    import jax

    import jaxem

    imported = time.perf_counter()
    x = jaxem.datasets.faithful()
    model = jaxem.mixture(jaxem.families.gaussian("full"), 2)
    params = model.init(jax.random.key(0), x)
    initialized = time.perf_counter()
    fit = jax.block_until_ready(jaxem.fit(model, params, x))
    end = time.perf_counter()
    return {
        "import": imported - start,
        "init": initialized - imported,
        "fit": end - initialized,
        "total": end - start,
        "log_likelihood": float(fit.log_likelihood),
        "num_steps": int(fit.num_steps),
    }


def first_fit_scikit_learn(rows: list[list[float]]) -> dict[str, Any]:
    """Time scikit-learn's import and first fit of the same rows."""
    start = time.perf_counter()
    import numpy as np
    from sklearn.mixture import GaussianMixture

    imported = time.perf_counter()
    x = np.asarray(rows, np.float32)
    mixture = GaussianMixture(2, random_state=0).fit(x)
    end = time.perf_counter()
    log_likelihood = float(mixture.score(x) * len(x))
    return {"import": imported - start, "fit": end - imported, "total": end - start, "log_likelihood": log_likelihood}


def peak_memory(library: str, n: int, d: int, k: int, steps: int) -> dict[str, Any]:
    """Measure the peak of resident memory beyond the data, of a first fit (compilation included) and of a second."""
    import jax

    from benchmarks import measure, peers, problems

    before = measure.reset_peak()
    x = _normal_rows(jax.random.key(0), n, d, k)
    held = measure.reset_peak() - before
    starts = [problems.start_at_rows(0, x, k, "full")]
    fit = peers.installed()[library](x, "full", starts, peers.Stop(steps))
    if library.startswith(measure.THREADED):
        fit = measure.on_threads(fit, 1)  # more would only take longer where cores are busy
    peaks = [measure.peak_beyond(fit) for _ in range(2)]
    return {"first_fit": peaks[0], "second_fit": peaks[1], "data": x.nbytes, "held_with_data": held, "n": n}


def _normal_rows(key: Any, n: int, d: int, k: int) -> Any:
    """Return float32 rows (n, d) of k clusters, made on the device so that no second copy lingers."""
    import jax
    import jax.numpy as jnp

    @jax.jit
    def make(key: jax.Array) -> jax.Array:
        mean = 3 * jax.random.normal(key, (k, d))
        return jax.random.normal(key, (n, d)) + mean[jnp.arange(n) % k]

    return jax.block_until_ready(make(key))


def acceleration(repeats: int) -> dict[str, Any]:
    """Time em and squarem on the London Times death notices in float64: two Poisson components, a slow problem for EM."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    import jaxem
    from benchmarks.measure import in_turn

    counts, frequencies = jaxem.datasets.london_times_deaths()
    model = jaxem.mixture(jaxem.families.poisson(), 2)
    params = jaxem.Mixture(jnp.array([0.5, 0.5]), jaxem.families.Poisson(jnp.array([1.0, 3.0])))

    def fit(solver: Any) -> Any:
        return jax.block_until_ready(jaxem.fit(model, params, counts, frequencies, solver=solver))

    timings = in_turn({name: lambda s=s: fit(s) for name, s in (("em", jaxem.em()), ("squarem", jaxem.squarem()))}, repeats)
    return {name: {**timing.record(), **_ending(timing.result)} for name, timing in timings.items()}


def _ending(fit: Any) -> dict[str, Any]:
    return {
        "log_likelihood": float(fit.log_likelihood),
        "num_evaluations": int(fit.num_evaluations),
        "num_steps": int(fit.num_steps),
        "status": int(fit.status),
    }


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2]))))
