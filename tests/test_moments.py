"""Sums over nets: merging, and the estimates, standard errors and intervals made from them."""

from __future__ import annotations

import functools
import math
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
from stabsim.moments import Moments, Sums, estimate, top_share
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
            logs = scipy.stats.t.interval(confidence, NETS - 1, loc=math.log(value), scale=error / value)
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


def test_top_share_is_that_of_the_largest_nets() -> None:
    rng = np.random.default_rng(1)
    squares = np.exp(3 * rng.normal(size=(2, 5000)))
    rows = []
    for layer in (0, 1):
        bins, counts = np.unique(np.floor(np.log2(squares[layer]) * 16).astype(int), return_counts=True)
        rows += [(layer, b, c) for b, c in zip(bins, counts, strict=True)]
    shares = top_share(np.array(rows), np.array([5000, 5000, 0]))
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
