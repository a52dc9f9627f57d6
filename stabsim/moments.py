"""Mergeable sums over nets.

Nets are independent and identically distributed, so everything rests on one object: the mean vector and the matrix
of central second moments, over nets, of a few numbers per net (`Moments`), merged by the pairwise formula of Chan,
Golub & LeVeque (1979).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.kernels import blocks
from stabsim.kernels import record as r
from stabsim.kernels import sums as compiled
from stabsim.quantities import Quantity

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


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
        columns = (0, numbers, compiled.NO_COLUMN, compiled.NO_COLUMN)
        if exponents is not None:
            values = np.concatenate([values, np.asarray(exponents, np.float64)[..., None]], axis=-1)
            columns = (0, numbers, numbers, compiled.NO_COLUMN)
        return sum_groups(values, {"": columns}, _sum_table).moments[""]

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
        powers = np.arange(1, self.mean.shape[-1] + 1)
        mean = times_power_of_two(self.mean, shift[:, None] * powers)
        together = powers[:, None] + powers[None, :]
        comoment = times_power_of_two(self.comoment, shift[:, None, None] * together)
        return Moments(self.count, mean, comoment, exponent)

    @property
    def covariance_of_mean(self) -> Floats:
        """Return the covariance matrix of the mean, (layers, k, k); NaN below two nets."""
        n = self.count[:, None, None].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(n > 1, self.comoment / ((n - 1) * n), np.nan)


def times_power_of_two(values: Floats, exponents: Integers) -> Floats:
    """Return ``values * 2**exponents``: exact, unless float64 cannot hold it."""
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.ldexp(values, np.clip(exponents, -5000, 5000).astype(np.int32)))


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


def _log2_mean_square(record: Any, tensor: int) -> Floats:
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
    found = sum_groups(record, columns_of_groups(quantities, sizes, blank), _sum_table)
    norms = {
        q.group: Moments.of(per_net(q, record, sizes=sizes, pivots=pivots)[..., None])
        for q in quantities
        if q.log10_norm
    }
    return gather(
        found, norms, record, quantities, sizes=sizes, pivots=pivots, blank=blank, samples=samples,
        histograms=histograms,
    )  # fmt: skip


def gather(
    found: Found,
    norms: Mapping[str, Moments],
    record: Any,
    quantities: tuple[Quantity, ...],
    *,
    sizes: Mapping[str, Floats],
    pivots: Floats,
    blank: Floats | None,
    samples: tuple[Quantity, ...],
    histograms: Mapping[str, Integers] | None,
) -> Sums:
    """Return as `Sums` what was found of a record, with ``norms``, the moments of logarithms of norms.

    Of the record, no more is read than its shape, and the columns of samples and of users' own fractions.
    """
    for q in (*quantities, *samples):
        _check_fraction(q, record)
    groups = {q.group: norms[q.group] if q.log10_norm else found.moments[q.group] for q in quantities}
    kept = {q.name: np.array(per_net(q, record, sizes=sizes, pivots=pivots)) for q in samples}
    exists = _existing(sizes, blank)
    lost = {name: np.where(layers, found.lost[name], 0) for name, layers in exists.items()}
    tails = {name: found.tails[name] for name in r.ALL_TENSORS if name in groups}
    return Sums(record.shape[0], groups, tails, dict(histograms or {}), kept, lost)


def _existing(sizes: Mapping[str, Floats], blank: Floats | None) -> dict[str, NDArray[np.bool_]]:
    """Return the layers where each tensor is recorded, of those that are at any."""
    starts = {name: r.ALL_TENSORS[name] + r.SQUARE for name in sizes}
    tensors = {} if blank is None else {name: np.isfinite(blank[:, column]) for name, column in starts.items()}
    return {name: layers for name, layers in tensors.items() if layers.any()}


def _check_fraction(quantity: Quantity, record: Any) -> None:
    """Refuse a user's own fraction that is none."""
    if quantity.function is not None and quantity.kind == "fraction":
        values = record[..., quantity.columns[0]]
        if (wrong := values[(values < 0.0) | (values > 1.0 + 1e-9)]).size:
            raise ValueError(
                f"quantity {quantity.name!r} is a fraction, from 0 to 1, but its function gives {wrong[0]:.6g}: "
                "other numbers are of kind 'value'"
            )


Columns = tuple[int, int, int, int]  # of a group: see kernels/sums.py


def columns_of_groups(
    quantities: tuple[Quantity, ...], sizes: Mapping[str, Floats], blank: Floats | None
) -> dict[str, Columns]:
    """Return the columns of each group to be summed; of tensors that only exist, for the nets that are lost."""
    return {name: _tensor_columns(name, 0) for name in _existing(sizes, blank)} | _columns(quantities)


def _columns(quantities: tuple[Quantity, ...]) -> dict[str, Columns]:
    """Return the columns of each group that is summed as it was recorded."""
    columns: dict[str, Columns] = {}
    for quantity in quantities:
        group = quantity.group
        if quantity.kind not in ("fraction", "value"):
            order = columns[group][compiled.NUMBERS] if group in columns else 0
            columns[group] = _tensor_columns(group, max(order, quantity.order))
        elif not quantity.log10_norm:
            columns[group] = (quantity.columns[0], 1, compiled.NO_COLUMN, compiled.NO_COLUMN)
    return columns


def numbers_of_groups(quantities: tuple[Quantity, ...]) -> dict[str, int]:
    """Return of each group that `summarize` makes, in no particular order, how many numbers of a net it holds."""
    norms = {quantity.group: 1 for quantity in quantities if quantity.log10_norm}
    return norms | {group: columns[compiled.NUMBERS] for group, columns in _columns(quantities).items()}


def _tensor_columns(name: str, order: int) -> Columns:
    start = r.ALL_TENSORS[name]
    return start, order, start + r.EXPONENT, start + r.SQUARE


@dataclass(frozen=True)
class Found:
    """Of the groups of a record: moments; of tensors also tails, and the nets that are lost."""

    moments: dict[str, Moments]
    tails: dict[str, Integers]
    lost: dict[str, Integers]


@dataclass(frozen=True)
class Parts:
    """The sums of a record's groups as arrays: what `kernels.sums.sum_record` writes, in its order and shapes.

    Only the rows of tails that are used are here, and there may be more numbers than a group has.
    """

    count: Integers
    mean: Floats
    comoment: Floats
    exponent: Integers
    lost: Integers
    tails: list[Integers]


SumTable = Callable[[Any, Integers], Parts]  # of a record and its groups (groups, 4), on the device where it lies


def sum_groups(record: Any, columns: Mapping[str, Columns], sum_table: SumTable) -> Found:
    """Return the sums of each group of columns of a record."""
    columns = dict(sorted(columns.items(), key=lambda item: item[1][compiled.SQUARE] == compiled.NO_COLUMN))
    parts = sum_table(record, np.array(list(columns.values()), np.int64).reshape(-1, 4))
    found = Found({}, {}, {})
    for g, (name, (_, numbers, _, square)) in enumerate(columns.items()):
        mean, comoment = parts.mean[g, :, :numbers].copy(), parts.comoment[g, :, :numbers, :numbers].copy()
        found.moments[name] = Moments(parts.count[g], mean, comoment, parts.exponent[g])
        if square != compiled.NO_COLUMN:
            found.tails[name], found.lost[name] = parts.tails[g], parts.lost[g]
    return found


def _sum_table(record: Floats, table: Integers) -> Parts:
    """Sum the groups of a record on the processor."""
    nets, layers, _ = record.shape
    groups, most = len(table), int(table[:, compiled.NUMBERS].max(initial=1))
    count, exponent, lost = np.zeros((3, groups, layers), np.int64)
    mean, comoment = np.zeros((groups, layers, most)), np.zeros((groups, layers, most, most))
    tensors = int((table[:, compiled.SQUARE] != compiled.NO_COLUMN).sum())
    tails, rows = np.empty((tensors, nets * layers, 3), np.int64), np.zeros(tensors, np.int64)
    compiled.sum_record()(record, table, count, mean, comoment, exponent, lost, tails, rows)
    used = [tail[:row].copy() for tail, row in zip(tails, rows, strict=True)]
    return Parts(count, mean, comoment, exponent, lost, used)


def pivots_of(quantity: Quantity, pivots: Floats) -> Floats:
    """Return about what the powers of a quantity's tensor are summed: the pivots if it is the activation, else 0."""
    return pivots if quantity.tensor == "activation" else np.zeros_like(pivots)


def per_net(quantity: Quantity, record: Any, *, sizes: Mapping[str, Floats], pivots: Floats) -> Floats:
    """Return a quantity of every net, (nets, layers); what one net's variance or kurtosis is, is within the net."""
    if quantity.log10_norm:
        log2 = _log2_mean_square(record, r.ALL_TENSORS[quantity.tensor])
        return 0.5 * blocks.LOG10_OF_2 * (log2 + np.log2(sizes[quantity.tensor]))
    if quantity.kind in ("fraction", "value"):
        return np.asarray(record[..., quantity.columns[0]])
    tensor = r.ALL_TENSORS[quantity.tensor]
    exponents = np.nan_to_num(record[..., tensor + r.EXPONENT]).astype(np.int64)
    if quantity.kind == "mean_square":
        return times_power_of_two(record[..., tensor + r.SQUARE], 2 * exponents)
    pivot = times_power_of_two(pivots_of(quantity, pivots), -exponents)
    value, _ = statistic(quantity.kind, record[..., tensor : tensor + quantity.order], pivot)
    return times_power_of_two(value, POWER_OF_UNIT[quantity.kind] * exponents)


# In which power of the unit of the values each statistic is.
POWER_OF_UNIT = {"mean": 1, "mean_square": 2, "variance": 2, "kurtosis": 0}


@np.errstate(over="ignore", invalid="ignore")
def statistic(kind: str, a: Floats, pivot: Floats) -> tuple[Floats, Floats]:
    """Return a statistic of values and its gradient, given their mean powers about the pivot (..., k)."""
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
