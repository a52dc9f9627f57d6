"""Every tensor and every quantity of single nets against the oracle of `tests.naive`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import stabsim
from stabsim import Network, Trace
from stabsim.activations import ACTIVATIONS
from stabsim.initializers import INITIALIZERS, initializer
from tests import naive
from tests.checks import RECORDED, assert_finite_differences

PRECISIONS = ("float64", "float32")
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
TENSORS = (
    "activation", "preactivation", "derivative", "activation_gradient", "preactivation_gradient", "weight_gradient",
)  # fmt: skip
RNG = np.random.default_rng(5)
INPUTS = RNG.normal(size=(7, 5))
INPUTS[3] = 0.0

Case = tuple[tuple[int, ...], dict[str, Any]]
CASES: dict[str, Case] = {
    "one sample": ((5, 7, 4, 6), {"batch": 1}),
    "two samples": ((5, 7, 4, 6), {"batch": 2}),
    "another net and seed": ((5, 7, 4, 6), {"batch": 3, "net": 12345, "seed": 2**64 - 1}),
    "width 1": ((1, 1, 1, 1), {"batch": 4}),
    "width 1, one sample": ((1, 1, 1), {"batch": 1}),
    "one layer": ((6, 3), {"batch": 7}),
    "one layer, one sample": ((6, 3), {"batch": 1}),
    "odd ends of vectors": ((67, 129, 33), {"batch": 7}),
    "samples in groups": ((100, 120, 10), {"batch": 130}),
    "given inputs, one row 0": ((5, 7, 4), {"batch": 7, "inputs": INPUTS}),
    "given inputs, drawn": ((5, 7, 4), {"batch": 3, "inputs": INPUTS, "net": 8}),
    "only a zero row": ((5, 7, 4), {"batch": 1, "inputs": np.zeros((1, 5))}),
    "given gradient": ((5, 7, 4), {"batch": 2, "output_gradient": np.array([[1.0, -2.0, 0.0, 3.0], [0.0] * 4])}),
}


def oracle(seen: Trace, formula: naive.Formula) -> naive.Net:
    """Run the oracle on what a trace drew."""
    return naive.run(seen.weight, seen.bias, formula, seen.activation[0], seen.activation_gradient[-1])


def assert_close(actual: Any, expected: Any, tolerance: float, what: object) -> None:
    error, size = float(np.linalg.norm(actual - expected)), float(np.linalg.norm(expected))
    assert error <= tolerance * size, f"{what}: relative error {error / size if size else math.inf:.2e}"


def assert_same_tensors(seen: Trace, expected: naive.Net, tolerance: float, what: object) -> None:
    for tensor in TENSORS:
        for layer, (actual, wanted) in enumerate(zip(getattr(seen, tensor), getattr(expected, tensor), strict=True)):
            assert (actual is None) == (wanted is None)
            if wanted is not None:
                assert actual.shape == wanted.shape
                assert_close(actual, wanted, tolerance, (what, tensor, layer))


def test_every_activation_and_every_quantity_has_an_oracle() -> None:
    assert list(naive.FORMULAS) == list(ACTIVATIONS)
    found = naive.quantities(oracle(stabsim.trace(Network((2, 3), "relu", "he_normal")), naive.relu()), naive.relu())
    assert sorted(found) == sorted(RECORDED)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_tensors_of_every_initializer(activation: str, precision: str) -> None:
    for name in INITIALIZERS:
        weights = initializer(name)
        for bias_std in (0.0, 0.5) if weights.bias_gain is None else (0.0,):
            network = Network((5, 8, 3, 6), activation, weights, bias_std)
            seen = stabsim.trace(network, batch=7, seed=3, precision=precision)
            expected = oracle(seen, naive.FORMULAS[activation]())
            assert_same_tensors(seen, expected, TOLERANCE[precision], (name, bias_std))
            assert all(np.any(bias) == (bias_std > 0 or bool(weights.bias_gain)) for bias in seen.bias[1:])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_tensors_of_every_shape_and_option(activation: str, precision: str) -> None:
    for name, (widths, options) in CASES.items():
        for bias_std in (0.0, 0.3):
            network = Network(widths, activation, "he_normal", bias_std)
            seen = stabsim.trace(network, precision=precision, **options)
            expected = oracle(seen, naive.FORMULAS[activation]())
            assert_same_tensors(seen, expected, TOLERANCE[precision], (name, bias_std))


@pytest.mark.parametrize(
    ("spec", "formula"),
    [
        ("linear(alpha=-0.5, beta=0.25)", naive.linear(-0.5, 0.25)),
        ("leaky_relu(slope=0.3)", naive.leaky_relu(0.3)),
        ("elu(alpha=0.7)", naive.elu(0.7)),
    ],
)
def test_parameters_reach_the_kernel(spec: str, formula: naive.Formula) -> None:
    seen = stabsim.trace(Network((5, 8, 3), spec, "lecun_normal", 0.1), batch=3, precision="float64")
    assert_same_tensors(seen, oracle(seen, formula), 1e-10, spec)


def test_weights_are_what_the_initializer_says() -> None:
    def drawn(weights: str) -> Any:
        return stabsim.trace(Network((5, 8, 3), "tanh", weights), precision="float64").weight

    assert np.all(drawn("constant(value=-0.3)")[2] == -0.3)
    assert np.all(drawn("constant(value=1e10)")[2] == 1e10)
    assert np.all(drawn("zeros")[1] == 0)
    assert np.array_equal(drawn("identity(gain=3)")[1], 3 * np.eye(5, 8))
    assert np.max(np.abs(drawn("uniform(bound=0.2)")[1])) < 0.2
    assert np.max(np.abs(drawn("truncated_normal(std=1)")[1])) < 2 / math.sqrt(0.7737)
    for q in drawn("orthogonal(gain=1e-9)")[1:]:
        fan_in, fan_out = q.shape
        product = q @ q.T if fan_in < fan_out else q.T @ q
        assert np.allclose(product, 1e-18 * np.eye(min(q.shape)), rtol=0, atol=1e-30)


@pytest.mark.parametrize("name", ["zeros", "constant(value=-0.5)"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_dead_net_is_exactly_zero(name: str, precision: str) -> None:
    network, inputs = Network((5, 4, 3), "relu", name), np.abs(INPUTS) + 0.1
    seen = stabsim.trace(network, batch=7, inputs=inputs, precision=precision)
    assert_same_tensors(seen, oracle(seen, naive.relu()), TOLERANCE[precision], name)
    assert not any(np.any(seen.activation[layer]) or np.any(seen.weight_gradient[layer]) for layer in (1, 2))
    assert not np.any(seen.activation_gradient[0])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_of_the_oracle_are_finite_differences(activation: str) -> None:
    seen = stabsim.trace(Network((4, 6, 5, 3), activation, "lecun_normal", 0.3), batch=3, precision="float64")
    formula, gradient = naive.FORMULAS[activation](), seen.activation_gradient[-1]
    net = oracle(seen, formula)
    cases: list[tuple[Any, Any]] = [
        (seen.weight[2], net.weight_gradient[2]),
        (seen.activation[0], net.activation_gradient[0]),
        (seen.bias[1], np.sum(net.preactivation_gradient[1], axis=0)),
    ]
    assert_finite_differences(cases, lambda: float(np.sum(oracle(seen, formula).activation[-1] * gradient)))


def assert_same_quantity(name: str, actual: float, expected: float, matrix: Any, where: object) -> None:
    """Counts are equal; sums agree within rounding of what they add up."""
    what = f"{name} at {where}: {actual!r} instead of {expected!r}"
    if math.isnan(expected) or math.isinf(expected) or name.endswith("_fraction"):
        exact = name.endswith("_fraction") and not math.isnan(expected)
        assert math.isclose(actual, expected, rel_tol=1e-13) if exact else str(actual) == str(expected), what
        assert not exact or ((actual == 0) == (expected == 0) and (actual == 1) == (expected == 1)), what
        return
    size = {"mean": 1, "variance": 2, "mean_square": 2}.get(name.rsplit("_", 1)[-1], 0)
    scale = float(np.mean(matrix**2)) ** (size / 2) if size else 1.0
    if name.endswith("mean_square"):
        scale = float(np.mean(matrix**2))
    elif name.endswith("kurtosis"):  # is as uncertain as the fourth moment about 0 (f(0)) in units of the variance
        scale = float(np.mean(np.abs(matrix) ** 4)) / naive.variance(matrix) ** 2
    assert abs(actual - expected) <= 1e-11 * max(scale, abs(expected)), what


PER_NET: dict[str, tuple[Network, dict[str, Any]]] = {
    "one sample": (Network((5, 7, 4, 6), "relu", "he_normal"), {"batch": 1}),
    "odd batch": (Network((5, 7, 4, 6), "relu", "he_normal"), {"batch": 5}),
    "narrow": (Network((3, 2, 2, 2, 1), "relu", "he_normal"), {"batch": 2}),
    "width 1": (Network((1, 1, 1), "relu", "he_normal"), {"batch": 1}),
    "biased": (Network((5, 7, 4, 6), "relu", "glorot_uniform", 0.2), {"batch": 4}),
    "dead": (Network((5, 4, 3), "relu", "constant(value=-0.5)"), {"batch": 7, "inputs": np.abs(INPUTS) + 0.1}),
    "zeros": (Network((5, 4, 3), "tanh", "zeros"), {"batch": 3}),
    "zeros, one sample": (Network((5, 4, 3), "tanh", "zeros"), {"batch": 1}),
    "inputs with a zero row": (Network((5, 7, 4), "relu", "he_normal"), {"batch": 4, "inputs": INPUTS}),
    "given gradient": (
        Network((5, 7, 3), "relu", "he_normal"),
        {"batch": 2, "output_gradient": np.array([[1.0, -2.0, 0.0], [0.0] * 3])},
    ),
    "given gradient, one hot": (
        Network((5, 3, 3, 4), "relu", "he_normal"),
        {"batch": 3, "output_gradient": np.eye(4)[:3] * [[2.0], [0.0], [-1.0]]},
    ),
    "zero gradient": (Network((5, 7, 3), "relu", "he_normal"), {"batch": 2, "output_gradient": np.zeros((2, 3))}),
    "zero gradient, one sample": (
        Network((5, 7, 3), "relu", "he_normal"),
        {"batch": 1, "output_gradient": np.zeros((1, 3))},
    ),
    "very narrow and deep": (Network((2,) * 9, "relu", "he_normal"), {"batch": 8}),
    "very narrow, one sample": (Network((2,) * 9, "relu", "he_normal"), {"batch": 1}),
    "revived by biases": (Network((2,) * 9, "relu", "he_normal", 0.3), {"batch": 8}),
    "revived by biases, one sample": (Network((2,) * 9, "relu", "he_normal", 0.3), {"batch": 1}),
    "shut by biases of zero inputs": (
        Network((3, 2, 2, 2), "hard_tanh", "normal(std=1)", 1.5),
        {"batch": 4, "inputs": np.zeros((4, 3))},
    ),
    "saturated and narrow": (Network((3, 2, 2, 2), "hard_tanh", "normal(std=9)"), {"batch": 6}),
    "saturated on both sides": (Network((3, 2, 2, 2), "relu6", "normal(std=9)"), {"batch": 6}),
    "tanh of a zero row": (Network((5, 3, 4), "tanh", "lecun_normal"), {"batch": 4, "inputs": INPUTS[2:6]}),
    "more samples than units": (Network((3, 4, 2, 5), "relu", "he_normal"), {"batch": 20}),
    "more samples than units, linear": (Network((3, 4, 2, 5), "linear", "lecun_normal"), {"batch": 20}),
    "equal samples": (Network((5, 7, 4), "tanh", "he_normal"), {"batch": 3, "inputs": INPUTS[[0, 0, 1]]}),
    "several tiles": (Network((64, 300, 40), "relu", "he_normal"), {"batch": 33}),
    "samples in groups": (Network((100, 120, 10), "gelu", "he_normal"), {"batch": 130}),
    "saturated": (Network((5, 7, 4, 6), "hard_tanh", "normal(std=2)"), {"batch": 5}),
    **{name: (Network((5, 7, 4, 6), name, "he_normal"), {"batch": 4}) for name in ACTIVATIONS if name != "relu"},
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", PER_NET)
def test_quantities_of_every_net(case: str, precision: str) -> None:
    network, options = PER_NET[case]
    nets = 2 if network.widths[0] > 60 else 6
    everything = tuple(name for name, entry in RECORDED.items() if not entry.missing(options["batch"]))
    result = stabsim.simulate(
        network, nets=nets, seed=4, quantities=everything, samples=everything, precision=precision, sampler="dense",
        **options,
    )  # fmt: skip
    formula = naive.FORMULAS[network.activation.name]()
    for net in range(nets):
        seen = stabsim.trace(network, net=net, seed=4, precision=precision, **options)
        bound, unit = float(np.dtype(precision).type(0.01)), float(np.finfo(precision).eps)
        expected = naive.quantities(seen, formula, bound, unit)
        for name in everything:
            tensor = name.removesuffix("_" + RECORDED[name].statistic)
            for layer, matrix in enumerate(getattr(seen, tensor)):
                where = (net, layer)
                assert_same_quantity(name, result.samples[name][where], expected[name][layer], matrix, where)
