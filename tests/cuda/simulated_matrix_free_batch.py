"""Batches whose W is never formed, on the device against those of the processor."""

from __future__ import annotations

from typing import Any

import pytest

from stabsim import Initializer, Network
from stabsim.arguments import make_task
from stabsim.cuda.matrix_free_batch import MatrixFreeBatch, in_place
from stabsim.plan import Plan
from tests.cuda.records import assert_nets_are_those_of_the_cpu

NORMS = ("activation_mean_square", "preactivation_gradient_mean_square", "activation_gradient_mean_square")


def plan_of(network: Network, batch: int, **options: Any) -> Plan:
    return Plan(make_task(network, sampler="matrix_free", precision="float64", seed=5, batch=batch, **options))


@pytest.mark.parametrize(
    ("law", "gain", "bias", "batch", "widths"),
    [
        ("normal", 1.0, 0.1, 3, (17, 5, 9)),
        ("normal", 1.4, 0.0, 13, (9, 17, 4)),  # more samples than units
        ("orthogonal", 1.0, 0.2, 4, (5, 7, 6)),
        ("orthogonal", 2.0**-30, 0.0, 2, (17, 5, 9)),
    ],
)
def test_records_are_those_of_the_processor(
    law: str, gain: float, bias: float, batch: int, widths: tuple[int, ...]
) -> None:
    plan = plan_of(Network(widths, "relu", Initializer(law, gain), bias), batch)
    assert_nets_are_those_of_the_cpu(MatrixFreeBatch(plan), plan)


@pytest.mark.parametrize("law", ["normal", "orthogonal"])
def test_frames_may_take_the_places_of_what_nobody_asks_for(law: str) -> None:
    network = Network((7, 17, 6), "relu", Initializer(law, 1.0), 0.0)
    plan = plan_of(network, 3, quantities=NORMS)
    assert in_place(plan.task) == (law == "normal")
    assert_nets_are_those_of_the_cpu(MatrixFreeBatch(plan), plan)
