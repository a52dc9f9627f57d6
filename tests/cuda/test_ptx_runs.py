"""What runs of every sampler launch becomes machine code of an A100 and an H100, without a GPU."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from stabsim import Network
from stabsim.arguments import make_task
from stabsim.cuda import ensemble
from stabsim.plan import Plan
from tests.cuda import ptx

INPUTS = np.random.default_rng(0).normal(size=(5, 64))

RUNS: dict[str, tuple[Network, dict[str, Any]]] = {
    "matrix_free": (Network((128, 70, 64), "tanh", "glorot_normal", bias_std=0.1), {"sampler": "matrix_free"}),
    "matrix_free, wide": (Network((9000, 64), "gelu", "orthogonal"), {"sampler": "matrix_free"}),
    "dense": (
        Network((64, 70), "tanh", "he_uniform", bias_std=0.1),
        {"sampler": "dense", "batch": 3, "inputs": INPUTS},
    ),
    "dense, one sample": (Network((64, 70), "relu", "orthogonal"), {"sampler": "dense"}),
}


@functools.cache
def launches(name: str, precision: str) -> list[ptx.Launch]:
    """Return the different launches of a run of a few nets."""
    network, arguments = RUNS[name]
    plan = Plan(make_task(network, precision=precision, device="cuda", **arguments))
    return ptx.each_once(ptx.launches(lambda: list(ensemble.run(plan, [(0, 2)]))))


@pytest.mark.parametrize("capability", ptx.CAPABILITIES)
@pytest.mark.parametrize("name", RUNS)
def test_every_kernel_becomes_machine_code(name: str, capability: tuple[int, int]) -> None:
    ptx.require_nvvm()
    seen = launches(name, "float32")
    assert seen
    for launch in seen:
        text = ptx.compile_to_ptx(launch.kernel, launch.arguments, capability)
        assert ptx.assemble(text, capability)
