"""The only place that calls Numba's ``jit``: every flag, with its reason.

- ``nogil``: nets are spread over Python threads, each running compiled code. Measured against
  ``parallel=True`` on the dense kernel: the same throughput, a fraction of the compile time, safe to
  call from several threads at once (Numba's bundled thread pool aborts the process there), and
  Ctrl-C is seen between blocks of nets.
- ``fastmath`` is never ``True``: that removes the guards against NaN and infinity. ``CONTRACT``
  allows fused multiply-add and forgets the sign of zero; ``REASSOCIATE`` also lets a sum be
  reordered, which is what makes it a vector sum.
- ``error_model="numpy"``: division by zero gives inf or NaN as IEEE says, without a branch in the loop.
- The cache directory carries a hash of all sources that are compiled, since Numba checks only the file
  in which a cached function stands and would go on using a stale callee from another file. They lie in
  this folder and in that of the activations, whose scalar functions are inlined into the loops.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name
from numba.core import types
from numba.extending import intrinsic, register_jitable

CONTRACT = frozenset({"contract", "nsz"})
REASSOCIATE = frozenset({"contract", "nsz", "reassoc"})

_PACKAGE = Path(__file__).resolve().parent.parent
_COMPILED = ("activations", "kernels")  # folders


@functools.cache
def source_hash() -> str:
    """Return the first 16 hex digits of a SHA-256: all compiled sources, Numba's version and this processor."""
    digest = hashlib.sha256(repr((numba.__version__, get_host_cpu_name(), get_host_cpu_features().flatten())).encode())
    for path in sorted(path for folder in _COMPILED for path in (_PACKAGE / folder).rglob("*.py")):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@functools.cache
def cache_directory() -> Path:
    """Return where compiled kernels are kept: below ``NUMBA_CACHE_DIR`` or the user's cache folder.

    Where neither can be written (a read-only home), it is a temporary folder, and one line on stderr says so.
    """
    import platformdirs

    base = Path(numba.config.CACHE_DIR or platformdirs.user_cache_dir("stabsim", appauthor=False))
    problem = _not_writable(base)
    if problem:
        wished, base = base, _temporary_folder()
        logging.getLogger("stabsim").warning(
            "stabsim: %s cannot be written (%s): what is compiled is kept in %s; NUMBA_CACHE_DIR names another folder",
            wished, problem, base,
        )  # fmt: skip
    return base / f"stabsim-{source_hash()}"


def _not_writable(folder: Path) -> str:
    """Say why no file can be made in a folder; nothing if one can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _temporary_folder() -> Path:
    """Return a folder that later processes find again; if it is not ours alone, one of this process, who leaves it.

    What lies in a cache is run, so nobody else may have written it.
    """
    folder = Path(tempfile.gettempdir()) / f"stabsim-{os.getuid()}"
    with contextlib.suppress(FileExistsError):  # also a file, or a link to nowhere: what it is is looked at next
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return folder if own else Path(tempfile.mkdtemp(prefix="stabsim-"))


@contextlib.contextmanager
def _cached_below(directory: Path) -> Iterator[None]:
    """Point Numba's cache at a directory; Numba reads the setting while it decorates."""
    users = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(directory)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = users


def kernel(
    signature: Any = None,
    *,
    fastmath: frozenset[str] = frozenset(),
    cache: str | None = None,
    apart: bool = False,
    checked: bool = False,
) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function that holds loops: with a signature at once, without one when another calls it.

    ``cache`` names the compiled function on disk; what it calls is part of it, so only entry points are cached. Each
    has a name of its own. Numba makes the linker's symbol from a function's name, its types and a number that starts
    anew in each process: of two closures of one name that two processes have cached, a third runs one as the other
    (seen: a sigmoid that was a SiLU). It also has a directory of its own, since Numba keeps all variants of a function
    in one numbered index, which two processes that compile different ones at the same time overwrite.

    A function that others call is inlined into them, which is faster for small loops (all kept apart: 1.2 to 1.5 times
    slower); said outright, since Numba would else pass on the wish of whichever caller is compiled first. ``apart``
    keeps a function out of its callers: the largest loops, whose constants LLVM would load anew in each turn (normals:
    0.48 instead of 0.42 ns), and what takes long to compile and little to call (frames and backward products of
    batches: 42 instead of 28 s for the sampler, and no slower). What takes a whole `Net` is never apart: copying it at
    a call costs as much as a narrow layer.

    ``checked`` makes an index outside an array an IndexError: for functions that are not ours.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": set(fastmath), "error_model": "numpy"}
    if signature is None:
        options["forceinline"] = not apart
    if checked:
        options["boundscheck"] = True

    def decorate(function: Callable[..., Any]) -> Any:
        if cache is None:
            return numba.njit(**options)(function) if signature is None else numba.njit(signature, **options)(function)
        name = f"{function.__code__.co_name}_{hashlib.sha256(cache.encode()).hexdigest()[:16]}"
        function.__name__ = function.__qualname__ = name
        with _cached_below(cache_directory() / name):
            return numba.njit(signature, cache=True, **options)(function)

    return decorate


# A scalar atom: stays a plain Python function, and is inlined into the loops that call it. It takes the
# flags of its caller, works on the type of its argument (`T = type(x)`, constants as `T(0.5)`), and is
# shared by every target.
atom = register_jitable(error_model="numpy", forceinline=True)


@intrinsic
def wide_vectors(_context: Any) -> Any:
    """Ask LLVM for 512-bit vectors in the calling function (its tuning for many CPUs stops at 256).

    Measured on normals: 2.1 -> 1.24 ns each, on an Intel Xeon. A CPU without them runs the same code in smaller pieces.
    """

    def codegen(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        # llvmlite writes names of attributes verbatim, so a key-value pair goes in with its quotes.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        set.add(builder.function.attributes, '"min-legal-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), codegen
