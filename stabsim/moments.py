"""Mergeable sums over nets, and the estimates and intervals made from them.

Nets are independent and identically distributed, so everything rests on one object: the mean vector and the matrix
of central second moments, over nets, of a few numbers per net (`Moments`), merged by the pairwise formula of Chan,
Golub & LeVeque (1979). A quantity that is a smooth function of such means (a variance, a kurtosis) gets its standard
error by the delta method, which is the delete-one-net jackknife to first order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stabsim.kernels import record as r
from stabsim.kernels import sums as compiled
from stabsim.kernels.sums import BINS_PER_OCTAVE
from stabsim.quantities import Quantity

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

Looks = Literal["one", "every"]

LOG10_OF_2 = float(np.log10(2.0))
ENOUGH_ON_TOP = 10  # nets in the top 1%, for their share to be what it is in the long run
NARROWEST_AT = (
    500  # nets, of confidence sequences: 3.04 standard errors; 3.35 at 100, 3.34 at 10,000, 3.96 at a million
)


@dataclass(frozen=True)
class Moments:
    """Moments over nets of k numbers per layer; number p (1 .. k) is in units of ``2**(exponent * p)``.

    Shapes: count (layers,), mean (layers, k), comoment (layers, k, k), exponent (layers,).
    """

    count: Integers
    mean: Floats
    comoment: Floats
    exponent: Integers

    @classmethod
    def of(cls, values: Floats, exponents: Integers | None = None) -> Moments:
        """Sum values (nets, layers, k), number p in units of ``2**(exponents * p)``, of nets without NaN and inf."""
        numbers = values.shape[-1]
        if exponents is None:
            return _sum_groups(values, {"": (0, numbers, compiled.NO_COLUMN, compiled.NO_COLUMN)}).moments[""]
        record = np.concatenate([values, np.asarray(exponents, np.float64)[..., None]], axis=-1)
        return _sum_groups(record, {"": (0, numbers, numbers, compiled.NO_COLUMN)}).moments[""]

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets of nets."""
        common = np.maximum(self.exponent, other.exponent)
        common = np.where(self._all_zero, other.exponent, np.where(other._all_zero, self.exponent, common))
        a, b = self._in_units(common), other._in_units(common)
        count = a.count + b.count
        share = (b.count / np.maximum(count, 1))[:, None]
        delta = b.mean - a.mean
        mean = np.where((other.count == 0)[:, None], a.mean, a.mean + delta * share)
        cross = (a.count[:, None] * share)[..., None] * delta[:, :, None] * delta[:, None, :]
        return Moments(count, mean, a.comoment + b.comoment + cross, common)

    @property
    def _all_zero(self) -> NDArray[np.bool_]:
        """Return where nothing but zeros, or nothing at all, was summed: these have no unit."""
        return np.asarray(~self.mean.any(axis=-1) & ~self.comoment.any(axis=(-2, -1)))

    def _in_units(self, exponent: Integers) -> Moments:
        shift = self.exponent - exponent
        mean = _rescale(self.mean, shift)
        powers = np.arange(1, self.mean.shape[-1] + 1)
        together = powers[:, None] + powers[None, :]
        comoment = _times_power_of_two(self.comoment, shift[:, None, None] * together)
        return Moments(self.count, mean, comoment, exponent)

    @property
    def covariance_of_mean(self) -> Floats:
        """Return the covariance matrix of the mean, (layers, k, k); NaN below two nets."""
        n = self.count[:, None, None].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(n > 1, self.comoment / ((n - 1) * n), np.nan)


def _times_power_of_two(values: Floats, exponents: Integers) -> Floats:
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.ldexp(values, np.clip(exponents, -5000, 5000).astype(np.int32)))


def _rescale(values: Floats, exponents: Integers) -> Floats:
    """Multiply number p (1 .. k, on the last axis) by ``2**(exponents * p)``."""
    powers = np.arange(1, values.shape[-1] + 1)
    return _times_power_of_two(values, exponents[..., None] * powers)


@dataclass(frozen=True)
class Sums:
    """What is kept of a range of nets: additive, so the sums of ranges side by side are those of the union.

    ``groups`` holds moments by name: a tensor's powers, or one quantity. ``tails`` holds counts of nets
    (layer, bin of log2 mean square, count); ``histograms`` counts of values (layers, bins + 2); ``samples`` values
    per net (nets, layers); ``lost`` counts of nets (layers,) whose tensor was not finite.
    """

    nets: int
    groups: dict[str, Moments] = field(default_factory=dict)
    tails: dict[str, Integers] = field(default_factory=dict)
    histograms: dict[str, Integers] = field(default_factory=dict)
    samples: dict[str, Floats] = field(default_factory=dict)
    lost: dict[str, Integers] = field(default_factory=dict)

    def merge(self, following: Sums) -> Sums:
        """Return the sums of these nets and those of the range that follows."""
        return Sums(
            self.nets + following.nets,
            {name: group.merge(following.groups[name]) for name, group in self.groups.items()},
            {name: _merge_counts(tail, following.tails[name]) for name, tail in self.tails.items()},
            {name: counts + following.histograms[name] for name, counts in self.histograms.items()},
            {name: np.concatenate([kept, following.samples[name]]) for name, kept in self.samples.items()},
            {name: counts + following.lost[name] for name, counts in self.lost.items()},
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays by name, for the store."""
        arrays: dict[str, NDArray[Any]] = {"nets": np.array(self.nets, np.int64)}
        for name, group in self.groups.items():
            for part in ("count", "mean", "comoment", "exponent"):
                arrays[f"group.{name}.{part}"] = getattr(group, part)
        for kind in ("tails", "histograms", "samples", "lost"):
            arrays |= {f"{kind}.{name}": array for name, array in getattr(self, kind).items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Sums:
        """Return what `to_arrays` was given."""
        groups: dict[str, dict[str, NDArray[Any]]] = {}
        others: dict[str, dict[str, NDArray[Any]]] = {"tails": {}, "histograms": {}, "samples": {}, "lost": {}}
        for key, array in arrays.items():
            kind, _, name = key.partition(".")
            if kind == "group":
                group, _, part = name.partition(".")
                groups.setdefault(group, {})[part] = array
            elif kind in others:
                others[kind][name] = array
        return cls(int(arrays["nets"]), {name: Moments(**parts) for name, parts in groups.items()}, **others)


def _merge_counts(a: Integers, b: Integers) -> Integers:
    """Return the counts of both, sorted by layer and bin as they are: sorting two runs is merging them."""
    rows = np.concatenate([a, b])
    if not len(rows):
        return rows
    order = np.argsort((rows[:, 0] << 40) + rows[:, 1], kind="stable")
    rows = rows[order]
    firsts = np.flatnonzero(np.r_[True, (rows[1:, :2] != rows[:-1, :2]).any(axis=1)])
    return np.column_stack([rows[firsts, :2], np.add.reduceat(rows[:, 2], firsts)])


def _exponents(record: Floats, tensor: int) -> Integers:
    return np.nan_to_num(record[..., tensor + r.EXPONENT]).astype(np.int64)


def _log2_mean_square(record: Floats, tensor: int) -> Floats:
    """Return log2 of the mean square of a tensor: -inf where it is 0, NaN where it was not recorded."""
    log2 = np.empty(record.shape[:2])
    compiled.log2_mean_squares()(record[..., tensor + r.SQUARE], record[..., tensor + r.EXPONENT], log2)
    return log2


def summarize(
    record: Floats,
    quantities: tuple[Quantity, ...],
    *,
    sizes: Mapping[str, Floats],
    pivots: Floats,
    blank: Floats | None = None,
    samples: tuple[Quantity, ...] = (),
    histograms: Mapping[str, Integers] | None = None,
) -> Sums:
    """Return the sums of a record (nets, layers, columns); ``blank`` (layers, columns) is NaN where nothing is kept.

    ``sizes[tensor]`` (layers,) is the number of values whose squares add up to the squared norm: the units of a
    row, or all weights of a layer.
    """
    tensors = {} if blank is None else {name: np.isfinite(blank[:, t + r.SQUARE]) for name, t in r.TENSORS.items()}
    exists = {name: layers for name, layers in tensors.items() if layers.any()}
    found = _sum_groups(record, {name: _tensor_columns(name, 0) for name in exists} | _columns(quantities))
    groups = {
        q.group: Moments.of(per_net(q, record, sizes=sizes, pivots=pivots)[..., None])
        if q.statistic == "log10_norm"
        else found.moments[q.group]
        for q in quantities
    }
    kept = {q.name: np.array(per_net(q, record, sizes=sizes, pivots=pivots)) for q in samples}
    lost = {name: np.where(layers, found.lost[name], 0) for name, layers in exists.items()}
    tails = {name: found.tails[name] for name in r.TENSORS if name in groups}
    return Sums(len(record), groups, tails, dict(histograms or {}), kept, lost)


_Columns = tuple[int, int, int, int]  # of a group: see kernels/sums.py


def _columns(quantities: tuple[Quantity, ...]) -> dict[str, _Columns]:
    """Return the columns of each group that is summed as it was recorded."""
    columns: dict[str, _Columns] = {}
    for quantity in quantities:
        group = quantity.group
        if quantity.kind not in ("fraction", "value"):
            order = columns[group][compiled.NUMBERS] if group in columns else 0
            columns[group] = _tensor_columns(group, max(order, quantity.order))
        elif quantity.statistic != "log10_norm":
            columns[group] = (quantity.columns[0], 1, compiled.NO_COLUMN, compiled.NO_COLUMN)
    return columns


def _tensor_columns(name: str, order: int) -> _Columns:
    start = r.TENSORS[name]
    return start, order, start + r.EXPONENT, start + r.SQUARE


@dataclass(frozen=True)
class _Found:
    moments: dict[str, Moments]
    tails: dict[str, Integers]
    lost: dict[str, Integers]


def _sum_groups(record: Floats, columns: dict[str, _Columns]) -> _Found:
    """Return the moments of each group of columns; of a tensor's, also its tail and the nets that are lost."""
    nets, layers, _ = record.shape
    columns = dict(sorted(columns.items(), key=lambda item: item[1][compiled.SQUARE] == compiled.NO_COLUMN))
    table = np.array(list(columns.values()), np.int64).reshape(-1, 4)
    groups, most = len(table), int(table[:, compiled.NUMBERS].max(initial=1))
    count, exponent, lost = np.zeros((3, groups, layers), np.int64)
    mean, comoment = np.zeros((groups, layers, most)), np.zeros((groups, layers, most, most))
    tensors = int((table[:, compiled.SQUARE] != compiled.NO_COLUMN).sum())
    tails, rows = np.empty((tensors, nets * layers, 3), np.int64), np.zeros(tensors, np.int64)
    compiled.sum_record()(record, table, count, mean, comoment, exponent, lost, tails, rows)
    found = _Found({}, {}, {})
    for g, (name, (_, numbers, _, square)) in enumerate(columns.items()):
        part = (count[g], mean[g, :, :numbers].copy(), comoment[g, :, :numbers, :numbers].copy(), exponent[g])
        found.moments[name] = Moments(*part)
        if square != compiled.NO_COLUMN:
            found.tails[name], found.lost[name] = tails[g, : rows[g]].copy(), lost[g]
    return found


def _pivots(quantity: Quantity, pivots: Floats) -> Floats:
    return pivots if quantity.tensor == "activation" else np.zeros_like(pivots)


def per_net(quantity: Quantity, record: Floats, *, sizes: Mapping[str, Floats], pivots: Floats) -> Floats:
    """Return a quantity of every net, (nets, layers); what one net's variance or kurtosis is, is within the net."""
    if quantity.statistic == "log10_norm":
        log2 = _log2_mean_square(record, r.TENSORS[quantity.tensor])
        return 0.5 * LOG10_OF_2 * (log2 + np.log2(sizes[quantity.tensor]))
    if quantity.kind in ("fraction", "value"):
        return record[..., quantity.columns[0]]
    tensor = r.TENSORS[quantity.tensor]
    exponents = _exponents(record, tensor)
    if quantity.kind == "mean_square":
        return _times_power_of_two(record[..., tensor + r.SQUARE], 2 * exponents)
    pivot = _times_power_of_two(_pivots(quantity, pivots), -exponents)
    value, _ = _from_powers(quantity.kind, record[..., tensor : tensor + quantity.order], pivot)
    return _times_power_of_two(value, _POWER[quantity.kind] * exponents)


_POWER = {"mean": 1, "mean_square": 2, "variance": 2, "kurtosis": 0}  # of the unit of the values


def _from_powers(kind: str, a: Floats, pivot: Floats) -> tuple[Floats, Floats]:
    """Return a statistic and its gradient, given the mean powers about the pivot (..., k)."""
    gradient = np.zeros_like(a)
    a1, a2 = a[..., 0], a[..., 1]
    if kind == "mean":
        gradient[..., 0] = 1.0
        return pivot + a1, gradient
    if kind == "mean_square":
        gradient[..., 0], gradient[..., 1] = 2.0 * pivot, 1.0
        return a2 + pivot * (2.0 * a1 + pivot), gradient
    variance = a2 - a1**2
    if kind == "variance":
        gradient[..., 0], gradient[..., 1] = -2.0 * a1, 1.0
        return variance, gradient
    a3, a4 = a[..., 2], a[..., 3]
    fourth = a4 - 4.0 * a1 * a3 + 6.0 * a1**2 * a2 - 3.0 * a1**4
    with np.errstate(divide="ignore", invalid="ignore"):
        kurtosis = np.where(variance > 0, fourth / variance**2, np.nan)
        gradient[..., 0] = (-4.0 * a3 + 12.0 * a1 * a2 - 12.0 * a1**3) / variance**2 + 4.0 * a1 * kurtosis / variance
        gradient[..., 1] = 6.0 * a1**2 / variance**2 - 2.0 * kurtosis / variance
        gradient[..., 2] = -4.0 * a1 / variance**2
        gradient[..., 3] = 1.0 / variance**2
    return kurtosis, gradient


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
    value, gradient = _from_powers(quantity.kind, a, _times_power_of_two(_pivots(quantity, pivots), -group.exponent))
    if quantity.kind == "variance":
        value = value + np.nan_to_num(covariance[:, 0, 0])  # the square of the mean is too large by its variance
    error = np.sqrt(np.maximum(np.einsum("lp,lpq,lq->l", gradient, covariance, gradient), 0.0))
    tail = sums.tails[quantity.tensor]
    if quantity.kind == "mean":
        ends = _symmetric(value, error, group.count, quantile)
    else:
        ends = _log_symmetric(value, error, quantile(group.count, degrees_of_freedom(tail, group.count)))
    unit = _POWER[quantity.kind] * group.exponent
    numbers = (value, error, *ends)
    scaled = [_times_power_of_two(x, unit) for x in numbers]
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


def relative_error(quantity: Quantity, found: Estimate, smallest_fraction: float) -> Floats:
    """Return how far the further end of each interval is from the estimate, by the estimate; inf without either.

    Of a log10 norm it is that of the norm, whose natural log moves as much. That of a fraction below
    ``smallest_fraction`` is by that: a fraction of 0 has no relative error, and one of 10^-6 none that can be reached.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = np.maximum(found.ci_high - found.estimate, found.estimate - found.ci_low)
        size = np.abs(found.estimate)
        if quantity.statistic == "log10_norm":
            size = np.full_like(size, math.log10(math.e))
        elif quantity.kind == "fraction":
            size = np.maximum(size, smallest_fraction)
        relative = np.where(distance == 0, 0.0, distance / size)
    return np.where(np.isnan(relative), np.inf, relative)


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
