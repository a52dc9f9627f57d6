"""Statistics that come from outside the kernels: functions of values, or of whole matrices, compiled when asked for.

Tensors pass by an observer, layer after layer: it counts their values in histograms, and hands them to the statistics,
which reach the kernel as one pointer, so that the kernel is compiled once whatever is asked.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import float32, float64, int64, types, void

from stabsim.kernels import blocks
from stabsim.kernels import record as r
from stabsim.kernels.compile import CONTRACT, atom, kernel, wide_vectors

# Tensors by their place in ``record.OBSERVED``.
ACTIVATION, PREACTIVATION, DERIVATIVE, ACTIVATION_GRADIENT, PREACTIVATION_GRADIENT, SINGULAR_VALUE = range(
    len(r.OBSERVED)
)


@functools.cache
def signature(dtype: np.dtype[Any]) -> Any:
    """Return the type ``void(tensor, matrix, exponent, share, row)``: of values ``matrix * 2**exponent``.

    A sample's matrix has one row, and a wide one comes in several parts. A function of values adds what it says of them
    to its column of the row, times ``share``: one over the number of values of the whole tensor. A function of the
    whole matrix, which comes in one part, writes there.
    """
    real = float32 if dtype == np.float32 else float64
    return void(int64, real[:, ::1], int64, float64, float64[::1])


@functools.cache
def pointer(dtype: np.dtype[Any]) -> Any:
    """Return the Numba type of a pointer to statistics."""
    return types.FunctionType(signature(dtype))


@atom
def observe(net, ask, row, tensor, l, matrix, exponent):
    """Show ``matrix * 2**exponent``, some values or all of a tensor at layer l, to what wants to see them."""
    observe_some(net, ask, row, tensor, l, matrix, exponent, net.batch * net.widths[l])


@atom
def observe_some(net, ask, row, tensor, l, matrix, exponent, size):
    """Do the same with a tensor of so many values."""
    if ask.observing:
        blocks.add_to_histogram(ask.counts[tensor, l], matrix, exponent, ask.bins[tensor])
        net.statistics(tensor, matrix, exponent, 1.0 / size, row)


def of_values(function: Any, tensor: int, column: int) -> Any:
    """Return what adds the mean of a function of one value; it is never cached, as code outside is not known."""

    @kernel(fastmath=CONTRACT)
    def add(seen, matrix, exponent, share, row):
        wide_vectors()
        if seen != tensor:
            return
        factor = blocks.times_power(1.0, exponent)
        total = 0.0
        for i in range(matrix.shape[0]):
            for j in range(matrix.shape[1]):
                value = matrix[i, j]
                total += float64(function(float64(value) * factor if value != 0 else 0.0))
        row[column] += share * total

    return add


def of_matrices(function: Any, tensor: int, column: int) -> Any:
    """Return what writes a function of a whole matrix (batch, width)."""

    @kernel()
    def write(seen, matrix, exponent, _share, row):
        if seen != tensor:
            return
        values = np.empty(matrix.shape)
        for i in range(matrix.shape[0]):
            for j in range(matrix.shape[1]):
                values[i, j] = blocks.times_power(float64(matrix[i, j]), exponent)
        row[column] = float64(function(values))

    return write


def compile_statistics(parts: Sequence[Any], dtype: np.dtype[Any]) -> Any:
    """Return the function that shows a tensor to every statistic; of none, it does nothing."""
    if not parts:
        return _nothing(dtype)
    parts = list(parts)
    while len(parts) > 1:  # two by two, lest many be nested as deep as they are many
        halves = zip(parts[::2], parts[1::2], strict=False)
        parts = [_one_after_the_other(*pair) for pair in halves] + parts[len(parts) // 2 * 2 :]
    (every,) = parts

    @kernel(signature(dtype))
    def show(tensor, matrix, exponent, share, row):
        every(tensor, matrix, exponent, share, row)

    return show


def _one_after_the_other(first: Any, second: Any) -> Any:
    @kernel()
    def show(tensor, matrix, exponent, share, row):
        first(tensor, matrix, exponent, share, row)
        second(tensor, matrix, exponent, share, row)

    return show


@functools.cache
def _nothing(dtype: np.dtype[Any]) -> Any:
    @kernel(signature(dtype), cache=f"no statistics {dtype.name}")
    def show_nothing(tensor, matrix, exponent, share, row):
        pass

    return show_nothing
