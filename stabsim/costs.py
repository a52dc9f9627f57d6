"""Costs: core time and bytes of chunks that are not simulated yet, predicted from their plans alone.

Time is what the sampler says of a net, whose prices are those of one core of an AMD EPYC. Bytes are those of the arrays
of a chunk, whose shapes follow from the plan; but for the tails, which have a row for each bin of log2 of a mean square
that a net has fallen into: how many these are follows from how far the mean squares of nets are apart, about.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stabsim.chunk import encode
from stabsim.devices import CPU
from stabsim.kernels import record as r
from stabsim.kernels.sums import BINS_PER_OCTAVE
from stabsim.moments import numbers_of_groups
from stabsim.plan import Plan
from stabsim.work import Chunk, Work

Shapes = dict[str, tuple[int, ...]]
Floats = NDArray[np.float64]

TAIL_ROW = 3  # layer, bin, nets
ITEM = 8  # bytes of a number
# Of the variance over nets of the logarithm of a mean square: what a layer adds, times its width (exact for ReLU and
# linear f and one sample; the exact laws of other f differ little), of which samples of a batch have a part in common.
SPREAD_BENT = 5.0
SPREAD = 2.0
SHARED = 0.3
KEPT = 0.6  # of what was there before, where f is bounded
REACH = 8  # standard deviations to either side within which bins are counted
STEPS = 65  # of what is counted there


@dataclass(frozen=True)
class Cost:
    """What it costs to simulate and store something.

    Parameters
    ----------
    nanoseconds : float
        Of one core.
    bytes : float
        Of files.

    Examples
    --------
    >>> (Cost(2e9, 1000) + Cost(1e9, 500)).seconds
    3.0
    """

    nanoseconds: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.nanoseconds + other.nanoseconds, self.bytes + other.bytes)

    @property
    def seconds(self) -> float:
        """Return the seconds of one core."""
        return self.nanoseconds / 1e9


def predict(work: Work, chunks: Iterable[Chunk]) -> Cost:
    """Return what some of the chunks of a case cost; nothing is simulated or read.

    Those for a GPU take bytes, and no time of a core; that of a GPU is not predicted.

    Parameters
    ----------
    work : Work
        The case.
    chunks : iterable of Chunk
        Some of its chunks.

    Examples
    --------
    >>> from stabsim import Network
    >>> from stabsim.arguments import make_task
    >>> from stabsim.study import Case
    >>> task = make_task(Network((64,) * 11, "relu", "he_normal"), quantities=("activation_mean_square",))
    >>> work = Work(Case(task, 10_000))
    >>> cost = predict(work, work.chunks)
    >>> 0.01 < cost.seconds < 1, 1e4 < cost.bytes < 1e5
    (True, True)
    """
    on_cpu = work.case.task.device == CPU
    nanoseconds = work.plan.sampler.nanoseconds(work.plan.task) if on_cpu else 0.0
    known: dict[str, float] = {}  # chunks of one text have as many nets
    total = Cost()
    for chunk in chunks:
        nets = chunk.last - chunk.first
        if chunk.text not in known:
            known[chunk.text] = bytes_of_chunk(work.plan, nets)
            total += Cost(bytes=len(chunk.text) + 1)  # task.json
        total += Cost(nets * nanoseconds, known[chunk.text])
    return total


def bytes_of_chunk(plan: Plan, nets: int) -> float:
    """Return about how many bytes the file of a chunk has."""
    shapes, rows = shapes_of(plan, nets), tail_rows(plan, nets)
    empty = encode("00" * 16, 0, 1, {name: np.empty(0) for name in (*shapes, *(f"tails.{name}" for name in rows))})
    return len(empty) + ITEM * (sum(map(math.prod, shapes.values())) + TAIL_ROW * sum(rows.values()))


def shapes_of(plan: Plan, nets: int) -> Shapes:
    """Return the shapes of ``Sums.to_arrays()`` for so many nets, but for those of tails."""
    task, layers = plan.task, len(plan.widths)
    shapes: Shapes = {"nets": ()}
    for name, numbers in numbers_of_groups(task.table_quantities).items():
        parts = {"count": (), "mean": (numbers,), "comoment": (numbers, numbers), "exponent": ()}
        shapes |= {f"group.{name}.{part}": (layers, *shape) for part, shape in parts.items()}
    shapes |= {f"histograms.{tensor}": plan.no_counts().shape[1:] for tensor, _ in task.histograms}
    shapes |= {f"samples.{quantity.name}": (nets, layers) for quantity in task.sample_quantities}
    return shapes | {f"lost.{name}": (layers,) for name in plan.sizes if recorded(plan, name).any()}


def recorded(plan: Plan, tensor: str) -> NDArray[np.bool_]:
    """Return at which layers a tensor's mean square is recorded."""
    return np.asarray(np.isfinite(plan.blank[:, r.ALL_TENSORS[tensor] + r.SQUARE]))


def tail_rows(plan: Plan, nets: int) -> dict[str, float]:
    """Return about how many rows the tail of each tensor has."""
    groups = numbers_of_groups(plan.task.table_quantities)
    return {
        tensor: float(occupied(spread(plan, tensor)[recorded(plan, tensor)], nets).sum())
        for tensor in r.ALL_TENSORS
        if tensor in groups
    }


def spread(plan: Plan, tensor: str) -> Floats:
    """Return about the variance over nets of the natural logarithm of a tensor's mean square, (layers,).

    What it starts from and each layer on its way add to it; most of it is lost on the way where f is bounded, and all
    where signals are normalized or inputs are new at each time step.
    """
    task, widths = plan.task, plan.widths.astype(np.float64)
    network = task.network
    straight, bent = network.activation.affine, network.activation.positively_homogeneous
    shared = SHARED if bent and not straight else 0.0
    a_sample = (SPREAD_BENT if shared else SPREAD) / widths
    a_layer = a_sample * (shared + (1.0 - shared) / task.batch)
    renewed = network.cell.recurrent or network.normalization is not None
    kept = 0.0 if renewed else 1.0 if straight or bent else KEPT
    given = [0.0 if end is not None else SPREAD / (width * task.batch)
             for end, width in ((task.inputs, widths[0]), (task.output_gradient, widths[-1]))]  # fmt: skip
    forward = _accumulated(a_layer, given[0], kept)
    together = a_sample if network.cell.recurrent else a_layer  # one W: samples and time steps meet the same
    backward = _accumulated(together[::-1], given[1], 1.0)[::-1]
    if tensor == "derivative":
        return 1.0 / (widths * task.batch)
    if tensor == "weight_gradient":
        return forward + backward
    return backward if tensor.endswith("gradient") else forward


def _accumulated(a_layer: Floats, start: float, kept: float) -> Floats:
    """Return what has come together by each layer, of which each layer keeps a part."""
    together = itertools.accumulate(a_layer[1:], lambda before, added: kept * before + added, initial=start)
    return np.fromiter(together, np.float64)


def occupied(variance: Floats, nets: int) -> Floats:
    """Return in how many bins of log2 so many nets fall on average, their logarithms being normal: (layers,)."""
    deviation = np.maximum(np.sqrt(variance) / math.log(2) * BINS_PER_OCTAVE, 1e-9)[:, None]  # in bins
    at = np.linspace(-REACH, REACH, STEPS)
    density = np.exp(-0.5 * at**2) / math.sqrt(2 * math.pi) / deviation
    bins = np.trapezoid(-np.expm1(-nets * density), at, axis=1) * deviation[:, 0]
    return np.asarray(np.clip(bins, 1.0, nets))
