"""The sums of a record on a device: those of the processor, which are held against their definitions elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stabsim import moments
from stabsim.cuda import shim, sums
from stabsim.kernels import record as r
from stabsim.moments import Moments, Sums
from stabsim.quantities import QUANTITIES, Quantity
from tests.test_moments import RECORDED, RECORDS, SIZES, Numbers

PIVOTS = np.array([0.0, 0.5, -1.0])
SOME = tuple(q for q in RECORDED if q.tensor in ("activation", "weight_gradient"))
SAMPLES = tuple(QUANTITIES[f"activation_{statistic}"] for statistic in ("variance", "kurtosis", "log10_norm"))
BLANK = np.zeros((3, r.COLUMNS))
BLANK[0] = BLANK[:, r.DERIVATIVE : r.DERIVATIVE + 6] = math.nan


def both(record: Numbers, quantities: tuple[Quantity, ...] = SOME) -> tuple[Sums, Sums]:
    """Return the sums on the device and on the processor."""
    given = {"sizes": SIZES, "pivots": PIVOTS, "blank": BLANK, "samples": SAMPLES, "histograms": {"activation": 1}}
    device = sums.summarize(shim.to_device(record), quantities, **given)  # type: ignore[arg-type]
    return device, moments.summarize(record, quantities, **given)  # type: ignore[arg-type]


def assert_same_moments(one: Moments, other: Moments) -> None:
    """Compare: integers exactly, and numbers to the rounding of sums, which is relative to the largest of them."""
    assert np.array_equal(one.count, other.count) and np.array_equal(one.exponent, other.exponent)
    spread = np.diagonal(other.comoment, axis1=-2, axis2=-1) / np.maximum(other.count, 1)[:, None]
    size = np.sqrt(spread + other.mean**2)
    assert np.all(abs(one.mean - other.mean) <= 1e-12 * size)
    products = np.maximum(other.count, 1)[:, None, None] * size[:, :, None] * size[:, None, :]
    assert np.all(abs(one.comoment - other.comoment) <= 1e-12 * products)


def assert_same(one: Sums, other: Sums) -> None:
    assert one.nets == other.nets and one.histograms == other.histograms
    assert list(one.groups) == list(other.groups)
    for name in one.groups:
        assert_same_moments(one.groups[name], other.groups[name])
    for kind in ("tails", "lost", "samples"):
        mine, theirs = getattr(one, kind), getattr(other, kind)
        assert list(mine) == list(theirs)
        for name in mine:
            assert mine[name].dtype == theirs[name].dtype, (kind, name)
            assert np.array_equal(mine[name], theirs[name], equal_nan=True), (kind, name)


@pytest.mark.parametrize("kind", [kind for kind in RECORDS if kind != "1000 nets"])
def test_sums_are_those_of_the_processor(kind: str) -> None:
    assert_same(*both(RECORDS[kind]))
