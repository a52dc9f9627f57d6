"""What makes frames and looks at zeros of dW compiles, in both precisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from stabsim.cuda import frames, orthogonal, outer
from stabsim.kernels import record as r
from tests.cuda import ptx

DTYPES = (np.float32, np.float64)
OWN = {"_orthonormalize", "_support", "_record_zeros", "_record_one_signed_columns"}


def run_parts(dtype: Any) -> None:
    rows = np.zeros((2, 4, 17), dtype)
    frames.orthonormalize(rows, 1, np.zeros((2, 4, 4), dtype))
    for fan_in, fan_out in ((70, 35), (35, 70)):
        orthogonal.make_semi_orthogonal(np.zeros((2, fan_in, fan_out), dtype), 1.0)
    outer.record_zeros(rows, rows, np.zeros((2, 3, r.COLUMNS)), 1, True)


def compile_all(seen: list[ptx.Launch], capability: tuple[int, int]) -> None:
    """Compile each; numbers of a thread are to stay in registers."""
    for launch in seen:
        text = ptx.compile_to_ptx(launch.kernel, launch.arguments, capability)
        assert ptx.spilled_bytes(text, capability) == 0 and ".local" not in text, launch.name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("capability", ptx.CAPABILITIES)
def test_frames_and_zeros_compile(capability: tuple[int, int], dtype: Any) -> None:
    ptx.require_nvvm()
    seen = ptx.each_once(ptx.launches(lambda: run_parts(dtype)))
    assert {launch.name for launch in seen} == OWN
    compile_all(seen, capability)
