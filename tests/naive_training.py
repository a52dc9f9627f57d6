"""The oracle of training: a net in NumPy and float64, each line a definition, nothing shared with the package.

There is no backward pass: the gradient is the imaginary part of the loss at parameters i h beside each (complex steps,
Squire & Trapp 1998, SIAM Review 40), exact to rounding. So functions take complex numbers, and vectors are (1, units).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.kernels import philox
from tests.test_random import reference_philox

Floats = NDArray[Any]
Tensors = list[dict[str, Floats]]  # of each layer W, scale and shift if it is normalized, b; nothing of layer 0

TINY = 1e-30  # h

ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.where(x.real > 0, x, 0.0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


def mean_squared_error(z: Floats, y: Floats) -> Floats:
    return np.asarray(np.mean((z - y) ** 2, axis=(-2, -1)))


def softmax_cross_entropy(z: Floats, y: Floats) -> Floats:
    logarithm = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return np.asarray(np.mean(-(y * logarithm).sum(axis=-1), axis=-1))


def logistic(z: Floats, y: Floats) -> Floats:
    return np.asarray(np.mean(np.log(1 + np.exp(z)) - y * z, axis=(-2, -1)))


LOSSES = {loss.__name__: loss for loss in (mean_squared_error, softmax_cross_entropy, logistic)}


def words(seed: int, place: int, epoch: int, net: int) -> int:
    """Return 32 random bits."""
    return reference_philox((place, epoch, net, int(philox.SAMPLE_ORDER)), (seed & 0xFFFFFFFF, seed >> 32))[0]


def epoch_order(samples: int, epoch: int, net: int, seed: int) -> list[int]:
    """Return the order of an epoch: Fisher and Yates' shuffle, a draw of Philox for each place."""
    order = list(range(samples))
    for place in range(samples - 1):
        other = place + (words(seed, place, epoch, net) * (samples - place) >> 32)
        order[place], order[other] = order[other], order[place]
    return order


def mini_batches(samples: int, batch: int, net: int, seed: int, *, replaced: bool = False) -> Iterator[list[int]]:
    """Yield the numbers of the samples of each step."""
    step = 0
    while True:
        epoch, place = divmod(step, max(samples // batch, 1))
        if replaced:
            yield [words(seed, place, step, net) * samples >> 32 for place in range(batch)]
        elif batch == samples:
            yield list(range(samples))
        else:
            yield epoch_order(samples, epoch, net, seed)[place * batch : (place + 1) * batch]
        step += 1


@dataclass
class Signals:
    """What one pass makes of samples, by layer; moments are those of batches."""

    s: list[Any]
    z: list[Any]
    d: list[Any]
    moments: list[Any]


@dataclass(frozen=True)
class Net:
    """What a net is: f, normalization of which layers, shortcuts from where to where."""

    activation: str
    output: str = "linear"
    loss: str = "mean_squared_error"
    kind: str = ""
    epsilon: float = 1e-5
    normalized: tuple[int, ...] = ()
    starts: dict[int, int] = field(default_factory=dict)  # of the block that ends at a layer
    place: str = "inside"
    branch: float = 1.0
    shortcut: float = 1.0

    def forward(self, parameters: Tensors, x: Floats, running: Any = None) -> Signals:
        """Run samples forward; batches are normalized by running means and variances where these are given."""
        depth, seen = len(parameters) - 1, Signals([x], [x], [None], [None])
        for layer in range(1, depth + 1):
            p, ends, moments = parameters[layer], layer in self.starts, None
            start = self.starts.get(layer, 0)
            s = seen.z[-1] @ p["W"] + p["b"]
            if ends and self.place == "before":
                s = self.shortcut * seen.s[start] + self.branch * s
            if ends and self.place == "after" and layer not in self.normalized:
                s = self.shortcut * seen.z[start] + self.branch * s
            taken = s
            if layer in self.normalized:
                axis = -2 if self.kind == "batch" else -1
                mean = 0.0 if self.kind == "rms" else s.mean(axis=axis, keepdims=True)
                variance = ((s - mean) ** 2).mean(axis=axis, keepdims=True)
                moments = mean, variance
                if self.kind == "batch" and running is not None:
                    mean, variance = running[layer]
                taken = (s - mean) / np.sqrt(variance + self.epsilon) * p["scale"] + p["shift"]
                if ends and self.place == "after":
                    taken = self.shortcut * seen.z[start] + self.branch * taken
            if ends and self.place == "between":
                z, d = taken, np.ones_like(taken)
            else:
                f = ACTIVATIONS[self.output if layer == depth else self.activation]
                z, d = f(taken), f(taken + 1j * TINY).imag / TINY
            if ends and self.place in ("inside", "between"):
                z = self.shortcut * seen.z[start] + self.branch * z
            for values, value in zip((seen.s, seen.z, seen.d, seen.moments), (s, z, d, moments), strict=True):
                values.append(value)
        return seen

    def loss_of(self, parameters: Tensors, x: Floats, y: Floats, running: Any = None) -> Any:
        """Return the loss of samples."""
        return LOSSES[self.loss](self.forward(parameters, x, running).z[-1], y)

    def gradient(self, parameters: Tensors, x: Floats, y: Floats) -> Tensors:
        """Return that by all parameters, of a mini-batch."""
        size = sum(values.size for layer in parameters for values in layer.values())
        moved: Tensors = []
        at = 0
        for layer in parameters:
            moved.append({})
            for name, values in layer.items():
                step = np.zeros((size, values.size), complex)
                step[at + np.arange(values.size), np.arange(values.size)] = 1j * TINY
                moved[-1][name] = values + step.reshape(size, *values.shape)
                at += values.size
        by_all = self.loss_of(moved, x, y).imag / TINY
        found: Tensors = []
        for layer in parameters:
            found.append({})
            for name, values in layer.items():
                found[-1][name], by_all = by_all[: values.size].reshape(values.shape), by_all[values.size :]
        return found


def norm(values: Any) -> float:
    """Return the root of the sum of squares of arrays."""
    return math.sqrt(sum(float((each * each).sum()) for each in values))


def clipped(kind: str, bound: float, epsilon: float, gradient: Tensors, parameters: Tensors) -> tuple[Tensors, Floats]:
    """Return the clipped gradient, and of each layer how many of what may be clipped are, and how many there are."""
    found: Tensors = [{} for _ in gradient]
    counts = np.zeros((len(gradient), 2))
    if kind == "global_norm":
        whole = norm(values for layer in gradient for values in layer.values())
        counts[1:] = whole > bound, 1
        factor = min(1.0, bound / whole)
        return [{name: factor * values for name, values in layer.items()} for layer in gradient], counts
    for layer, tensors in enumerate(gradient):
        for name, g in tensors.items():
            axis = 0 if kind == "adaptive" and name == "W" else None
            if kind == "value":
                found[layer][name] = np.clip(g, -bound, bound)
                counts[layer] += np.count_nonzero(np.abs(g) > bound), g.size
                continue
            sizes = np.sqrt((g * g).sum(axis=axis, keepdims=True))
            own = np.sqrt((parameters[layer][name] ** 2).sum(axis=axis, keepdims=True))
            bounds = bound * np.maximum(own, epsilon) if kind == "adaptive" else np.full_like(sizes, bound)
            found[layer][name] = np.where(sizes > bounds, g * bounds / np.where(sizes > 0, sizes, 1.0), g)
            counts[layer] += np.count_nonzero(sizes > bounds), sizes.size
    return found, counts


def moved(name: str, x: Floats, g: Floats, memory: dict[str, Floats], t: int, rate: float, given: Any) -> Floats:
    """Return what step t = 1, 2, ... makes of x, each optimizer as published; `given` has its hyperparameters."""
    zero = np.zeros_like(x)
    if name == "sgd":
        return x - rate * g
    if name in ("momentum", "nesterov"):
        v = memory.get("v", zero)
        theta = x - given["momentum"] * v if name == "nesterov" else x
        memory["v"] = given["momentum"] * v - rate * g
        return theta + memory["v"] + (given["momentum"] * memory["v"] if name == "nesterov" else 0.0)
    if name in ("adagrad", "rmsprop"):
        h = memory.get("h", zero)
        memory["h"] = h + g * g if name == "adagrad" else given["decay"] * h + (1 - given["decay"]) * g * g
        return np.asarray(x - rate * g / (np.sqrt(memory["h"]) + given["epsilon"]))
    one, two, epsilon = given["beta1"], given["beta2"], given["epsilon"]
    memory["m"] = one * memory.get("m", zero) + (1 - one) * g
    memory["v"] = two * memory.get("v", zero) + (1 - two) * g * g
    m, v = memory["m"] / (1 - one**t), memory["v"] / (1 - two**t)
    x = x * (1 - rate * given.get("weight_decay", 0.0))
    if given.get("epsilon_beside") == "uncorrected":
        return np.asarray(x - rate * math.sqrt(1 - two**t) * m / (np.sqrt(memory["v"]) + epsilon))
    return np.asarray(x - rate * m / (np.sqrt(v) + epsilon))


@dataclass
class Moment:
    """A net before one of its steps; gradients are of the mini-batch that comes next."""

    parameters: Tensors
    running: list[Any]
    rows: list[int]
    gradient: Tensors
    used: Tensors  # clipped
    counts: Floats  # of what is clipped, as `clipped` has it


def train(
    net: Net, start: Tensors, x: Floats, y: Floats, batches: Iterator[list[int]], *, rates: Floats, optimizer: Any,
    clipping: tuple[str, float, float] | None = None, weight_decay: float = 0.0, momentum: float = 0.9,
    fixed: tuple[str, ...] = (),
) -> list[Moment]:  # fmt: skip
    """Return a net before each of its steps, and after the last; `fixed`: tensors that are not trained."""
    parameters = start
    running: list[Any] = [None] + [(np.zeros_like(p["b"]), np.ones_like(p["b"])) for p in start[1:]]
    memory: list[dict[str, dict[str, Floats]]] = [{name: {} for name in layer} for layer in start]
    found = []
    for t in range(1, len(rates) + 2):
        rows = next(batches)
        gradient = net.gradient(parameters, x[rows], y[rows])
        gradient = [{name: g for name, g in layer.items() if name not in fixed} for layer in gradient]
        used, counts = clipped(*clipping, gradient, parameters) if clipping else (gradient, np.zeros((len(start), 2)))
        found.append(Moment(parameters, running, rows, gradient, used, counts))
        if t > len(rates):
            return found
        if net.kind == "batch":
            moments, bias = net.forward(parameters, x[rows]).moments, len(rows) / (len(rows) - 1)
            running = [
                None if now is None or old is None else tuple(
                    momentum * a + (1 - momentum) * b for a, b in zip(old, (now[0], bias * now[1]), strict=True)
                )
                for old, now in zip(running, moments, strict=True)
            ]  # fmt: skip
        parameters = [
            {
                name: values if name in fixed else moved(
                    optimizer.name, values, used[layer][name] + (weight_decay * values if name == "W" else 0.0),
                    memory[layer][name], t, rates[t - 1], optimizer.parameters,
                )
                for name, values in tensors.items()
            }
            for layer, tensors in enumerate(parameters)
        ]  # fmt: skip
    raise AssertionError
