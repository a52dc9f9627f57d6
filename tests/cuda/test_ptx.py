"""Every kernel compiles for the cards it is meant for: what a run would launch, compiled to PTX without a GPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from stabsim.cuda import shim, sums
from stabsim.cuda.shim import cuda
from stabsim.kernels import record as r
from stabsim.quantities import PLAIN
from tests.cuda import ptx


class Arrays(NamedTuple):
    """One array."""

    out: Any


@shim.device
def _place():  # type: ignore[no-untyped-def]
    return cuda.blockIdx.x


@shim.kernel
def count_up(arrays, step):  # type: ignore[no-untyped-def]
    """Write a number for each block."""
    arrays.out[_place()] = step * cuda.threadIdx.x


@pytest.mark.parametrize("capability", ptx.CAPABILITIES)
def test_launches_are_seen_and_compiled(capability: tuple[int, int]) -> None:
    ptx.require_nvvm()

    def run() -> None:
        arrays = Arrays(shim.zeros(3, np.float64))
        for step in (1, 2):
            count_up(3, 32, arrays, step, shared=64)
        shim.synchronize()
        assert not shim.to_host(arrays.out).any() and shim.free_memory() > 0

    seen = ptx.launches(run)
    found = [(launch.name, launch.blocks, launch.threads, launch.shared) for launch in seen]
    assert found == [("count_up", 3, 32, 64)] * 2
    (launch,) = ptx.each_once(seen)
    text = ptx.compile_to_ptx(launch.kernel, launch.arguments, capability)
    assert f".target sm_{capability[0]}{capability[1]}" in text and ".entry" in text


@pytest.mark.parametrize("capability", ptx.CAPABILITIES)
def test_sums_of_a_record_compile(capability: tuple[int, int]) -> None:
    """What a thread adds up stays in its registers."""
    ptx.require_nvvm()
    quantities = tuple(q for q in PLAIN.values() if q.columns)
    sizes = {tensor: np.ones(3) for tensor in r.TENSORS}

    def run() -> None:
        record = shim.zeros((2, 3, r.COLUMNS), np.float64)
        sums.summarize(record, quantities, sizes=sizes, pivots=np.zeros(3), samples=quantities[:1])

    seen = ptx.each_once(ptx.launches(run))
    assert {launch.name for launch in seen} == {"sum_nets", "count_tails", "write_norms"}
    for launch in seen:
        text = ptx.compile_to_ptx(launch.kernel, launch.arguments, capability)
        assert "ld.local" not in text and "st.local" not in text, launch.name
