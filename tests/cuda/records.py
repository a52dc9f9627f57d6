"""Records of a plan's nets, and when two devices agree on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stabsim.cuda import shim
from stabsim.kernels import record as r
from stabsim.plan import Plan

# Relative to `sizes`: sums of cancelling terms are as far off as their terms.
TOLERANCE = {"float32": 3e-6, "float64": 1e-13}


def with_slow(names: Iterable[str], *slow: str) -> list[Any]:
    """Return names as parameters of a test, some of which are slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in slow)) for name in names]


def record_of_cpu(plan: Plan, nets: int, first: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the record of some nets, and the counts of their histograms."""
    record, counts = np.empty((nets, *plan.blank.shape)), plan.no_counts()
    plan.simulate(first, plan.allocate(plan.layout)[0], record, counts=counts)
    return record, counts


def sizes(expected: NDArray[Any]) -> NDArray[np.float64]:
    """Return what a record's numbers are to be measured by: powers by those of the root mean square, others by 1."""
    found = np.ones_like(expected)
    for start in r.TENSORS.values():
        root = np.sqrt(expected[..., start + r.SQUARE])
        for power in range(1, 5):
            found[..., start + power - 1] = root**power
        found[..., start + r.SQUARE] = root**2
    return np.asarray(np.maximum(found, np.abs(expected)))


def assert_same(record: NDArray[Any], expected: NDArray[Any], precision: str) -> None:
    """Assert that columns are equal to rounding, and NaN, infinite or zero in the same places."""
    np.testing.assert_array_equal(np.isnan(record), np.isnan(expected))
    with np.errstate(invalid="ignore"):
        far = np.abs(record - expected) > TOLERANCE[precision] * sizes(expected)
    wrong = [(*place, record[tuple(place)], expected[tuple(place)]) for place in np.argwhere(far)]
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
