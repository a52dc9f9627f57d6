"""Nothing over- or underflows, at any depth or gain, forward or backward."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import digamma
from scipy.stats import binom

import stabsim
from stabsim import Initializer, Network, Result
from tests import naive
from tests.statistics import WRONG, assert_agrees, must_fail

Numbers = NDArray[Any]

WIDTH, DEPTH, NETS = 100, 1000, 64
NORMS = tuple(
    f"{tensor}_log10_norm"
    for tensor in ("activation", "activation_gradient", "preactivation_gradient", "weight_gradient")
)
GAINS = (0.5, 3.0)


def norms(widths: tuple[int, ...], activation: str, gain: float, nets: int = NETS, **options: Any) -> Result:
    network = Network(widths, activation, Initializer("normal", gain, "in"))
    return stabsim.simulate(network, nets=nets, quantities=NORMS, samples=NORMS, seed=11, **options)


def mean_log10_chi_square(degrees: Any) -> Any:
    return (digamma(np.asarray(degrees) / 2) + math.log(2)) / math.log(10)


def exact_step(activation: str, width: int, gain: float) -> float:
    """Return E log10 (|z_l| / |z_(l-1)|): |s_l|^2 is gain^2/n |z_(l-1)|^2 times a chi-square of which ReLU keeps
    Binomial(n, 1/2) degrees of freedom, but for none.
    """  # fmt: skip
    if activation == "linear":
        mean = float(mean_log10_chi_square(width))
    else:
        on = np.arange(1, width + 1)
        probability = binom.pmf(on, width, 0.5)
        mean = float(probability @ mean_log10_chi_square(on) / probability.sum())
    return 0.5 * (math.log10(gain**2 / width) + mean)


def exact_forward(activation: str, width: int, depth: int, gain: float) -> Numbers:
    start = 0.5 * float(mean_log10_chi_square(width))
    return start + exact_step(activation, width, gain) * np.arange(depth + 1)


def exact_backward_linear(width: int, depth: int, gain: float) -> Numbers:
    return exact_forward("linear", width, depth, gain)[::-1]


@pytest.fixture(scope="module", params=[(f, gain) for f in ("linear", "relu") for gain in GAINS], ids=str)
def deep(request: pytest.FixtureRequest) -> tuple[str, float, Result]:
    activation, gain = request.param
    return activation, gain, norms((WIDTH,) * (DEPTH + 1), activation, gain)


def assert_matches(result: Result, quantity: str, exact: Numbers, first: int = 0) -> None:
    found = result.estimates(quantity)
    assert_agrees(found.estimate[first:], exact[first:], found.std_error[first:])


def test_no_number_is_lost(deep: tuple[str, float, Result]) -> None:
    _, gain, result = deep
    rows = result.table
    assert len(rows) == 2 * (DEPTH + 1) + 2 * DEPTH
    assert np.all(rows["nets"] == NETS)
    assert np.all(np.isfinite(rows[["estimate", "std_error", "ci_low", "ci_high"]]))
    assert np.all(rows["std_error"] > 0)
    for name, values in result.samples.items():
        assert np.all(np.isfinite(values[:, 1:])), name
    lowest, highest = rows["estimate"].min(), rows["estimate"].max()
    assert lowest < -200 if gain < 1 else highest > 100  # beyond every float32, and float64's squares


def test_forward_norms_are_exact(deep: tuple[str, float, Result]) -> None:
    activation, gain, result = deep
    assert_matches(result, "activation_log10_norm", exact_forward(activation, WIDTH, DEPTH, gain))
    wrong = exact_forward(activation, WIDTH, DEPTH, gain * WRONG)
    must_fail(assert_matches, result, "activation_log10_norm", wrong)


def test_backward_norms_of_linear_nets_are_exact(deep: tuple[str, float, Result]) -> None:
    activation, gain, result = deep
    if activation == "linear":
        assert_matches(result, "activation_gradient_log10_norm", exact_backward_linear(WIDTH, DEPTH, gain))
        assert_matches(result, "preactivation_gradient_log10_norm", exact_backward_linear(WIDTH, DEPTH, gain), 1)
        everywhere = exact_step("linear", WIDTH, gain) * (DEPTH - 1) + float(mean_log10_chi_square(WIDTH))
        assert_matches(result, "weight_gradient_log10_norm", np.full(DEPTH + 1, everywhere), 1)
        wrong = exact_backward_linear(WIDTH, DEPTH, gain * WRONG)
        must_fail(assert_matches, result, "activation_gradient_log10_norm", wrong)
    else:
        found = result.estimates("activation_gradient_log10_norm")
        expected, error = matrix_free_relu_gradients(WIDTH, DEPTH, gain)
        assert_agrees(found.estimate, expected, np.hypot(found.std_error, error))
        wrong, error = matrix_free_relu_gradients(WIDTH, DEPTH, gain * WRONG)
        must_fail(assert_agrees, found.estimate, wrong, np.hypot(found.std_error, error))


def matrix_free_relu_gradients(width: int, depth: int, gain: float, nets: int = 64) -> tuple[Numbers, Numbers]:
    """Return E log10 |dz_l| of ReLU nets and its standard error, by deferred decisions: W is never drawn.

    Given the unit vector u along z_(l-1), s = sigma |z| g with g normal; and given s, W ds is
    sigma ((ds . g) u + |ds| times a normal vector orthogonal to u).
    """
    rng = np.random.default_rng(17)
    sigma = gain / math.sqrt(width)
    units, draws = np.empty((depth + 1, nets, width)), np.empty((depth + 1, nets, width))
    z = rng.normal(size=(nets, width))
    for layer in range(1, depth + 1):
        units[layer] = z / np.linalg.norm(z, axis=1, keepdims=True)
        draws[layer] = rng.normal(size=(nets, width))
        z = np.maximum(draws[layer], 0)
    dz = rng.normal(size=(nets, width))
    log10_size = np.zeros(nets)
    log10_norms = np.empty((depth + 1, nets))
    for layer in range(depth, -1, -1):
        size = np.linalg.norm(dz, axis=1)
        log10_size += np.log10(size)
        log10_norms[layer] = log10_size
        if layer > 0:
            u, g = units[layer], draws[layer]
            ds = dz / size[:, None] * (g > 0)
            h = rng.normal(size=(nets, width))
            across = h - (h * u).sum(axis=1, keepdims=True) * u
            along = (ds * g).sum(axis=1, keepdims=True) * u
            dz = sigma * (along + np.linalg.norm(ds, axis=1, keepdims=True) * across)
    return log10_norms.mean(axis=1), log10_norms.std(axis=1, ddof=1) / math.sqrt(nets)


@pytest.mark.parametrize("gain", GAINS)
def test_ten_thousand_layers(gain: float) -> None:
    width, depth = 20, 10_000
    result = norms((width,) * (depth + 1), "linear", gain, nets=16)
    assert np.all(result.table["nets"] == 16)
    assert_matches(result, "activation_log10_norm", exact_forward("linear", width, depth, gain))
    assert_matches(result, "activation_gradient_log10_norm", exact_backward_linear(width, depth, gain))


def log10_norms_of(tensors: list[Any]) -> list[float]:
    """Return log10 norms of tensors of NumPy or mpmath numbers, for a batch of one."""
    norms = []
    for tensor in tensors:
        squares = math.nan if tensor is None else mpmath.fsum(mpmath.mpf(x) ** 2 for x in tensor.flat)
        norms.append(float(mpmath.log10(squares) / 2) if squares > 0 else math.nan if tensor is None else -math.inf)
    return norms


def assert_same_norms(network: Network, oracle: Callable[[stabsim.Trace], naive.Net], precision: str) -> None:
    """Compare the norms of a net with those of an oracle that is given its weights."""
    result = stabsim.simulate(network, nets=2, samples=NORMS, quantities=NORMS, precision=precision)
    for net in range(2):
        expected = oracle(stabsim.trace(network, net=net, precision=precision))
        tolerance = network.depth * 10 * np.finfo(precision).eps
        for name in NORMS:
            wanted = np.array(log10_norms_of(getattr(expected, name.removesuffix("_log10_norm"))))
            found = result.samples[name][net]
            assert np.array_equal(np.isfinite(found), np.isfinite(wanted)), (name, net)
            finite = np.isfinite(wanted)
            assert np.allclose(found[finite], wanted[finite], rtol=tolerance, atol=tolerance), (name, net)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(
    ("activation", "gain"),
    [("tanh", 0.5), ("erf", 0.3), ("sine", 0.5), ("hard_tanh", 0.5), ("elu", 3), ("gelu", 3), ("selu", 2), ("silu", 5)],
)
def test_curved_activations_where_they_are_straight(activation: str, gain: float, precision: str) -> None:
    network = Network((10,) * 301, activation, Initializer("normal", gain, "in"))
    formula = naive.FORMULAS[activation]()

    def oracle(seen: stabsim.Trace) -> naive.Net:
        return naive.run(seen.weight, seen.bias, formula, seen.activation[0], seen.activation_gradient[-1])

    assert_same_norms(network, oracle, precision)


def elementwise(function: Callable[[Any], Any]) -> Callable[[Numbers], Numbers]:
    return lambda x: np.asarray(np.frompyfunc(function, 1, 1)(x), object)


MULTIPRECISION = {
    "linear": naive.Formula(elementwise(lambda x: x), elementwise(lambda _: mpmath.mpf(1))),
    "relu": naive.Formula(elementwise(lambda x: max(x, mpmath.mpf(0))), elementwise(lambda x: mpmath.mpf(x > 0))),
    "tanh": naive.Formula(elementwise(mpmath.tanh), elementwise(lambda x: mpmath.sech(x) ** 2)),
    "gelu": naive.Formula(
        elementwise(lambda x: x * mpmath.ncdf(x)), elementwise(lambda x: mpmath.ncdf(x) + x * mpmath.npdf(x))
    ),
}


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(
    ("activation", "gain"),
    [("linear", 1e-30), ("relu", 1e-30), ("tanh", 1e-30), ("gelu", 1e-30), ("linear", 1e25), ("relu", 1e25)],
)
def test_extreme_gains(activation: str, gain: float, precision: str) -> None:
    network = Network((6,) * 31, activation, Initializer("normal", gain, "in"))
    exact = elementwise(mpmath.mpf)

    def oracle(seen: stabsim.Trace) -> naive.Net:
        weights = [None, *(exact(w) for w in seen.weight[1:])]
        biases = [None, *(exact(b) for b in seen.bias[1:])]
        inputs, gradient = exact(seen.activation[0]), exact(seen.activation_gradient[-1])
        return naive.run(weights, biases, MULTIPRECISION[activation], inputs, gradient)

    assert_same_norms(network, oracle, precision)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(("activation", "size"), [("tanh", 1.0), ("sigmoid", None), ("hard_tanh", 1.0)])
def test_bounded_activations_at_an_extreme_gain(activation: str, size: float | None, precision: str) -> None:
    network = Network((6,) * 31, activation, Initializer("normal", 1e25, "in"))
    result = stabsim.simulate(network, nets=20, precision=precision)
    table = result.table.set_index(["quantity", "layer"])["estimate"]
    assert np.all(table["activation_saturated_fraction"] == 1)
    assert np.all(table["derivative_zero_fraction"] == 1)
    if size is not None:
        assert np.all(table["activation_mean_square"][1:] == size)
    else:
        assert np.all(table["activation_mean_square"][1:] == 1 - table["activation_zero_fraction"][1:])
    assert np.all(result.estimates("activation_gradient_log10_norm").nets[:-1] == 0)


@pytest.mark.parametrize(("bias_std", "gain"), [(1.0, 1e-30), (1e-30, 0.5), (1.0, 3.0), (1e30, 2.0), (1e-3, 1e25)])
def test_biases_beside_weights_of_any_size(bias_std: float, gain: float) -> None:
    network = Network((6,) * 31, "relu", Initializer("normal", gain, "in"), bias_std)
    exact = elementwise(mpmath.mpf)

    def oracle(seen: stabsim.Trace) -> naive.Net:
        weights = [None, *(exact(w) for w in seen.weight[1:])]
        biases = [None, *(exact(b) for b in seen.bias[1:])]
        inputs, gradient = exact(seen.activation[0]), exact(seen.activation_gradient[-1])
        return naive.run(weights, biases, MULTIPRECISION["relu"], inputs, gradient)

    for precision in ("float32", "float64"):
        assert_same_norms(network, oracle, precision)
