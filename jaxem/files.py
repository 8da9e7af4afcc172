"""Fits and parameters on disk: arrays in an npz, beside the structure of their tree and a checksum of every byte."""

import hashlib
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.arrays import is_traced
from jaxem.trees import PyTree

STRUCTURE = "structure"
DIGITS = 64  # of the checksum, SHA-256 in hexadecimal, which is the comment of the archive and its last bytes


def save(path: str | os.PathLike[str], fit: PyTree) -> None:
    """Write a fit, or any tree of arrays, to an npz file at `path`: whole, or not at all.

    What stood there before stays until all is written. Nothing is pickled: `numpy.load` reads the arrays, by their places in
    the tree; `load` reads them back as a tree.
    Raises ValueError under a trace and for leaves that are no arrays of numbers or booleans.

    >>> import os, tempfile, jaxem, numpy as np
    >>> model, x = jaxem.single(jaxem.families.poisson()), [3.0, 1.0, 2.0, 6.0]
    >>> path = os.path.join(tempfile.mkdtemp(), "fit.npz")
    >>> jaxem.save(path, jaxem.fit(model, model.init(0, x), x, max_steps=9))
    >>> print(np.load(path)["0 params.rate"])
    [3.]
    """
    if is_traced(fit):
        raise ValueError("save writes values: call it outside jit and vmap.")
    contents = _as_bytes(fit)
    write_whole(Path(path), lambda file: file.write(contents))


def load(path: str | os.PathLike[str], like: PyTree) -> PyTree:
    """Return the tree that `save` wrote to `path`, which must have the structure, shapes and dtypes of `like`.

    like: a tree such as was saved, of arrays or of what `jax.eval_shape` returns; what NumPy's arrays or numbers are there
    come back as such, the others as arrays of JAX.
    Raises ValueError for a file that is cut, or of which a bit is changed, and for one that holds something else.

    >>> import os, tempfile, jaxem, jax.numpy as jnp
    >>> path, params = os.path.join(tempfile.mkdtemp(), "params.npz"), jaxem.families.Poisson(jnp.array([1.0, 3.0]))
    >>> jaxem.save(path, params)
    >>> print(jaxem.load(path, params).rate)
    [1. 3.]
    """
    contents = Path(path).read_bytes()
    if unsealed(contents) is None:
        raise ValueError(f"{path} is cut, changed, or no file that jaxem.save wrote: its checksum is another.")
    with np.load(io.BytesIO(contents), allow_pickle=False) as archive:
        found = {name: archive[name] for name in archive.files}
    structure, received = jax.tree.structure(like), found.pop(STRUCTURE).item()
    if received != str(structure):
        raise ValueError(f"{path} holds {received}, like has {structure}: pass a tree such as was saved.")
    leaves = zip(found.items(), jax.tree.leaves(like), strict=True)
    return jax.tree.unflatten(structure, [_as_like(f"{path}: {name}", value, leaf) for (name, value), leaf in leaves])


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write to a new file beside `path` and put it in its place at the end; leave nothing behind on failure."""
    part = part_of(path)
    try:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Return a name beside `path`, in the same file system, that no one else uses."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _as_bytes(tree: PyTree) -> bytes:
    """Return the npz of a tree; its checksum is of all that stands before it."""
    leaves = {
        f"{number} {jax.tree_util.keystr(place, simple=True, separator='.')}": _as_numbers(leaf)
        for number, (place, leaf) in enumerate(jax.tree.leaves_with_path(tree))
    }
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{STRUCTURE: np.array(str(jax.tree.structure(tree)))}, **leaves)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = bytes(DIGITS)
    body = buffer.getvalue()[:-DIGITS]
    return sealed(body)


def sealed(body: bytes) -> bytes:
    """Return bytes with their checksum behind them."""
    return body + hashlib.sha256(body).hexdigest().encode()


def unsealed(contents: bytes) -> bytes | None:
    """Return what was sealed; None where a bit of it is changed, or some are lacking."""
    body = contents[:-DIGITS]
    return body if sealed(body) == contents else None


def _as_numbers(leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        raise ValueError("save takes arrays of numbers, got a random key: pass jax.random.key_data(key).")
    array = np.asarray(leaf)
    if array.dtype.kind not in "biufc":
        raise ValueError(f"save takes arrays of numbers, got {type(leaf).__name__} of dtype {array.dtype}.")
    return array


def _as_like(name: str, value: np.ndarray, leaf: Any) -> Any:
    """Return a value as an array or number of the kind that `leaf` is; ValueError where it is of another shape or dtype."""
    needed = leaf if hasattr(leaf, "shape") else np.asarray(leaf)
    if (value.shape, value.dtype) != (needed.shape, needed.dtype):
        raise ValueError(f"{name} has shape {value.shape} and {value.dtype}, like has {needed.shape} and {needed.dtype}.")
    if not hasattr(leaf, "shape"):
        return value.item()
    if isinstance(leaf, (np.ndarray, np.generic)):
        return value
    if jax.dtypes.canonicalize_dtype(value.dtype) != value.dtype:
        raise ValueError(f"{name} is {value.dtype}, which JAX has switched off: jax.config.update('jax_enable_x64', True).")
    return jnp.asarray(value)
