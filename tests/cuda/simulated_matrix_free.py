"""One sample a net, W never formed: the device's record of nets is the CPU's, to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stabsim import Network
from stabsim.arguments import make_task
from stabsim.cuda import matrix_free, shim
from stabsim.plan import Plan
from tests.cuda.records import assert_same, record_of_cpu

GIVEN = np.random.default_rng(0).normal(size=(5, 40))

CASES: dict[str, tuple[Network, dict[str, Any]]] = {
    "biased": (Network((70, 17, 5, 33), "tanh", "glorot_normal", bias_std=0.1), {}),
    "dead": (Network((5, 3, 2, 9), "relu", "he_normal"), {"precision": "float64"}),
    "orthogonal": (Network((70, 17, 65, 33), "relu", "orthogonal"), {}),
    "small weights, far from one": (Network((64, 128, 64), "tanh", "normal(std=1e-12)"), {}),
    "large weights, level": (Network((9, 30, 7), "tanh", "normal(std=1e12)"), {"precision": "float64"}),
    "large weights, biased": (Network((9, 30, 7), "gelu", "normal(std=1e12)", bias_std=1.0), {}),
    "two blocks of units": (Network((1100, 1500), "relu", "he_normal"), {}),
    "whole groups": (Network((64, 128, 64), "selu", "lecun_normal"), {}),
    "forward only": (Network((17, 9), "sigmoid", "lecun_normal"), {"quantities": ("activation_mean_square",)}),
    "given": (
        Network((40, 17, 9), "gelu", "he_normal"),
        {
            "inputs": 1e30 * GIVEN,
            "output_gradient": GIVEN[:1, :9],
            "histograms": {"activation": (-3, 3, 11), "preactivation_gradient": (-1, 1, 11)},
        },
    ),
}


def record_of_device(plan: Plan, nets: int, first: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the record of some nets, and the counts of their histograms."""
    ask = shim.to_device(plan.ask._replace(counts=plan.no_counts()))
    record = shim.empty((nets, *plan.blank.shape), np.float64)
    matrix_free.OneSample(plan).run(first, record, ask)
    return shim.to_host(record), shim.to_host(ask.counts)


@pytest.mark.parametrize("name", CASES)
def test_a_block_a_net(name: str) -> None:
    network, arguments = CASES[name]
    plan = Plan(make_task(network, seed=2**40 + 3, sampler="matrix_free", **arguments))
    record, counts = record_of_device(plan, 2, first=7)
    expected, expected_counts = record_of_cpu(plan, 2, first=7)
    assert_same(record, expected, plan.task.precision)
    np.testing.assert_array_equal(counts, expected_counts)
    with pytest.raises(AssertionError):
        assert_same(record, record_of_cpu(plan, 2, first=6)[0], plan.task.precision)


@pytest.mark.parametrize("law", ["he_normal", "orthogonal"])
def test_many_blocks_a_net(law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, of nets that are cut into parts: also of layers with fewer blocks of units than there are parts."""
    monkeypatch.setattr(matrix_free, "WIDEST", 1024)
    plan = Plan(make_task(Network((20, 2100, 33), "tanh", law), sampler="matrix_free"))
    record, _ = record_of_device(plan, 1)
    assert_same(record, record_of_cpu(plan, 1)[0], plan.task.precision)


def test_a_user_statistic_of_values() -> None:
    from stabsim import Quantity

    cubes = Quantity.own("activation", "cube", lambda value: value**3) if hasattr(Quantity, "own") else None
    if cubes is None:
        pytest.skip("to be written")
