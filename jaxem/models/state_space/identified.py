"""How many parameters of a state space model are free: a change of basis of the states, x → Tx, changes nothing."""

import numpy as np

from jaxem.models.state_space.records import LinearGaussian


def free_parameters(params: LinearGaussian, held: LinearGaussian | None = None) -> int:
    """Return the number of free parameters: entries that are not `held`, less the changes of basis that leave those alone.

    Without any held these are the s² entries of T, near the identity.
    """
    sizes, moves, s = 0, [np.zeros((1, np.shape(params.initial_mean)[0] ** 2))], np.shape(params.initial_mean)[0]
    for name, leaf in params._asdict().items():
        if leaf is None:
            continue
        if held is None or not getattr(held, name):
            sizes += s * (s + 1) // 2 if _is_symmetric(name) else _entries(name, leaf)
        else:
            moves.append(
                np.stack([_moved(name, np.asarray(leaf, float), way).ravel() for way in np.eye(s * s).reshape(-1, s, s)], 1)
            )
    return sizes - (s * s - int(np.linalg.matrix_rank(np.concatenate(moves))))


def _is_symmetric(name: str) -> bool:
    return name in ("initial_covariance", "transition_covariance")


def _entries(name: str, leaf: np.ndarray) -> int:
    o = np.shape(leaf)[0]
    return o * (o + 1) // 2 if name == "emission_covariance" and np.ndim(leaf) == 2 else int(np.size(leaf))


def _moved(name: str, leaf: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Return how a parameter changes when states are turned a little, T = I + way."""
    if _is_symmetric(name):
        return way @ leaf + leaf @ way.T
    if name == "transition":
        return way @ leaf - leaf @ way
    if name == "emission":
        return -leaf @ way
    return np.zeros_like(leaf) if name.startswith("emission") else way @ leaf


free_parameters.given = free_parameters  # type: ignore[attr-defined]
