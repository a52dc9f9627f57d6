"""Sums over the threads of a block."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from numba import float64

from stabsim.cuda import block, shim
from stabsim.cuda.shim import cuda

FIRST, LAST = 2, 19  # columns: more than are summed at a time


class Arrays(NamedTuple):
    """What is summed (threads, LAST), and the sums (LAST,)."""

    values: Any
    out: Any


@shim.kernel
def summed(arrays):  # type: ignore[no-untyped-def]
    own = cuda.local.array(LAST, float64)
    for column in range(LAST):
        own[column] = arrays.values[cuda.threadIdx.x, column]
    block.add_up(own, FIRST, LAST, arrays.out)


@pytest.mark.parametrize("threads", [32, 96])
def test_sums_over_threads_are_added_and_nan_stays(threads: int) -> None:
    values = np.random.default_rng(threads).integers(-50, 50, (threads, LAST)).astype(float)
    before = np.arange(LAST, dtype=float)
    before[7] = np.nan
    arrays = shim.to_device(Arrays(values, before))
    summed(1, threads, arrays, shared=block.shared_bytes(threads))
    expected = before + np.where(np.arange(LAST) >= FIRST, values.sum(axis=0), 0.0)
    assert np.array_equal(shim.to_host(arrays.out), expected, equal_nan=True)
