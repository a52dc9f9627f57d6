"""Estimates from sums over nets, with standard errors and intervals.

A quantity that is a smooth function of means over nets (a variance, a kurtosis) gets its standard error by the delta
method, which is the delete-one-net jackknife to first order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stabsim.kernels.sums import BINS_PER_OCTAVE
from stabsim.moments import POWER_OF_UNIT, Floats, Integers, Sums, pivots_of, statistic, times_power_of_two
from stabsim.quantities import Quantity

Looks = Literal["one", "every"]

# Where the top 1% of nets hold more than this share of the sum of mean squares, the plain mean has not converged.
UNCONVERGED = 0.2

ENOUGH_ON_TOP = 10  # nets in the top 1%, for their share to be what it is in the long run
NARROWEST_AT = (
    500  # nets, of confidence sequences: 3.04 standard errors; 3.35 at 100, 3.34 at 10,000, 3.96 at a million
)


@dataclass(frozen=True)
class Estimate:
    """Estimates of one quantity at every layer, each (layers,): with NaN where there is none.

    ``top_share`` is the share of the sum of mean squares that the top 1% of nets (at least one) hold: where it is far
    above 0.01, few nets own the mean, and it has not converged.
    """

    estimate: Floats
    std_error: Floats
    ci_low: Floats
    ci_high: Floats
    nets: Integers
    top_share: Floats


def estimate(
    quantity: Quantity, sums: Sums, pivots: Floats, *, confidence: float = 0.95, looks: Looks = "one"
) -> Estimate:
    """Return the estimates of a quantity with intervals of that confidence.

    Means: Student's t over nets. Mean squares, variances and kurtoses: the same on the log scale, which keeps
    them positive, with the `degrees_of_freedom` of the nets' mean squares. Fractions: Wilson's with the effective
    number of trials (Korn & Graubard, Survey Methodology 24, 1998), since the units of one net are not independent.
    Values that float64 cannot hold are NaN.

    ``looks="every"``: the same with the quantile of a confidence sequence (`time_uniform`) in place of Student's.
    These intervals all hold the truth, with that confidence, however often one looks and whenever one stops.
    """
    group = sums.groups[quantity.group]
    no_share = np.full(len(group.count), np.nan)
    quantile = partial(_quantile, confidence=confidence, looks=looks)
    if quantity.kind in ("fraction", "value"):
        value = np.where(group.count > 0, group.mean[:, 0], np.nan)
        error = np.sqrt(group.covariance_of_mean[:, 0, 0])
        interval = _wilson if quantity.kind == "fraction" else _symmetric
        return Estimate(value, error, *interval(value, error, group.count, quantile), group.count, no_share)
    a = group.mean[:, : quantity.order]
    covariance = group.covariance_of_mean[:, : quantity.order, : quantity.order]
    value, gradient = statistic(quantity.kind, a, times_power_of_two(pivots_of(quantity, pivots), -group.exponent))
    if quantity.kind == "variance":
        value = value + np.nan_to_num(covariance[:, 0, 0])  # the square of the mean is too large by its variance
    error = np.sqrt(np.maximum(np.einsum("lp,lpq,lq->l", gradient, covariance, gradient), 0.0))
    tail = sums.tails[quantity.tensor]
    if quantity.kind == "mean":
        ends = _symmetric(value, error, group.count, quantile)
    else:
        ends = _log_symmetric(value, error, quantile(group.count, degrees_of_freedom(tail, group.count)))
    unit = POWER_OF_UNIT[quantity.kind] * group.exponent
    numbers = (value, error, *ends)
    scaled = [times_power_of_two(x, unit) for x in numbers]
    missing = np.any([_lost(x, before) for x, before in zip(scaled, numbers, strict=True)], axis=0)
    missing |= (group.count == 0) | ~np.isfinite(scaled[0])
    scaled = [np.where(missing, np.nan, x) for x in scaled]
    share = no_share if quantity.kind == "mean" else top_share(tail, group.count)
    return Estimate(scaled[0], scaled[1], scaled[2], scaled[3], group.count, share)


def _lost(scaled: Floats, value: Floats) -> NDArray[np.bool_]:
    """Return where a number other than 0 has become 0, or is infinite: float64 cannot hold it."""
    return np.asarray(((scaled == 0) & (value != 0)) | np.isinf(scaled))


# How many standard errors an interval reaches, given the number of nets and the degrees of freedom of their spread.
_Quantile = Callable[[Integers, Floats | Integers], Floats]


def _quantile(count: Integers, degrees: Floats | Integers, *, confidence: float, looks: Looks) -> Floats:
    from scipy.special import stdtrit

    if looks == "every":
        return time_uniform(count, confidence=confidence)
    return np.asarray(stdtrit(np.maximum(degrees, 1), 0.5 + 0.5 * confidence))


def time_uniform(nets: Integers, *, confidence: float = 0.95) -> Floats:
    """Return how many standard errors an asymptotic confidence sequence reaches about a mean over nets.

    sqrt(2 (1 + 1/x) ln(sqrt(x + 1)/alpha)), x = nets rho^2, alpha = 1 - confidence: Theorem 2.2 of Waudby-Smith,
    Arbour, Sinha, Kennedy & Ramdas, Annals of Statistics 52, 2024 (arXiv:2103.06476). Its square is
    (1 + 1/x) (ln(1 + x) - 2 ln alpha), least where x = ln(1 + x) - 2 ln alpha, that is x = -1 - W(-alpha^2/e) with
    the lower branch of Lambert's W. rho puts that at `NARROWEST_AT` nets, where the square is 1 + x.

    Parameters
    ----------
    nets : array of int
        How many nets the mean is over. The law is that of many nets: below 100 it is not to be relied upon.
    confidence : float
        With this probability the intervals at all numbers of nets hold the truth, all of them.

    Examples
    --------
    >>> time_uniform(np.array([100, 500, 10_000])).round(3)
    array([3.347, 3.035, 3.342])
    """
    from scipy.special import lambertw

    alpha = 1.0 - confidence
    least = -1.0 - lambertw(-(alpha**2) / math.e, -1).real
    x = np.maximum(nets, 1) * (least / NARROWEST_AT)
    return np.asarray(np.sqrt((1.0 + 1.0 / x) * (np.log1p(x) - 2.0 * math.log(alpha))))


def _symmetric(value: Floats, error: Floats, count: Integers, quantile: _Quantile) -> tuple[Floats, Floats]:
    half = quantile(count, count - 1) * error
    return value - half, value + half


def _log_symmetric(value: Floats, error: Floats, reach: Floats) -> tuple[Floats, Floats]:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        factor = np.exp(np.where(value > 0, reach * error / value, 0.0))
        return value / factor, value * factor


def _wilson(value: Floats, error: Floats, count: Integers, quantile: _Quantile) -> tuple[Floats, Floats]:
    # Where all nets agree, they are so many trials of a coin, whose spread is known from its mean.
    z = quantile(count, np.where(error > 0, count - 1, np.inf))
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = np.where(error > 0, value * (1.0 - value) / error**2, count)
        middle = (value + z**2 / (2 * effective)) / (1 + z**2 / effective)
        half = z / (1 + z**2 / effective) * np.sqrt(value * (1 - value) / effective + z**2 / (4 * effective**2))
    low, high = np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)
    return np.where(value == 0, 0.0, low), np.where(value == 1, 1.0, high)


def interval_of_mean(
    value: Floats, error: Floats, nets: Integers, *, share: bool, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Return the ends of an interval about a mean over nets, given its standard error: Student's, of shares Wilson's.

    Below two nets there is none of other numbers than shares: NaN.
    """
    quantile = partial(_quantile, confidence=confidence, looks="one")
    with np.errstate(invalid="ignore"):
        return (_wilson if share else _symmetric)(value, error, nets, quantile)


def top_share(tail: Integers, nets: Integers, top: float = 0.01) -> Floats:
    """Return the share of the sum of mean squares that the top nets (at least one) hold, per layer; NaN without nets.

    Where these are fewer than `ENOUGH_ON_TOP` nets, the rare large ones may not have been drawn; then it is at least
    the share of a log-normal law, Phi(spread - Phi^-1(1 - top)), whose logarithms spread as theirs do above the median.
    ``nets`` (layers,) counts those at 0 too, which are not in the tail.
    """
    from scipy.special import ndtr, ndtri

    shares = np.full(len(nets), np.nan)
    starts = np.searchsorted(tail[:, 0], np.arange(len(nets) + 1))
    for layer, number in enumerate(nets):
        rows = tail[starts[layer] : starts[layer + 1]]
        if len(rows) == 0:
            continue
        bins, counts = rows[::-1, 1], rows[::-1, 2].astype(np.float64)
        values = np.exp2((bins - bins[0]) / BINS_PER_OCTAVE)
        before = np.cumsum(counts) - counts
        taken = np.clip(max(top * number, 1.0) - before, 0.0, counts)
        shares[layer] = (taken * values).sum() / (counts * values).sum()
        if top * number < ENOUGH_ON_TOP and counts.sum() > 1:
            shares[layer] = max(shares[layer], ndtr(_upper_spread(bins, counts) + ndtri(top)))
    return shares


def _upper_spread(bins: Integers, counts: Floats) -> float:
    """Return the root mean square distance of ln of the larger half of the nets from the median; bins fall."""
    taken = np.clip(0.5 * counts.sum() - (np.cumsum(counts) - counts), 0.0, counts)
    median = bins[taken > 0][-1]
    return math.log(2.0) / BINS_PER_OCTAVE * math.sqrt(taken @ np.square(bins - median) / taken.sum())


def degrees_of_freedom(tail: Integers, nets: Integers) -> Floats:
    """Return the degrees of freedom of the spread of the nets' mean squares, per layer: at most nets - 1.

    The variance of n values of kurtosis k has a variance of its own of (k - 1)/n, relative to its square. A chi
    square of 2n/(k - 1) degrees of freedom has the same (Satterthwaite, Biometrics Bulletin 2, 1946): n for normal
    values, far fewer where few nets hold most of the sum. ``nets`` (layers,) counts those at 0 too, which are not in
    the tail; values are taken to be spread evenly over their bins.
    """
    layer, place, number = tail.T
    top = np.zeros(len(nets), np.int64)
    top[layer] = place  # rows are sorted: the last one of a layer stays
    values = np.exp2((place - top[layer]) / BINS_PER_OCTAVE)
    width = values * math.log(2.0) / BINS_PER_OCTAVE

    def total(of_a_net: Floats) -> Floats:
        return np.asarray(np.bincount(layer, number * of_a_net, len(nets)), np.float64)

    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total(values) / nets
        zeros = nets - total(np.ones(len(tail)))
        distance, within = (values - mean[layer]) ** 2, width**2 / 12
        second = zeros * mean**2 + total(distance + within)
        fourth = zeros * mean**4 + total(distance**2 + 6 * distance * within + width**4 / 80)
        return np.fmin(2 * nets / (nets * fourth / second**2 - 1), nets - 1)
