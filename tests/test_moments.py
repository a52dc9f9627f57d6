"""Sums over nets: merging, and the estimates, standard errors and intervals made from them."""

from __future__ import annotations

import functools
import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

import stabsim
from stabsim import Network, Result
from stabsim.kernels import record as r
from stabsim.kernels.sums import BINS_PER_OCTAVE, WINDOW
from stabsim.moments import (
    NARROWEST_AT,
    Estimate,
    Moments,
    Sums,
    degrees_of_freedom,
    estimate,
    relative_error,
    summarize,
    time_uniform,
    top_share,
)
from stabsim.quantities import QUANTITIES
from tests import naive, strategies

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
SIZES = {tensor: np.array([3.0, 5.0, 7.0]) for tensor in r.TENSORS}


def sums_of(record: Numbers, blank: Numbers | None = None) -> Sums:
    return summarize(record, tuple(QUANTITIES.values()), sizes=SIZES, pivots=np.zeros(3), blank=blank)


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
    for quantity in QUANTITIES.values():
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
    assert set(tails) == {q.tensor for q in QUANTITIES.values() if q.kind not in ("fraction", "value")}
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


# Estimates, on an ensemble whose nets are known one by one.
NETS, BATCH, SEED = 400, 3, 9
NETWORK = Network((6, 8, 5), "hard_tanh", "lecun_normal", 0.1)


@pytest.fixture(scope="module")
def result() -> Result:
    return stabsim.simulate(
        NETWORK, nets=NETS, batch=BATCH, seed=SEED, precision="float64", samples=tuple(QUANTITIES), threads=2
    )


@functools.cache
def tensors() -> dict[str, list[Numbers]]:
    """Return the values of all nets, (nets, ...), by tensor and layer."""
    nets = [stabsim.trace(NETWORK, net=net, batch=BATCH, seed=SEED, precision="float64") for net in range(NETS)]
    return {
        tensor: [np.array([getattr(net, tensor)[layer] for net in nets]) for layer in (1, 2)]
        for tensor in naive.STATISTICS
    }


OF_VALUES = [name for name, q in QUANTITIES.items() if q.kind not in ("fraction", "value")]
OF_NETS = [name for name in QUANTITIES if name not in OF_VALUES]


@pytest.mark.parametrize("name", OF_VALUES)
def test_estimates_from_values_agree_with_the_jackknife(name: str, result: Result) -> None:
    quantity, found = QUANTITIES[name], result.estimates(name)
    for layer in (1, 2):
        values = tensors()[quantity.tensor][layer - 1]
        value, error = naive.ensemble(quantity.statistic, values)
        if quantity.statistic == "variance":  # is made unbiased for the mean's own error
            value += naive.ensemble("mean", values)[1] ** 2
        assert found.estimate[layer] == pytest.approx(value, rel=1e-10, abs=1e-13)
        # The two standard errors differ by terms of order 1/nets.
        assert found.std_error[layer] == pytest.approx(error, rel=1e-10 if quantity.statistic == "mean" else 10 / NETS)
        assert found.nets[layer] == NETS


@pytest.mark.parametrize("name", OF_NETS)
def test_estimates_from_nets_are_means(name: str, result: Result) -> None:
    found = result.estimates(name)
    for layer in (1, 2):
        values = result.samples[name][:, layer]
        if not np.isfinite(values).any():
            assert found.nets[layer] == 0 and math.isnan(found.estimate[layer])
            continue
        value, error = naive.mean_and_error(values)
        assert found.estimate[layer] == pytest.approx(value, rel=1e-12)
        assert found.std_error[layer] == pytest.approx(error, rel=1e-10, abs=1e-15)
        assert found.nets[layer] == np.isfinite(values).sum()


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("name", QUANTITIES)
def test_intervals_are_those_of_scipy(name: str, confidence: float, result: Result) -> None:
    quantity, found = QUANTITIES[name], result.estimates(name, confidence=confidence)
    t = scipy.stats.t(NETS - 1).ppf(0.5 + confidence / 2)
    for layer in (1, 2):
        value, error, nets = found.estimate[layer], found.std_error[layer], int(found.nets[layer])
        low, high = found.ci_low[layer], found.ci_high[layer]
        if nets == 0:
            assert math.isnan(low) and math.isnan(high)
        elif quantity.kind == "fraction" and error > 0:
            trials = value * (1 - value) / error**2
            for bound in (low, high):  # Wilson's interval ends where the score test just accepts
                assert (value - bound) ** 2 == pytest.approx(t**2 * bound * (1 - bound) / trials, rel=1e-9, abs=1e-15)
            assert 0 <= low < value < high <= 1
        elif quantity.kind == "fraction":
            wilson = scipy.stats.binomtest(round(value * nets), nets).proportion_ci(confidence, method="wilson")
            assert (low, high) == pytest.approx((wilson.low, wilson.high), rel=1e-9, abs=1e-12)
        elif quantity.kind in ("value", "mean"):
            degrees = nets - 1
            expected = scipy.stats.t.interval(confidence, degrees, loc=value, scale=error)
            assert (low, high) == pytest.approx(expected, rel=1e-9)
        else:
            degrees = degrees_of_freedom(result.sums.tails[quantity.tensor], found.nets)[layer]
            logs = scipy.stats.t.interval(confidence, degrees, loc=math.log(value), scale=error / value)
            assert (low, high) == pytest.approx(tuple(np.exp(logs)), rel=1e-9)


def test_sums_survive_their_arrays_and_know_only_their_quantities(result: Result) -> None:
    copy = Sums.from_arrays(result.sums.to_arrays())
    assert copy.nets == NETS
    for name in QUANTITIES:
        quantity = QUANTITIES[name]
        one, other = (estimate(quantity, sums, result.plan.pivots) for sums in (copy, result.sums))
        assert np.array_equal(one.estimate, other.estimate, equal_nan=True)
        assert np.array_equal(one.ci_high, other.ci_high, equal_nan=True)
    assert copy.to_arrays().keys() == result.sums.to_arrays().keys()


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("name", QUANTITIES)
def test_intervals_at_every_look_are_as_many_errors_as_the_sequence_says(
    name: str, confidence: float, result: Result
) -> None:
    """They are the same intervals as those for one look, with another quantile."""
    quantity = QUANTITIES[name]
    found = estimate(quantity, result.sums, result.plan.pivots, confidence=confidence, looks="every")
    for layer in (1, 2):
        value, error, nets = found.estimate[layer], found.std_error[layer], int(found.nets[layer])
        low, high = found.ci_low[layer], found.ci_high[layer]
        reach = time_uniform(np.array([nets]), confidence=confidence)[0]
        if nets == 0:
            assert math.isnan(low) and math.isnan(high)
        elif quantity.kind == "fraction":
            trials = value * (1 - value) / error**2 if error > 0 else nets
            for bound in (low, high):
                if 0 < bound < 1:
                    score = math.sqrt(bound * (1 - bound) / trials)
                    assert abs(value - bound) == pytest.approx(reach * score, rel=1e-9, abs=1e-15)
            assert low < high
        elif quantity.kind in ("value", "mean"):
            assert (low, high) == pytest.approx((value - reach * error, value + reach * error), rel=1e-9, abs=1e-15)
        else:
            logs = np.log(value) + np.array([-1, 1]) * reach * error / value
            assert (low, high) == pytest.approx(tuple(np.exp(logs)), rel=1e-9)


def margin(nets: Numbers, rho: Numbers, alpha: float) -> Numbers:
    """Return Theorem 2.2 of arXiv:2103.06476 as it is printed, for a standard deviation of 1, in standard errors."""
    t = nets * rho**2
    return np.asarray(np.sqrt(nets) * np.sqrt(2 * (t + 1) / (nets * t) * np.log(np.sqrt(t + 1) / alpha)))


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_sequence_is_the_theorem_at_the_rho_that_is_narrowest_where_it_says(confidence: float) -> None:
    alpha, rhos = 1 - confidence, np.geomspace(1e-3, 10, 200_001)
    rho = rhos[np.argmin(margin(np.array(NARROWEST_AT), rhos, alpha))]
    nets = np.array([100, NARROWEST_AT, 10_000, 10**6])
    assert time_uniform(nets, confidence=confidence) == pytest.approx(margin(nets, rho, alpha), rel=2e-4)
    best = np.min(margin(np.array(NARROWEST_AT), rhos, alpha))
    assert time_uniform(nets, confidence=confidence)[1] == pytest.approx(best, rel=1e-8)
    assert time_uniform(nets, confidence=confidence) != pytest.approx(margin(nets, 1.05 * rho, alpha), rel=2e-4)


def test_relative_errors_are_of_the_further_end() -> None:
    numbers = np.array([2.0, 0.0, 0.0, math.nan])
    low, high = np.array([1.9, 0.0, 0.0, math.nan]), np.array([2.4, 0.0, 0.1, math.nan])
    found = Estimate(numbers, numbers, low, high, np.full(4, 100), numbers)
    of = {name: relative_error(QUANTITIES[name], found, 0.5) for name in QUANTITIES}
    assert of["activation_mean_square"] == pytest.approx([0.2, 0.0, math.inf, math.inf])
    assert of["activation_zero_fraction"] == pytest.approx([0.2, 0.0, 0.2, math.inf])
    assert of["activation_log10_norm"] == pytest.approx([0.4 * math.log(10), 0.0, 0.1 * math.log(10), math.inf])


def tail_of(squares: Numbers) -> Numbers:
    """Return the counts of mean squares (layers, nets) in bins, without those at 0."""
    rows = []
    for layer, values in enumerate(squares):
        bins, counts = np.unique(np.floor(np.log2(values[values > 0]) * 16).astype(int), return_counts=True)
        rows += [(layer, b, c) for b, c in zip(bins, counts, strict=True)]
    return np.array(rows)


def test_degrees_of_freedom_are_those_of_the_spread_of_the_squares() -> None:
    """A chi square of so many degrees of freedom varies as much as the variance of the nets' mean squares does."""
    rng = np.random.default_rng(7)
    squares = np.exp([0.3, 1.0, 1.5, 0.3] * rng.normal(size=(3000, 4))).T
    squares[3, :2000] = 0
    degrees = degrees_of_freedom(tail_of(squares), np.full(4, 3000))
    expected = 2 * 3000 / (scipy.stats.kurtosis(squares, axis=1, fisher=False) - 1)
    assert np.all(expected < 2999) and degrees == pytest.approx(expected, rel=0.03)  # bins are 2^(1/16) wide
    scaled = degrees_of_freedom(tail_of(squares * 2.0**900), np.full(4, 3000))
    assert scaled == pytest.approx(degrees, rel=1e-12)


def test_degrees_of_freedom_are_at_most_those_of_the_nets() -> None:
    """So they are where all nets are alike, or nearly: then bins are too wide to tell their kurtosis."""
    rng = np.random.default_rng(8)
    nearly = 1.04 * (1 + np.array([0.0, 0.001, 0.01, 0.02])[:, None] * rng.normal(size=(4, 1000)))
    degrees = degrees_of_freedom(tail_of(nearly), np.full(4, 1000))
    assert np.all(degrees <= 999) and np.all(degrees > 500) and degrees[0] == 999
    assert degrees_of_freedom(np.zeros((0, 3), np.int64), np.array([5]))[0] == 4
    assert degrees_of_freedom(np.array([(0, -7, 1)]), np.array([1]))[0] == 0


def test_top_share_of_few_nets_is_at_least_that_of_a_log_normal_of_their_spread() -> None:
    """The top 1% of 100 nets is one net: it misses what larger ensembles see, the log-normal does not."""
    random, spread = np.random.default_rng(4), 2.0
    exact = scipy.stats.norm.cdf(spread + scipy.stats.norm.ppf(0.01))
    few = [
        top_share(tail_of(np.exp(spread * random.standard_normal((1, 100)))), np.array([100]))[0] for _ in range(200)
    ]
    assert np.mean(np.array(few) > 0.2) > 0.98  # as flagged as exact is
    assert np.median(few) == pytest.approx(exact, abs=0.06)
    many = top_share(tail_of(np.exp(spread * random.standard_normal((1, 100_000)))), np.array([100_000]))[0]
    assert many == pytest.approx(exact, abs=0.06)
    alike = tail_of(np.exp(0.1 * random.standard_normal((1, 100))))
    assert top_share(alike, np.array([100]))[0] < 0.03  # no alarm where there is none


def test_top_share_is_that_of_the_largest_nets() -> None:
    rng = np.random.default_rng(1)
    squares = np.exp(3 * rng.normal(size=(2, 5000)))
    shares = top_share(tail_of(squares), np.array([5000, 5000, 0]))
    expected = [np.sort(s)[-50:].sum() / s.sum() for s in squares]
    assert shares[:2] == pytest.approx(expected, rel=0.05)  # bins are 2^(1/16) wide
    assert np.isnan(shares[2])
    alike = np.array([(0, 5, 700)])
    assert top_share(alike, np.array([700])) == pytest.approx([0.01])
    assert top_share(alike, np.array([70_000])) == pytest.approx([1.0])  # nets at 0 count among the 1%
    assert top_share(np.array([(0, 5, 1)]), np.array([10])) == pytest.approx([1.0])  # at least one net is the top


@given(first=strategies.tails, second=strategies.tails)
def test_tails_merge_like_counters(first: Numbers, second: Numbers) -> None:
    merged = Sums(1, tails={"activation": first}).merge(Sums(2, tails={"activation": second})).tails["activation"]
    expected: dict[tuple[int, int], int] = {}
    for layer, place, count in (*first.tolist(), *second.tolist()):
        expected[layer, place] = expected.get((layer, place), 0) + count
    assert {(layer, place): count for layer, place, count in merged.tolist()} == expected
    assert merged.tolist() == sorted(merged.tolist())
