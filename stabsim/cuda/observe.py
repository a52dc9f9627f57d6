"""What sees the values of a tensor pass by on a device: histograms, and a user's own statistics of values."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from stabsim.cuda import shim
from stabsim.cuda.shim import as_matrix, cuda
from stabsim.kernels.compile import atom


@shim.device
def add_to_histogram(counts, values, exponent, bins):
    """Do what `blocks.add_to_histogram` does, for threads that count at the same time."""
    if counts.size == 0 or bins[1] == 0.0:
        return
    last = counts.size - 2
    factor = math.ldexp(1.0, int(exponent)) * bins[1]
    shift = bins[0] * bins[1]
    for i in range(values.size):
        position = (values[i] * factor if values[i] != 0 else 0.0) - shift
        place = 0
        if position > last:
            place = last + 1
        elif position >= 0.0:
            place = min(1 + int(position), last)
        cuda.atomic.add(counts, place, 1)


@functools.cache
def observer(own: Any, observing: bool) -> Any:
    """Return the function that shows a few values of a tensor to what wants to see them.

    ``own`` is the user's statistics, as `plan.functions` has them, which add to columns of the row what they say of
    values times ``share``. Where nothing is ``observing``, it does nothing, and takes no time to compile.
    """
    statistics = shim.compiled(own)
    if not observing:

        @atom
        def ignore(ask, row, tensor, l, values, exponent, size):
            """Do nothing."""

        return ignore

    @shim.device
    def observe(ask, row, tensor, l, values, exponent, size):
        add_to_histogram(ask.counts[tensor, l], values, exponent, ask.bins[tensor])
        statistics(tensor, as_matrix(values, np.int64(1), np.int64(values.size)), exponent, 1.0 / size, row)

    return observe
