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
NORMS = ("activation_mean_square", "preactivation_gradient_mean_square", "activation_gradient_mean_square")


def records(network: Network, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the record of the device and that of the processor."""
    plan = Plan(make_task(network, sampler="matrix_free", precision="float64", seed=5, **options))
    expected = np.full((NETS, *plan.blank.shape), np.nan)
    (buffers,) = plan.allocate(plan.layout)
    plan.simulate(3, buffers, expected)
    found = shim.empty(expected.shape, np.float64)
    matrix_free_batch(plan).run(3, found, shim.to_device(plan.ask))
    return found, expected


@pytest.mark.parametrize(
    ("law", "gain", "bias", "batch", "widths"),
    [
        ("normal", 1.0, 0.1, 3, (17, 5, 9)),
        ("normal", 1.4, 0.0, 13, (9, 17, 4)),  # more samples than units
        ("orthogonal", 1.0, 0.2, 4, (5, 7, 6)),
        ("orthogonal", 2.0**-30, 0.1, 2, (17, 5, 9)),
    ],
)
def test_records_are_those_of_the_processor(
    law: str, gain: float, bias: float, batch: int, widths: tuple[int, ...]
) -> None:
    found, expected = records(Network(widths, "relu", Initializer(law, gain), bias), batch=batch)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("law", ["normal", "orthogonal"])
def test_frames_may_take_the_places_of_what_nobody_asks_for(law: str) -> None:
    network = Network((7, 17, 6), "relu", Initializer(law, 1.0), 0.0)
    found, expected = records(network, batch=3, quantities=NORMS)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
