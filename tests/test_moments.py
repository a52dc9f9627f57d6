"""Sums over nets: against their definitions, and merged."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from stabsim.kernels import record as r
from stabsim.kernels.sums import BINS_PER_OCTAVE, WINDOW
from stabsim.moments import Moments, Sums, summarize
from stabsim.quantities import PLAIN
from tests import strategies

Numbers = NDArray[Any]

LAYERS, POWERS = 3, 4
VALUES = st.just(0.0) | st.floats(-8, 8).filter(lambda x: abs(x) > 1e-3) | st.just(math.nan)


@st.composite
def net_values(draw: st.DrawFn) -> tuple[Numbers, Numbers]:
    """Draw powers (nets, LAYERS, POWERS) and exponents (nets, LAYERS)."""
    nets = draw(st.integers(0, 6))
    values = draw(arrays.arrays(np.float64, (nets, LAYERS, POWERS), elements=VALUES))
    return values, draw(arrays.arrays(np.int64, (nets, LAYERS), elements=st.integers(-2000, 2000)))


def assert_same(a: Moments, b: Moments) -> None:
    """Compare moments, whose numbers are at most 8 in units of their exponent."""
    assert np.array_equal(a.count, b.count)
    for one, other in ((a.mean, b.mean), (a.comoment, b.comoment)):
        assert np.allclose(one, other, rtol=1e-12, atol=1e-11)
    assert np.array_equal(a.exponent, b.exponent)


@given(first=net_values(), second=net_values())
def test_merged_moments_are_those_of_all_nets(first: Any, second: Any) -> None:
    together = Moments.of(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))
    assert_same(Moments.of(*first).merge(Moments.of(*second)), together)


@given(parts=st.tuples(net_values(), net_values(), net_values()))
def test_merging_is_associative(parts: Any) -> None:
    a, b, c = (Moments.of(*part) for part in parts)
    assert_same(a.merge(b).merge(c), a.merge(b.merge(c)))


@given(first=net_values(), second=net_values())
def test_merging_is_commutative_and_no_nets_change_nothing(first: Any, second: Any) -> None:
    a, b = Moments.of(*first), Moments.of(*second)
    assert_same(a.merge(b), b.merge(a))
    nothing = Moments.of(np.zeros((0, LAYERS, POWERS)), np.zeros((0, LAYERS), np.int64))
    for same in (a.merge(nothing), nothing.merge(a)):
        for part in ("count", "mean", "comoment", "exponent"):
            assert np.array_equal(getattr(same, part), getattr(a, part))


@given(part=net_values())
def test_moments_are_those_of_numpy(part: Any) -> None:
    values, _ = part
    moments = Moments.of(values)
    for layer in range(LAYERS):
        counted = values[np.isfinite(values[:, layer]).all(axis=-1), layer]
        assert moments.count[layer] == len(counted)
        if len(counted) > 1:
            covariance = np.cov(counted, rowvar=False)
            assert np.allclose(moments.mean[layer], counted.mean(axis=0), atol=1e-12)
            assert np.allclose(moments.covariance_of_mean[layer], covariance / len(counted), atol=1e-11)
        else:
            assert np.all(np.isnan(moments.covariance_of_mean[layer]))


# Compiled sums against their definitions.
def records() -> dict[str, Numbers]:
    """Return records (nets, layers, columns) of all kinds; mean squares are at least 0, fractions 0 to 1."""
    rng = np.random.default_rng(5)
    plain = rng.random((70, 3, r.COLUMNS))
    plain[..., exponent_columns()] = 0.0
    apart = plain.copy()
    apart[..., exponent_columns()] = rng.integers(-2000, 2000, (70, 3, len(r.TENSORS)))
    near = plain.copy()
    near[..., exponent_columns()] = rng.integers(-30, 30, (70, 3, len(r.TENSORS)))
    holes = near.copy()
    holes[rng.random(holes.shape) < 0.05] = math.nan
    holes[rng.random(holes.shape) < 0.05] = math.inf
    holes[rng.random(holes.shape) < 0.05] = -math.inf
    holes[..., exponent_columns()] = near[..., exponent_columns()]
    zeros = near.copy()
    zeros[rng.random(zeros.shape[:2]) < 0.5] = 0.0
    zeros[..., exponent_columns()] = near[..., exponent_columns()]  # a net at 0 has a unit too, which is to be ignored
    zeros[:, 1, : r.ACTIVATION_ZERO] = 0.0
    tiny = plain.copy()
    tiny[..., : r.ACTIVATION_ZERO] *= 2.0**-1060
    tiny[..., exponent_columns()] = 0.0
    lost = np.full((4, 3, r.COLUMNS), math.nan)
    return {
        "plain": plain, "near": near, "apart": apart, "holes": holes, "zeros": zeros, "tiny": tiny,
        "lost": lost, "one net": apart[:1], "no nets": apart[:0], "1000 nets": np.tile(holes, (15, 1, 1)),
    }  # fmt: skip


def exponent_columns() -> list[int]:
    return [start + r.EXPONENT for start in r.TENSORS.values()]


RECORDS = records()
RECORDED = tuple(q for q in PLAIN.values() if q.columns)  # a function's column is the task's
SIZES = {tensor: np.array([3.0, 5.0, 7.0]) for tensor in r.TENSORS}


def sums_of(record: Numbers, blank: Numbers | None = None) -> Sums:
    return summarize(record, RECORDED, sizes=SIZES, pivots=np.zeros(3), blank=blank)


def by_definition(values: Numbers, exponents: Numbers) -> tuple[int, Numbers, Numbers, int]:
    """Return count, mean, comoment and exponent of one layer's numbers (nets, powers), by NumPy."""
    finite = np.isfinite(values).all(axis=1)
    values, exponents = values[finite], np.nan_to_num(exponents[finite]).astype(int)
    units = exponents[values.any(axis=1)]
    unit = int(units.max()) if len(units) else 0
    shifts = (exponents - unit)[:, None] * np.arange(1, values.shape[1] + 1)
    with np.errstate(under="ignore"):
        scaled = np.ldexp(values, np.where(values == 0, 0, shifts))
    mean = scaled.sum(axis=0) / max(len(scaled), 1)
    return len(scaled), mean, (scaled - mean).T @ (scaled - mean), unit


def assert_defined(moments: Moments, layer: int, values: Numbers, exponents: Numbers) -> None:
    """Compare to rounding: errors grow with the number of nets, and are relative to the largest number."""
    count, mean, comoment, unit = by_definition(values, exponents)
    assert (moments.count[layer], moments.exponent[layer]) == (count, unit)
    rounding = 2 * max(count, 4) * np.finfo(float).eps
    size = np.sqrt(np.diagonal(comoment) / max(count, 1) + mean**2)
    assert np.all(abs(moments.mean[layer] - mean) <= rounding * size)
    assert np.all(abs(moments.comoment[layer] - comoment) <= rounding * max(count, 1) * np.outer(size, size))


@pytest.mark.parametrize("kind", RECORDS)
def test_sums_of_a_record_are_those_of_numpy(kind: str) -> None:
    record = RECORDS[kind]
    groups = sums_of(record).groups
    for quantity in RECORDED:
        for layer in range(3):
            row = record[:, layer]
            exponents = np.zeros(len(row))
            if quantity.statistic == "log10_norm":
                start = r.TENSORS[quantity.tensor]
                with np.errstate(divide="ignore", invalid="ignore"):
                    log2 = np.log2(row[:, start + r.SQUARE]) + 2 * np.nan_to_num(row[:, start + r.EXPONENT])
                values = 0.5 * (log2 + math.log2(SIZES[quantity.tensor][layer])) * math.log10(2)
                values = values[:, None]
            elif quantity.kind in ("fraction", "value"):
                values = row[:, quantity.columns[0], None]
            else:
                start = r.TENSORS[quantity.tensor]
                order = groups[quantity.group].mean.shape[1]
                values, exponents = row[:, start : start + order], row[:, start + r.EXPONENT]
            assert_defined(groups[quantity.group], layer, values, exponents)


def test_sums_held_against_other_numbers_differ() -> None:
    """The twin of the test above: one number, one unit and one net that are not as they should be."""
    values, exponents = RECORDS["near"][:, 0, :2], RECORDS["near"][:, 0, 5]
    moments = Moments.of(values[:, None], exponents[:, None])
    assert_defined(moments, 0, values, exponents)
    largest = int(np.argmax(exponents))
    for place, factor in ((largest, 1 + 1e-12), (largest, math.nan)):
        changed = values.copy()
        changed[place] *= factor
        with pytest.raises(AssertionError):
            assert_defined(moments, 0, changed, exponents)
    with pytest.raises(AssertionError):
        assert_defined(moments, 0, values, exponents + (np.arange(len(values)) == largest))


@pytest.mark.parametrize("shift", [0, 1, -300, 1000, 20_000])
def test_a_common_unit_changes_no_bit(shift: int) -> None:
    """Powers of two are exact: numbers in other units, 2^(unit p) times as small, give the same sums in that unit."""
    rng = np.random.default_rng(3)
    values, exponents = rng.normal(size=(50, 2, 4)), rng.integers(-20, 20, (50, 2))
    one, other = Moments.of(values, exponents), Moments.of(values, exponents + shift)
    assert np.array_equal(one.exponent + shift, other.exponent)
    assert np.array_equal(one.mean, other.mean) and np.array_equal(one.comoment, other.comoment)
    units = rng.integers(-20, 20, (50, 2))
    powers = np.arange(1, 5)
    moved = Moments.of(np.ldexp(values, -units[..., None] * powers), exponents + units)
    shifts = (moved.exponent - one.exponent)[:, None] * powers
    assert np.array_equal(np.ldexp(moved.mean, shifts), one.mean)
    assert np.array_equal(np.ldexp(moved.comoment, shifts[:, :, None] + shifts[:, None, :]), one.comoment)


def test_sums_are_of_views_and_leave_them_as_they_are() -> None:
    record = RECORDS["holes"].copy()
    record.setflags(write=False)
    from_view = Moments.of(record[:, ::-1, 6:10], record[:, ::-1, 11])
    from_copy = Moments.of(record[:, ::-1, 6:10].copy(), record[:, ::-1, 11].copy())
    assert np.array_equal(from_view.comoment, from_copy.comoment)
    assert np.array_equal(record, RECORDS["holes"], equal_nan=True)


def test_the_mean_may_be_far_from_the_spread() -> None:
    """Comoments are of centered numbers: the squares of 1e8 + x do not swallow x."""
    x = np.random.default_rng(2).integers(-8, 8, (64, 1, 1)) / 8
    moments = Moments.of(x + 1e8)
    assert moments.comoment[0, 0, 0] == pytest.approx(float(((x - x.mean()) ** 2).sum()), rel=1e-12)


def bin_by_definition(square: float, exponent: float) -> int:
    """Return floor(16 log2(square 4^exponent)) exactly: the largest b with 2^b <= (square 4^exponent)^16."""
    power = Fraction(square) ** BINS_PER_OCTAVE
    place = power.numerator.bit_length() - power.denominator.bit_length()
    place -= Fraction(2) ** place > power
    return place + 2 * BINS_PER_OCTAVE * (0 if math.isnan(exponent) else int(exponent))


def tail_by_definition(squares: Numbers, exponents: Numbers) -> list[list[int]]:
    counts = Counter(
        (layer, bin_by_definition(float(square), float(exponents[net, layer])))
        for (net, layer), square in np.ndenumerate(squares)
        if 0 < square < math.inf
    )
    return [[*cell, counts[cell]] for cell in sorted(counts)]


@pytest.mark.parametrize("kind", RECORDS)
def test_tails_are_counts_of_nets_by_mean_square(kind: str) -> None:
    record = RECORDS[kind]
    tails = sums_of(record).tails
    assert set(tails) == {q.tensor for q in RECORDED if q.kind not in ("fraction", "value")}
    for tensor, rows in tails.items():
        start = r.TENSORS[tensor]
        squares, exponents = record[..., start + r.SQUARE], record[..., start + r.EXPONENT]
        assert rows.shape == (len(rows), 3) and rows.dtype == np.int64
        assert rows.tolist() == tail_by_definition(squares, exponents)
        if len(rows):
            assert rows.tolist() != tail_by_definition(squares * 1.1, exponents)
    if kind == "apart":  # bins are counted in windows: here these are not enough for one
        assert np.ptp(tails["activation"][:, 1]) > 3 * WINDOW


def test_bins_begin_at_powers_of_two() -> None:
    record = np.zeros((2, 3, r.COLUMNS))
    record[0, :, r.SQUARE], record[1, :, r.SQUARE] = [1.0, 2.0**-1074, 2.0**1023], np.nextafter([1.0, 8.0, 2.0], 0.0)
    expected = [[0, -1, 1], [0, 0, 1], [1, -1074 * 16, 1], [1, 47, 1], [2, 15, 1], [2, 1023 * 16, 1]]
    assert sums_of(record).tails["preactivation"].tolist() == expected


@pytest.mark.parametrize("kind", RECORDS)
def test_lost_nets_are_those_not_finite_where_a_tensor_is_recorded(kind: str) -> None:
    record = RECORDS[kind]
    blank = np.zeros((3, r.COLUMNS))
    blank[0] = blank[:, r.DERIVATIVE : r.DERIVATIVE + 6] = math.nan
    lost = sums_of(record, blank).lost
    assert set(lost) == set(r.TENSORS) - {"derivative"}
    for tensor, counts in lost.items():
        expected = (~np.isfinite(record[..., r.TENSORS[tensor] + r.SQUARE])).sum(axis=0)
        assert counts.tolist() == [0, *expected[1:]]
    assert any(counts.any() for counts in lost.values()) == (kind in ("holes", "lost", "1000 nets"))
    assert not sums_of(record).lost


@given(first=strategies.tails, second=strategies.tails)
def test_tails_merge_like_counters(first: Numbers, second: Numbers) -> None:
    merged = Sums(1, tails={"activation": first}).merge(Sums(2, tails={"activation": second})).tails["activation"]
    expected: dict[tuple[int, int], int] = {}
    for layer, place, count in (*first.tolist(), *second.tolist()):
        expected[layer, place] = expected.get((layer, place), 0) + count
    assert {(layer, place): count for layer, place, count in merged.tolist()} == expected
    assert merged.tolist() == sorted(merged.tolist())
