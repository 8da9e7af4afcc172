"""Ten EM steps from one start, in every library."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import peers
from benchmarks.measure import Timing, in_turn
from benchmarks.peers import Stop
from benchmarks.problems import Size, clusters, log_likelihood, start_at_rows
from benchmarks.report import Line, Options, Row, cells, nats, ratios, seconds, target, verdict

ROUNDING = 1e-6  # share of |log-likelihood| within which float32 runs from one start must agree after ten steps
NUM_STEPS = 10
SIDE = 4096  # of the square matrices whose product gives the machine's rate
PRODUCT = "matrix product"
ONE = ": 1 step"


def ten_steps(covariance: str, size: Size, at_least: float, options: Options) -> Row:
    """Time ten steps in every library, and one, so that what is paid once can be told from what each step costs."""
    size = options.cut(size)
    x = clusters(0, size, spread=1.0)
    start = [start_at_rows(1, x, size.k, covariance)]
    installed = peers.installed()
    whole = {name: fits(x, covariance, start, Stop(NUM_STEPS)) for name, fits in installed.items()}
    once = {_one(name): fits(x, covariance, start, Stop(1)) for name, fits in installed.items()}
    timings = in_turn({**whole, **once, PRODUCT: _matrix_product()}, options.repeats)
    columns = {name: timing for name, timing in timings.items() if name != PRODUCT and ONE not in name}
    found = {name: log_likelihood(t.result[0].solution, x, covariance) for name, t in columns.items() if not t.failure}
    record = {
        "size": size._asdict(),
        "covariance": covariance,
        "dtype": "float32",
        "num_steps": NUM_STEPS,
        "timings": {name: timing.record() for name, timing in timings.items()},
        "seconds_per_step": {name: _per_step(timings, name) for name in found},
        "log_likelihood": found,
        "ratio": ratios(columns),
    }
    label = f"{covariance}, {size}, {NUM_STEPS} steps"
    lines = [Line(label, cells(columns), target(ratios(columns), at_least), _agreement(found))]
    if covariance == "full":
        record["matrix_products"] = _matrix_products(size, timings)
        lines.append(_beside_products(record["matrix_products"]))
    return Row(lines, record)


def _one(name: str) -> str:
    library, *threads = name.split(", ")
    return ", ".join([library + ONE, *threads])


def _per_step(timings: dict[str, Timing], name: str) -> float:
    return (timings[name].median - timings[_one(name)].median) / (NUM_STEPS - 1)


def _agreement(found: dict[str, float]) -> str:
    """Return the log-likelihood that all ended with, or say that they differ."""
    ours = found["jaxem"]
    apart = {name: abs(other - ours) / abs(ours) for name, other in found.items()}
    far = [f"{name} {nats(found[name])}" for name, share in apart.items() if not share <= ROUNDING]
    return f"{nats(ours)}; **differs:** {', '.join(far)}" if far else f"{nats(ours)}, all within {max(apart.values()):.0e}"


def _matrix_product() -> Callable[[], Any]:
    square = jnp.ones((SIDE, SIDE), jnp.float32)
    product = jax.jit(jnp.dot)
    return lambda: jax.block_until_ready(product(square, square))


def _matrix_products(size: Size, timings: dict[str, Timing]) -> dict[str, float]:
    """Return what the products of ten steps would take alone: 2nkd² for the distances, 2nkd² for the scatter."""
    rate = 2 * SIDE**3 / timings[PRODUCT].median
    alone = NUM_STEPS * 4 * size.n * size.k * size.d**2 / rate
    return {"gigaflops_per_second": rate / 1e9, "seconds_alone": alone, "ratio": timings["jaxem"].median / alone}


def _beside_products(products: dict[str, float]) -> Line:
    rate, alone, ratio = products.values()
    label = f"… beside its matrix products alone, {seconds(alone)} at {rate:.0f} GFLOP/s"
    return Line(label, {"jaxem": f"{ratio:.3g}× as long"}, verdict("≤ 3×", ratio <= 3))
