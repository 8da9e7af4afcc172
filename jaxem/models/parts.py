"""What a model was built of: its family and the parameters of the components, as `parts` tell."""

from typing import Any

from jaxem.model import Family, Model, PyTree
from jaxem.models.mixture import mixture
from jaxem.models.single import single


def family_of(model: Model, params: PyTree, who: str) -> tuple[Family, PyTree, Any]:
    """Return the family that a mixture or a single model is made of, its params, and the gate; other models' of these too.

    Raises ValueError, in the name of `who`, for a model that was not built so.
    """
    while model.parts is not None:
        constructor, arguments = model.parts
        if constructor is mixture:
            return arguments[0], params.components, arguments[2]
        if constructor is single:
            return arguments[0], params, None
        if not arguments or not isinstance(arguments[0], Model):
            break
        params = model.whole(params) if model.whole else params
        model = arguments[0]
    raise ValueError(f"{who} needs a model built by mixture(family, k) or single(family), which this one is not: {model!r}.")
