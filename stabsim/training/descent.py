"""``descend``: a network, data and a number of steps in, trained nets out."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stabsim import checks
from stabsim.activations import Activation
from stabsim.activations import activation as activation_of
from stabsim.activations.compiled import block
from stabsim.initializers import Initializer, initializer
from stabsim.kernels import laws
from stabsim.kernels.descent import trainer
from stabsim.kernels.learner import Course, Memory
from stabsim.kernels.training_record import COLUMNS
from stabsim.names import unknown
from stabsim.network import Network
from stabsim.plan import aligned
from stabsim.samplers.base import CACHE_LINE
from stabsim.task import LARGEST_NET, LARGEST_SEED
from stabsim.threads import check_memory, count_threads, single_threaded_blas
from stabsim.training.data import Regression, check_plain, given_arrays
from stabsim.training.result import Descent

PRECISIONS = ("float32", "float64")
MOST_STEPS = 2**31
T = TypeVar("T")

TOGETHER = 128  # samples that the loss of all is computed of at a time
PIECES = 8  # for each thread
PIECE_BYTES = 2**24  # of data


def descend(
    network: Network,
    *,
    nets: int,
    steps: int,
    learning_rate: float,
    data: Regression | tuple[Any, Any],
    batch: int = 1,
    seed: int = 0,
    record: Sequence[int] | None = None,
    output_activation: str | Activation = "linear",
    output_weights: str | Initializer | None = None,
    train_biases: bool = True,
    perturbation: float = 0.0,
    keep_weights: bool = False,
    precision: str = "float32",
    threads: int | None = None,
) -> Descent:
    """Train an ensemble of nets by stochastic gradient descent, and record what becomes of each.

    Each step subtracts ``learning_rate`` times the gradient of the mean squared error, over samples and outputs, of a
    mini-batch (Rumelhart, Hinton & Williams 1986, Nature 323). Net i starts with the weights and biases of net i of
    `stabsim.simulate` with that network, seed and precision, and ``sampler="dense"``. It is a function of the
    arguments and its number: the number of threads and of nets beside it change nothing.

    Parameters
    ----------
    network : Network
        The law of the nets before training, without normalization, residual connections and recurrent cell.
    nets : int
        How many nets.
    steps : int
        How many steps of gradient descent, from 0.
    learning_rate : float
        At least 0.
    data : Regression or pair of arrays
        A regression that is drawn for each net, or inputs (samples, widths[0]) and targets (samples, widths[-1]),
        which all nets share.
    batch : int
        Samples of a mini-batch; 1 unless told. Each epoch goes through all samples in an order of its own, drawn for
        each net, and leaves out those that fill no mini-batch. With all samples it is gradient descent without chance.
    seed : int
        Of all random numbers; 0 unless told.
    record : sequence of int, optional
        After how many steps to record, in any order; (0, steps) unless told.
    output_activation : str or Activation
        f of the last layer, in the place of the network's: "linear" unless told.
    output_weights : str or Initializer, optional
        The law of the last layer's weights; the network's unless told.
    train_biases : bool
        Whether biases are trained, from 0 where the network has none; else they stay as they were drawn.
    perturbation : float
        Standard deviation of normal numbers that are added to all weights, and to all biases that are trained, before
        the first step; 0 unless told. So ``weights="constant(value=0.1)"`` makes nets of nearly equal units.
    keep_weights : bool
        Whether to keep weights and biases whenever it is recorded, for `Descent.weights` and `Descent.biases`.
    precision : str
        "float32" (unless told) or "float64".
    threads : int, optional
        As many as there are processors, unless told.

    Returns
    -------
    Descent
        Of each net, after each number of steps of ``record``:

        - ``loss``, over all samples;
        - ``gradient_norm``, of the gradient of the mini-batch that comes next, by what is trained, of each layer and
          of the net; ``weight_gradient_one_signed_column_fraction`` and ``weight_gradient_dead_column_fraction``, of
          dW of that mini-batch: of the columns that are not all 0, the share of those without a change of sign, and of
          all columns the share of those that are all 0;
        - ``distance``, of what is trained from where it started; ``path_length``, of all steps so far before they are
          rounded; ``straightness``, the first by the second; ``step_cosine``, the mean cosine of successive
          gradients so far;
        - ``distinct_units`` of a layer: how many columns of W with its bias differ, compared exactly;
          ``effective_units``: n^2 over the sum of the squared cosines of all n^2 pairs of these columns (Leinster &
          Cobbold 2012, Ecology 93, order 2), which is 1 for equal units and n for orthogonal ones, and about
          n / (1 + (n - 1) / (fan_in + 1)) for random ones; ``unit_spread``: the root of the share of their squares
          that is about their mean, 0 for equal units and about 1 for random ones.

        A net whose loss or gradient is no longer finite has diverged: it is not trained further and counted.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed: its name, its value and what is allowed.
    MemoryError
        If nets, data and what is recorded do not fit into memory.

    Warns
    -----
    RuntimeWarning
        If nets diverge: how many, and after which step the first.

    Examples
    --------
    >>> from stabsim import Network
    >>> data = Regression(Network((8, 1), "linear", "lecun_normal"), samples=64)
    >>> trained = descend(
    ...     Network((8, 16, 1), "tanh", "lecun_normal"), nets=20, steps=500, learning_rate=0.05, data=data, batch=8
    ... )
    >>> start, end = trained.values("loss")[:, :, 0].mean(axis=0)
    >>> bool(end < 0.2 * start)
    True
    """
    if not isinstance(keep_weights, bool):
        raise TypeError(f"keep_weights must be True or False, not {checks.brief(keep_weights)}")
    training = _checked(
        network, learning_rate=learning_rate, steps=steps, batch=batch, seed=seed, record=record, data=data,
        output_activation=output_activation, output_weights=output_weights, train_biases=train_biases,
        perturbation=perturbation, precision=precision,
    )  # fmt: skip
    nets = checks.whole_number("nets", nets, 1, LARGEST_NET)
    trained = training.run(nets, keep_weights, count_threads(threads))
    if diverged := trained.divergence:
        warnings.warn(diverged, RuntimeWarning, stacklevel=2)
    return trained


def _checked(network: Network, *, data: Any, precision: str, **given: Any) -> Training:
    check_plain("network", network)
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if isinstance(data, Regression):
        ends = (data.teacher.widths[0], data.teacher.widths[-1])
        if ends != (network.widths[0], network.widths[-1]):
            raise ValueError(
                f"the teacher of data has {ends[0]} inputs and {ends[1]} outputs, the network {network.widths[0]} and "
                f"{network.widths[-1]}"
            )
        samples = data.samples
    else:
        data = given_arrays(data, network)
        samples = data[0].shape[1]
    steps = checks.whole_number("steps", given["steps"], 0, MOST_STEPS)
    if not isinstance(given["train_biases"], bool):
        raise TypeError(f"train_biases must be True or False, not {checks.brief(given['train_biases'])}")
    output_weights = network.weights
    if given["output_weights"] is not None:
        output_weights = named("output_weights", given["output_weights"], Initializer, initializer)
    training = Training(
        network=network, data=data, samples=samples, steps=steps, precision=precision, output_weights=output_weights,
        batch=checks.whole_number("batch", given["batch"], 1, samples),
        seed=checks.whole_number("seed", given["seed"], 0, LARGEST_SEED), record=_recorded(given["record"], steps),
        learning_rate=checks.number("learning_rate", given["learning_rate"], 0.0),
        perturbation=checks.number("perturbation", given["perturbation"], 0.0),
        output_activation=named("output_activation", given["output_activation"], Activation, activation_of),
        train_biases=given["train_biases"],
    )  # fmt: skip
    training.check_range()
    return training


def _recorded(record: Any, steps: int) -> tuple[int, ...]:
    if record is None:
        record = (0, steps)
    wrong = f"record must be one or more numbers of steps from 0 to steps={steps}, not {checks.brief(record)}"
    try:
        found = checks.whole_numbers("record", record, 0)
    except (TypeError, ValueError) as error:
        raise type(error)(wrong) from None
    if max(found) > steps:
        raise ValueError(wrong)
    return tuple(sorted(set(found)))


def named(argument: str, spec: Any, kind: type[T], make: Callable[[Any], T]) -> T:
    """Return what a name stands for; errors say which argument it was."""
    if not isinstance(spec, str | kind):
        raise TypeError(f"{argument} must be a name or a stabsim {kind.__name__}, not {checks.brief(spec)}")
    try:
        return make(spec)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{argument}: {error}") from None


@dataclass(frozen=True)
class Training:
    """How nets are trained: everything that affects the answer."""

    network: Network
    data: Any
    samples: int
    steps: int
    learning_rate: float
    batch: int
    seed: int
    record: tuple[int, ...]
    output_activation: Activation
    output_weights: Initializer
    train_biases: bool
    perturbation: float
    precision: str

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of all signals and parameters."""
        return np.dtype(self.precision)

    @property
    def rows(self) -> int:
        """Return of how many samples there is room for the signals."""
        return max(self.batch, min(self.samples, TOGETHER))

    @property
    def _weight_stds(self) -> list[float]:
        return [*self.network.weight_stds[:-1], self.output_weights.weight_std(*self.network.fans[-1])]

    @property
    def _bias_stds(self) -> list[float]:
        return [self.network.weights.bias_std(fan_in, self.network.bias_std) for fan_in, _ in self.network.fans]

    def check_range(self) -> None:
        """Refuse numbers that the precision cannot hold."""
        named = [("weights of standard deviation", std) for std in self._weight_stds]
        named += [("biases of standard deviation", std) for std in self._bias_stds]
        named += [("perturbation", self.perturbation), ("learning_rate", self.learning_rate)]
        limits = np.finfo(self.dtype)
        for what, size in named:
            if size != 0 and not float(limits.tiny) <= abs(size) <= float(limits.max):
                raise ValueError(f"{what} {size!r}: outside the normal range of {self.precision}")
        data = self.data
        if isinstance(data, Regression):
            largest = {"input_mean of data": abs(data.input_mean), "noise of data": data.noise}
        else:
            largest = {name: float(np.abs(side).max()) for name, side in zip(("inputs", "targets"), data, strict=True)}
        for what, size in largest.items():
            if size > float(limits.max):
                raise ValueError(f"{what} must be up to {limits.max:.3g}, what {self.precision} holds, not {size!r}")

    def check_memory(self, nets: int, keep_weights: bool, threads: int) -> None:
        """Refuse more than fits into memory."""
        network, item = self.network, self.dtype.itemsize
        parameters = sum((fan_in + 1) * fan_out for fan_in, fan_out in network.fans)
        kept = nets * len(self.record) * (8 * (network.depth + 1) * COLUMNS + parameters * item * keep_weights)
        check_memory("records of all nets", kept, "nets, record or keep_weights")
        samples = self.samples * (item * (network.widths[0] + network.widths[-1]) + 8)
        if isinstance(self.data, Regression):
            samples += self.data.bytes
        one = item * (4 * parameters + self.rows * 4 * sum(network.widths)) + samples
        check_memory(f"{threads} nets at a time", kept + threads * one, "widths, samples, batch or threads")

    @cached_property
    def course(self) -> Course:
        """Return the numbers that the kernel takes."""
        widths = np.array(self.network.widths, np.int64)
        weights = widths[:-1] * widths[1:]
        return Course(
            widths=widths, batch=self.batch, rows=self.rows, steps=self.steps, rate=self.learning_rate,
            times=np.array(self.record, np.int64), weights_at=_side_by_side(weights + widths[1:])[0],
            moving=np.concatenate([[0], weights + self.train_biases * widths[1:]]),
            weight_scale=np.array([0.0, *self._weight_stds]).astype(self.dtype),
            bias_scale=np.array([0.0, *self._bias_stds]).astype(self.dtype),
            perturbation=self.perturbation, signals_at=_side_by_side(self.rows * widths)[0][1:],
        )  # fmt: skip

    @cached_property
    def functions(self) -> tuple[Any, ...]:
        """Return the compiled functions that a net is made of, as the kernel takes them."""
        laws_of_weights = (*[self.network.weights.law] * (self.network.depth - 1), self.output_weights.law)
        return (
            laws.law("normal", self.dtype),
            block(self.network.activation, self.dtype),
            block(self.output_activation, self.dtype),
            laws.of_matrices(laws_of_weights, self.dtype),
            laws.law(self.network.weights.bias_law, self.dtype),
        )

    @property
    def parameters(self) -> int:
        """Return how long the vector of all parameters is."""
        widths = self.course.widths
        return _side_by_side((widths[:-1] + 1) * widths[1:])[1]

    def allocate(self) -> Memory:
        """Return what one thread works on."""
        widths, rows = self.course.widths, self.rows
        signals = _side_by_side(rows * widths)[1]
        sizes = {
            "parameters": self.parameters, "start": self.parameters, "gradient": self.parameters,
            "before": self.parameters, "s": rows * int(widths.max()), "z": signals, "d": signals, "dz": signals,
            "units": int(((widths[:-1] + 1) * widths[1:]).max()), "extremes": 2 * int(widths.max()),
        }  # fmt: skip
        vectors = {name: aligned(size, self.dtype) for name, size in sizes.items()}
        for vector in vectors.values():
            vector[:] = 0
        return Memory(**vectors)

    def data_of(self, first: int, last: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return inputs and targets of nets ``first`` .. ``last - 1``, or the one set that all share."""
        if not isinstance(self.data, Regression):
            arrays = self.data
        else:
            with np.errstate(over="ignore", invalid="ignore"):  # nets whose targets are not finite have diverged
                sets = [self.data.draw(self.seed, net) for net in range(first, last)]
            arrays = tuple(np.stack(side) for side in zip(*sets, strict=True))
        with np.errstate(over="ignore"):
            inputs, targets = (np.ascontiguousarray(side, self.dtype) for side in arrays)
        return inputs, targets

    def run(self, nets: int, keep_weights: bool, threads: int) -> Descent:
        """Train nets 0 .. ``nets - 1``."""
        self.check_memory(nets, keep_weights, min(nets, threads))
        times = len(self.record)
        record = np.full((nets, times, self.network.depth + 1, COLUMNS), np.nan)
        diverged = np.full(nets, -1, np.int64)
        kept = np.full((nets, times, self.parameters) if keep_weights else (0, 0, 0), np.nan, self.dtype)
        bytes_a_net = 8 * self.samples * (self.network.widths[0] + self.network.widths[-1])
        step = max(1, min(nets // (PIECES * threads), PIECE_BYTES // bytes_a_net))
        course, functions, run = self.course, self.functions, trainer(self.dtype)  # made before threads ask for them

        def piece(first: int) -> None:
            last = min(first + step, nets)
            inputs, targets = self.data_of(first, last)
            here = slice(first, last if keep_weights else first)
            run(
                first, np.uint64(self.seed), *functions, course, self.allocate(), inputs, targets,
                record[first:last], diverged[first:last], kept[here],
            )  # fmt: skip

        pool = ThreadPoolExecutor(threads, thread_name_prefix="stabsim")
        try:
            with single_threaded_blas():
                list(pool.map(piece, range(0, nets, step)))
        finally:  # what has not been started is dropped
            pool.shutdown(cancel_futures=True)
        return Descent(self.network, self.record, record, diverged, kept, course.weights_at, self.told)

    @property
    def told(self) -> str:
        """Return the arguments in one line, but for the network and what was recorded."""
        data = self.data if isinstance(self.data, Regression) else f"{self.samples} samples"
        return (
            f"steps={self.steps}, learning_rate={self.learning_rate!r}, batch={self.batch}, seed={self.seed}, "
            f"precision={self.precision!r}, data: {data}"
        )


def _side_by_side(sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Return where parts of these sizes start, behind a part of none, and where the last ends: at cache lines."""
    ends = list(itertools.accumulate((-(-int(size) // CACHE_LINE) * CACHE_LINE for size in sizes), initial=0))
    return np.array([0, *ends[:-1]], np.int64), ends[-1]
