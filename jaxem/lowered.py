"""Programs on disk as JAX lowers them: where the same is asked for in a later process, it is not traced again.

JAX's own cache of compilations spares the compiler alone; tracing and lowering are most of what is left of a second run. A
program is known by its function, by what it is specialized for, by the shapes and dtypes of its arguments, and by what made
it: this library's files, JAX and its settings. What cannot be written down, or read back, is made as usual.
"""

import dataclasses
import hashlib
import pickle
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxem.files import sealed, unsealed, write_whole
from jaxem.trees import PyTree

Program = Callable[..., Any]
_folders: list[Path] = []
_known: dict[str, Program | None] = {}


def keep_in(folder: Path) -> None:
    """Keep programs in a folder from now on: where functions of a name are always the same, as in the shell command."""
    _folders[:] = [folder]


def are_kept() -> bool:
    """Tell whether there is a folder."""
    return bool(_folders)


def program_of(function: Program, static: tuple[Any, ...], given: PyTree, specialized: Program, options: Any) -> Program | None:
    """Return the program of what is `specialized`: `function` with what is static in its place; it takes `given`.

    From disk, where it is there. None where it cannot be kept, as of a function that has no name of its own, or where what is
    static cannot be written down.
    """
    name = _name_of(function, (static, options), given)
    if name is None:
        return None
    if name not in _known:
        path = _folders[0] / f"{name}.lowered"
        _known[name] = _read(path, given, options) or _made(path, specialized, given, options)
    return _known[name]


def _name_of(function: Program, static: tuple[Any, ...], given: PyTree) -> str | None:
    if "<" in function.__qualname__:
        return None
    try:
        written = pickle.dumps(static)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    leaves, tree = jax.tree.flatten(given)
    taken = [f"{jax.typeof(leaf)} {getattr(jax.typeof(leaf), 'weak_type', None)}" for leaf in leaves]
    settings = str(sorted(jax.config.values.items())), str(jnp.result_type(float)), jax.default_backend()
    told = f"{function.__module__}.{function.__qualname__}", str(tree), *taken, *settings, *_origin()
    return hashlib.sha256("\n".join(told).encode() + written).hexdigest()


@cache
def _origin() -> tuple[str, ...]:
    files = sorted(Path(__file__).parent.rglob("*.py"))
    own = [f"{file} {file.stat().st_mtime_ns} {file.stat().st_size}" for file in files]
    return *own, version("jax"), version("jaxlib")


class _Written(NamedTuple):
    """A program on disk: its module, the places of the arguments that it takes, and its results as shapes and dtypes."""

    module: bytes
    kept: tuple[int, ...]
    returned: PyTree


def _read(path: Path, given: PyTree, options: Any) -> Program | None:
    """Return a program as it was written; None where there is none, or it is cut or changed."""
    try:
        contents = path.read_bytes()
    except OSError:
        return None
    body = unsealed(contents)
    if body is None:
        return None
    written = _Written(*pickle.loads(body))
    _find_lapack()

    def blank(*leaves: Array) -> list[Array]:
        return [jnp.zeros(*shape_and_dtype) for shape_and_dtype in jax.tree.leaves(written.returned, is_leaf=_is_pair)]

    exported = jax.export.export(jax.jit(blank))(*_plain(given))
    exported = dataclasses.replace(exported, mlir_module_serialized=written.module, module_kept_var_idx=written.kept)
    return _callable(exported, written.returned, options)


def _is_pair(node: Any) -> bool:
    return isinstance(node, tuple) and len(node) == 2 and isinstance(node[1], str)


def _plain(given: PyTree) -> list[Any]:
    """Return the leaves of arguments, random keys as the numbers that they are."""
    return [jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in jax.tree.leaves(given)]


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@cache
def _find_lapack() -> None:
    """Have JAX look up LAPACK, as it does where a call of it is traced anew."""
    jax.jit(jax.lax.linalg.cholesky).lower(jnp.eye(2))


def _made(path: Path, specialized: Program, given: PyTree, options: Any) -> Program | None:
    """Return a program that is traced now, as it will be read the next time; None where it cannot be lowered by itself."""
    originals, tree = jax.tree.flatten(given)
    structure: list[Any] = []

    def on_leaves(*leaves: Any) -> list[Any]:
        pairs = zip(originals, leaves, strict=True)
        whole = [jax.random.wrap_key_data(new, impl=jax.random.key_impl(old)) if _is_key(old) else new for old, new in pairs]
        returned = specialized(*jax.tree.unflatten(tree, whole))
        structure[:] = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name), returned)]
        return jax.tree.leaves(returned)

    try:
        exported = jax.export.export(jax.jit(on_leaves))(*_plain(given))
        body = pickle.dumps(tuple(_Written(exported.mlir_module_serialized, exported.module_kept_var_idx, structure[0])))
    except (NotImplementedError, ValueError, pickle.PicklingError, AttributeError):
        return None
    try:
        write_whole(path, lambda file: file.write(sealed(body)))
    except OSError:  # a full disk: the next run makes it again
        return _callable(exported, structure[0], options)
    return _read(path, given, options)


def _callable(exported: jax.export.Exported, returned: PyTree, options: Any) -> Program:
    run, tree = jax.jit(exported.call, compiler_options=options), jax.tree.structure(returned, is_leaf=_is_pair)
    return lambda *given: jax.tree.unflatten(tree, run(*_plain(given)))
