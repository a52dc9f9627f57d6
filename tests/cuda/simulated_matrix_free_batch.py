"""Batches whose W is never formed, on the device against those of the processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stabsim import Initializer, Network
from stabsim.arguments import make_task
from stabsim.cuda import shim
from stabsim.cuda.matrix_free_batch import matrix_free_batch
from stabsim.plan import Plan

NETS = 2
NORMS = ("preactivation_norm", "activation_norm", "preactivation_gradient_norm", "activation_gradient_norm")


def records(network: Network, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the record of the device and that of the processor."""
    plan = Plan(make_task(network, sampler="matrix_free", seed=5, **options))
    expected = np.full((NETS, *plan.blank.shape), np.nan)
    (buffers,) = plan.allocate(plan.layout)
    plan.simulate(3, buffers, expected)
    found = shim.empty(expected.shape, np.float64)
    matrix_free_batch(plan).run(3, found, shim.to_device(plan.ask))
    return found, expected


@pytest.mark.parametrize(
    ("law", "activation", "gain", "bias", "precision", "batch", "widths"),
    [
        ("normal", "tanh", 1.0, 0.1, "float32", 3, (17, 5, 9)),
        ("normal", "relu", 1.4, 0.0, "float64", 14, (9, 17, 4)),
        ("orthogonal", "tanh", 1.0, 0.0, "float64", 2, (17, 5, 9)),
        ("orthogonal", "relu", 1.0, 0.2, "float32", 4, (5, 7, 6)),
        ("orthogonal", "gelu", 2.0**30, 0.0, "float64", 2, (5, 7, 6)),
    ],
)
def test_records_are_those_of_the_processor(
    law: str, activation: str, gain: float, bias: float, precision: str, batch: int, widths: tuple[int, ...]
) -> None:
    network = Network(widths, activation, Initializer(law, gain), bias)
    found, expected = records(network, batch=batch, precision=precision)
    tolerance = 2e-4 if precision == "float32" else 1e-9
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("law", ["normal", "orthogonal"])
def test_frames_may_take_the_places_of_what_nobody_asks_for(law: str) -> None:
    network = Network((7, 17, 6), "tanh", Initializer(law, 1.0), 0.0)
    found, expected = records(network, batch=3, precision="float64", quantities=NORMS)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
