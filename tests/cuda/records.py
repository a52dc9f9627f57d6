"""Records of a plan's nets, and when two devices agree on them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
