"""Task -> plan: the arguments of the kernel, the layout of its buffers, and how many nets make a chunk."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.activations import Activation
from stabsim.activations.compiled import block
from stabsim.clipping import KINDS as CLIPPINGS
from stabsim.clipping import Clipping
from stabsim.cuda import ensemble
from stabsim.devices import CPU
from stabsim.kernels import laws, layer
from stabsim.kernels import record as r
from stabsim.kernels.signature import Ask, Clip, Format, Given, Memory, Problem, Structure
from stabsim.moments import Sums, summarize
from stabsim.network import Network
from stabsim.number_formats import NumberFormat
from stabsim.own_statistics import compiled
from stabsim.quantities import QUANTITIES, WEIGHT_TENSORS
from stabsim.samplers import sampler_of
from stabsim.samplers.base import CACHE_LINE, Layout, Sampler
from stabsim.structures import GATES, NORMALIZATIONS, PLACES, Cell, Gate, Skip
from stabsim.task import Task
from stabsim.threads import check_memory, single_threaded_blas

Buffers = tuple[NDArray[Any], ...]

RECORD_BYTES = 2**25  # of one chunk
CHUNK_NANOSECONDS = 1e9  # of one chunk, on one core
LARGEST_CHUNK = 4096
# Of one chunk that a GPU makes: it does at least a hundred times as much in a second as a core ...
GPU_CHUNK_NANOSECONDS = 100 * CHUNK_NANOSECONDS
GPU_RECORD_BYTES = 2**28  # ... if it has hundreds of nets at a time: 2^25 bytes are those of 65 nets of 1000 layers
PIECES = (
    2  # of a chunk, for each thread; with eight, small nets take 7% more time: they wait for the interpreter's lock
)
MODERATE = 20  # weights of scale 2^-20 .. 2^20 are held as they are, others with a power of two apart


@dataclass(frozen=True)
class Plan:
    """How a task is run; a pure function of the task, so that chunks are the same wherever they are made."""

    task: Task

    def __reduce__(self) -> tuple[type[Plan], tuple[Task]]:
        """Pickle the task alone: what follows from it may be compiled, and is made where it is needed."""
        return Plan, (self.task,)

    @cached_property
    def widths(self) -> NDArray[np.int64]:
        """Return the widths, (depth + 1,)."""
        return np.array(self.task.network.widths, np.int64)

    @cached_property
    def blank(self) -> NDArray[np.float64]:
        """Return the record of a net before it is run: 0 where a column is wanted, NaN elsewhere."""
        blank = np.tile(np.where(self.task.wanted, 0.0, np.nan), (len(self.widths), 1))
        task = self.task
        known = (*(q for q in QUANTITIES.values() if not q.missing(task.batch, task.features)), *task.functions)
        nowhere = [c for q in known if q.first_layer == 1 for c in q.own_columns]
        kept = [c for q in known if q.first_layer == 0 for c in q.own_columns]
        blank[0, sorted(set(nowhere) - set(kept))] = np.nan
        if "jacobian" in task.features and not self.sampler.draws_weights:  # of dz_L/dz_0 only
            blank[1:, r.JACOBIAN : r.WIDTHS["jacobian"]] = np.nan
        if task.network.cell.recurrent:  # one dW, of all time steps
            once = [c for q in known if q.tensor == "weight_gradient" for c in q.columns]
            blank[2:, once] = np.nan
        return blank

    @cached_property
    def pivots(self) -> NDArray[np.float64]:
        """Return, per layer, a value near the mean activation, about which powers are summed: f(0)."""
        if self.task.network.cell.kind in r.GATES:
            return np.zeros(len(self.widths))
        pivots = np.full(len(self.widths), self.task.network.activation.evaluate("f", 0.0))
        inputs = None if self.task.network.cell.recurrent else self.task.inputs
        pivots[0] = 0.0 if inputs is None else inputs.mean()
        return pivots

    @cached_property
    def sizes(self) -> dict[str, NDArray[np.float64]]:
        """Return, per tensor and layer, how many squares add up to the squared norm."""
        units = self.widths.astype(np.float64)
        if self.task.network.cell.recurrent:
            return self._cell_sizes
        weights = np.concatenate([[np.nan], units[:-1] * units[1:]])
        named = [*r.TENSORS, "clipped_gradient"] if self.task.clipping else r.TENSORS
        sizes = {tensor: weights if tensor in WEIGHT_TENSORS else units for tensor in named}
        return sizes | {"singular_value": np.minimum(units, units[-1])} if "jacobian" in self.task.features else sizes

    @property
    def _cell_sizes(self) -> dict[str, NDArray[np.float64]]:
        network, steps = self.task.network, len(self.widths)
        inputs, state = network.widths[:2]
        gates = r.GATES.get(network.cell.kind, ())
        named = {"input": inputs, "input_gradient": inputs} | dict.fromkeys(r.TENSORS, state)
        named |= dict.fromkeys(("preactivation", "preactivation_gradient"), len(network.fans) // 2 * state)
        named["weight_gradient"] = sum(fan_in * fan_out for fan_in, fan_out in network.fans)
        for gate in gates:
            named |= {gate: state, f"{gate}_gradient": state}
        if network.cell.kind == "lstm":
            named |= {"cell_state": state, "cell_state_gradient": state}
        return {tensor: np.full(steps, float(size)) for tensor, size in named.items()}

    @cached_property
    def chunk_nets(self) -> int:
        """Return how many nets make a chunk: a power of two."""
        bytes_a_net = 8 * self.blank.size
        nanoseconds = self.sampler.nanoseconds(self.task)
        time, space = CHUNK_NANOSECONDS, RECORD_BYTES
        if self.task.device != CPU:
            time, space = GPU_CHUNK_NANOSECONDS, GPU_RECORD_BYTES
        most = min(LARGEST_CHUNK, time / nanoseconds, space / bytes_a_net)
        return 1 << math.floor(math.log2(max(most, 1.0)))

    def chunks(self, nets: int, done: int = 0) -> list[tuple[int, int]]:
        """Return the ranges [first, last) of nets that make up the first ``nets``, but for those that are ``done``."""
        step = self.chunk_nets
        return [(first, min(first + step, nets)) for first in range(done, nets, step)]

    @cached_property
    def sampler(self) -> Sampler:
        """Return what draws the nets."""
        return sampler_of(self.task)

    @cached_property
    def layout(self) -> Layout:
        """Return where the sampler keeps what it works on."""
        return self.sampler.layout(self.task)

    def allocate(self, layout: Layout, threads: int = 1) -> list[Buffers]:
        """Return the buffers of each thread.

        Raises
        ------
        MemoryError
            If they do not fit into the memory that is free.
        """
        needed = sum(layout.lengths) * self.task.dtype.itemsize * threads
        check_memory(f"{threads} nets at a time", needed, "widths, depth, batch or threads")
        return [tuple(aligned(size, self.task.dtype) for size in layout.lengths) for _ in range(threads)]

    @cached_property
    def functions(self) -> tuple[Any, ...]:
        """Return the functions that a net is made of, and what sees its tensors, all compiled."""
        network, dtype = self.task.network, self.task.dtype
        return (
            laws.law("normal", dtype),
            block(network.activation, dtype),
            laws.of_matrices(tuple(law.law for law in network.laws), dtype),
            laws.law(network.weights.bias_law, dtype),
            compiled(self.task.functions, dtype),
        )

    @cached_property
    def problem(self) -> Problem:
        """Return what a net is beside them, as the kernel takes it."""
        network, dtype = self.task.network, self.task.dtype
        scales = [0.0, *network.weight_stds]
        biases = [0.0] + [network.weights.bias_std(fan_in, network.bias_std) for fan_in, _ in network.fans]
        exponents = np.frexp(scales)[1]
        exponents = np.where((np.abs(exponents) > MODERATE) & (network.cell.kind not in r.GATES), exponents, 0)
        return Problem(
            widths=self.widths,
            batch=self.task.batch,
            shape=shape_of(network.activation),
            homogeneous=network.activation.positively_homogeneous and not any(biases),
            orthogonal=network.laws[-1].law == "orthogonal",
            weight_scale=np.ldexp(scales, -exponents).astype(dtype),
            weight_exponent=exponents.astype(np.int64),
            bias_scale=np.array(biases).astype(dtype),
            bias_mean=bias_means(network.cell, dtype),
            structure=structure_of(network),
            format=format_of(self.task.number_format, self.task.loss_scale),
            clip=clip_of(self.task.clipping),
        )

    @cached_property
    def given(self) -> Given:
        """Return the user's inputs and output gradient as the kernel takes them, each with its exponent."""
        inputs = self.task.inputs
        rows = None if inputs is None else inputs.reshape(len(inputs), -1)  # those of all time steps side by side
        ends = (rows, self.task.output_gradient)
        return Given(*(part for array in ends for part in _with_exponent(array, self.task.dtype)))

    @cached_property
    def ask(self) -> Ask:
        """Return what is asked of each net, with counters for its histograms (tensor, layer, bins + 2)."""
        bins = np.zeros((len(r.OBSERVED), 2))
        for tensor, (low, high, number) in self.task.histograms:
            bins[r.OBSERVED.index(tensor)] = low, number / (high - low)
        return Ask(
            wanted=self.task.wanted,
            weight_gradients=self.task.weight_gradients,
            backward=self.task.backward,
            looking=self.task.wants(r.LOOKED_AT),
            saturation=self.task.saturation,
            pivots=self.pivots,
            observing=bool(self.task.histograms or self.task.functions),
            bins=bins,
            counts=self.no_counts(),
            blank=self.blank,
        )

    def no_counts(self) -> NDArray[np.int64]:
        """Return counters for the histograms of a task, all 0."""
        bins = max((number + 2 for _, (_, _, number) in self.task.histograms), default=0)
        return np.zeros((len(r.OBSERVED), len(self.widths), bins), np.int64)

    def start(self, first: int, last: int, team: Team) -> Callable[[], Sums]:
        """Set the team to nets ``first`` .. ``last - 1``; the function returned waits and gives their sums."""
        whole = team.records.get()
        record = whole[: last - first]
        pieces = min(len(record), PIECES * team.threads)
        edges = [len(record) * i // pieces for i in range(pieces + 1)]

        def piece(start: int, stop: int) -> NDArray[np.int64]:
            counts = self.no_counts()
            buffers = team.buffers.get()
            try:
                self.simulate(first + start, buffers, record[start:stop], counts=counts)
            finally:
                team.buffers.put(buffers)
            return counts

        parts = team.pool.map(piece, edges[:-1], edges[1:])

        def finish() -> Sums:
            counts = np.sum(list(parts), axis=0)
            histograms = {tensor: counts[r.OBSERVED.index(tensor)] for tensor, _ in self.task.histograms}
            sums = summarize(
                record, self.task.table_quantities, sizes=self.sizes, pivots=self.pivots, blank=self.blank,
                samples=self.task.sample_quantities, histograms=histograms,
            )  # fmt: skip
            team.records.put(whole)
            return sums

        return finish

    def run(self, chunks: Iterable[tuple[int, int]], threads: int) -> Generator[Sums]:
        """Return a generator of the sums of chunks, in their order; the threads are the CPU's: a GPU takes none."""
        if self.task.device == CPU:
            return self._run_on_threads(chunks, threads)
        return ensemble.run(self, chunks)

    def _run_on_threads(self, chunks: Iterable[tuple[int, int]], threads: int) -> Generator[Sums]:
        """Yield the sums of chunks; the threads simulate one while the one before is summed up."""
        with Team(self, threads) as team:
            finish: Callable[[], Sums] | None = None
            for first, last in chunks:
                following = self.start(first, last, team)
                if finish is not None:
                    yield finish()
                finish = following
            if finish is not None:
                yield finish()

    def simulate(
        self,
        first: int,
        buffers: Buffers,
        record: NDArray[np.float64],
        *,
        layout: Layout | None = None,
        counts: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64]:
        """Run as many nets as the record has rows, on this thread; return the exponents of the last one's buffers."""
        layout = layout or self.layout
        exponents = np.zeros_like(layout.offsets)
        memory = Memory(buffers, layout.offsets, exponents, layout.kept, layout.keeps_s, layout.ahead)
        run = self.sampler.kernel(self.task.dtype)
        seed, ask = np.uint64(self.task.seed), self.ask if counts is None else self.ask._replace(counts=counts)
        run(first, seed, *self.functions, self.problem, self.given, memory, ask, record)
        return exponents


def aligned(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an empty array that starts at a cache line: NumPy's need not, and then every wide load meets two."""
    memory = np.empty(size * dtype.itemsize + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + size * dtype.itemsize].view(dtype)


class Team:
    """Threads with their buffers, for the chunks of one plan; BLAS is kept to one thread within it."""

    def __init__(self, plan: Plan, threads: int) -> None:
        # Made before threads ask for them.
        _ = plan.functions, plan.problem, plan.given, plan.ask, plan.sampler.kernel(plan.task.dtype)
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="stabsim")
        self.buffers: SimpleQueue[Buffers] = SimpleQueue()
        for buffers in plan.allocate(plan.layout, threads):
            self.buffers.put(buffers)
        self.records: SimpleQueue[NDArray[np.float64]] = SimpleQueue()
        for _ in range(2):  # one is summed up while the other is filled
            self.records.put(np.empty((plan.chunk_nets, *plan.blank.shape)))
        self._blas = single_threaded_blas()

    def __enter__(self) -> Team:
        """Start."""
        self._blas.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop; what has not been started is dropped."""
        self.pool.shutdown(wait=True, cancel_futures=True)
        self._blas.__exit__(None, None, None)


def _with_exponent(array: NDArray[np.float64] | None, dtype: np.dtype[Any]) -> tuple[NDArray[Any], int]:
    """Return an array in the type of the simulation and the power of two to multiply it with; None: no rows."""
    if array is None:
        return np.empty((0, 0), dtype), 0
    exponent = int(np.frexp(np.abs(array).max())[1])
    if abs(exponent) <= MODERATE:
        exponent = 0
    return np.ldexp(array, -exponent).astype(dtype), exponent


def bias_means(cell: Cell, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the means of the biases of all gates; an RNN has none of that name."""
    return np.array([cell.gates.get(gate, Gate()).bias for gate in GATES[cell.kind]], dtype)


def structure_of(network: Network) -> Structure:
    """Return the normalization and the residual connections as the kernel takes them."""
    norm, skip = network.normalization, network.skip or Skip()
    starts = np.array(network.shortcuts, np.int64)
    ends, (arrivals,) = np.full_like(starts, -1), np.nonzero(starts >= 0)
    ends[starts[arrivals]] = arrivals
    return Structure(
        normalization=0 if norm is None else 1 + NORMALIZATIONS.index(norm.kind),
        epsilon=0.0 if norm is None else norm.epsilon,
        starts=starts,
        ends=ends,
        place=PLACES.index(skip.activation),
        branch=skip.branch,
        shortcut=skip.shortcut,
    )


def format_of(number_format: NumberFormat | None, loss_scale: float) -> Format:
    """Return a number format as the kernels take it; none is one without bits."""
    if number_format is None:
        return Format(0, 0, math.inf, True, 0)
    least, loss = (int(math.log2(power)) for power in (number_format.smallest_normal, loss_scale))
    return Format(number_format.fraction_bits, least, number_format.largest, number_format.infinity, loss)


def clip_of(clipping: Clipping | None) -> Clip:
    """Return a clipping as the kernels take it; none has the code 0."""
    if clipping is None:
        return Clip(0, math.inf, 0.0)
    return Clip(1 + CLIPPINGS.index(clipping.kind), clipping.bound, clipping.epsilon)


@lru_cache(maxsize=256)
def shape_of(activation: Activation) -> NDArray[np.float64]:
    """Return (slope, offset) below and above 0, of f near 0 (if f(0) = 0) and far from it, NaN where it has none."""
    shape = np.full((3, 2, 2), np.nan)
    at_zero = activation.evaluate("f", 0.0)
    shape[layer.AT_ZERO] = activation.evaluate("derivative", 0.0), at_zero
    if at_zero == 0.0:
        nearer, near = (
            np.array([activation.evaluate("derivative", x) for x in (-size, size)]) for size in (2.0**-200, 2.0**-60)
        )
        if np.allclose(nearer, near, rtol=1e-12, atol=0.0):  # not so where f starts as a higher power, such as x^2
            shape[layer.NEAR] = np.column_stack([nearer, [0.0, 0.0]])
    if activation.asymptotes is not None:
        shape[layer.FAR] = activation.asymptotes
    return shape
