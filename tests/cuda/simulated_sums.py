"""The sums of a record on a device: those of the processor, which are held against their definitions elsewhere."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from stabsim import moments
from stabsim.cuda import over_nets, shim, sums
from stabsim.cuda.block import MOST_THREADS
from stabsim.kernels import record as r
from stabsim.moments import Moments, Sums
from stabsim.quantities import QUANTITIES, Quantity
from tests.test_moments import RECORDS, SIZES, Numbers

PIVOTS = np.array([0.0, 0.5, -1.0])
SOME = tuple(  # two tensors, with one and four numbers of a net
    QUANTITIES[name]
    for name in (
        "activation_kurtosis",
        "activation_log10_norm",
        "activation_zero_fraction",
        "weight_gradient_mean_square",
    )
)
SAMPLES = tuple(QUANTITIES[f"activation_{statistic}"] for statistic in ("variance", "kurtosis", "log10_norm"))
BLANK = np.zeros((3, r.COLUMNS))
BLANK[0] = BLANK[:, r.DERIVATIVE : r.DERIVATIVE + 6] = math.nan
HISTOGRAM = np.arange(6).reshape(3, 2)


def both(record: Numbers, quantities: tuple[Quantity, ...] = SOME) -> tuple[Sums, Sums]:
    """Return the sums on the device and on the processor."""
    given = {
        "sizes": SIZES,
        "pivots": PIVOTS,
        "blank": BLANK,
        "samples": SAMPLES,
        "histograms": {"activation": HISTOGRAM},
    }
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
    assert one.nets == other.nets and list(one.groups) == list(other.groups)
    for name in one.groups:
        assert_same_moments(one.groups[name], other.groups[name])
    for kind in ("tails", "lost", "samples", "histograms"):
        mine, theirs = getattr(one, kind), getattr(other, kind)
        assert list(mine) == list(theirs)
        for name in mine:
            assert mine[name].dtype == theirs[name].dtype, (kind, name)
            assert np.array_equal(mine[name], theirs[name], equal_nan=True), (kind, name)


@pytest.mark.parametrize("kind", [kind for kind in RECORDS if kind != "1000 nets"])
def test_sums_are_those_of_the_processor(kind: str) -> None:
    assert_same(*both(RECORDS[kind][:17]))


def test_a_thread_sums_more_than_one_net() -> None:
    record = np.tile(RECORDS["near"][:, :1], (4, 1, 1))
    record[..., r.ACTIVATION : r.ACTIVATION + 5] *= 1.0 + np.random.default_rng(1).random((len(record), 1, 1))
    quantities = (QUANTITIES["activation_kurtosis"],)
    device = sums.summarize(shim.to_device(record), quantities, sizes={}, pivots=PIVOTS[:1])
    assert_same(device, moments.summarize(record, quantities, sizes={}, pivots=PIVOTS[:1]))
    assert device.tails["activation"][:, 2].sum() == len(record) > MOST_THREADS


def test_a_twentieth_more_is_seen() -> None:
    """The twin of the tests above: of one number of one net, and of the means."""
    record = RECORDS["near"][:5].copy()
    _, expected = both(record, SOME[:1])
    highest = np.argmax(record[:, 1, r.ACTIVATION + r.EXPONENT])
    record[highest, 1, r.ACTIVATION] *= 1.05
    with pytest.raises(AssertionError):
        assert_same_moments(both(record, SOME[:1])[0].groups["activation"], expected.groups["activation"])
    group = expected.groups["activation"]
    with pytest.raises(AssertionError):
        assert_same_moments(dataclasses.replace(group, mean=group.mean * 1.05), group)


def test_the_order_in_which_threads_arrive_changes_no_bit() -> None:
    record = RECORDS["holes"][:17]
    once, again = (both(record, SOME[:1])[0].to_arrays() for _ in range(2))
    assert all(np.array_equal(once[name], again[name], equal_nan=True) for name in once)


@pytest.mark.parametrize("power", [1.0, 4.0])
def test_units_are_changed_in_one_rounding(power: float) -> None:
    x = np.float64(1.9) * 2.0**-20
    for unit in range(-1200, 1, 7):
        assert over_nets.in_unit(x, 30.0 + unit, 30.0, power) == math.ldexp(x, int(unit * power))
    assert over_nets.in_unit(0.0, 5000.0, 0.0, power) == 0.0


def test_a_fraction_that_is_none_is_refused_as_on_the_processor() -> None:
    wrong = Quantity("activation", "wrong", "fraction", function=lambda x: 2.0 * x, columns=(r.ACTIVATION_ZERO,))
    record = RECORDS["plain"][:3].copy()
    record[1, 2, r.ACTIVATION_ZERO] = 1.5
    for summarize in (sums.summarize, moments.summarize):
        with pytest.raises(
            ValueError, match=r"'activation_wrong' is a fraction, from 0 to 1, but its function gives 1.5"
        ):
            summarize(record, (wrong,), sizes=SIZES, pivots=PIVOTS)
