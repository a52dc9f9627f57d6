"""How nets are trained: everything that affects the answer, what the kernel takes of it, and the run over threads."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.activations import Activation
from stabsim.activations.compiled import block
from stabsim.clipping import Clipping
from stabsim.initializers import Initializer
from stabsim.kernels import laws, losses
from stabsim.kernels import record as r
from stabsim.kernels.learner import DOUBLES, LAYOUT, PARTS, Course, Memory, Problem, Watch
from stabsim.kernels.optimizers import RULES
from stabsim.kernels.trainer import trainer
from stabsim.kernels.training_record import COLUMNS
from stabsim.losses import Loss
from stabsim.network import Network
from stabsim.number_formats import FORMATS
from stabsim.plan import aligned, bias_means, clip_of, format_of, shape_of, structure_of
from stabsim.samplers.base import CACHE_LINE
from stabsim.threads import check_memory, single_threaded_blas
from stabsim.training.data import Regression, are_classes
from stabsim.training.optimizers import Optimizer
from stabsim.training.recorded import WATCHED, blank, signals_of, wanted
from stabsim.training.result import Trained
from stabsim.training.schedules import Schedule
from stabsim.training.shape import Shape

TOGETHER = 128  # samples that the loss of all is computed of at a time
PIECES = 8  # for each thread
PIECE_BYTES = 2**24  # of data
SATURATION = 0.01  # below this f' and the distance of f to its limit are saturated

Pair = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class Training:
    """How nets are trained: everything that affects the answer. `train` says what each is."""

    network: Network
    data: Regression | Pair
    test: Pair | None
    samples: int
    steps: int
    optimizer: Optimizer
    schedule: Schedule
    loss: Loss
    batch: int
    replaced: bool
    clipping: Clipping | None
    weight_decay: float
    seed: int
    record: tuple[int, ...]
    output_activation: Activation
    output_weights: Initializer
    train_biases: bool
    perturbation: float
    running_momentum: float
    normalize_output: bool
    precision: str
    loss_scale: float
    master_weights: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of all signals and parameters; those of a narrower format are held as float32."""
        return np.dtype(np.float32 if self.rounded else self.precision)

    @property
    def rows(self) -> int:
        """Return of how many samples there is room for the signals."""
        others = 0 if self.test is None else self.test[0].shape[1]
        return max(self.batch, min(max(self.samples, others), TOGETHER))

    @cached_property
    def shape(self) -> Shape:
        """Return the sizes of layers."""
        data = self.data
        return Shape(self.network, self.network.widths[-1] if isinstance(data, Regression) else data[1].shape[-1])

    @property
    def weight_stds(self) -> list[float]:
        """Return the standard deviation of a weight of each."""
        stds = self.network.weight_stds[: len(self.shape.matrices) - 1]
        return [*stds, self.output_weights.weight_std(*self.shape.matrices[-1])]

    @property
    def bias_stds(self) -> list[float]:
        """Return that of a bias."""
        return [self.network.weights.bias_std(fan_in, self.network.bias_std) for fan_in, _ in self.shape.matrices]

    @cached_property
    def normalized(self) -> NDArray[np.int64]:
        """Return 1 at each layer that is normalized, (depth + 1,): those with f, the last only if told."""
        network = self.network
        found = np.full(self.shape.depth + 1, int(network.normalization is not None), np.int64)
        found[0] = 0
        if network.skip is not None and network.skip.activation == "between":
            found[np.array(network.shortcuts) >= 0] = 0
        if not self.normalize_output:
            found[-1] = 0
        return found

    @property
    def parameters(self) -> int:
        """Return how long the vector of all parameters is."""
        fan_in, fan_out = self.shape.fans.T
        return side_by_side((fan_in + 1 + 2 * self.normalized[1:]) * fan_out)[1]

    @property
    def classes(self) -> bool:
        """Return whether targets are classes: a row has one 1 and else 0, or a single number is 0 or 1."""
        return not isinstance(self.data, Regression) and are_classes(self.data[1])

    @property
    def tested_classes(self) -> bool:
        """Return whether there are targets of a test, and they are classes."""
        return self.test is not None and are_classes(self.test[1])

    @property
    def rounded(self) -> bool:
        """Return whether numbers are rounded to a narrower format."""
        return self.precision in FORMATS

    @property
    def ends_without_f(self) -> bool:
        """Return whether the last layer ends a branch without f."""
        skip = self.network.skip
        return skip is not None and skip.activation == "between" and self.network.shortcuts[-1] >= 0

    @property
    def runs(self) -> bool:
        """Return whether there are running means and variances."""
        return self.network.normalization is not None and self.network.normalization.kind == "batch"

    def check_range(self) -> None:
        """Refuse numbers that the precision cannot hold."""
        named = [("weights of standard deviation", std) for std in self.weight_stds]
        named += [("biases of standard deviation", std) for std in self.bias_stds]
        named += [(f"bias of gate {name!r}", gate.bias) for name, gate in self.network.cell.gates.items()]
        named += [("perturbation", self.perturbation), ("weight_decay", self.weight_decay)]
        if self.clipping is not None:
            named += [("bound of clipping", self.clipping.bound)]
        limits = np.finfo(self.dtype)
        for what, size in named:
            if size != 0 and not float(limits.tiny) <= abs(size) <= float(limits.max):
                raise ValueError(f"{what} {size!r}: outside the normal range of {self.dtype.name}")
        self.optimizer.start(np.zeros(0, self.dtype))
        data = self.data
        if isinstance(data, Regression):
            largest = {"input_mean of data": abs(data.input_mean), "noise of data": data.noise}
        else:
            largest = {name: float(np.abs(side).max()) for name, side in zip(("inputs", "targets"), data, strict=True)}
        if self.test is not None:
            sides = zip(("inputs of test", "targets of test"), self.test, strict=True)
            largest |= {name: float(np.abs(side).max()) for name, side in sides}
        for what, size in largest.items():
            if size > float(limits.max):
                raise ValueError(f"{what} must be up to {limits.max:.3g}, what {self.precision} holds, not {size!r}")

    def check_memory(self, nets: int, keep_weights: bool, columns: int, watch: Watch, threads: int) -> None:
        """Refuse more than fits into memory."""
        item, widths = self.dtype.itemsize, self.shape.widths
        records = 8 * ((self.shape.depth + 1) * COLUMNS + (self.network.depth + 1) * columns)
        parameters = self.parameters * item + 16 * self.units * self.runs
        kept = nets * len(self.record) * (records + parameters * keep_weights)
        check_memory("records of all nets", kept, "nets, record, quantities or keep_weights")
        sides = int(widths[0] + widths[-1])
        own = self.samples * item * sides + self.data.bytes if isinstance(self.data, Regression) else 0
        shared = 0 if own else self.samples * item * sides
        shared += 0 if self.test is None else self.test[0].shape[1] * item * sides
        reals, doubles = (sum(sizes.values()) for sizes in self.sizes(watch))
        one = item * reals + 8 * (doubles + self.samples + self.steps) + own
        check_memory(f"{threads} nets at a time", kept + shared + threads * one, "widths, samples, batch or threads")

    @cached_property
    def problem(self) -> Problem:
        """Return what a net is, as the kernel takes it."""
        widths, fans = self.shape.widths, self.shape.fans
        weights = fans.prod(axis=1)
        sizes = weights + (1 + 2 * self.normalized[1:]) * widths[1:]
        moving = weights + (self.train_biases + 2 * self.normalized[1:]) * widths[1:]
        structure = structure_of(self.network)
        shapes = np.stack([shape_of(each) for each in (self.network.activation, self.output_activation)])
        layout = {
            "widths": widths, "weights_at": side_by_side(sizes)[0], "moving": np.concatenate([[0], moving]),
            "normalized": self.normalized, "signals_at": side_by_side(self.rows * widths)[0][1:],
            "units_at": side_by_side(self.unit_sizes)[0][1:], "fan_in": np.concatenate([[0], fans[:, 0]]),
        }  # fmt: skip
        return Problem(
            layout=np.stack([layout[name] for name in LAYOUT]), rows=self.rows,
            weight_scale=np.array([0.0, *self.weight_stds]).astype(self.dtype),
            bias_scale=np.array([0.0, *self.bias_stds]).astype(self.dtype),
            perturbation=self.perturbation, structure=structure, running_momentum=self.running_momentum,
            format=format_of(FORMATS.get(self.precision), self.loss_scale), master=self.master_weights, shape=shapes,
            gates=self.shape.gates, bias_mean=bias_means(self.network.cell, self.dtype),
        )  # fmt: skip

    @cached_property
    def rates(self) -> NDArray[np.float64]:
        """Return the learning rate of each step, (steps,)."""
        rate = self.optimizer.settings[0]
        return rate * self.schedule.factors(self.steps) if self.steps > 0 else np.empty(0)

    def course(self) -> Course:
        """Return how it is trained; the optimizer's settings change from step to step, so each thread has its own."""
        return Course(
            batch=self.batch, steps=self.steps, rates=self.rates, settings=np.array(self.optimizer.settings),
            remembered=RULES[self.optimizer.rule].memories, clip=clip_of(self.clipping),
            weight_decay=self.weight_decay, replaced=self.replaced,
        )  # fmt: skip

    def watch(self, quantities: tuple[str, ...]) -> Watch:
        """Return what is recorded, and when."""
        signals = signals_of(quantities)
        watched = {group: bool(set(names) & set(quantities)) for group, names in WATCHED.items()}
        return Watch(
            times=np.array(self.record, np.int64), classes=self.classes,
            middle=0.0 if self.loss.name == "logistic" else 0.5, signals=bool(signals), wanted=wanted(signals),
            blank=blank(signals, self.network.depth + 1), pivots=self.pivots, saturation=SATURATION, **watched,
        )  # fmt: skip

    @cached_property
    def pivots(self) -> NDArray[np.float64]:
        """Return, per layer, a value near the mean activation, about which powers are summed: f(0), of a cell 0."""
        if self.shape.recurrent:
            return np.zeros(self.network.depth + 1)
        pivots = np.full(self.network.depth + 1, self.network.activation.evaluate("f", 0.0))
        pivots[0] = self.data.input_mean if isinstance(self.data, Regression) else self.data[0].mean()
        pivots[-1] = self.output_activation.evaluate("f", 0.0)
        return pivots

    @cached_property
    def functions(self) -> tuple[Any, ...]:
        """Return the compiled functions that a net is made of, as the kernel takes them."""
        inner = self.network.laws if self.shape.recurrent else self.network.laws * (self.shape.depth - 1)
        laws_of_weights = (*(law.law for law in inner), self.output_weights.law)
        return (
            laws.law("normal", self.dtype),
            block(self.network.activation, self.dtype),
            block(self.output_activation, self.dtype),
            laws.of_matrices(laws_of_weights, self.dtype),
            laws.law(self.network.weights.bias_law, self.dtype),
            losses.compiled(self.loss.function),
            self.optimizer.loop(self.dtype),
        )

    @property
    def unit_sizes(self) -> NDArray[np.int64]:
        """Return how many numbers there are of the units of each layer, or of samples, where these are normalized."""
        widths = self.shape.widths
        return widths if self.runs or self.network.normalization is None else np.maximum(widths, self.rows)

    @cached_property
    def units(self) -> int:
        """Return how long a vector of such numbers is."""
        return side_by_side(self.unit_sizes)[1]

    def sizes(self, watch: Watch) -> tuple[dict[str, int], dict[str, int]]:
        """Return how long the parts are that one thread works on, of the net's precision and of float64."""
        widths, fan_in, rows = self.shape.widths, self.shape.fans[:, 0], self.rows
        signals = side_by_side(rows * widths)[1]
        memories = RULES[self.optimizer.rule].memories
        rounded = self.problem.format.fraction_bits > 0
        followed = self.parameters * watch.paths
        reals = {
            "parameters": self.parameters, "seen": self.parameters * rounded, "start": self.parameters,
            "gradient": self.parameters, "before": followed, "previous": followed,
            "first": self.parameters * (memories > 0), "second": self.parameters * (memories > 1),
            "s": signals, "n": signals * bool(self.normalized.any()), "z": signals, "d": signals, "ds": signals,
            "dz": signals, "waiting": rows * int(widths.max()) * (self.network.skip is not None),
            "units": int(((fan_in + 1) * widths[1:]).max()) * watch.units, "extremes": 2 * int(widths.max()),
            "reference": signals * watch.drift, "column": rows, **self.shape.parts_in_time(rows),
        }  # fmt: skip
        outputs = rows * int(widths[-1])
        of_outputs = ("outputs", "targets", "output_gradient")
        return reals, {name: outputs if name in of_outputs else self.units for name in DOUBLES}

    def allocate(self, watch: Watch) -> Memory:
        """Return what one thread works on."""
        of_reals, of_doubles = self.sizes(watch)
        places, reals = _places([of_reals[name] for name in PARTS])
        if of_reals["seen"] == 0:  # nothing is rounded
            places[PARTS.index("seen")] = places[PARTS.index("parameters")]
        double_places, doubles = _places([of_doubles[name] for name in DOUBLES])
        return Memory(
            reals=_zeros(reals, self.dtype), places=places, doubles=_zeros(doubles, np.dtype(np.float64)),
            double_places=double_places, no_curvature=np.empty((0, 0, 0)),
        )  # fmt: skip

    def data_of(self, first: int, last: int) -> Pair:
        """Return inputs and targets of nets ``first`` .. ``last - 1``, or the one set that all share."""
        if not isinstance(self.data, Regression):
            arrays = self.data
        else:
            with np.errstate(over="ignore", invalid="ignore"):  # nets whose targets are not finite have diverged
                sets = [self.data.draw(self.seed, net) for net in range(first, last)]
            arrays = np.stack([each[0] for each in sets]), np.stack([each[1] for each in sets])
        with np.errstate(over="ignore"):
            return self._converted(arrays[0]), self._converted(arrays[1])

    def _converted(self, values: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(values, self.dtype)

    def run(self, nets: int, quantities: tuple[str, ...], keep_weights: bool, threads: int) -> Trained:
        """Train nets 0 .. ``nets - 1``."""
        watch = self.watch(quantities)
        columns = r.COLUMNS if watch.signals else 0
        self.check_memory(nets, keep_weights, columns, watch, min(nets, threads))
        times, widths = len(self.record), [int(width) for width in self.shape.widths]
        record = np.full((nets, times, self.shape.depth + 1, COLUMNS), np.nan)
        signals = np.full((nets, times, self.network.depth + 1, columns), np.nan)
        diverged = np.full(nets, -1, np.int64)
        kept = np.full((nets, times, self.parameters) if keep_weights else (0, 0, 0), np.nan, self.dtype)
        runs = keep_weights and self.runs
        kept_running = np.full((nets, times, 2 * self.units) if runs else (0, 0, 0), np.nan)
        bytes_a_net = 8 * self.samples * (widths[0] + widths[-1])
        most = PIECE_BYTES // bytes_a_net if isinstance(self.data, Regression) else nets
        step = max(1, min(nets // (PIECES * threads), most))
        functions, run, problem = self.functions, trainer(self.dtype), self.problem  # made before threads ask for them
        shared = None if isinstance(self.data, Regression) else self.data_of(0, 1)
        nothing = np.empty((0, widths[0]), self.dtype), np.empty((0, widths[-1]), self.dtype)
        test = nothing if self.test is None else tuple(self._converted(side[0]) for side in self.test)

        def piece(first: int) -> None:
            last = min(first + step, nets)
            here = slice(first, last if keep_weights else first)
            run(
                first, np.uint64(self.seed), *functions, problem, self.course(), watch, self.allocate(watch),
                *(shared or self.data_of(first, last)), *test, record[first:last], signals[first:last],
                diverged[first:last], kept[here], kept_running[first : last if runs else first],
            )  # fmt: skip

        pool = ThreadPoolExecutor(threads, thread_name_prefix="stabsim")
        try:
            with single_threaded_blas():
                list(pool.map(piece, range(0, nets, step)))
        finally:  # what has not been started is dropped
            pool.shutdown(cancel_futures=True)
        return Trained(self, quantities, record, signals, diverged, kept, kept_running)

    @property
    def told(self) -> str:
        """Return the arguments in one line, but for the network and what was recorded."""
        others = {
            "schedule": str(self.schedule) if str(self.schedule) != "constant(warmup=0)" else "",
            "order": "with_replacement" if self.replaced else "", "clipping": self.clipping and str(self.clipping),
            "weight_decay": self.weight_decay, "output_activation": _unless("linear", str(self.output_activation)),
            "output_weights": _unless(str(self.network.weights), str(self.output_weights)),
            "train_biases": "" if self.train_biases else "False", "perturbation": self.perturbation,
            "running_momentum": self.running_momentum if self.runs else "", "normalize_output": self.normalize_output,
            "loss_scale": self.loss_scale if self.loss_scale != 1.0 else "",
            "master_weights": "" if self.master_weights else "False",
            "test": f"{self.test[0].shape[1]} samples" if self.test is not None else "",
        }  # fmt: skip
        data = self.data if isinstance(self.data, Regression) else f"{self.samples} samples"
        given = "".join(f"{name}={value}, " for name, value in others.items() if value)
        return (
            f"steps={self.steps}, {self.optimizer}, {self.loss}, batch={self.batch}, {given}seed={self.seed}, "
            f"precision={self.precision!r}, data: {data}"
        )


def _unless(usual: str, given: str) -> str:
    return "" if given == usual else given


def side_by_side(sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Return where parts of these sizes start, behind a part of none, and where the last ends: at cache lines."""
    ends = list(itertools.accumulate((-(-int(size) // CACHE_LINE) * CACHE_LINE for size in sizes), initial=0))
    return np.array([0, *ends[:-1]], np.int64), ends[-1]


def _places(sizes: list[int]) -> tuple[NDArray[np.int64], int]:
    """Return where parts of these sizes start and end, side by side, and where the last ends."""
    starts, end = side_by_side(np.array(sizes, np.int64))
    return np.column_stack([starts[1:], starts[1:] + np.array(sizes)]), end


def _zeros(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    values = aligned(size, dtype)
    values[:] = 0
    return values
