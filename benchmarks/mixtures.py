"""Mixtures beside what people use for them today: mclust, flexmix and mixtools in R, StepMix, and plain NumPy.

Each work is the same data for both, from the same start where the peer takes one, and tells both log-likelihoods. Times are
medians after compilation; the first call, which compiles, is told apart.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxem
from benchmarks.in_r import in_r
from benchmarks.measure import in_turn, num_cores, on_threads, timed
from benchmarks.problems import Size, clusters, labelled_clusters
from benchmarks.report import Options, Row, seconds, verdict
from jaxem import families
from jaxem.selection import search_counts
from jaxem.starts import from_responsibilities

FORMS = ("EII", "VII", "EEI", "VEI", "EVI", "VVI", "EEE", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "VVV")


class Beside(NamedTuple):
    """One line: what was done, our seconds, the peer's or what failed, how many times ours it had to be, and the ends."""

    work: str
    ours: float
    first: float
    peer: str
    theirs: float | str
    at_least: float
    ending: str
    record: dict[str, Any]

    def line(self) -> str:
        if isinstance(self.theirs, str):
            other, goal = self.theirs, f"≥ {self.at_least:g}×"
        else:
            ratio = self.theirs / self.ours
            other, goal = f"{seconds(self.theirs)} ({ratio:.3g}×)", verdict(f"≥ {self.at_least:g}×", ratio >= self.at_least)
        cells = [self.work, seconds(self.ours), seconds(self.first), f"{self.peer}: {other}", goal, self.ending]
        return "| " + " | ".join(cells) + " |"


HEAD = "| work | jaxem | first call | peer | asked | ended with |\n|---|---|---|---|---|---|"


def _ours(run: Callable[[], Any], repeats: int) -> tuple[float, float, Any]:
    """Return median and first seconds, and the result."""
    timing = in_turn({"jaxem": lambda: jax.block_until_ready(run())}, repeats)["jaxem"]
    if timing.failure:
        raise RuntimeError(timing.failure)
    return timing.median, timing.first_call, timing.result


def _seconds_of(found: dict[str, Any]) -> float | str:
    return found["failure"] if "failure" in found else float(np.median(found["seconds"]))


def _beside_r(work: str, package: str, at_least: float, ours: tuple[float, float, Any], found: dict[str, Any]) -> Beside:
    """Compare one fit with what R found, which tells `seconds` and `value`, its log-likelihood."""
    median, first, fit = ours
    value = float(fit.log_likelihood)
    ending = f"{value:.3f} after {int(fit.num_steps)} steps"
    if "failure" not in found:
        ending += f"; {package} {found['value'][0]:.3f}"
    record = {"seconds": median, "first_call": first, "log_likelihood": value, package: found}
    return Beside(work, median, first, package, _seconds_of(found), at_least, ending, record)


# all forms and numbers of components


def all_forms(name: str, x: np.ndarray, at_least: float, repeats: int, most: int = 9, num_restarts: int = 16) -> Beside:
    """Search all fourteen forms with 1 … `most` components, beside one hierarchical start each of mclust."""

    def search() -> np.ndarray:
        found = [
            search_counts(families.gaussian(form), 0, x, counts=range(1, most + 1), num_restarts=num_restarts) for form in FORMS
        ]
        return np.array([[float(one.best.log_likelihood) for one in of_form] for of_form in found])

    median, first, reached = _ours(search, repeats)
    script = f"""
    x <- given("x", {x.shape[0]}, {x.shape[1]})
    forms <- c({", ".join(f'"{form}"' for form in FORMS)})
    run <- function() mclustBIC(x, G = 1:{most}, modelNames = forms, verbose = FALSE)
    first <- timed(run); second <- timed(run); bic <- second$found
    value <- matrix(NA, length(forms), {most}); labels <- matrix(0, nrow(x), length(value))
    for (f in seq_along(forms)) for (k in 1:{most}) if (is.finite(bic[k, forms[f]])) {{
      fit <- summary(bic, x, G = k, modelNames = forms[f])
      value[f, k] <- fit$loglik; labels[, (f - 1) * {most} + k] <- fit$classification
    }}
    told(seconds = second$seconds, first = first$seconds, value = t(value), labels = labels)
    """
    found = in_r("mclust", script, x=x)
    record: dict[str, Any] = {"seconds": median, "first_call": first, "log_likelihood": reached.tolist()}
    if "failure" in found:
        return Beside(name, median, first, "mclust", found["failure"], at_least, "", {**record, "mclust": found})
    labels = np.array(found.pop("labels"), int).reshape(-1, x.shape[0])
    value = np.array([np.nan if v is None else v for v in found["value"]]).reshape(len(FORMS), most)
    lower = [
        beside_its_labels(x, f, k, labels[f * most + k], reached[f, k], value[f, k]) for f, k in lower_cells(reached, value)
    ]
    for cell in lower:
        print(f"  lower: {cell}", file=sys.stderr)
    better = int((reached > value + 0.01).sum())
    ending = (
        f"of {np.isfinite(value).sum()} cells {better} higher by .01 nats, {len(lower)} lower; "
        f"mclust first {found['first'][0]:.2f} s"
    )
    return Beside(
        name, median, first, "mclust", _seconds_of(found), at_least, ending, {**record, "mclust": found, "lower": lower}
    )


def lower_cells(reached: np.ndarray, value: np.ndarray) -> list[tuple[int, int]]:
    return [(int(f), int(k)) for f, k in zip(*np.nonzero(reached < value - 0.01), strict=True)]


def beside_its_labels(x: np.ndarray, f: int, k: int, labels: np.ndarray, ours: float, theirs: float) -> dict[str, Any]:
    """Return a cell in which the peer's log-likelihood is higher, with what a fit from its own labels reaches."""
    model = jaxem.mixture(families.gaussian(FORMS[f]), k + 1)
    fit = jaxem.fit(model, from_responsibilities(model, x, np.eye(k + 1)[labels - 1]), x)
    from_labels = {"status": jaxem.Status(int(fit.status)).name, "log_likelihood": float(fit.log_likelihood)}
    return {"form": FORMS[f], "components": k + 1, "ours": ours, "theirs": theirs, "from its labels": from_labels}


# single fits


def vev(size: Size, repeats: int, steps: int = 20) -> Beside:
    x, labels = labelled_clusters(0, size, spread=1.0)
    noisy = np.where(
        np.random.default_rng(1).random(size.n) < 0.3, np.random.default_rng(2).integers(0, size.k, size.n), labels
    )
    z = np.eye(size.k, dtype=np.float32)[noisy]
    model = jaxem.mixture(families.gaussian("VEV"), size.k)
    start = from_responsibilities(model, x, z)
    ours = _ours(lambda: jaxem.fit(model, start, x, tol=-np.inf, max_steps=steps - 1), repeats)
    script = f"""
    x <- given("x", {size.n}, {size.d}); z <- given("z", {size.n}, {size.k})
    runs <- lapply(1:2, function(i) timed(function()
      me(data = x, modelName = "VEV", z = z, control = emControl(itmax = {steps}, tol = c(0, 1e-5)))))
    told(seconds = sapply(runs, function(r) r$seconds), value = runs[[1]]$found$loglik)
    """
    return _beside_r(f"VEV, {size}, {steps} steps", "mclust", 10, ours, in_r("mclust", script, x=x, z=z))


def binary_with_holes(size: Size, missing: float, repeats: int, steps: int = 50) -> Beside:
    rng = np.random.default_rng(0)
    probs = rng.uniform(0.1, 0.9, (size.k, size.d))
    x = (rng.random((size.n, size.d)) < probs[rng.integers(0, size.k, size.n)]).astype(np.float32)
    x[rng.random(x.shape) < missing] = np.nan
    model, data = jaxem.mixture(families.bernoulli(), size.k), families.observed(x)
    start = model.init(jax.random.key(0), data)
    median, first, fit = _ours(lambda: jaxem.fit(model, start, data, tol=-np.inf, max_steps=steps), repeats)
    record = {"seconds": median, "first_call": first, "log_likelihood": float(fit.log_likelihood)}
    work = f"binary, {size}, {missing:.0%} missing, {steps} steps"
    try:
        from stepmix import StepMix
    except ImportError:
        return Beside(work, median, first, "StepMix", "not installed", 10, "", record)
    given = {"n_components": size.k, "measurement": "binary_nan", "n_steps": 1, "n_init": 1, "progress_bar": 0, "verbose": 0}
    peer = StepMix(**given, max_iter=steps, abs_tol=0.0, rel_tol=0.0, random_state=0)
    taken, found = timed(lambda: peer.fit(x))
    value = float(found.score(x)) * size.n
    ending = f"{record['log_likelihood']:.1f}; StepMix {value:.1f} after {found.n_iter_}, from a start of its own"
    return Beside(work, median, first, "StepMix", taken, 10, ending, {**record, "StepMix": {"seconds": taken, "value": value}})


def full_with_holes(size: Size, missing: float, num_patterns: int, repeats: int, steps: int = 10) -> Beside:
    """Time steps with holes beside the same steps without: at most four times as long was asked."""
    rng = np.random.default_rng(0)
    x = clusters(0, size, spread=1.5)
    patterns = rng.random((num_patterns, size.d)) < missing
    holes = np.where(patterns[rng.integers(0, num_patterns, size.n)], np.nan, x).astype(np.float32)
    model = jaxem.mixture(families.gaussian(), size.k)
    start = model.init(jax.random.key(0), x)
    whole = _ours(lambda: jaxem.fit(model, start, x, tol=-np.inf, max_steps=steps), repeats)
    median, first, fit = _ours(lambda: jaxem.fit(model, start, families.observed(holes), tol=-np.inf, max_steps=steps), repeats)
    ending = f"{median / whole[0]:.2f} times its own time without holes (≤ 4 asked)"
    record = {"seconds": median, "without_holes": whole[0], "log_likelihood": float(fit.log_likelihood)}
    return Beside(
        f"full, {size}, {missing:.0%} missing in {num_patterns} patterns, {steps} steps",
        median,
        first,
        "without holes",
        whole[0],
        0.25,
        ending,
        record,
    )


def poisson_regressions(size: Size, repeats: int) -> Beside:
    rng = np.random.default_rng(0)
    x = np.concatenate([np.ones((size.n, 1)), rng.normal(size=(size.n, size.d - 1))], 1).astype(np.float32)
    labels = rng.integers(0, size.k, size.n)
    coefficients = 0.4 * rng.normal(size=(size.k, size.d)) + np.array([1.0] + [0.0] * (size.d - 1))
    y = rng.poisson(np.exp((x * coefficients[labels]).sum(1))).astype(np.float32)
    noisy = np.where(rng.random(size.n) < 0.5, rng.integers(0, size.k, size.n), labels)
    z = np.eye(size.k, dtype=np.float32)[noisy]
    model, data = jaxem.mixture(families.glm("poisson"), size.k), families.Regression(x, y)
    start = from_responsibilities(model, data, z)
    ours = _ours(lambda: jaxem.fit(model, start, data, tol=1e-3), repeats)
    script = f"""
    x <- given("x", {size.n}, {size.d}); y <- as.vector(given("y", {size.n})); z <- given("z", {size.n}, {size.k})
    one <- timed(function() flexmix(y ~ x - 1, k = {size.k}, cluster = z, model = FLXMRglm(family = "poisson"),
      control = list(tolerance = 1e-10, iter.max = 1000, minprior = 0)))
    told(seconds = one$seconds, value = as.numeric(logLik(one$found)))
    """
    found = in_r("flexmix", script, x=x, y=y, z=z)
    return _beside_r(f"Poisson regressions, n = {size.n}, p = {size.d}, k = {size.k}, to the end", "flexmix", 20, ours, found)


def student_t(size: Size, repeats: int, steps: int = 10) -> Beside:
    rng = np.random.default_rng(0)
    x = clusters(0, size, spread=2.0)
    x = (x + 0.3 * rng.standard_t(3, size=x.shape)).astype(np.float32)
    model = jaxem.mixture(families.student_t(), size.k)
    start = model.init(jax.random.key(0), x)
    median, first, fit = _ours(lambda: jaxem.fit(model, start, x, tol=-np.inf, max_steps=steps), repeats)
    plain = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), start)
    runs = {n: on_threads(lambda: _ecme(plain, x.astype(np.float64), steps), n) for n in {1, num_cores()}}
    times = {n: timed(run) for n, run in runs.items()}
    threads = min(times, key=lambda n: times[n][0])
    taken, value = times[threads]
    ending = f"{float(fit.log_likelihood):.1f}; NumPy {value:.1f} on {threads} threads, float64"
    record = {"seconds": median, "log_likelihood": float(fit.log_likelihood), "NumPy": {"seconds": taken, "value": value}}
    return Beside(f"Student t, {size}, free dof, {steps} steps", median, first, "NumPy ECME", taken, 10, ending, record)


def _ecme(start: Any, x: np.ndarray, steps: int) -> float:
    """Take steps of ECME: locations and scales by weighted moments, then each dof where the likelihood is highest."""
    from scipy.linalg import solve_triangular
    from scipy.special import gammaln, logsumexp

    pi, (mu, sigma, dof), (n, d) = start.weights, start.components, x.shape

    def log_t(delta: np.ndarray, log_det: float, nu: float) -> np.ndarray:
        const = gammaln((nu + d) / 2) - gammaln(nu / 2) - d / 2 * np.log(nu * np.pi) - log_det
        return const - (nu + d) / 2 * np.log1p(delta / nu)

    def distances() -> tuple[np.ndarray, np.ndarray]:
        factors = np.linalg.cholesky(sigma)
        delta = [(solve_triangular(f, (x - m).T, lower=True) ** 2).sum(0) for f, m in zip(factors, mu, strict=True)]
        return np.array(delta), np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1)

    delta, log_det = distances()
    for _ in range(steps):
        log_p = np.log(pi)[:, None] + np.array([log_t(*row) for row in zip(delta, log_det, dof, strict=True)])
        r = np.exp(log_p - logsumexp(log_p, axis=0))
        u = r * (dof[:, None] + d) / (dof[:, None] + delta)
        pi = r.sum(1) / n
        mu = (u @ x) / u.sum(1)[:, None]
        sigma = np.array([(u[k] * (x - mu[k]).T) @ (x - mu[k]) / r[k].sum() for k in range(len(pi))])
        delta, log_det = distances()
        dof = np.array([_likeliest_dof(log_t, *given) for given in zip(r, delta, log_det, strict=True)])
    log_p = np.log(pi)[:, None] + np.array([log_t(*row) for row in zip(delta, log_det, dof, strict=True)])
    return float(logsumexp(log_p, axis=0).sum())


def _likeliest_dof(log_t: Callable[..., np.ndarray], r: np.ndarray, delta: np.ndarray, log_det: float) -> float:
    from scipy.optimize import minimize_scalar

    return minimize_scalar(lambda nu: -(r * log_t(delta, log_det, nu)).sum(), bounds=(0.5, 1e3), method="bounded").x


# a step beside a pass


def step_beside_pass(name: str, n: int, at_most: float, repeats: int, steps: int = 10) -> Beside:
    """Time a step beside one pass of the family's own log-density over the same rows; k = 3."""
    family, x = _drawn(name, n)
    model = jaxem.mixture(family, 3)
    start = model.init(jax.random.key(0), x)
    long = _ours(lambda: jaxem.fit(model, start, x, tol=-np.inf, max_steps=2 * steps), repeats)
    short = _ours(lambda: jaxem.fit(model, start, x, tol=-np.inf, max_steps=steps), repeats)
    given = model.prepare(x, None)
    log_prob = jax.jit(lambda components, rows: family.evaluate(components, rows)[0])
    whole = _ours(lambda: log_prob(start.components, given), repeats)
    step = (long[0] - short[0]) / steps
    record = {"seconds_a_step": step, "pass": whole[0], "runs": [short[0], long[0]]}
    ending = f"{step / whole[0]:.2f} times a pass of log_prob (≤ {at_most:g} asked)"
    return Beside(f"{name}, n = {n}, k = 3, a step", step, short[1], "a pass", whole[0], 1 / at_most, ending, record)


def _drawn(name: str, n: int) -> tuple[Any, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, n)
    location = np.array([1.0, 4.0, 12.0])[labels]
    rows = {
        "gamma": lambda: rng.gamma(6.0, location / 6),
        "weibull": lambda: location * rng.weibull(3.0, n),
        "negative_binomial": lambda: rng.negative_binomial(5, 5 / (5 + 3 * location)),
        "beta": lambda: rng.beta(np.array([2.0, 10.0, 30.0])[labels], np.array([20.0, 10.0, 5.0])[labels]),
    }
    return getattr(families, name)(), np.asarray(rows[name](), np.float32)


def gamma_beside_mixtools(n: int, repeats: int) -> Beside:
    """Time to within 1e-3 nats of the maximum, in float64 of rows for both, from the same shapes and scales."""
    _, x = _drawn("gamma", n)
    model = jaxem.mixture(families.gamma(), 3)
    start = jaxem.Mixture(np.full(3, 1 / 3), families.Gamma(np.full(3, 4.0), 4.0 / np.array([1.5, 5.0, 10.0])))
    ours = _ours(lambda: jaxem.fit(model, start, x, tol=1e-3, solver=jaxem.squarem()), repeats)
    script = f"""
    x <- as.vector(given("x", {n}))
    sink(tempfile())
    one <- timed(function() gammamixEM(x, lambda = rep(1/3, 3), alpha = rep(4, 3), beta = c(1.5, 5, 10) / 4, k = 3,
      epsilon = 1e-4, maxit = 1000))
    sink()
    told(seconds = one$seconds, value = one$found$loglik)
    """
    return _beside_r(f"gamma, n = {n}, k = 3, to the end", "mixtools", 1, ours, in_r("mixtools", script, x=x))


WORKS: dict[str, Callable[[Options], Beside]] = {
    "forms-iris": lambda options: all_forms(
        "all 14 forms × k = 1 … 9, iris, 16 starts each", np.asarray(jaxem.datasets.iris(), np.float32), 5, options.repeats
    ),
    "forms-2000": lambda options: all_forms(
        "all 14 forms × k = 1 … 9, n = 2000, d = 5, 16 starts each", clusters(0, Size(2000, 5, 5), 2.0), 5, options.repeats
    ),
    "vev": lambda options: vev(options.cut(Size(100_000, 8, 6)), options.repeats),
    "binary": lambda options: binary_with_holes(options.cut(Size(200_000, 20, 5)), 0.2, options.repeats),
    "holes": lambda options: full_with_holes(options.cut(Size(100_000, 12, 4)), 0.15, 60, options.repeats),
    "poisson-regressions": lambda options: poisson_regressions(options.cut(Size(50_000, 8, 3)), options.repeats),
    "student-t": lambda options: student_t(options.cut(Size(100_000, 8, 5)), options.repeats),
    **{
        f"step-{name}": lambda options, name=name, most=most: step_beside_pass(
            name, options.cut(Size(1_000_000, 1, 3)).n, most, options.repeats
        )
        for name, most in {"gamma": 3, "weibull": 8, "negative_binomial": 3, "beta": 3}.items()
    },
    "gamma-mixtools": lambda options: gamma_beside_mixtools(options.cut(Size(20_000, 1, 3)).n, options.repeats),
}


def rows(names: list[str], options: Options, keep: Callable[[dict[str, Row]], None]) -> str:
    """Run works in turn; `keep` is given all that was measured after each."""
    lines, measured = [HEAD], {}
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        found = WORKS[name](options)
        lines.append(found.line())
        measured[name] = Row([], {"line": found.line(), **found.record})
        keep(measured)
    return "\n".join(lines)
