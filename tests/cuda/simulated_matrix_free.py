"""One sample a net, W never formed: the device's record of nets is the CPU's, to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stabsim import Network
from stabsim.arguments import make_task
from stabsim.cuda import matrix_free
from stabsim.plan import Plan
from tests.cuda.records import assert_nets_are_those_of_the_cpu, assert_same, record_of_cpu, record_of_device, with_slow

GIVEN = np.random.default_rng(0).normal(size=(5, 40))

# In the simulator, what takes an activation is compiled anew for each, and each precision: other pairs than tanh in
# float32 and relu in float64 are slow.
CASES: dict[str, tuple[Network, dict[str, Any]]] = {
    "biased": (Network((70, 17, 5, 33), "tanh", "glorot_normal", bias_std=0.1), {}),
    "dead": (Network((5, 3, 2, 9), "relu", "he_normal"), {"precision": "float64"}),
    "orthogonal": (Network((70, 17, 65, 33), "tanh", "orthogonal"), {}),
    "small weights, far from one": (Network((64, 128, 64), "tanh", "normal(std=1e-12)"), {}),
    "large weights, level": (Network((9, 30, 7), "tanh", "normal(std=1e12)"), {"precision": "float64"}),
    "large weights, biased": (Network((9, 30, 7), "tanh", "normal(std=1e12)", bias_std=1.0), {}),
    "two blocks of units": (Network((1100, 1500), "tanh", "he_normal"), {}),
    "whole groups": (Network((64, 128, 64), "tanh", "he_normal"), {}),
    "forward only": (Network((17, 9), "tanh", "lecun_normal"), {"quantities": ("activation_mean_square",)}),
    "given": (
        Network((40, 17, 9), "tanh", "he_normal"),
        {
            "inputs": 1e30 * GIVEN,
            "output_gradient": GIVEN[:1, :9],
            "histograms": {"activation": (-3, 3, 11), "preactivation_gradient": (-1, 1, 11)},
        },
    ),
}


@pytest.mark.parametrize("name", with_slow(CASES, "large weights, level"))
def test_a_block_a_net(name: str) -> None:
    network, arguments = CASES[name]
    plan = Plan(make_task(network, seed=2**40 + 3, sampler="matrix_free", **arguments))
    assert_nets_are_those_of_the_cpu(matrix_free.OneSample(plan), plan)


@pytest.mark.parametrize(
    ("weights", "precision"),
    [
        ("orthogonal", "float32"),
        pytest.param("he_normal", "float64", marks=pytest.mark.slow),
        ("normal(std=1e12)", "float32"),
    ],
)
def test_many_blocks_a_net(weights: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, of nets that are cut into parts: also of layers with fewer blocks of units than there are parts."""
    monkeypatch.setattr(matrix_free, "WIDEST", 1024)
    monkeypatch.setattr(matrix_free, "threads_for", lambda _groups: 32)  # the simulator's take time
    plan = Plan(make_task(Network((20, 2100, 33), "tanh", weights), sampler="matrix_free", precision=precision))
    record, _ = record_of_device(matrix_free.OneSample(plan), 1, 0, plan)
    assert_same(record, record_of_cpu(plan, 1)[0], precision)
