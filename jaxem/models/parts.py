"""What a model was built of: its family and the parameters of the components, as `parts` tell."""

from collections.abc import Callable
from typing import Any

from jaxem.model import Family, Model, PyTree
from jaxem.models.hmm import of_states
from jaxem.models.mixture import mixture
from jaxem.models.single import single


def family_of(model: Model, params: PyTree, who: str) -> tuple[Family, PyTree, Any]:
    """Return the family that a mixture or a single model is made of, its params, and the gate; other models' of these too.

    Raises ValueError, in the name of `who`, for a model that was not built so.
    """
    model, params = built(model, params, who)
    constructor, arguments = model.parts or (None, ())
    return (arguments[0], params.components, arguments[2]) if constructor is mixture else (arguments[0], params, None)


def built(
    model: Model,
    params: PyTree,
    who: str,
    kinds: tuple[Callable[..., Model], ...] = (mixture, single),
    needs: str = "mixture(family, k) or single(family)",
) -> tuple[Model, PyTree]:
    """Return the model of one of these kinds that a model is made of, and its params, with what is held put back.

    Raises ValueError, in the name of `who`, for a model that was not built so.
    """
    given = model
    while model.parts is not None:
        constructor, arguments = model.parts
        if constructor in kinds:
            return model, params
        if not arguments or not isinstance(arguments[0], Model):
            break
        inner = arguments[0]
        params = model.whole(params) if model.whole and model.whole is not inner.whole else params
        model = inner
    model = given
    raise ValueError(f"{who} needs a model built by {needs}, which this one is not: {model!r}.")


def kind_of(model: Model) -> Callable[..., Any] | None:
    """Return the constructor of what a model is made of in the end; None of a model that was written by hand."""
    constructor, arguments = model.parts or (None, ())
    return kind_of(arguments[0]) if arguments and isinstance(arguments[0], Model) else constructor


def num_components_of(model: Model) -> int | None:
    """Return the number of components of a mixture, or of states, one of a single model; other models' of these too.

    None of any else.
    """
    constructor, arguments = model.parts or (None, ())
    if constructor in (mixture, of_states):
        return arguments[1]
    if constructor is single:
        return 1
    return num_components_of(arguments[0]) if arguments and isinstance(arguments[0], Model) else None
