"""Nets with normalization and residual connections: every tensor and quantity against the oracle of `tests.naive`."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import stabsim
from stabsim import Network, Normalization, Skip, Trace
from stabsim.activations import ACTIVATIONS
from stabsim.arguments import make_task
from tests import naive
from tests.checks import RECORDED, assert_finite_differences
from tests.test_naive import PRECISIONS, TENSORS, TOLERANCE, assert_same_quantity

PLACES = ("inside", "between", "before", "after")
NORMALIZATIONS = (None, "batch", "layer", "rms")
WIDTHS = (5, 8, 8, 6, 6, 6, 3)
ENDS = {1: {1: 2, 3: 4, 4: 5}, 2: {3: 5}}  # of the blocks of one and two layers in those widths


def oracle(seen: Trace, network: Network) -> naive.Net:
    """Run the oracle on what a trace drew."""
    norm, skip = network.normalization, network.skip
    blocks = None
    if skip is not None:
        ends = {start: end for end, start in enumerate(network.shortcuts) if start >= 0}
        blocks = naive.Blocks(ends, skip.activation, skip.branch, skip.shortcut)
    return naive.run(
        seen.weight,
        seen.bias,
        naive.FORMULAS[network.activation.name](),
        seen.activation[0],
        seen.activation_gradient[-1],
        None if norm is None else naive.Normalization(norm.kind, norm.epsilon),
        blocks,
    )


def assert_same_tensors(seen: Trace, network: Network, tolerance: float, what: object) -> None:
    """Errors are relative to a tensor's norm, those of dW to that of what its sums add up: they may cancel."""
    expected = oracle(seen, network)
    for tensor in TENSORS:
        for layer, (actual, wanted) in enumerate(zip(getattr(seen, tensor), getattr(expected, tensor), strict=True)):
            assert (actual is None) == (wanted is None)
            if wanted is None:
                continue
            size = wanted
            if tensor == "weight_gradient":
                size = np.abs(expected.activation[layer - 1]).T @ np.abs(expected.preactivation_gradient[layer])
            error = np.linalg.norm(actual - wanted)
            assert error <= tolerance * np.linalg.norm(size), (what, tensor, layer, error, np.linalg.norm(size))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_tensors_of_every_structure(activation: str, precision: str) -> None:
    for number, (kind, place) in enumerate(product(NORMALIZATIONS, (None, *PLACES))):
        epsilon, batch, bias_std = (0.0, 1e-5, 0.1)[number % 3], (5, 7, 4, 9)[number % 4], (0.0, 0.3)[number % 2]
        norm = kind and Normalization(kind, epsilon)
        skip = place and Skip(0.7, -1.3, 1 + number // 2 % 2, place, inner=0.8, last=1.2)
        network = Network(WIDTHS, activation, "lecun_normal", bias_std, norm, skip)
        seen = stabsim.trace(network, batch=batch, seed=number, precision=precision)
        assert_same_tensors(seen, network, TOLERANCE[precision], network)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["batch", "layer", "rms"])
def test_tensors_of_every_size_and_scale(kind: str, precision: str) -> None:
    """One sample, one unit, strips of units, rows of zeros, and epsilon below, about and far above the variance."""
    rows = np.random.default_rng(1).normal(size=(5, 5))
    rows[2] = 0.0
    cases: dict[str, tuple[tuple[int, ...], float, dict[str, Any]]] = {
        "one sample": ((5, 5, 7), 1.0, {"batch": 1}),
        "width 1": ((1, 1, 1, 1), 1.0, {"batch": 5}),
        "strips of units": ((70, 130, 130), 1.0, {"batch": 3}),
        "tiles and groups": ((100, 120, 120), 1.0, {"batch": 90}),
        "a row of zeros": ((5, 5, 5, 4), 1.0, {"batch": 5, "inputs": rows}),
        "only zeros": ((5, 5, 4), 1.0, {"batch": 3, "inputs": np.zeros((3, 5))}),
        "equal rows": ((5, 5, 4), 1.0, {"batch": 4, "inputs": np.tile(rows[:1], (4, 1))}),
        "tiny weights": ((5, 5, 4), 1e-30, {"batch": 6}),
        "huge weights": ((5, 5, 4), 1e30, {"batch": 6}),
        "no weights": ((5, 5, 4), 0.0, {"batch": 6}),
    }
    for name, (widths, gain, options) in cases.items():
        for place, epsilon in product((None, "inside", "before"), (0.0, 1e-5)):
            weights = stabsim.Initializer("normal", gain) if gain else "zeros"
            network = Network(
                widths, "tanh", weights, 0.0, Normalization(kind, epsilon), place and Skip(activation=place)
            )
            seen = stabsim.trace(network, precision=precision, **options)
            if name == "width 1" and kind == "rms" and epsilon == 0.0:  # gradients are 0, in NumPy rounding
                continue
            tolerance = TOLERANCE[precision] * (10 if name == "width 1" else 1)
            assert_same_tensors(seen, network, tolerance, (name, place, epsilon))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("kind", "batch", "width"), [("batch", 1, 5), ("batch", 2, 5), ("layer", 3, 1), ("layer", 3, 2), ("rms", 3, 1)]
)
def test_what_normalization_leaves_nothing_of(kind: str, batch: int, width: int, precision: str) -> None:
    """A mean and a standard deviation of as few values take up all that they can tell: exactly, whatever rounding."""
    network = Network((4, width, width), "tanh", "lecun_normal", 0.2, Normalization(kind, 0.0))
    seen: Any = stabsim.trace(network, batch=batch, precision=precision)
    left = {"batch": batch - 1, "layer": width - 1, "rms": width}[kind]
    for layer in (1, 2):
        expected = np.tanh(np.sign(seen.preactivation[layer] - (0 if kind == "rms" else _mean(kind, seen, layer))))
        assert np.allclose(seen.activation[layer], expected if left else 0.0, rtol=1e-6, atol=0.0)
        assert not np.any(seen.preactivation_gradient[layer])


def _mean(kind: str, seen: Any, layer: int) -> Any:
    return np.mean(seen.preactivation[layer], axis=0 if kind == "batch" else 1, keepdims=True)


@pytest.mark.parametrize("kind", NORMALIZATIONS)
@pytest.mark.parametrize("place", [None, *PLACES])
def test_gradients_of_the_oracle_are_finite_differences(kind: str | None, place: str | None) -> None:
    norm = kind and Normalization(kind, 0.1)
    skip = place and Skip(0.7, -1.3, 2, place)
    network = Network((4, 4, 4, 4, 4, 3), "gelu", "lecun_normal", 0.3, norm, skip)
    seen = stabsim.trace(network, batch=3, seed=2, precision="float64")
    net, gradient = oracle(seen, network), seen.activation_gradient[-1]
    cases: list[tuple[Any, Any]] = [
        (seen.weight[2], net.weight_gradient[2]),
        (seen.weight[3], net.weight_gradient[3]),
        (seen.activation[0], net.activation_gradient[0]),
        (seen.bias[4], np.sum(net.preactivation_gradient[4], axis=0)),
    ]
    assert_finite_differences(cases, lambda: float(np.sum(oracle(seen, network).activation[-1] * gradient)))


PER_NET: dict[str, tuple[Network, dict[str, Any]]] = {
    "batch": (Network(WIDTHS, "relu", "he_normal", normalization="batch(epsilon=0)"), {"batch": 5}),
    "batch, several tiles": (Network((64, 300, 40), "gelu", "he_normal", normalization="batch"), {"batch": 33}),
    "layer": (Network(WIDTHS, "hard_tanh", "he_normal", 0.2, "layer"), {"batch": 1}),
    "rms": (Network(WIDTHS, "tanh", "glorot_normal", normalization="rms"), {"batch": 4}),
    "inside": (Network(WIDTHS, "relu", "he_normal", skip="skip(branch=0.5)"), {"batch": 4}),
    "inside, bounded": (Network(WIDTHS, "hard_tanh", "normal(std=2)", 0.1, skip="skip(branch=0.5)"), {"batch": 4}),
    "between": (Network(WIDTHS, "relu", "he_normal", skip="skip(layers=2, activation=between)"), {"batch": 4}),
    "Fixup": (Network(WIDTHS, "relu", "he_normal", skip=Skip.fixup(blocks=1)), {"batch": 4}),
    "before": (Network(WIDTHS, "relu", "he_normal", 0.2, "batch", "skip(layers=2, activation=before)"), {"batch": 7}),
    "after": (Network(WIDTHS, "sigmoid", "he_normal", 0.2, "batch", "skip(activation=after)"), {"batch": 3}),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", PER_NET)
def test_quantities_of_every_net(case: str, precision: str) -> None:
    network, options = PER_NET[case]
    nets = 4
    features = make_task(network).features
    everything = tuple(name for name, entry in RECORDED.items() if not entry.missing(options["batch"], features))
    result = stabsim.simulate(
        network, nets=nets, seed=4, quantities=everything, samples=everything, precision=precision, sampler="dense",
        **options,
    )  # fmt: skip
    formula, bound = naive.FORMULAS[network.activation.name](), float(np.dtype(precision).type(0.01))
    unit = float(np.finfo(precision).eps)
    for net in range(nets):
        seen = stabsim.trace(network, net=net, seed=4, precision=precision, **options)
        expected = naive.quantities(seen, formula, bound, unit)
        run = oracle(seen, network)
        expected["activation_saturated_fraction"] = naive.saturated_fractions(run.seen, run.value, formula, bound)
        for name in everything:
            tensor = name.removesuffix("_" + RECORDED[name].statistic)
            for layer, matrix in enumerate(getattr(seen, tensor)):
                where = (net, layer)
                assert_same_quantity(name, result.samples[name][where], expected[name][layer], matrix, where)
