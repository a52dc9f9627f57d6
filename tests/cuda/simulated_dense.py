"""W drawn, in float64: the device's record of nets is the CPU's, to rounding, and weights may be drawn again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stabsim import Network
from stabsim.arguments import make_task
from stabsim.cuda import dense, shim
from stabsim.kernels import record as r
from stabsim.plan import Plan
from tests.cuda.records import assert_nets_are_those_of_the_cpu, record_of_device

INPUTS = np.vstack([np.random.default_rng(0).normal(size=(2, 5)), np.zeros((1, 5))])

CASES: dict[str, tuple[Network, dict[str, Any]]] = {
    "small weights": (Network((5, 7, 3, 17), "relu", "normal(std=1e-250)"), {"batch": 3, "inputs": INPUTS}),
    "one sample": (Network((5, 17, 7), "relu", "truncated_normal(std=0.5)"), {}),
    "semi-orthogonal": (Network((5, 17, 7), "relu", "orthogonal"), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_nets_are_those_of_the_cpu(name: str) -> None:
    network, arguments = CASES[name]
    plan = Plan(make_task(network, seed=3, sampler="dense", precision="float64", **arguments))
    assert_nets_are_those_of_the_cpu(dense.Dense(plan), plan)


def test_weights_that_are_not_kept_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network((5, 7, 3), "relu", "he_normal")
    plan = Plan(make_task(network, batch=2, sampler="dense", precision="float64"))
    keeping = dense.Dense(plan)
    kept, _ = record_of_device(keeping, 1, 0, plan)
    monkeypatch.setattr(shim, "free_memory", lambda: dense.ENOUGH * dense.bytes_of_weights(plan, kept=False))
    drawing = dense.Dense(plan)
    assert drawing.bytes_a_net < keeping.bytes_a_net
    np.testing.assert_array_equal(record_of_device(drawing, 1, 0, plan)[0], kept)
    assert np.isfinite(kept[:, 1:, r.WEIGHT_GRADIENT + r.SQUARE]).all()
