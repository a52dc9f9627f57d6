"""The oracle of losses: plain NumPy with numbers that carry their derivatives.

A hyper-dual number (Fike & Alonso 2011) is x + a e + b e' + c e e' with e^2 = e'^2 = 0: what a function makes of it has
the exact first derivatives in a and b, and the mixed second one in c. Here for all pairs of parameters at once: x has
the axis of the samples, in front of it a has that of the first parameter, b that of the second and c both.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.activations import Activation

Floats = NDArray[Any]


class HyperDual:
    """An array of hyper-dual numbers."""

    __array_priority__ = 1.0

    def __init__(self, x: Any, a: Any = 0.0, b: Any = 0.0, c: Any = 0.0) -> None:
        self.x, self.a, self.b, self.c = (np.asarray(part) for part in (x, a, b, c))

    def apply(self, f: Any, first: Any, second: Any) -> HyperDual:
        """Return f of it, given the arrays f(x), f'(x) and f''(x)."""
        return HyperDual(f, first * self.a, first * self.b, first * self.c + second * self.a * self.b)

    def __add__(self, other: Any) -> HyperDual:
        y = other if isinstance(other, HyperDual) else HyperDual(other)
        return HyperDual(self.x + y.x, self.a + y.a, self.b + y.b, self.c + y.c)

    def __mul__(self, other: Any) -> HyperDual:
        y = other if isinstance(other, HyperDual) else HyperDual(other)
        mixed = self.x * y.c + self.a * y.b + self.b * y.a + self.c * y.x
        return HyperDual(self.x * y.x, self.x * y.a + self.a * y.x, self.x * y.b + self.b * y.x, mixed)

    __radd__, __rmul__ = __add__, __mul__

    def sum(self) -> HyperDual:
        """Return the sum over samples."""
        samples = self.x.size
        parts = (np.broadcast_to(part, (*part.shape[:-1], samples)) for part in (self.a, self.b, self.c))
        return HyperDual(self.x.sum(), *(part.sum(axis=-1, keepdims=True) for part in parts))

    def exp(self) -> HyperDual:
        """Return e to it."""
        return self.apply(np.exp(self.x), np.exp(self.x), np.exp(self.x))

    def log(self) -> HyperDual:
        """Return its logarithm."""
        return self.apply(np.log(self.x), 1 / self.x, -1 / self.x**2)


def activate(activation: Activation, s: HyperDual) -> HyperDual:
    """Return f(s), by the scalar functions."""
    values = (np.vectorize(lambda x, role=role: activation.evaluate(role, x))(s.x) for role in ROLES)
    return s.apply(*values)


ROLES = ("f", "derivative", "second_derivative")


def total(loss: str, outputs: list[HyperDual], targets: Floats) -> HyperDual:
    """Return the loss of outputs, each (samples,)."""
    pairs = list(zip(outputs, targets.T, strict=True))
    if loss == "mean_squared_error":
        return added([((z + -y) * (z + -y)).sum() for z, y in pairs]) * (1 / targets.size)
    if loss == "logistic":
        return added([((z.exp() + 1.0).log() + z * -y).sum() for z, y in pairs]) * (1 / targets.size)
    level = added([z.exp() for z in outputs]).log()
    return added([((level + -1.0 * z) * y).sum() for z, y in pairs]) * (1 / len(targets))


def added(numbers: Sequence[HyperDual]) -> HyperDual:
    """Return the sum of numbers."""
    return functools.reduce(HyperDual.__add__, numbers)


def loss_of(landscape: Any, parameters: list[HyperDual]) -> HyperDual:
    """Return the loss at a point of P numbers."""
    z = [HyperDual(column) for column in landscape.inputs.T]
    start = 0
    for layer, (fan_in, fan_out) in enumerate(landscape.network.fans, start=1):
        last = layer == landscape.network.depth
        s = []
        for j in range(fan_out):
            unit = added([z[i] * parameters[start + i * fan_out + j] for i in range(fan_in)])
            s.append(unit + parameters[start + fan_in * fan_out + j] if landscape.train_biases else unit)
        z = [activate(landscape.output_activation if last else landscape.network.activation, each) for each in s]
        start += (fan_in + landscape.train_biases) * fan_out
    return total(str(landscape.loss_function), z, landscape.targets)


def derivatives(surface: Callable[[list[HyperDual]], HyperDual], point: Floats) -> tuple[float, Floats, Floats]:
    """Return value, gradient and Hessian of a function at a point."""
    unit, size = np.eye(len(point)), len(point)
    found = surface([HyperDual(x, e[:, None, None], e[None, :, None]) for x, e in zip(point, unit, strict=True)])
    gradient, hessian = np.broadcast_to(found.a, (size, 1, 1)), np.broadcast_to(found.c, (size, size, 1))
    return float(found.x), gradient[:, 0, 0], hessian[:, :, 0]
