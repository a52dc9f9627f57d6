"""Simulated nets against every row of data/reference_values.csv on batch normalization and residual connections.

A row holds where the estimate is within `LIMIT` of its own standard errors, and 5% more is outside. What rows say of
infinite widths is measured where what the width changes (as 1 / width) is below the standard error, and what they say
of an infinite batch is what follows from two batches, since rates are straight lines in 1 / batch: to 1e-4 there.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stabsim
from stabsim import Initializer, Network, Skip
from tests.checks import WRONG, assert_agrees, must_fail
from tests.test_reference_values import rows

Estimate = tuple[float, float]  # and its standard error
GRADIENT = "activation_gradient_mean_square"
BATCHES = (128, 256)  # from which an infinite one follows


def sample(network: Network, quantity: str, nets: int, **options: Any) -> Any:
    """Return a quantity of every net, (nets, depth + 1)."""
    result = stabsim.simulate(network, nets=nets, quantities=(quantity,), samples=(quantity,), seed=7, **options)
    return result.samples[quantity]


def mean(values: Any, factor: float = 1.0) -> Estimate:
    return factor * float(np.mean(values)), abs(factor) * float(np.std(values, ddof=1) / math.sqrt(len(values)))


def root_of_ratio(above: Any, below: Any, power: int) -> Estimate:
    """Return the root of the ratio of two means, with its error to first order."""
    ratio = np.mean(above) / np.mean(below)
    error = np.std(above - ratio * below, ddof=1) / math.sqrt(len(above)) / np.mean(below)
    root = ratio ** (1 / power)
    return float(root), float(root * error / ratio / power)


@functools.cache
def gradient_rate(activation: str, batch: int, width: int, nets: int) -> Estimate:
    """Return by what the squared norm of the gradient grows a layer.

    The first step down takes the injected gradient's part along 1 away, and the last goes through inputs of another
    variance: those between are alike.
    """
    network = Network((width,) * 6, activation, "lecun_normal", normalization="batch(epsilon=0)")
    found = sample(network, GRADIENT, nets, batch=batch)
    return root_of_ratio(found[:, 1], found[:, 4], 3)


def extrapolated(measured: Callable[[int], Estimate]) -> Estimate:
    """Return what an infinite batch has, given what batches have."""
    (small, small_error), (large, large_error) = (measured(batch) for batch in BATCHES)
    return 2 * large - small, math.hypot(2 * large_error, small_error)


def finite_batch(activation: str, batch: str) -> Estimate:
    nets = 2000 if int(batch) < 6 else 300 if int(batch) < 64 else 24  # the fewer samples, the heavier the tails
    return gradient_rate(activation, int(batch), 4000 if int(batch) <= 64 else 1024, nets)


def infinite_batch(activation: str) -> Estimate:
    return extrapolated(lambda batch: gradient_rate(activation, batch, 1024, 16))


def infinite_batch_of_norm() -> Estimate:
    rate, error = infinite_batch("relu")
    return math.sqrt(rate), error / (2 * math.sqrt(rate))


def correlation() -> Estimate:
    def measured(batch: int) -> Estimate:
        network = Network((1024,) * 4, "relu", "lecun_normal", normalization="batch(epsilon=0)")
        return mean(sample(network, "activation_correlation", 12, batch=batch)[:, 3])

    return extrapolated(measured)


def two_layers(width: int, blocks: int, **options: Any) -> Network:
    """Return x + W_2 relu(W_1 x), with weights of variance 2 / n, if ``last`` says nothing else."""
    skip = Skip(layers=2, activation="between", **options)
    return Network((width,) * (2 * blocks + 1), "relu", "he_normal", skip=skip)


def growth(network: Network, nets: int) -> Estimate:
    """Return E |x_L|^2 / |x_0|^2."""
    return mean(sample(network, "activation_mean_square", nets, inputs=np.ones((1, network.widths[0])))[:, -1])


def two_layer_growth(blocks: str, last: float) -> Estimate:
    return growth(two_layers(1000, int(blocks), last=last), 12_000 if blocks == "50" else 2000)


def scaled_growth(blocks: str, branch: float) -> Estimate:
    return growth(two_layers(200, int(blocks), last=math.sqrt(0.5), branch=branch), 400)


def limit_of_scaled_growth() -> Estimate:
    """Return the growth at depth L = 100 of which (1 + 1/L)^L is 0.5% below the limit, brought there."""
    found, error = scaled_growth("100", 0.1)
    return found * math.e / 1.01**100, error


def fourth_moment(network: Network, nets: int) -> Estimate:
    squares = sample(network, "activation_mean_square", nets, inputs=np.ones((1, network.widths[0])))
    return mean(squares[:, -1] ** 2)


def linear_fourth_moment(blocks: str, variance: str) -> Estimate:
    weights = Initializer("normal", math.sqrt(float(variance)))
    network = Network((100,) * (int(blocks) + 1), "linear", weights, skip=Skip())
    return fourth_moment(network, 40_000)


def two_layer_fourth_moment(width: str, blocks: str) -> Estimate:
    return fourth_moment(
        two_layers(int(width), int(blocks), last=math.sqrt(0.5)), 600_000 if width == "10" else 120_000
    )


def block_gradient() -> Estimate:
    found = sample(two_layers(100, 4, last=math.sqrt(0.5)), GRADIENT, 3000)
    return root_of_ratio(found[:, 0], found[:, -1], 4)


@functools.cache
def tanh_net(blocks: int) -> tuple[Any, Any]:
    """Return mean squares at the end and gradients at the start of x + tanh(W x)."""
    network = Network((4000,) * (blocks + 1), "tanh", "lecun_normal", skip=Skip())
    names = ("activation_mean_square", GRADIENT)
    inputs = np.tile([1.0, -1.0], (1, 2000))
    result = stabsim.simulate(network, nets=200, quantities=names[:1], samples=names, seed=7, inputs=inputs)
    return result.samples[names[0]][:, -1], result.samples[names[1]]


def tanh_mean_square(blocks: str) -> Estimate:
    return mean(tanh_net(int(blocks))[0])


def tanh_gradient(blocks: str) -> Estimate:
    gradients = tanh_net(int(blocks))[1]
    return root_of_ratio(gradients[:, 0], gradients[:, -1], 1)


def fixup_weights(blocks: str, layers: str) -> Estimate:
    """Return the standard deviation of the weights in front of the last of a branch, which are 0."""
    skip = Skip.fixup(int(blocks), int(layers))
    seen: Any = stabsim.trace(Network((300,) * (int(layers) + 1), "relu", "normal(std=1)", skip=skip))
    assert not np.any(seen.weight[int(layers)])
    assert np.array_equal(seen.activation[int(layers)], seen.activation[0])
    weights = np.concatenate([np.ravel(seen.weight[layer]) for layer in range(1, int(layers))])
    return float(np.std(weights)), float(np.std(weights) / math.sqrt(2 * weights.size))


def normalized_branches(block: str) -> Estimate:
    network = Network(
        (200,) * (int(block) + 1), "linear", "lecun_normal", normalization="batch(epsilon=0)", skip=Skip()
    )
    return mean(sample(network, "activation_mean_square", 60, batch=8)[:, -1])


MEASURED: dict[str, Callable[..., Estimate]] = {
    r"6\.bn\.lin\.B(\d+)": lambda batch: finite_batch("linear", batch),
    r"6\.bn\.relu\.B(\d+)": lambda batch: finite_batch("relu", batch),
    r"6\.bn\.relu\.inf\.norm": infinite_batch_of_norm,
    r"6\.bn\.inf\.gelu_erf": lambda: infinite_batch("gelu"),
    r"6\.bn\.inf\.leaky_relu_0\.01": lambda: infinite_batch("leaky_relu(slope=0.01)"),
    r"6\.bn\.inf\.elu_1": lambda: infinite_batch("elu"),
    r"6\.bn\.inf\.(\w+)": infinite_batch,
    r"6\.bn\.relu\.corr\.inf": correlation,
    r"7\.res\.he\.L(\d+)": lambda blocks: two_layer_growth(blocks, math.sqrt(0.5)),
    r"7\.res\.he2\.L(\d+)": lambda blocks: two_layer_growth(blocks, 1.0),
    r"7\.res\.scaled\.L(\d+)": lambda blocks: scaled_growth(blocks, int(blocks) ** -0.5),
    r"7\.res\.scaled\.inf": limit_of_scaled_growth,
    r"7\.res\.1L\.L(\d+)": lambda blocks: scaled_growth(blocks, 1 / int(blocks)),
    r"7\.res\.lin\.E4\.n100\.L(10)": lambda blocks: linear_fourth_moment(blocks, "1"),
    r"7\.res\.lin\.E4\.n100\.L(50)": lambda blocks: linear_fourth_moment(blocks, "0.02"),
    r"7\.res\.he\.E4\.n(\d+)\.L(\d+)": two_layer_fourth_moment,
    r"7\.res\.grad": block_gradient,
    r"7\.res\.tanh\.p(\d+)": tanh_mean_square,
    r"7\.res\.tanh\.chi(\d+)": tanh_gradient,
    r"7\.fixup\.scale": lambda: fixup_weights("100", "2"),
    r"7\.fixup\.scale\.m3": lambda: fixup_weights("100", "3"),
    r"7\.bnres\.var\.l(\d+)": normalized_branches,
}
ROWS = {name: row for name, row in rows().items() if row.area.startswith(("6 ", "7 "))}


@pytest.mark.parametrize("name", ROWS)
def test_simulation_is_within_the_interval_of_a_row(name: str) -> None:
    measured, match = next((found, m) for rule, found in MEASURED.items() if (m := re.fullmatch(rule, name)))
    estimate, error = measured(*match.groups())
    expected = float(ROWS[name].value)
    assert_agrees(estimate, expected, error)
    must_fail(assert_agrees, estimate, WRONG * expected, error)
