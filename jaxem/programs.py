"""How functions are compiled: for little work by short ways of the compiler, as compilation is nearly all that is waited for.

Work is counted in rows, of sequences in steps of time, times runs. Measured on two cores, Gaussian mixtures, seconds of a
first call and of later ones: 64 starts on 272 x 2 by the short way 5.1 and .14, by the shortest 3.5 and .25; 64 starts on
500 x 16 by the usual way 9.6 and .44, by the short one 6.7 and .56, by the shortest 5.2 and 1.4; a fit of 100 steps to
1 000 rows by the usual way 3.5 and .007, by the short one 1.8 and .013. Chains are loops, which the shortest way slows most.
"""

import math
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import lowered
from jaxem.arrays import is_traced

FEW_NUMBERS = 2**16  # in the data: more are products of matrices, which no way makes faster to compile
LITTLE_WORK = 2**16
LEAST_WORK = 2**16  # in numbers of the data, not rows: less goes the shortest way, if it is a search and none of chains
RUN = 16  # work of a row in one run, which may take thousands of steps
SHORT_WAY = (("xla_cpu_use_fusion_emitters", False),)  # one module for all kernels in the place of one each
SHORTEST_WAY = (*SHORT_WAY, ("xla_backend_optimization_level", 0))

Way = tuple[tuple[str, Any], ...]


@cache
def _is_known(way: Way) -> bool:
    """Tell whether the compiler at hand knows these options; an accelerator's is left alone."""
    if jax.default_backend() != "cpu":
        return False
    try:
        jax.jit(lambda x: x, compiler_options=dict(way)).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _way(work: int, numbers: int, is_least: bool) -> Way:
    """Return the options for so much work on so many numbers, none for the usual way."""
    if work > LITTLE_WORK or numbers > FEW_NUMBERS:
        return ()
    way = SHORTEST_WAY if is_least else SHORT_WAY
    return way if _is_known(way) else ()


def _steps_of_each(arguments: tuple[Any, ...]) -> int:
    """Return how many steps of time a row has: one, but of sequences."""
    nodes = jax.tree.leaves(arguments, is_leaf=lambda node: hasattr(node, "lengths"))
    behind = [
        np.shape(leaf)[np.ndim(node.lengths) :] for node in nodes if hasattr(node, "lengths") for leaf in jax.tree.leaves(node)
    ]
    return max((shape[0] for shape in behind if shape), default=1)


def compiled(
    function: Callable[..., Any],
    static_argnums: int | tuple[int, ...] = (),
    work: Callable[..., int] | None = None,
) -> Callable[..., Any]:
    """Return `function` under jit, by a short way where it has little work to do and is no part of another program.

    `work` tells that from the arguments, in rows times runs; None: one run over the longest leading axis among them.
    """
    static = (static_argnums,) if isinstance(static_argnums, int) else static_argnums

    @cache
    def by(way: Way) -> Callable[..., Any]:
        return jax.jit(function, static_argnums=static_argnums, compiler_options=dict(way) or None)

    @wraps(function)
    def call(*arguments: Any) -> Any:
        given = tuple(argument for place, argument in enumerate(arguments) if place not in static)
        leaves, steps = jax.tree.leaves(given), _steps_of_each(given)
        shapes = [np.shape(leaf) for leaf in leaves]
        numbers, rows = sum(map(math.prod, shapes)), max((shape[0] for shape in shapes if shape), default=1)
        much = work(*arguments) if work else RUN * rows
        way = _way(much * steps, numbers, work is not None and steps == 1 and much * numbers < LEAST_WORK * rows)
        keeps = lowered.are_kept()
        if (way or keeps) and (is_traced(leaves) or is_traced(jnp.asarray(0.0))):
            way, keeps = (), False  # options, and programs that are there already, are for the outermost alone
        kept = _kept(arguments, given, way) if keeps else None
        return kept(*given) if kept else by(way)(*arguments)

    def _kept(arguments: tuple[Any, ...], given: tuple[Any, ...], way: Way) -> Callable[..., Any] | None:
        def specialized(*free: Any) -> Any:
            rest = iter(free)
            return function(*(argument if place in static else next(rest) for place, argument in enumerate(arguments)))

        return lowered.program_of(function, tuple(arguments[place] for place in static), given, specialized, dict(way) or None)

    return call
