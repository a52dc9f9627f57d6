"""Every kernel compiles for the cards it is meant for: what a run would launch, compiled to PTX without a GPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from stabsim.cuda import shim
from stabsim.cuda.shim import cuda
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
