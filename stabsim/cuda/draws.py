"""Random numbers of the device: those of the processor, at the same places.

A thread makes the numbers of one Philox group at a time, 4 float32 or 2 float64, which stand ``LANES`` apart: threads
side by side write side by side.
"""

from __future__ import annotations

import functools
from collections import namedtuple
from typing import Any

import numpy as np
from numba import float32, float64

from stabsim.cuda import shim
from stabsim.cuda.block import MOST_THREADS, threads_for
from stabsim.cuda.shim import cuda
from stabsim.kernels import laws, philox
from stabsim.kernels.compile import atom, kernel

LANES = philox.LANES
MOST_PARTS = 2**16 - 1  # of a net: the most blocks in the grid's second direction
GROUPS = 4  # that a thread makes, of matrices with enough of them

Stack = namedtuple("Stack", "numbers")  # (nets, numbers of each)


def words_of(dtype: np.dtype[Any]) -> int:
    """Return how many numbers a group has."""
    return 16 // np.dtype(dtype).itemsize


def real_of(dtype: np.dtype[Any]) -> Any:
    """Return the Numba type."""
    return float32 if dtype == np.float32 else float64


@atom
def place_of(group, words):
    """Return where the first number of a group stands; the others follow in steps of ``LANES``."""
    return group // LANES * (words * LANES) + group % LANES


@atom
def groups_of(size, words):
    """Return how many groups have a number among the first ``size``: groups 0, 1, ..."""
    tile = words * LANES
    return size // tile * LANES + min(size % tile, LANES)


@atom
def count_before(place, end, words):
    """Return how many numbers of the group at that place stand before ``end``."""
    return min(max((end - place + LANES - 1) // LANES, 0), words)


@atom
def _store_4(numbers, out, scale):
    w, x, y, z = numbers
    out[0] = w * scale
    out[1] = x * scale
    out[2] = y * scale
    out[3] = z * scale


@atom
def _store_2(numbers, out, scale):
    y, z = numbers
    out[0] = y * scale
    out[1] = z * scale


@functools.cache
def group_law(law: str, dtype: np.dtype[Any]) -> Any:
    """Return the function ``draw_group(out, group, seed, purpose, layer, net, scale)`` of a law of independent numbers.

    It writes the group's numbers, times the scale, to ``out``, an array of ``words_of(dtype)``. The seed is uint64,
    purpose, layer and net are uint32, the scale is of the dtype.
    """
    single = dtype == np.float32
    numbers = laws._INDEPENDENT[law][0 if single else 1]
    store = _store_4 if single else _store_2

    @kernel()
    def draw_group(out, group, seed, purpose, layer, net, scale):
        k0 = np.uint32(seed)
        k1 = np.uint32(seed >> np.uint64(32))
        a, b, c, d = philox.philox(np.uint32(group), layer, net, purpose, k0, k1)
        store(numbers(a, b, c, d), out, scale)

    return draw_group


@functools.cache
def _filler(law: str, dtype: np.dtype[Any]) -> shim.Kernel:
    words, real = words_of(dtype), real_of(dtype)
    draw_group = group_law(law, dtype)

    def fill_with_draws(stack, first, seed, purpose, layer, scale):
        index = cuda.blockIdx.x
        out = stack.numbers
        size = out.shape[1]
        own = cuda.local.array(words, real)
        step = cuda.blockDim.x * cuda.gridDim.y
        for group in range(cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x, groups_of(size, words), step):
            draw_group(own, group, seed, purpose, layer, np.uint32(first + index), scale)
            place = place_of(group, words)
            for w in range(words):
                here = place + w * LANES
                if here < size:
                    out[index, here] = own[w]

    return shim.kernel(fill_with_draws)


@shim.kernel
def _fill_with_constant(stack, scale, _width):
    index = cuda.blockIdx.x
    out = stack.numbers
    step = cuda.blockDim.x * cuda.gridDim.y
    for here in range(cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x, out.shape[1], step):
        out[index, here] = scale


@shim.kernel
def _fill_with_identity(stack, scale, width):
    index = cuda.blockIdx.x
    out = stack.numbers
    step = cuda.blockDim.x * cuda.gridDim.y
    for here in range(cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x, out.shape[1], step):
        out[index, here] = scale if here // width == here % width else type(scale)(0)


_FIXED = {"constant": _fill_with_constant, "identity": _fill_with_identity}
LAWS = (*laws._INDEPENDENT, *_FIXED)


def fill(law: str, stack: shim.Array, first: int, seed: int, purpose: Any, layer: int, scale: Any) -> None:
    """Fill the matrices (nets, rows, columns) of nets ``first``, ``first + 1``, ... with draws of a law times a scale.

    Parameters
    ----------
    law : str
        One of ``LAWS``.
    stack : array of the device
        Each net's matrix is C-contiguous.
    first : int
        The number of the first net.
    seed : int
        Of the task.
    purpose : uint32
        The random numbers' last counter word.
    layer : int
        The layer.
    scale : number
        The standard deviation.
    """
    nets, rows, columns = stack.shape
    size, dtype = rows * columns, np.dtype(stack.dtype)
    groups = -(-size // words_of(dtype))
    blocks = nets, min(-(-groups // (GROUPS * MOST_THREADS)), MOST_PARTS)
    threads, numbers, scale = threads_for(groups), Stack(stack.reshape(nets, size)), dtype.type(scale)
    if law in _FIXED:
        _FIXED[law](blocks, threads, numbers, scale, np.int64(columns))
        return
    counter = np.uint32(purpose), np.uint32(layer)
    _filler(law, dtype)(blocks, threads, numbers, np.int64(first), np.uint64(seed), *counter, scale)
