"""What runs of every sampler launch becomes machine code of an A100 and an H100, without a GPU."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from stabsim import Activation, Network, Quantity
from stabsim.arguments import make_task
from stabsim.cuda import draws, ensemble, shim
from stabsim.kernels import philox
from stabsim.plan import Plan
from tests.cuda import ptx

INPUTS = np.random.default_rng(0).normal(size=(5, 64))
MOST_SPILLED = 64  # bytes of a thread
FOUND: dict[tuple[Any, ...], int] = {}  # what is spilled, of each kernel, signature and capability

RUNS: dict[str, tuple[Network, dict[str, Any]]] = {
    "matrix_free": (Network((128, 70, 64), "tanh", "glorot_normal", bias_std=0.1), {"sampler": "matrix_free"}),
    "matrix_free, wide": (Network((9000, 64), "gelu", "orthogonal"), {"sampler": "matrix_free"}),
    "matrix_free, batch": (Network((64, 70), "tanh", "lecun_normal"), {"sampler": "matrix_free", "batch": 3}),
    "dense": (
        Network((64, 70), "tanh", "he_uniform", bias_std=0.1),
        {"sampler": "dense", "batch": 3, "inputs": INPUTS},
    ),
    "dense, one sample": (Network((64, 70), "relu", "orthogonal"), {"sampler": "dense"}),
}
OWN = Activation("ratio", f=lambda x: x * x / (1 + x * x), derivative=lambda x: 2 * x / (1 + x * x) ** 2)
OBSERVED: dict[str, Any] = {
    "histograms": {"activation": (-1.0, 1.0, 4)},
    "quantities": (
        "preactivation_gradient_mean_square",
        Quantity("activation", "mean_cube", "value", function=lambda z: z**3),
    ),
}


@functools.cache
def launches(name: str, precision: str, observed: bool) -> list[ptx.Launch]:
    """Return the different launches of a run of a few nets; observed, of an activation and statistics of a user."""
    network, arguments = RUNS[name]
    if observed:
        network = Network(network.widths, OWN, network.weights, bias_std=network.bias_std)
        arguments = arguments | OBSERVED
    plan = Plan(make_task(network, precision=precision, device="cuda", **arguments))
    return ptx.each_once(ptx.launches(lambda: list(ensemble.run(plan, [(0, 2)]))))


def assert_machine_code(seen: list[ptx.Launch], capability: tuple[int, int]) -> None:
    """Runs share kernels, which are looked at once."""
    assert seen
    for launch in seen:
        what = launch.kernel, launch.signature, capability
        if what not in FOUND:
            text = ptx.compile_to_ptx(launch.kernel, launch.arguments, capability)
            FOUND[what] = ptx.spilled_bytes(text, capability, launch.kernel.registers)
        assert FOUND[what] <= MOST_SPILLED, launch.name


@pytest.mark.parametrize("capability", ptx.CAPABILITIES)
@pytest.mark.parametrize("name", RUNS)
def test_every_kernel_becomes_machine_code(name: str, capability: tuple[int, int]) -> None:
    ptx.require_nvvm()
    assert_machine_code(launches(name, "float32", False), capability)


@pytest.mark.slow
@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("name", RUNS)
def test_in_float64_and_with_what_a_user_brings(name: str, observed: bool) -> None:
    ptx.require_nvvm()
    assert_machine_code(launches(name, "float64", observed), ptx.CAPABILITIES[-1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("law", draws.LAWS)
def test_every_law_becomes_machine_code(law: str, dtype: type) -> None:
    ptx.require_nvvm()

    def run() -> None:
        draws.fill(law, shim.zeros((2, 5, 7), dtype), 0, 1, philox.WEIGHT, 1, 1.0)

    assert_machine_code(ptx.launches(run), ptx.CAPABILITIES[0])
