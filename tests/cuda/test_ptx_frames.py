"""What makes frames and looks at zeros of dW compiles, for small and large batches, in both precisions."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from stabsim.cuda import frames, orthogonal, outer
from stabsim.kernels import record as r
from tests.cuda import ptx


def run(dtype: type) -> None:
    rows = np.zeros((2, 4, 17), dtype)
    frames.orthonormalize(rows, 1, np.zeros((2, 4, 4), dtype))
    for fan_in, fan_out in ((70, 35), (35, 70)):
        orthogonal.make_semi_orthogonal(np.zeros((2, fan_in, fan_out), dtype), 1.0)
    outer.record_zeros(rows, rows, np.zeros((2, 3, r.COLUMNS)), 1, True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("capability", ptx.CAPABILITIES)
def test_frames_and_zeros_compile(capability: tuple[int, int], dtype: type) -> None:
    ptx.require_nvvm()
    seen = ptx.each_once(ptx.launches(lambda: run(dtype)))
    names = {launch.name for launch in seen}
    assert names == {
        "_orthonormalize", "_subtract_products", "_transpose", "_scale", "_support", "_record_zeros",
        "_record_one_signed_columns",
    }  # fmt: skip
    for launch in seen:
        text = ptx.compile_to_ptx(launch.kernel, launch.arguments, capability)
        assert ".entry" in text
        assert ".local" not in text, launch.name
