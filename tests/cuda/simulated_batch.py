"""Batches layer by layer, W drawn, in float32: the device's record of nets is the CPU's, to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stabsim import Network, Quantity
from stabsim.arguments import make_task
from stabsim.cuda import dense
from stabsim.kernels import record as r
from stabsim.plan import Plan
from stabsim.quantities import QUANTITIES
from tests.cuda.records import assert_nets_are_those_of_the_cpu, with_slow

NORMALS = np.random.default_rng(0).normal(size=(7, 17))
ABOVE_ONE = Quantity("activation", "share_above_one", "fraction", function=lambda value: value > 1.0)
ALL = tuple(name for name, q in QUANTITIES.items() if q.columns and max(q.columns) < r.COLUMNS)

CASES: dict[str, tuple[Network, dict[str, Any]]] = {
    "all quantities": (Network((5, 70, 17), "tanh", "lecun_normal"), {"batch": 3, "quantities": ALL}),
    "biased, chosen inputs, own statistics": (
        Network((5, 7, 17), "relu", "he_uniform", bias_std=0.5),
        {
            "batch": 3,
            "inputs": NORMALS[:, :5],
            "output_gradient": NORMALS[:3],
            "histograms": {"activation": (-1.0, 1.0, 5), "preactivation_gradient": (-2.0, 2.0, 5)},
            "quantities": ("activation_mean", "activation_gradient_variance", ABOVE_ONE),
        },
    ),
    "large weights, biased, samples of many sizes": (
        Network((5, 7, 17), "tanh", "normal(std=1e12)", bias_std=1.0),
        {"batch": 7, "inputs": NORMALS[:, :5] * 10.0 ** np.arange(-30, 5, 5)[:, None]},
    ),
    "small weights, one sample": (Network((5, 7, 17), "tanh", "normal(std=1e-12)"), {"batch": 1}),
    "no gradient, cut off": (
        Network((5, 4, 3), "relu", "constant(value=-0.5)"),
        {"batch": 2, "inputs": np.abs(NORMALS[:, :5]), "output_gradient": np.zeros((2, 3))},
    ),
    "forward only": (
        Network((5, 7), "tanh", "identity"),
        {"batch": 2, "quantities": ("activation_mean_square", "activation_correlation")},
    ),
}


@pytest.mark.parametrize("name", with_slow(CASES, "biased, chosen inputs, own statistics", "no gradient, cut off"))
def test_nets_are_those_of_the_cpu(name: str) -> None:
    network, arguments = CASES[name]
    plan = Plan(make_task(network, seed=2**40 + 3, sampler="dense", **arguments))
    assert_nets_are_those_of_the_cpu(dense.Dense(plan), plan)
