"""Laws that hold exactly for residual nets of finite width with independent, centered weights, but no normalization.

At a block's end x and the branch are uncorrelated, since its last weights are centered: E z^2 = shortcut^2 E x^2 +
branch^2 E F^2. With linear f this closes wherever f stands. With f two rays from the origin it does where f is
"between" layers only: within a branch s is symmetric given what is below (Hanin & Rolnick 2018, arXiv:1803.01719).
Gradients go the same way back. For rays: seen from below, the gradient's second moments are those of independent
entries of one variance, whatever the signal is, if the injected gradient is so; and signs of W and -W are equally
likely wherever the signal below is not 0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stabsim.task import Task
from stabsim.theory.exact import HARMLESS, ExactLaws, zero_where

Floats = NDArray[np.float64]

SURELY_ALIVE = 54  # units: a layer of as many ReLU is dead with a probability that float64 takes for 0


def laws_of(task: Task) -> ExactLaws | ResidualLaws:
    """Return what is known exactly of a task."""
    return ResidualLaws(task) if task.features - HARMLESS == {"skip"} else ExactLaws(task)


def predict(task: Task, quantity: str) -> Floats:
    """Return the prediction of a quantity at every layer, (depth + 1,); NaN where no law is known.

    Examples
    --------
    >>> from stabsim.network import Network
    >>> from stabsim.arguments import make_task
    >>> network = Network((100,) * 5, "relu", "he_normal", skip="skip(layers=2, activation=between)")
    >>> predict(make_task(network), "activation_mean_square")
    array([1., 1., 3., 3., 9.])
    """
    return laws_of(task).predict(quantity)


class ResidualLaws:
    """A task in the letters of the formulas; layer 0 is the input."""

    def __init__(self, task: Task) -> None:
        skip = task.network.skip
        assert skip is not None
        self.plain = ExactLaws(task)
        self.skip = skip
        self.starts = np.array(task.network.shortcuts)
        self.inputs_mean = 0.0 if task.inputs is None else float(task.inputs.mean())
        affine = self.plain.affine
        self.linear = affine is not None and affine[1] == 0.0
        self.closed = self.linear or (affine is None and self.plain.slopes is not None and skip.activation == "between")
        self.has_f = np.array([skip.activation != "between" or start < 0 for start in self.starts])

    def predict(self, quantity: str) -> Floats:
        """Return the prediction of a quantity at every layer, (depth + 1,); NaN where no law is known."""
        law = _LAWS.get(quantity)
        if law is None or self.plain.task.network.weights.law not in ("normal", "uniform", "truncated_normal"):
            return self.plain.nothing.copy()
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            values = np.array(law(self), np.float64)
        return np.where(np.isfinite(values), values, np.nan)

    @property
    def squared_factors(self) -> Floats:
        """Return the squares of those of the branch and of the shortcut, infinite where float64 does not hold them."""
        return np.square([self.skip.branch, self.skip.shortcut])

    @property
    def passed(self) -> Floats:
        """Return the mean of f'^2 at every layer, where signs are a fair coin."""
        return np.where(self.has_f, self.plain.passed, 1.0)

    @property
    def first_sums(self) -> bool:
        """Return whether the sum stands in front of f, so that it is s."""
        return self.skip.activation in ("before", "after")

    @functools.cached_property
    def forward(self) -> tuple[Floats, Floats]:
        """Return the mean squares of s and of z."""
        p, (a, c) = self.plain, self.squared_factors
        s, z = p.nothing.copy(), p.nothing.copy()
        z[0] = 1.0 if p.input_squares is None else p.input_squares.mean() / p.widths[0]
        for layer in range(1, len(s)):
            start = self.starts[layer]
            s[layer] = p.widths[layer - 1] * p.gamma[layer] * z[layer - 1] + p.bias_variance[layer]
            if start >= 0 and self.first_sums:
                below = s if self.skip.activation == "before" and start > 0 else z
                s[layer] = c * below[start] + a * s[layer]
            z[layer] = self.passed[layer] * s[layer] if self.closed else math.nan
            if start >= 0 and not self.first_sums:
                z[layer] = c * z[start] + a * z[layer]
        return s, z

    @functools.cached_property
    def means(self) -> tuple[Floats, Floats]:
        """Return the means of s and of z: those of the input come along the shortcuts."""
        p, c = self.plain, self.skip.shortcut
        slope = p.affine[0] if self.linear and p.affine else math.nan
        s, z = np.zeros(len(p.widths)), np.zeros(len(p.widths))
        s[0], z[0] = math.nan, self.inputs_mean
        for layer in range(1, len(s)):
            start = self.starts[layer]
            if start >= 0 and self.first_sums:
                s[layer] = c * (s if self.skip.activation == "before" and start > 0 else z)[start]
            z[layer] = slope * s[layer] if self.has_f[layer] else 0.0
            if start >= 0 and not self.first_sums:
                z[layer] += c * z[start]
        return s, z

    @property
    def alive(self) -> bool:
        """Return whether the signal below every f is surely not 0, or it does not matter."""
        if self.linear or (self.plain.slopes is not None and 0.0 not in self.plain.slopes):
            return not self.plain.dead_inputs or self.linear
        under_f = np.append(self.has_f[1:], False)
        feeding = (self.has_f & (under_f | ~_inside(self.starts)))[1:-1]
        return not self.plain.dead_inputs and bool(np.all(self.plain.widths[1:-1][feeding] >= SURELY_ALIVE))

    @functools.cached_property
    def backward(self) -> tuple[Floats, Floats]:
        """Return the mean squares of ds, the gradient by z W + b, and of dz."""
        p, (a, c) = self.plain, self.squared_factors
        gradient = p.task.output_gradient
        if not self.closed or not self.alive or (not self.linear and gradient is not None):
            return p.nothing, p.nothing
        ds, dz, by_sum = p.nothing.copy(), np.zeros(len(p.widths)), np.zeros(len(p.widths))
        dz[-1] = 1.0 if gradient is None else np.mean(np.square(gradient))
        for layer in range(len(ds) - 1, 0, -1):
            start, before = self.starts[layer], self.skip.activation == "before"
            total = self.passed[layer] * dz[layer] + by_sum[layer]
            ds[layer] = total * (a if start >= 0 else 1.0)
            if start >= 0:
                arriving = total if self.first_sums else dz[layer]
                (by_sum if before and start > 0 else dz)[start] += c * arriving
            dz[layer - 1] += p.widths[layer] * p.gamma[layer] * ds[layer]
        return ds, dz

    def derivative(self) -> Floats:
        """Return the mean of f'^2."""
        values = self.passed if self.closed and self.alive else self.plain.nothing
        return np.concatenate([[np.nan], values[1:]])

    def centered(self, values: Floats) -> Floats:
        """Return what holds where gradients have mean 0: where the injected one has."""
        return values if self.plain.task.output_gradient is None else self.plain.nothing


def _inside(starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which layers are part of a branch."""
    inside = np.zeros(len(starts), np.bool_)
    for end, start in enumerate(starts):
        if start >= 0:
            inside[start + 1 : end + 1] = True
    return inside


_LAWS: dict[str, Callable[[ResidualLaws], Floats]] = {
    "preactivation_mean": lambda p: p.means[0],
    "preactivation_mean_square": lambda p: p.forward[0],
    "preactivation_variance": lambda p: p.forward[0] - p.means[0] ** 2,
    "activation_mean": lambda p: p.means[1],
    "activation_mean_square": lambda p: p.forward[1],
    "activation_variance": lambda p: p.forward[1] - p.means[1] ** 2,
    "derivative_mean_square": lambda p: p.derivative(),
    "activation_gradient_mean": lambda p: p.centered(zero_where(p.backward[1])),
    "activation_gradient_mean_square": lambda p: p.backward[1],
    "activation_gradient_variance": lambda p: p.centered(p.backward[1]),
    "preactivation_gradient_mean": lambda p: p.centered(zero_where(p.backward[0])),
    "preactivation_gradient_mean_square": lambda p: p.backward[0],
    "preactivation_gradient_variance": lambda p: p.centered(p.backward[0]),
}
