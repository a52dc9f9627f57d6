"""What makes frames, looks at zeros of dW and runs batches without W compiles, in both precisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from stabsim import Initializer, Network
from stabsim.arguments import make_task
from stabsim.cuda import frames, orthogonal, outer, shim
from stabsim.cuda.matrix_free_batch import MatrixFreeBatch
from stabsim.kernels import record as r
from stabsim.plan import Plan
from tests.cuda import ptx

DTYPES = (np.float32, np.float64)
OWN = {"_orthonormalize", "_support", "_record_zeros", "_record_one_signed_columns"}


def run_parts(dtype: Any) -> None:
    rows = np.zeros((2, 4, 17), dtype)
    frames.orthonormalize(rows, 1, np.zeros((2, 4, 4), dtype))
    for fan_in, fan_out in ((70, 35), (35, 70)):
        orthogonal.make_semi_orthogonal(np.zeros((2, fan_in, fan_out), dtype), 1.0)
    outer.record_zeros(rows, rows, np.zeros((2, 3, r.COLUMNS)), 1, True)


def run_nets(law: str, dtype: Any) -> None:
    network = Network((5, 7, 6), "relu", Initializer(law), 0.0)
    plan = Plan(make_task(network, sampler="matrix_free", batch=3, precision=np.dtype(dtype).name))
    record = shim.empty((2, *plan.blank.shape), np.float64)
    MatrixFreeBatch(plan).run(0, record, shim.to_device(plan.ask))


def compile_all(seen: list[ptx.Launch], capability: tuple[int, int]) -> None:
    """Compile each; numbers of a thread are to stay in registers."""
    for launch in seen:
        text = ptx.compile_to_ptx(launch.kernel, launch.arguments, capability)
        assert ptx.assemble(text, capability) and ".local" not in text, launch.name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("capability", ptx.CAPABILITIES)
def test_frames_and_zeros_compile(capability: tuple[int, int], dtype: Any) -> None:
    ptx.require_nvvm()
    seen = ptx.each_once(ptx.launches(lambda: run_parts(dtype)))
    assert {launch.name for launch in seen} == OWN
    compile_all(seen, capability)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("law", ["normal", "orthogonal"])
def test_what_batches_without_weights_launch_compiles(law: str, dtype: Any) -> None:
    """But for the kernels of layers, which dense batches have too."""
    ptx.require_nvvm()
    seen = ptx.each_once(ptx.launches(lambda: run_nets(law, dtype)))
    own = [launch for launch in seen if "<locals>" not in launch.name or "fill" in launch.name]
    assert {launch.name for launch in own} > OWN | {"record_norm"}
    compile_all([launch for launch in own if launch.name != "record_gains"], ptx.CAPABILITIES[-1])
