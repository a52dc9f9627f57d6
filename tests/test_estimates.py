"""Estimates, standard errors and intervals, on an ensemble whose nets are known one by one."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

import stabsim
from stabsim import Network, Result
from stabsim.estimates import (
    NARROWEST_AT,
    Estimate,
    degrees_of_freedom,
    estimate,
    time_uniform,
    top_share,
)
from stabsim.moments import Sums
from stabsim.quantities import PLAIN
from stabsim.target import relative_error
from tests import naive

Numbers = NDArray[Any]

NETS, BATCH, SEED = 400, 3, 9
NETWORK = Network((6, 8, 5), "hard_tanh", "lecun_normal", 0.1)


@pytest.fixture(scope="module")
def result() -> Result:
    return stabsim.simulate(
        NETWORK, nets=NETS, batch=BATCH, seed=SEED, precision="float64", samples=tuple(PLAIN), threads=2
    )


@functools.cache
def tensors() -> dict[str, list[Numbers]]:
    """Return the values of all nets, (nets, ...), by tensor and layer."""
    nets = [stabsim.trace(NETWORK, net=net, batch=BATCH, seed=SEED, precision="float64") for net in range(NETS)]
    return {
        tensor: [np.array([getattr(net, tensor)[layer] for net in nets]) for layer in (1, 2)]
        for tensor in naive.STATISTICS
    }


OF_VALUES = [name for name, q in PLAIN.items() if q.kind not in ("fraction", "value")]
OF_NETS = [name for name in PLAIN if name not in OF_VALUES]


@pytest.mark.parametrize("name", OF_VALUES)
def test_estimates_from_values_agree_with_the_jackknife(name: str, result: Result) -> None:
    quantity, found = PLAIN[name], result.estimates(name)
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
@pytest.mark.parametrize("name", PLAIN)
def test_intervals_are_those_of_scipy(name: str, confidence: float, result: Result) -> None:
    quantity, found = PLAIN[name], result.estimates(name, confidence=confidence)
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
    for name in PLAIN:
        quantity = PLAIN[name]
        one, other = (estimate(quantity, sums, result.plan.pivots) for sums in (copy, result.sums))
        assert np.array_equal(one.estimate, other.estimate, equal_nan=True)
        assert np.array_equal(one.ci_high, other.ci_high, equal_nan=True)
    assert copy.to_arrays().keys() == result.sums.to_arrays().keys()


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("name", PLAIN)
def test_intervals_at_every_look_are_as_many_errors_as_the_sequence_says(
    name: str, confidence: float, result: Result
) -> None:
    """They are the same intervals as those for one look, with another quantile."""
    quantity = PLAIN[name]
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
    of = {name: relative_error(PLAIN[name], found, 0.5) for name in PLAIN}
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
