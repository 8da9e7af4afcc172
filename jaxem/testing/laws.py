"""The laws of `jaxem.model`, as checks that any model can be put to."""

from typing import Any

from jaxem.model import Model, PyTree
from jaxem.testing.bench import set_up
from jaxem.testing.bounds import ascent, fisher_identity, stationarity, tightness
from jaxem.testing.fits import honest_end, lanes
from jaxem.testing.linearity import linearity
from jaxem.testing.voice import one_voice


def check_model(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Any = None) -> None:
    """Check all eight laws for `model` on `data`, around `params`.

    The laws are those of `jaxem.model`; `weights` (n,) default to one each, `key` drives random perturbations. A check that
    needs a capability which the model does not have is passed over. Raises AssertionError at the first breach, which names
    the law, the place and the size, and ValueError for arguments that `fit` would not take.

    >>> import jaxem
    >>> model = jaxem.mixture(jaxem.families.poisson(), 2)
    >>> x = [0, 1, 1, 2, 3, 4, 5, 6, 7, 9]
    >>> jaxem.testing.check_model(model, model.init(0, x), x)
    """
    bench = set_up(model, params, data, weights, key)
    for law in (linearity, ascent, tightness, stationarity, fisher_identity, lanes, honest_end, one_voice):
        law(bench)


def check_linearity(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Any = None) -> None:
    """Check law 1: statistics and log-likelihood are linear in the weights.

    Weight zero is an absent row, whatever stands in it, outlying values too; weight two is the row twice.

    Arguments and errors are those of `check_model`.

    >>> import jaxem
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> jaxem.testing.check_linearity(model, jaxem.families.Poisson([2.0]), [0, 1, 3, 4])
    """
    linearity(set_up(model, params, data, weights, key))


def check_ascent(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Any = None) -> None:
    """Check law 2: no EM step lowers log-likelihood + log_prior, beyond rounding.

    Arguments and errors are those of `check_model`.

    >>> import jaxem
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> jaxem.testing.check_ascent(model, jaxem.families.Poisson([2.0]), [0, 1, 3, 4])
    """
    ascent(set_up(model, params, data, weights, key))


def check_tightness(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Any = None) -> None:
    """Check law 3: F(Q_θ, θ) = log p(x | θ) ≥ F(Q_θ', θ), and `log_prob` sums to the log-likelihood.

    The entropy of Q_θ is what `entropy` says, or computed from the responsibilities where `posterior` returns (n, k) of them.

    Arguments and errors are those of `check_model`.

    >>> import jaxem
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> jaxem.testing.check_tightness(model, jaxem.families.Poisson([2.0]), [0, 1, 3, 4])
    """
    tightness(set_up(model, params, data, weights, key))


def check_stationarity(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Any = None) -> None:
    """Check law 4: the gradient of E_Q[log p(x, z | θ)] + log_prior vanishes at the M-step, in unconstrained space.

    Where the model is not `exact`, the M-step must not lower their sum, and raise it where a step along the gradient does.
    Passed over while a floor against collapse holds the M-step.

    Arguments and errors are those of `check_model`.

    >>> import jaxem
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> jaxem.testing.check_stationarity(model, jaxem.families.Poisson([2.0]), [0, 1, 3, 4])
    """
    stationarity(set_up(model, params, data, weights, key))


def check_fisher_identity(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Any = None) -> None:
    """Check law 5: at θ, the gradients of E_Q[log p(x, z | ·)] and of the log-likelihood agree, also by differences.

    Arguments and errors are those of `check_model`.

    >>> import jaxem
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> jaxem.testing.check_fisher_identity(model, jaxem.families.Poisson([2.0]), [0, 1, 3, 4])
    """
    fisher_identity(set_up(model, params, data, weights, key))


def check_lanes(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Any = None) -> None:
    """Check law 6: each lane of a vmapped fit takes the steps, and ends with the numbers, of a fit on its own.

    Arguments and errors are those of `check_model`.

    >>> import jaxem
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> jaxem.testing.check_lanes(model, jaxem.families.Poisson([2.0]), [0, 1, 3, 4])
    """
    lanes(set_up(model, params, data, weights, key))


def check_honest_end(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Any = None) -> None:
    """Check law 7: a Fit's log-likelihood is that of its params, and its status and `degenerate` mean what they say.

    Arguments and errors are those of `check_model`.

    >>> import jaxem
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> jaxem.testing.check_honest_end(model, jaxem.families.Poisson([2.0]), [0, 1, 3, 4])
    """
    honest_end(set_up(model, params, data, weights, key))


def check_one_voice(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Any = None) -> None:
    """Check law 8: `statistics`, `posterior`, `init`, `sample` and `log_prob` speak of one model, in any order of components.

    Samples are held to be of the model where the mean gradient of their log-probability is zero to a few standard errors.

    Arguments and errors are those of `check_model`.

    >>> import jaxem
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> jaxem.testing.check_one_voice(model, jaxem.families.Poisson([2.0]), [0, 1, 3, 4])
    """
    one_voice(set_up(model, params, data, weights, key))
