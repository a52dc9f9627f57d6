"""The first layer of Gaussian weights is known exactly for every activation: given the input, s is normal."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stabsim.task import Task
from stabsim.theory import quadrature
from stabsim.theory.gaussian import signal_moments

Floats = NDArray[np.float64]

WIDEST = 1.5  # panel, in ln x: means of f change over about 1


@dataclass(frozen=True)
class FirstLayer:
    """Means over units, nets and samples of z and f' of layer 1, and the kurtosis of its pre-activations."""

    mean: float
    mean_square: float
    derivative_mean_square: float
    kurtosis: float


def first_layer(task: Task) -> FirstLayer | None:
    """Return what holds of the first layer of a task; None unless its weights and biases are normal.

    Examples
    --------
    >>> from stabsim.network import Network
    >>> from stabsim.arguments import make_task
    >>> found = first_layer(make_task(Network((10, 10), "tanh", "lecun_normal")))
    >>> round(found.mean_square, 8), round(found.kurtosis, 8)  # of 10 standard normal inputs, s has heavier tails
    (0.37768025, 3.6)
    """
    network = task.network
    fan_in, fan_out = network.fans[0]
    bias = network.weights.bias_std(fan_in, network.bias_std) ** 2
    if network.weights.law != "normal" or (bias > 0.0 and network.weights.bias_law != "normal"):
        return None
    if task.inputs is None:
        squares, probability = _chi_square(fan_in)
    else:
        squares = np.square(task.inputs).sum(axis=1)
        probability = np.full(len(squares), 1.0 / len(squares))
    variance = network.weights.weight_variance(fan_in, fan_out) * squares + bias
    if variance.max() > quadrature.LARGEST_VARIANCE or not variance.any() or _underflows(task, variance):
        return None
    try:
        at = signal_moments(network.activation, variance)
    except quadrature.QuadratureError:
        return None
    return FirstLayer(
        float(probability @ at.mean),
        float(probability @ at.mean_square),
        float(probability @ at.derivative_mean_square),
        float(3.0 * (probability @ variance**2) / (probability @ variance) ** 2),
    )


def _underflows(task: Task, variance: Floats) -> bool:
    """Return whether a row that is not 0 has a square that is."""
    return task.inputs is not None and bool(np.any(task.inputs.any(axis=1) & (variance == 0.0)))


def _chi_square(degrees: int) -> tuple[Floats, Floats]:
    """Return nodes of a chi-square and their probabilities: Gauss-Legendre in its logarithm, where it is smooth."""
    half = 0.5 * degrees
    # The density of y = ln(x / degrees) is exp(half (y - exp(y))): between these ends lies all but 1e-17.
    low, high = -(40.0 / half + math.sqrt(80.0 / half)), math.log1p(40.0 / half + math.sqrt(80.0 / half))
    y = quadrature.on_panels(np.linspace(low, high, max(12, math.ceil((high - low) / WIDEST)) + 1)[None])
    weights = (y.weights * np.exp(half * (y.x - np.expm1(y.x)))).ravel()
    return degrees * np.exp(y.x.ravel()), weights / weights.sum()
