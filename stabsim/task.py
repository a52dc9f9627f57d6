"""What is simulated: a network with everything that affects the answer, but for how many nets (the effort)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.cost import MATRIX_FREE_LAWS, choose
from stabsim.kernels.record import COLUMNS, HISTOGRAMS, RECORD_VERSION
from stabsim.names import finite_number, unknown
from stabsim.network import Network
from stabsim.quantities import QUANTITIES, Quantity, select

SAMPLERS = ("auto", "dense", "matrix_free")
PRECISIONS = ("float32", "float64")
LARGEST_SEED = 2**64 - 1
LARGEST_NET = 2**32  # nets are numbered by one word of the random numbers' counter
LARGEST_GROUP = 2**32  # and groups of numbers within a layer by another
NUMBERS_A_GROUP = {"float32": 4, "float64": 2}

Floats = NDArray[np.float64]
Bins = tuple[float, float, int]


@dataclass(frozen=True, eq=False)
class Task:
    """A network and how it is run; `stabsim.simulate` says what each argument is.

    Tasks are equal when their keys are: the canonical JSON of everything that affects the answer.
    """

    network: Network
    batch: int = 1
    seed: int = 0
    inputs: Floats | None = field(default=None, repr=False)
    output_gradient: Floats | None = field(default=None, repr=False)
    sampler: str = "auto"
    precision: str = "float32"
    saturation: float = 0.01
    quantities: tuple[str, ...] | None = None
    samples: tuple[str, ...] = ()
    histograms: tuple[tuple[str, Bins], ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of the numbers that are simulated."""
        return np.dtype(self.precision)

    @cached_property
    def table_quantities(self) -> tuple[Quantity, ...]:
        """Return what the table holds."""
        return select(self.quantities, self.batch)

    @cached_property
    def sample_quantities(self) -> tuple[Quantity, ...]:
        """Return what is kept of every net."""
        return tuple(QUANTITIES[name] for name in self.samples)

    @cached_property
    def wanted(self) -> NDArray[np.bool_]:
        """Return which columns of the record are wanted."""
        wanted = np.zeros(COLUMNS, np.bool_)
        for quantity in (*self.table_quantities, *self.sample_quantities):
            wanted[list(quantity.columns)] = True
        return wanted

    @cached_property
    def backward(self) -> bool:
        """Return whether anything is wanted of the backward pass."""
        gradients = any(q.backward for q in (*self.table_quantities, *self.sample_quantities))
        return gradients or any(tensor.endswith("gradient") for tensor, _ in self.histograms)

    @property
    def key(self) -> str:
        """Return canonical JSON of all that affects the answer, arrays by their SHA-256."""
        from stabsim.kernels.philox import STREAM_VERSION

        document = {
            "network": json.loads(self.network.to_json()),
            "batch": self.batch,
            "seed": self.seed,
            "inputs": _digest(self.inputs),
            "output_gradient": _digest(self.output_gradient),
            "sampler": self.sampler,
            "precision": self.precision,
            "saturation": self.saturation.hex(),
            "quantities": self.quantities,
            "samples": self.samples,
            "histograms": [[tensor, low.hex(), high.hex(), bins] for tensor, (low, high, bins) in self.histograms],
            "stream": STREAM_VERSION,
            "record": RECORD_VERSION,
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def __eq__(self, other: object) -> bool:
        """Compare by key."""
        return self.key == other.key if isinstance(other, Task) else NotImplemented

    def __hash__(self) -> int:
        """Hash the key."""
        return hash(self.key)


def make_task(
    network: Network,
    *,
    batch: int = 1,
    seed: int = 0,
    inputs: str | NDArray[Any] | None = None,
    output_gradient: NDArray[Any] | None = None,
    sampler: str = "auto",
    precision: str = "float32",
    saturation: float = 0.01,
    quantities: Sequence[str] | None = None,
    samples: Sequence[str] = (),
    histograms: Mapping[str, Bins] | None = None,
) -> Task:
    """Return a checked task.

    Raises
    ------
    TypeError, ValueError
        With the argument, its value and what is allowed.
    """
    if not isinstance(network, Network):
        raise TypeError(f"network must be a stabsim.Network, not {network!r}")
    batch = whole_number("batch", batch, 1, LARGEST_NET - 1)
    seed = whole_number("seed", seed, 0, LARGEST_SEED)
    for name, value, known in (("sampler", sampler, SAMPLERS), ("precision", precision, PRECISIONS)):
        if value not in known:
            raise unknown(name, value, known)
    saturation = finite_number("saturation", saturation)
    if saturation < 0:
        raise ValueError(f"saturation must be a finite number >= 0, not {saturation!r}")
    if samples is None:
        raise TypeError("samples must be a sequence of names of quantities, () for none, not None")
    wanted = None if quantities is None else tuple(q.name for q in select(quantities, batch))
    kept = tuple(q.name for q in select(samples, batch, "samples"))
    if wanted is not None and not wanted:
        raise ValueError("quantities=() asks for nothing; None asks for all")
    _check_biases(network, precision)
    if sampler == "matrix_free" and network.weights.law not in MATRIX_FREE_LAWS:
        raise ValueError(
            f"sampler='matrix_free' needs weights of law {' or '.join(map(repr, MATRIX_FREE_LAWS))}, "
            f"not {network.weights.law!r}: only their law is known without their entries"
        )
    task = Task(
        network, batch, seed, _inputs(inputs, network, batch), _output_gradient(output_gradient, network, batch),
        sampler, precision, saturation, wanted, kept, _histograms(histograms or {}),
    )  # fmt: skip
    task = replace(task, sampler=choose(task)) if sampler == "auto" else task
    _check_size(task)
    return task


def _check_size(task: Task) -> None:
    """Refuse layers that take more random numbers than there are."""
    network = task.network
    weights = max(fan_in * fan_out for fan_in, fan_out in network.fans) if task.sampler == "dense" else 0
    most = max(weights, task.batch * max(network.widths))
    allowed = LARGEST_GROUP * NUMBERS_A_GROUP[task.precision]
    if most > allowed:
        raise ValueError(
            f"a layer may have up to {allowed} weights (dense) or samples times units with sampler={task.sampler!r} "
            f"and precision={task.precision!r}, not {most}: reduce widths or batch"
        )


def whole_number(name: str, value: Any, least: int, most: int) -> int:
    """Return an integer argument in its range.

    Raises
    ------
    TypeError, ValueError
        If it is no integer, or outside.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer from {least} to {most}, not {value!r}")
    number = int(value)
    if not least <= number <= most:
        raise ValueError(f"{name} must be an integer from {least} to {most}, not {number}")
    return number


def _digest(array: Floats | None) -> str | None:
    if array is None:
        return None
    return hashlib.sha256(repr(array.shape).encode() + array.astype("<f8").tobytes()).hexdigest()


def _matrix(name: str, value: Any, shape: str, width: int) -> Floats:
    try:
        given = np.asarray(value)
    except ValueError as error:  # ragged
        raise TypeError(f"{name} must be an array of numbers {shape}, not {_brief(value)}") from error
    if given.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be an array of numbers {shape}, not {_brief(value)}")
    array = given.astype(np.float64)
    if array.ndim != 2 or array.shape[1] != width or array.shape[0] == 0:
        raise ValueError(f"{name} must have shape {shape} = (..., {width}), not {array.shape}")
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name} must be finite, but {name}[{where[0]}, {where[1]}] is {array[where]}")
    return np.ascontiguousarray(array)


def _brief(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _inputs(inputs: Any, network: Network, batch: int) -> Floats | None:
    if inputs is None:
        return None
    if isinstance(inputs, str):
        from stabsim.datasets import dataset

        inputs = dataset(inputs)
    array = _matrix("inputs", inputs, "(samples, widths[0])", network.widths[0])
    if len(array) < batch:
        raise ValueError(f"inputs has {len(array)} samples, fewer than batch={batch}, which draws without replacement")
    return array


def _output_gradient(gradient: Any, network: Network, batch: int) -> Floats | None:
    if gradient is None:
        return None
    array = _matrix("output_gradient", gradient, "(batch, widths[-1])", network.widths[-1])
    if len(array) != batch:
        raise ValueError(f"output_gradient must have batch={batch} rows, not {len(array)}")
    return array


def _histograms(histograms: Mapping[str, Bins]) -> tuple[tuple[str, Bins], ...]:
    checked = []
    if not isinstance(histograms, Mapping):
        raise TypeError(f"histograms must map tensors to (low, high, bins), not {histograms!r}")
    for tensor, bins in histograms.items():
        if tensor not in HISTOGRAMS:
            raise unknown("histogram of", tensor, HISTOGRAMS)
        try:
            low, high, number = bins
        except (TypeError, ValueError):
            raise TypeError(f"histograms[{tensor!r}] must be (low, high, bins), not {bins!r}") from None
        low, high = (finite_number(f"histograms[{tensor!r}]", x) for x in (low, high))
        number = whole_number(f"bins of histograms[{tensor!r}]", number, 1, 1_000_000)
        if not low < high:
            raise ValueError(f"histograms[{tensor!r}] needs low < high, not {low!r} and {high!r}")
        checked.append((tensor, (low, high, number)))
    if len({number for _, (_, _, number) in checked}) > 1:
        raise ValueError("histograms must all have the same number of bins")
    return tuple(sorted(checked))


def _check_biases(network: Network, precision: str) -> None:
    """Refuse biases that the precision cannot hold (weights of any scale can be: their power of two is kept apart)."""
    for fan_in in sorted({fan_in for fan_in, _ in network.fans}):
        size = network.weights.bias_std(fan_in, network.bias_std)
        with np.errstate(over="ignore"):
            held = abs(float(np.dtype(precision).type(size)))
        if size != 0 and not np.finfo(precision).tiny <= held < np.inf:
            raise ValueError(f"biases of standard deviation {size!r} are outside the normal range of {precision}")
