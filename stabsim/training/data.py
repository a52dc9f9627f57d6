"""What nets are trained on: the user's arrays, or a regression that is drawn for each net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim import checks
from stabsim.activations.compiled import block
from stabsim.kernels import laws, philox
from stabsim.network import Network
from stabsim.number_formats import FORMATS
from stabsim.task import LARGEST_NET, LARGEST_SEED
from stabsim.threads import check_memory

Floats = NDArray[Any]

_NUMBERS = np.dtype(np.float64)  # of data, whatever the precision of training, so that it is the same data


@dataclass(frozen=True)
class Regression:
    """Targets that a net drawn at random, the teacher, sets, its last layer without activation: for each net its own.

    Parameters
    ----------
    teacher : Network
        The law of the teacher, without normalization, residual connections and recurrent cell.
    samples : int
        How many samples there are for each net; 256 unless told.
    input_mean : float
        Mean of the inputs, which are independent normals of variance 1; 0 unless told.
    noise : float
        Standard deviation of what is added to every target; 0 unless told.

    Raises
    ------
    TypeError, ValueError
        If the teacher is no plain network, or a number is not allowed.

    Examples
    --------
    >>> from stabsim import Network
    >>> inputs, targets = Regression(Network((8, 2), "linear", "lecun_normal"), samples=100).draw(seed=1, net=0)
    >>> inputs.shape, targets.shape
    ((100, 8), (100, 2))
    """

    teacher: Network
    samples: int = 256
    input_mean: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        check_plain("teacher", self.teacher)
        object.__setattr__(self, "samples", checks.whole_number("samples", self.samples))
        object.__setattr__(self, "input_mean", checks.number("input_mean", self.input_mean))
        object.__setattr__(self, "noise", checks.number("noise", self.noise, 0.0))

    @property
    def bytes(self) -> int:
        """Return about how much memory `draw` takes."""
        widest, *others = sorted(self.teacher.widths, reverse=True)
        weights = max((fan_in * fan_out for fan_in, fan_out in self.teacher.fans), default=0)
        return _NUMBERS.itemsize * (self.samples * (self.teacher.widths[0] + 2 * widest + others[0]) + weights)

    def draw(self, seed: int, net: int) -> tuple[Floats, Floats]:
        """Return the inputs (samples, widths[0]) and the targets (samples, widths[-1]) of the net of a number.

        Raises
        ------
        TypeError, ValueError
            If seed or net are no whole numbers in their range.
        MemoryError
            If they do not fit into memory.
        """
        seed = checks.whole_number("seed", seed, 0, LARGEST_SEED)
        net = checks.whole_number("net", net, 0, LARGEST_NET - 1)
        check_memory(f"{self.samples} samples", self.bytes, "samples or the widths of the teacher")
        teacher, depth = self.teacher, self.teacher.depth

        def drawn(name: str, shape: tuple[int, int], purpose: Any, layer: int, scale: float) -> Floats:
            out = np.empty(shape)
            counters = np.uint64(0), np.uint64(seed), purpose, np.uint32(layer), np.uint32(net)
            laws.law(name, _NUMBERS)(out, *counters, scale)
            return out

        inputs = drawn("normal", (self.samples, teacher.widths[0]), philox.INPUT, 0, 1.0) + self.input_mean
        z = inputs
        for layer, (fans, std) in enumerate(zip(teacher.fans, teacher.weight_stds, strict=True), start=1):
            z = z @ drawn(teacher.weights.law, fans, philox.TEACHER_WEIGHT, layer, std)
            if (bias_std := teacher.weights.bias_std(fans[0], teacher.bias_std)) > 0:
                z += drawn(teacher.weights.bias_law, (1, fans[1]), philox.TEACHER_BIAS, layer, bias_std)
            if layer < depth:
                s, z = z.ravel(), np.empty(z.size)
                block(teacher.activation, _NUMBERS)(s, z, np.empty(z.size))
                z = z.reshape(self.samples, fans[1])
        if self.noise > 0:
            z += drawn("normal", z.shape, philox.NOISE, depth, self.noise)
        return inputs, z


def check_plain(argument: str, network: Any) -> None:
    """Refuse what is no network, or one with more than layers."""
    if not isinstance(network, Network):
        raise TypeError(f"{argument} must be a stabsim.Network, not {checks.brief(network)}")
    if network.structures:
        names = " and ".join(network.arguments.values())
        raise ValueError(f"{argument} must be a network of plain layers, not one with {names}")


def check_trained(network: Any, data: Any, precision: str, normalize_output: bool) -> None:
    """Refuse what is no network, and what does not go with a recurrent cell."""
    if not isinstance(network, Network):
        raise TypeError(f"network must be a stabsim.Network, not {checks.brief(network)}")
    if not network.cell.recurrent:
        return
    cell = network.arguments[network.cell.kind]
    if isinstance(data, Regression):
        raise ValueError(f"data must be a pair (inputs, targets) of arrays with {cell}, not {data!r}")
    if precision in FORMATS:
        raise ValueError(f"precision must be 'float32' or 'float64' with {cell}, not {precision!r}")
    if normalize_output:
        raise ValueError(f"normalize_output=True does not go with {cell}")


def given_arrays(
    data: Any, network: Network, argument: str = "data", outputs: int | None = None
) -> tuple[Floats, Floats]:
    """Return the user's inputs and targets, checked, (1, samples, ...), inputs of all time steps side by side.

    Targets of a recurrent net have as many numbers as ``outputs`` says, or else as they are given with.
    """
    recurrent = network.cell.recurrent
    if not isinstance(data, tuple | list) or len(data) != 2:
        allowed = "a Regression or a pair" if argument == "data" and not recurrent else "a pair"
        hint = f": take .train and .test of {type(data).__name__}" if hasattr(data, "train") else ""
        raise TypeError(f"{argument} must be {allowed} (inputs, targets) of arrays, not {checks.brief(data)}{hint}")
    of = "" if argument == "data" else f" of {argument}"
    of_inputs: tuple[str, tuple[int, ...]] = "(samples, widths[0])", network.widths[:1]
    of_targets = "(samples, widths[-1])", network.widths[-1:]
    if recurrent:
        of_inputs = "(samples, time steps, widths[0])", (network.depth, network.widths[0])
        of_targets = "(samples, outputs)", (outputs or _columns(data[1]),)
    inputs, targets = checks.rows(f"inputs{of}", data[0], *of_inputs), checks.rows(f"targets{of}", data[1], *of_targets)
    if len(inputs) != len(targets):
        raise ValueError(f"inputs and targets{of} must have as many samples, not {len(inputs)} and {len(targets)}")
    return inputs.reshape(1, len(inputs), -1), targets[np.newaxis]


def _columns(values: Any) -> int:
    """Return how many columns a matrix has; 1 of what is none, which is refused."""
    try:
        shape = np.shape(values)
    except ValueError:  # ragged
        return 1
    return shape[1] if len(shape) == 2 and shape[1] > 0 else 1


def are_classes(targets: Floats) -> bool:
    """Return whether each row of targets has one 1 and else 0, or each single target is 0 or 1."""
    ones = (targets == 1).sum(axis=-1)
    zeros = (targets == 0).sum(axis=-1)
    return bool(((ones + zeros == targets.shape[-1]) & ((ones == 1) | (targets.shape[-1] == 1))).all())
