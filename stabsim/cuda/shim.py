"""The one file that knows which libraries a GPU is reached by.

numba-cuda compiles and launches kernels; CuPy keeps arrays, and multiplies matrices through cuBLAS. With
``NUMBA_ENABLE_CUDASIM=1`` Numba's simulator runs kernels as Python, thread by thread, and NumPy keeps the arrays: slow,
and there for tests.

Kernels take numbers and groups (named tuples) of arrays: the simulator leaves those in a group as they are, and what is
compiled for the processor can be called with them.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from stabsim.devices import DeviceError
from stabsim.kernels import views
from stabsim.own_functions import sentence

SIMULATED = bool(numba.config.ENABLE_CUDASIM)
INSTALL = "pip install 'stabsim[cuda]'"
OLDEST = (7, 5)  # compute capability: what CUDA 13 compiles for
SPARED = 0.9  # of the free memory is taken at most

if importlib.util.find_spec("numba_cuda") is None:
    raise DeviceError(f"device='cuda' needs numba-cuda: {INSTALL}")

from numba import cuda as cuda  # noqa: E402
from numba.cuda.core import config  # type: ignore[import-not-found] # noqa: E402 # only numba-cuda has it

config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # of few nets, which leave a device idle: so be it

_INLINED = {} if SIMULATED else {"forceinline": True}  # an option that the simulator does not know
Array = Any  # of CuPy, or of NumPy where the device is simulated


def _array_library() -> ModuleType | None:
    if SIMULATED:
        return np
    try:
        return importlib.import_module("cupy")
    except Exception as error:  # of whatever CuPy finds broken
        _missing.append(_words(error))
        return None


def _words(error: Exception) -> str:
    """Return what a library says, in one line."""
    return " ".join(str(error).split()).rstrip(" .:") or type(error).__name__


_missing: list[str] = []  # why CuPy cannot be imported
xp: Any = _array_library()


@functools.cache
def require() -> None:
    """Raise an error if there is no device that can be used: something small of each library is tried, once a process.

    Raises
    ------
    DeviceError
        With the reason, in one line.
    """
    if SIMULATED:
        return
    try:
        capability = tuple(cuda.current_context().device.compute_capability)
    except Exception as error:  # of the driver, whose classes depend on what is missing
        raise DeviceError(f"device='cuda': no GPU can be used ({_words(error)})") from error
    if xp is None:
        raise DeviceError(f"device='cuda' needs CuPy ({', '.join(_missing)}): {INSTALL}")
    try:
        one = xp.ones((1, 1, 1), np.float32)
        multiply(one, one, xp.zeros_like(one))
    except Exception as error:
        raise DeviceError(f"device='cuda': CuPy cannot be used ({_words(error)})") from error
    if capability < OLDEST:
        raise DeviceError(
            f"device='cuda': {name()} has compute capability {capability[0]}.{capability[1]}, and "
            f"{OLDEST[0]}.{OLDEST[1]} is needed"
        )


def name() -> str:
    """Return what the device is called."""
    if SIMULATED:
        return "simulator"
    found = cuda.current_context().device.name
    return found.decode() if isinstance(found, bytes) else str(found)


def free_memory() -> int:
    """Return how many bytes of the device may be taken."""
    if SIMULATED:
        return 2**30
    free, _ = xp.cuda.runtime.memGetInfo()
    return int(SPARED * (free + xp.get_default_memory_pool().free_bytes()))


@contextlib.contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Turn the device's error into one that says what did not fit."""
    try:
        yield
    except MemoryError as error:
        raise DeviceError(f"device='cuda' has no memory for {what}: {' '.join(str(error).split())}") from error


def to_device(value: Any) -> Any:
    """Return a copy of an array, or of a group with all arrays in it, on the device; numbers as they are."""
    if isinstance(value, np.ndarray):
        return xp.array(value, order="C")
    return _each(to_device, value)


def to_host(array: Array) -> NDArray[Any]:
    """Return a copy of an array in the memory of the processor."""
    return np.array(array) if SIMULATED else xp.asnumpy(array)


def empty(shape: int | Sequence[int], dtype: Any) -> Array:
    """Return an array of the device that is not filled."""
    return xp.empty(shape, dtype)


def zeros(shape: int | Sequence[int], dtype: Any) -> Array:
    """Return an array of zeros on the device."""
    return xp.zeros(shape, dtype)


def multiply(left: Array, right: Array, out: Array) -> None:
    """Write the products of two stacks of matrices (nets, rows, inner), (nets, inner, columns)."""
    xp.matmul(left, right, out=out)


def multiply_by_transposed(left: Array, right: Array, out: Array) -> None:
    """Write the products of two stacks (nets, rows, inner), (nets, columns, inner): right is not to be copied.

    CuPy copies what is transposed, so it is the other factor that is: weights are many, samples few.
    """
    out[...] = xp.matmul(right, left.transpose(0, 2, 1)).transpose(0, 2, 1)


def one_stream() -> contextlib.AbstractContextManager[Any]:
    """Let CuPy work where kernels are launched, whatever stream is the user's: one thing after the other."""
    return contextlib.nullcontext() if SIMULATED else xp.cuda.Stream.null


def synchronize() -> None:
    """Wait for the device."""
    if not SIMULATED:
        xp.cuda.get_current_stream().synchronize()


def device(function: Callable[..., Any]) -> Any:
    """Make a function that kernels call, and that may call ``cuda``: what calls nothing of it is an `atom`."""
    return cuda.jit(function, device=True, **_INLINED)


def compiled(function: Any) -> Any:
    """Return a function that has been compiled for the processor as one that kernels may call."""
    return function if SIMULATED else device(function.py_func)


class Kernel:
    """A function that the device runs, a net or a part of one in each block of threads.

    ``registers`` is how many of them a thread may take, so that several blocks run at a time: 255 unless told.
    """

    def __init__(self, function: Callable[..., None], registers: int | None = None) -> None:
        self.function, self.registers = function, registers
        options = {} if SIMULATED or registers is None else {"max_registers": registers}
        self._compiled = cuda.jit(**options)(function)

    def __call__(self, blocks: int | tuple[int, int], threads: int, *arguments: Any, shared: int = 0) -> None:
        """Launch it, with so many bytes of shared memory in each block; without a block, do nothing."""
        if np.all(np.greater(blocks, 0)):
            self._launch(blocks, threads, arguments, shared)

    def _launch(self, blocks: int | tuple[int, int], threads: int, arguments: tuple[Any, ...], shared: int) -> None:
        try:
            self._compiled[blocks, threads, 0, shared](*map(launched, arguments))
        except Exception as error:
            if any(each.__name__ == "NumbaError" for each in type(error).__mro__):  # numba-cuda has its own
                said = f"device='cuda' cannot compile {self.function.__name__}, or what it calls: {sentence(error)}"
                raise DeviceError(said) from error
            raise


def kernel(function: Callable[..., None]) -> Kernel:
    """Make a kernel."""
    return Kernel(function)


def launched(value: Any) -> Any:
    """Return an argument as kernels take it; `Kernel` does so, too, and what is launched often is better done once."""
    if not SIMULATED and hasattr(value, "__cuda_array_interface__") and not hasattr(value, "__cuda_ndarray__"):
        return cuda.as_cuda_array(value, sync=False)
    return _each(launched, value)


def _each(function: Callable[[Any], Any], value: Any) -> Any:
    """Return a group with a function of each of its fields, or what is no group as it is."""
    return type(value)(*map(function, value)) if isinstance(value, tuple) and hasattr(value, "_fields") else value


def _stretch(vector: Array, first: Any, size: Any) -> Array:
    return vector[first : first + size]


def _as_matrix(vector: Array, rows: Any, columns: Any) -> Array:
    return vector.reshape(rows, columns)


# Views, which the simulator cannot call as they are compiled.
stretch, as_matrix = (_stretch, _as_matrix) if SIMULATED else (views.stretch, views.as_matrix)
