"""What the machine gives: processors, memory, and one-threaded BLAS while nets are spread over threads."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stabsim.checks import whole_number
from stabsim.devices import CPU

MOST_THREADS = 1024
PIECES = 4  # of what is spread, for each thread


def available() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_threads(threads: int | None, device: str = CPU) -> int:
    """Return a checked number of threads; None: one per processor. Refuse one where a GPU does all, with its own."""
    if threads is None:
        return available()
    count = whole_number("threads", threads, 1, MOST_THREADS)
    if device != CPU:
        raise ValueError(f"threads={threads} is for device={CPU!r}, not for device={device!r}: leave it out")
    return count


def spread(piece: Callable[[int, int], None], count: int, threads: int) -> None:
    """Call ``piece(first, last)`` for all of 0 .. ``count - 1``, in pieces over threads, with one-threaded BLAS.

    Examples
    --------
    >>> squares = [0] * 5
    >>> def piece(first: int, last: int) -> None:
    ...     squares[first:last] = [i * i for i in range(first, last)]
    >>> spread(piece, 5, threads=2)
    >>> squares
    [0, 1, 4, 9, 16]
    """
    with single_threaded_blas():
        if count <= 1 or threads == 1:
            piece(0, count)
            return
        step = -(-count // (PIECES * threads))
        with ThreadPoolExecutor(threads, thread_name_prefix="stabsim") as pool:
            list(pool.map(lambda first: piece(first, min(first + step, count)), range(0, count, step)))


def available_memory() -> int:
    """Return how many bytes can be taken without swapping."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(what: str, needed: int, remedy: str) -> None:
    """Refuse what does not fit into the memory that is free.

    Raises
    ------
    MemoryError
        In one line: what needs how many GiB, how many are free, and the remedy.
    """
    if needed > (free := available_memory()):
        raise MemoryError(f"{what} need {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free: reduce {remedy}")


@functools.cache
def _controller() -> Any:
    import scipy.linalg.cython_blas  # noqa: F401  (the BLAS that compiled code calls: it must be loaded to be found)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


_lock = threading.Lock()
_users = 0
_limiter: Any = None


@contextlib.contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Keep BLAS to one thread; the first to enter sets the limit, the last to leave lifts it.

    Nets run side by side already, and concurrent multi-threaded OpenBLAS has returned wrong results (NumPy issue
    29391).
    """
    global _users, _limiter
    with _lock:
        if _users == 0:
            _limiter = _controller().limit(limits=1, user_api="blas")
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _limiter.restore_original_limits()
