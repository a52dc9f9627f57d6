"""Records of a plan's nets, and when two devices agree on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stabsim.cuda import shim
from stabsim.plan import Plan

# Relative to a column's largest number in the net: sums of cancelling terms are as far off as their terms.
TOLERANCE = {"float32": 3e-6, "float64": 1e-13}


def record_of_cpu(plan: Plan, nets: int, first: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the record of some nets, and the counts of their histograms."""
    record, counts = np.empty((nets, *plan.blank.shape)), plan.no_counts()
    plan.simulate(first, plan.allocate(plan.layout)[0], record, counts=counts)
    return record, counts


def assert_same(record: NDArray[Any], expected: NDArray[Any], precision: str) -> None:
    """Assert that columns are equal to rounding, and NaN, infinite or zero in the same places."""
    np.testing.assert_array_equal(np.isnan(record), np.isnan(expected))
    size = np.nanmax(np.abs(np.where(np.isfinite(expected), expected, 0.0)), axis=1, keepdims=True)
    same = (record == expected) | np.isnan(expected) | (np.abs(record - expected) <= TOLERANCE[precision] * (1 + size))
    wrong = [(*place, record[tuple(place)], expected[tuple(place)]) for place in np.argwhere(~same)]
    assert not wrong, f"{len(wrong)} numbers differ: (net, layer, column, device, CPU) = {wrong[:5]}"


def record_of_device(runner: Any, nets: int, first: int, plan: Plan) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the same from what runs a plan's nets on the device."""
    ask = shim.to_device(plan.ask._replace(counts=plan.no_counts()))
    record = shim.empty((nets, *plan.blank.shape), np.float64)
    runner.run(first, record, ask)
    return shim.to_host(record), shim.to_host(ask.counts)


def assert_nets_are_those_of_the_cpu(runner: Any, plan: Plan) -> None:
    """Assert that records and histograms are the same, and others than those of other nets."""
    record, counts = record_of_device(runner, 2, 7, plan)
    expected, expected_counts = record_of_cpu(plan, 2, first=7)
    assert_same(record, expected, plan.task.precision)
    np.testing.assert_array_equal(counts, expected_counts)
    with pytest.raises(AssertionError):
        assert_same(record, record_of_cpu(plan, 2, first=6)[0], plan.task.precision)
