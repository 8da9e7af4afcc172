"""The page of families: what each is, beside a small picture."""

import inspect
import io
from typing import Any, NamedTuple

import numpy as np

import jaxem
from jaxem import families as f
from jaxem.plots import scenes, style
from jaxem.plots.mixtures import draw_plane
from notebooks import reference
from notebooks.kept import FOLDER

PICTURES = FOLDER / "pages" / "families"
NUM_ROWS = 120
SHARES = (0.6, 0.4)
GROUPS = {
    "Numbers and vectors": "gaussian student_t",
    "Positive numbers": "exponential gamma log_normal weibull beta",
    "Counts, categories, directions": "poisson negative_binomial bernoulli binomial categorical multinomial von_mises_fisher",
    "Regressions, and gates": "linear_regression glm softmax_regression",
    "Families of families": "product union noise grouped labelled zero_inflated censored",
}


class Example(NamedTuple):
    """Two components of a family, what rows are drawn like, and which columns: of one the density, of two the rows."""

    family: jaxem.Family
    components: Any
    like: Any = NUM_ROWS
    columns: Any = 0


PLANE = f.Gaussian([[0.0, 0.0], [4.0, 2.0]], [[[1.0, 0.6], [0.6, 1.0]], [[2.0, -0.8], [-0.8, 0.7]]])
DESIGN = np.stack([np.ones(NUM_ROWS), np.linspace(-2, 2, NUM_ROWS)], 1)
LINES = np.array([[1.0, 0.8], [0.5, -1.0]])
ZEROS = np.zeros(NUM_ROWS)
TRIALS = f.Trials(ZEROS, 5 + np.arange(NUM_ROWS) % 20)
SCATTERED = np.random.default_rng(1).uniform(-5, 5, (60, 2))
TALLIES = np.full((NUM_ROWS, 3), 10)
KNOWN = f.Labelled(np.zeros((NUM_ROWS, 2)), np.full(NUM_ROWS, -1))
EXAMPLES = {
    "gaussian": Example(f.gaussian(), PLANE, columns=(0, 1)),
    "student_t": Example(f.student_t(dof=2.5), f.StudentT([[0.0], [9.0]], [[[1.0]], [[2.0]]])),
    "exponential": Example(f.exponential(), f.Exponential([2.0, 0.3])),
    "gamma": Example(f.gamma(), f.Gamma([2.0, 12.0], [2.0, 2.0])),
    "log_normal": Example(f.log_normal(), f.LogNormal([0.0, 1.6], [0.5, 0.2])),
    "weibull": Example(f.weibull(), f.Weibull([1.3, 6.0], [1.0, 4.0])),
    "beta": Example(f.beta(), f.Beta([2.0, 12.0], [8.0, 4.0])),
    "poisson": Example(f.poisson(), f.Poisson([2.0, 10.0])),
    "negative_binomial": Example(f.negative_binomial(), f.NegativeBinomial([3.0, 18.0], [2.0, 15.0])),
    "binomial": Example(f.binomial(), f.Binomial([0.2, 0.8]), TRIALS, ("trials", "successes")),
    "multinomial": Example(
        f.multinomial(), f.Multinomial([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]]), np.full((NUM_ROWS, 3), 10), (0, 2)
    ),
    "von_mises_fisher": Example(f.von_mises_fisher(), f.VonMisesFisher(np.eye(2), [6.0, 20.0]), columns=(0, 1)),
    "linear_regression": Example(
        f.linear_regression(), f.LinearRegression(LINES, [0.1, 0.05]), f.Regression(DESIGN, ZEROS), ("x2", "y")
    ),
    "glm": Example(f.glm("poisson"), f.GLM(LINES + 0.5), f.Regression(DESIGN, ZEROS), ("x2", "y")),
    "product": Example(
        f.product(length=f.gaussian(), count=f.poisson()),
        {"length": f.Gaussian([[0.0], [3.0]], np.ones((2, 1, 1))), "count": f.Poisson([2.0, 9.0])},
        columns=("length", "count"),
    ),
    "union": Example(
        f.union((f.gaussian(), 1), (f.student_t(dof=2.0), 1)),
        (f.Gaussian([[0.0]], np.ones((1, 1, 1))), f.StudentT([[7.0]], np.ones((1, 1, 1)))),
    ),
    "noise": Example(
        f.union((f.gaussian(), 1), (f.noise(0.01), 1)),
        (f.Gaussian(PLANE.mean[:1], PLANE.covariance[:1]), ()),
        np.concatenate([np.random.default_rng(0).multivariate_normal([0, 0], PLANE.covariance[0], 150), SCATTERED]),
        (0, 1),
    ),
    "labelled": Example(f.labelled(f.gaussian()), PLANE, KNOWN, (0, 1)),
    "zero_inflated": Example(f.zero_inflated(f.poisson()), f.ZeroInflated([0.3, 0.0], f.Poisson([5.0, 14.0]))),
    "censored": Example(f.censored(f.weibull()), f.Weibull([1.3, 6.0], [1.0, 4.0]), f.Censored(ZEROS + 1, ZEROS.astype(int))),
}


def draw(ax, example):
    """Draw rows of a mixture of these components, and what is known of their density."""
    model, params = jaxem.mixture(example.family, 2), jaxem.Mixture(np.array(SHARES), example.components)
    data = example.like if example.family.sample is None else model.sample(0, params, example.like)[0]
    fit = jaxem.Fit(params, *[np.array(0.0)] * 5)
    if example.columns == 0:
        jaxem.plots.density(model, fit, data, ax=ax)
    else:
        scene = scenes.scene_of(model, fit, data, list(example.columns), None)
        draw_plane(ax, scene, scenes.ellipses(scene), 0, 1)
    if ax.get_legend():
        ax.get_legend().remove()


def draw_shares(ax, probs):
    """Draw the probabilities of the categories, or of a one, in each column."""
    for k, own in enumerate(np.asarray(probs).reshape(2, -1)):
        ax.bar(np.arange(own.size) + 0.4 * k - 0.2, own, 0.38, color=style.colour(k))


def draw_gate(ax):
    """Draw how the shares of two components change with a covariate."""
    x = np.linspace(-2, 2, 100)
    log_odds = 0.3 + 2.5 * x
    for k, sign in enumerate((-1, 1)):
        ax.plot(x, 1 / (1 + np.exp(-sign * log_odds)), color=style.colour(k))
    ax.set_xlabel("x")


def draw_groups(ax):
    """Draw measurements of the same rows, joined."""
    rng = np.random.default_rng(0)
    for k, middle in enumerate((0.0, 3.0)):
        ax.plot(rng.normal(middle, 0.8, (4, 12)), ".-", color=style.colour(k), linewidth=0.8, markersize=5)
    ax.set_xlabel("measurement")


OTHERS = {
    "bernoulli": lambda ax: draw_shares(ax, [[0.9, 0.8, 0.2, 0.7], [0.2, 0.1, 0.6, 0.9]]),
    "categorical": lambda ax: draw_shares(ax, [[0.6, 0.3, 0.1], [0.1, 0.3, 0.6]]),
    "softmax_regression": draw_gate,
    "grouped": draw_groups,
}


def save(figure, path):
    """Write a figure as a small file: 72 dots per inch, 64 colours."""
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=72)
    Image.open(drawn).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)


def main():
    """Draw the pictures of all families anew."""
    from matplotlib.figure import Figure

    PICTURES.mkdir(exist_ok=True)
    for name in OTHERS | EXAMPLES:
        with style.styled():
            figure = Figure(figsize=(2.6, 1.6))
            ax = figure.add_subplot()
            OTHERS[name](ax) if name in OTHERS else draw(ax, EXAMPLES[name])
            ax.set(xlabel="", ylabel="", xticks=[], yticks=[])
            save(figure, PICTURES / f"{name}.png")


def page():
    """Return the page: a table of each group of families, with pictures, what they are and where more is said."""
    found = {name for name, value in vars(f).items() if is_constructor(value)}
    listed = [name for names in GROUPS.values() for name in names.split()]
    if found != set(listed):
        raise ValueError(f"families without a place on their page: {sorted(found ^ set(listed))}")
    tables = [f"## {title}\n\n| | | |\n|---|---|---|\n" + "\n".join(map(row, names.split())) for title, names in GROUPS.items()]
    return HEAD + "\n\n".join(tables) + "\n"


def is_constructor(value):
    return inspect.isroutine(inspect.unwrap(value)) and inspect.signature(value).return_annotation in ("Family", jaxem.Family)


def row(name):
    first = (inspect.getdoc(getattr(f, name)) or "").split("\n\n")[0].replace("\n", " ")
    said = reference.escaped(first).replace("|", "\\|")
    link = f"[`{name}`](reference/families.md#{name})"
    return f"| ![A mixture of two](families/{name}.png) | {link} | {said} |"


HEAD = """# Families

A family is the distribution of one component, for all components at once; `jaxem.mixture(family, k)` makes a model of it, and
`jaxem.single(family)` takes it alone. The pictures are of mixtures of two. Families of families take any of the others.

"""
