"""The sums over nets of a record that lies on the device: only they, and what is kept of each net, come to the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.cuda import over_nets, shim
from stabsim.cuda.block import shared_bytes, threads_for
from stabsim.cuda.over_nets import COUNTS, FOUND, LOST, MOST, PAIRS, UNIT, Norms, Tails, Work
from stabsim.kernels import record as r
from stabsim.kernels.sums import NO_COLUMN, NUMBERS, SQUARE
from stabsim.moments import Floats, Integers, Moments, Parts, Sums, columns_of_groups, gather, sum_groups
from stabsim.quantities import Quantity


def summarize(
    record: shim.Array,
    quantities: tuple[Quantity, ...],
    *,
    sizes: Mapping[str, Floats],
    pivots: Floats,
    blank: Floats | None = None,
    samples: tuple[Quantity, ...] = (),
    histograms: Mapping[str, Integers] | None = None,
) -> Sums:
    """Return what `stabsim.moments.summarize` returns, of a record (nets, layers, columns) on the device.

    Counts, exponents and tails are the same; means and comoments are the same but for rounding.
    """
    found = sum_groups(record, columns_of_groups(quantities, sizes, blank), sum_table)
    return gather(
        found, _sum_norms(record, quantities, sizes), OnHost(record), quantities, sizes=sizes, pivots=pivots,
        blank=blank, samples=samples, histograms=histograms,
    )  # fmt: skip


@dataclass(frozen=True)
class OnHost:
    """A record on the device, of which the columns that are asked for are copied to the host."""

    record: shim.Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (nets, layers, columns)."""
        return tuple(self.record.shape)

    def __getitem__(self, place: Any) -> NDArray[Any]:
        """Return a copy of what is there."""
        return shim.to_host(self.record[place])


def sum_table(record: shim.Array, table: Integers) -> Parts:
    """Sum the groups of a record: `stabsim.moments.SumTable`."""
    nets, layers, _ = record.shape
    groups = len(table)
    counts = shim.zeros((COUNTS, groups, layers), np.int64)
    mean, products = shim.zeros((groups, layers, MOST), np.float64), shim.zeros((groups, layers, PAIRS), np.float64)
    threads = threads_for(nets)
    work = Work(record, shim.to_device(table), counts, mean, products)
    over_nets.sum_nets(_blocks(groups, record), threads, work, shared=shared_bytes(threads))
    found = shim.to_host(counts)
    comoment = np.zeros((groups, layers, MOST, MOST))
    rows, columns = np.tril_indices(MOST)
    comoment[..., rows, columns] = comoment[..., columns, rows] = shim.to_host(products)
    tails = _tails(record, table[table[:, SQUARE] != NO_COLUMN])
    return Parts(found[FOUND], shim.to_host(mean), comoment, found[UNIT], found[LOST], tails)


def _blocks(groups: int, record: shim.Array) -> int:
    """Return the blocks for each group at each layer: none where there are no nets."""
    nets, layers, _ = record.shape
    return int(groups * layers * min(nets, 1))


def _tails(record: shim.Array, tensors: Integers) -> list[Integers]:
    """Return the tail of each tensor: its rows are counted first, and written when it is known where each belongs."""
    nets, layers, _ = record.shape
    wanted = np.flatnonzero(tensors[:, NUMBERS] > 0)
    groups = shim.to_device(tensors[wanted])
    rows = shim.zeros((len(wanted), layers), np.int64)

    def launch(first: Integers, table: shim.Array, written: bool) -> None:
        tails = Tails(record, groups, shim.to_device(first), rows, table)
        over_nets.count_tails(_blocks(len(wanted), record), threads_for(nets), tails, written)

    launch(np.zeros((len(wanted), layers), np.int64), shim.zeros((1, 3), np.int64), False)
    last = np.cumsum(shim.to_host(rows)).reshape(len(wanted), layers)
    first = last - shim.to_host(rows)
    table = shim.zeros((int(last.max(initial=0)) + 1, 3), np.int64)  # one row more: an array of none has no address
    launch(first, table, True)
    written = shim.to_host(table)
    found = [np.empty((0, 3), np.int64)] * len(tensors)
    for g, place in enumerate(wanted):
        found[place] = written[first[g, 0] : last[g, -1]].copy()
    return found


def _sum_norms(record: shim.Array, quantities: tuple[Quantity, ...], sizes: Mapping[str, Floats]) -> dict[str, Moments]:
    """Return the moments of the logarithms of norms."""
    wanted = [q for q in quantities if q.log10_norm]
    nets, layers, _ = record.shape
    starts = [r.ALL_TENSORS[q.tensor] for q in wanted]
    table = [(start, 1, start + r.EXPONENT, start + r.SQUARE) for start in starts]
    log2_sizes = np.array([np.log2(sizes[q.tensor]) for q in wanted]).reshape(-1, layers)
    out = shim.empty((nets, layers, len(wanted)), np.float64)
    groups = np.array(table, np.int64).reshape(-1, 4)
    norms = Norms(record, shim.to_device(groups), shim.to_device(log2_sizes), out)
    over_nets.write_norms(_blocks(min(len(wanted), 1), record), threads_for(nets), norms)
    columns = {q.group: (place, 1, NO_COLUMN, NO_COLUMN) for place, q in enumerate(wanted)}
    return sum_groups(out, columns, sum_table).moments
