"""What the threads of a block do together: sums over all of them, in an order that depends on nothing but their number.

Threads write a few numbers each into shared memory, side by side, and add them up column by column: without warp
shuffles, of which a number of 64 bits takes two, and which the simulator does not know.
"""

from __future__ import annotations

from typing import Any

from numba import float64

from stabsim.cuda.shim import cuda, device
from stabsim.kernels.compile import atom

COLUMNS = 16  # that are summed at a time; the threads of a block are a multiple of them
STRIDE = COLUMNS + 1  # of a thread's numbers in shared memory: with one more, no two threads meet in a bank
MOST_THREADS = 256
WARP = 32
REGISTERS = 128  # of a thread: two blocks of the most threads run at a time on a multiprocessor, which has 65 536


def shared_bytes(threads: int) -> int:
    """Return the shared memory that sums over so many threads take."""
    return 8 * STRIDE * threads


def shared_bytes_of_total(threads: int) -> int:
    """Return the shared memory that `total` and `greatest` of so many threads take, which is less."""
    return 8 * (threads + COLUMNS)


def threads_for(items: int) -> int:
    """Return how many threads share so many items: whole warps."""
    return min(MOST_THREADS, max(WARP, -(-items // WARP) * WARP))


@device
def add_up(values, first, last, out):
    """Add to out[first : last] the sums over all threads of values[first : last]; all threads see them afterwards.

    What is NaN in ``out``, which is not wanted, stays so. ``first`` and ``last`` must be constants, or ``values``, an
    array of each thread, does not stay in registers.
    """
    shared = cuda.shared.array(0, float64)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    column, part, parts = thread % COLUMNS, thread // COLUMNS, threads // COLUMNS
    for start in range(first, last, COLUMNS):
        for c in range(COLUMNS):
            if start + c < last:
                shared[thread * STRIDE + c] = values[start + c]
        cuda.syncthreads()
        total = 0.0
        if start + column < last:
            for t in range(part, threads, parts):
                total += shared[t * STRIDE + column]
        cuda.syncthreads()
        shared[part * STRIDE + column] = total
        cuda.syncthreads()
        if part == 0 and start + column < last:
            total = 0.0
            for p in range(parts):
                total += shared[p * STRIDE + column]
            out[start + column] += total
        cuda.syncthreads()


def _of_all(combine: Any) -> Any:
    """Return the function that combines a number of each thread, and gives all threads what comes out."""

    @device
    def found_by_all(value):
        shared = cuda.shared.array(0, float64)
        thread, threads = cuda.threadIdx.x, cuda.blockDim.x
        shared[thread] = value
        cuda.syncthreads()
        if thread < COLUMNS:
            part = shared[thread]
            for t in range(thread + COLUMNS, threads, COLUMNS):
                part = combine(part, shared[t])
            shared[threads + thread] = part
        cuda.syncthreads()
        found = shared[threads]
        for p in range(1, COLUMNS):
            found = combine(found, shared[threads + p])
        cuda.syncthreads()
        return found

    return found_by_all


@atom
def _add(x, y):
    return x + y


@atom
def _larger(x, y):
    return max(x, y)


total = _of_all(_add)
greatest = _of_all(_larger)
