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
from tests.checks import WRONG, assert_agrees, must_fail

Numbers = NDArray[Any]

WIDTH, DEPTH, NETS = 100, 1000, 128
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


def matrix_free_relu_gradients(width: int, depth: int, gain: float, nets: int = NETS) -> tuple[Numbers, Numbers]:
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


# Single nets against the oracle, which has float64's range, or that of mpmath, which has no end.
Oracle = Callable[[stabsim.Trace], naive.Net]


def log10_norms_of(tensors: list[Any]) -> Numbers:
    """Return log10 norms of tensors of NumPy or mpmath numbers, for a batch of one."""
    norms = []
    for tensor in tensors:
        squares = mpmath.fsum(mpmath.mpf(x) ** 2 for x in tensor.flat) if tensor is not None else mpmath.nan
        norms.append(float(mpmath.log10(squares) / 2) if squares != 0 else -math.inf)
    return np.array(norms)


def assert_same_norms(network: Network, oracle: Oracle, precision: str, names: tuple[str, ...] = NORMS) -> None:
    """Compare the norms of two nets with those of an oracle that is given what they drew."""
    result = stabsim.simulate(network, nets=2, samples=names, quantities=names, precision=precision, sampler="dense")
    tolerance = network.depth * 10 * float(np.finfo(precision).eps)
    for net in range(2):
        expected = oracle(stabsim.trace(network, net=net, precision=precision))
        for name in names:
            wanted = log10_norms_of(getattr(expected, name.removesuffix("_log10_norm")))
            found = result.samples[name][net]
            assert np.allclose(found, wanted, rtol=tolerance, atol=tolerance, equal_nan=True), (name, net)


def float64_oracle(formula: naive.Formula) -> Oracle:
    return lambda seen: naive.run(seen.weight, seen.bias, formula, seen.activation[0], seen.activation_gradient[-1])


def elementwise(function: Callable[[Any], Any]) -> Callable[[Numbers], Numbers]:
    return lambda x: np.asarray(np.frompyfunc(function, 1, 1)(x), object)


def mpmath_oracle(formula: naive.Formula) -> Oracle:
    exact = elementwise(mpmath.mpf)

    def run(seen: stabsim.Trace) -> naive.Net:
        weights, biases = ([None if w is None else exact(w) for w in each] for each in (seen.weight, seen.bias))
        return naive.run(weights, biases, formula, exact(seen.activation[0]), exact(seen.activation_gradient[-1]))

    return run


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(
    ("activation", "gain"),
    [("tanh", 0.5), ("erf", 0.3), ("sine", 0.5), ("hard_tanh", 0.5), ("elu", 3), ("gelu", 3), ("selu", 2), ("silu", 5)],
)
def test_curved_activations_where_they_are_straight(activation: str, gain: float, precision: str) -> None:
    network = Network((10,) * 301, activation, Initializer("normal", gain, "in"))
    assert_same_norms(network, float64_oracle(naive.FORMULAS[activation]()), precision)


def flushed(function: Callable[[Any], Any]) -> Callable[[Numbers], Numbers]:
    """Return the function with 0 for what no float holds."""

    def value(x: Any) -> Any:
        y = function(x)
        return y if abs(y) > mpmath.mpf(10) ** -330 else mpmath.mpf(0)

    return elementwise(value)


ZERO, ONE = mpmath.mpf(0), mpmath.mpf(1)
MULTIPRECISION = {
    "linear": naive.Formula(elementwise(lambda x: x), elementwise(lambda _: ONE)),
    "relu": naive.Formula(elementwise(lambda x: max(x, ZERO)), elementwise(lambda x: ONE if x > 0 else ZERO)),
    "elu": naive.Formula(
        elementwise(lambda x: x if x > 0 else mpmath.expm1(x)), flushed(lambda x: ONE if x > 0 else mpmath.exp(x))
    ),
    "softplus": naive.Formula(
        flushed(lambda x: max(x, ZERO) + mpmath.log1p(mpmath.exp(-abs(x)))), flushed(lambda x: 1 / (1 + mpmath.exp(-x)))
    ),
    "sigmoid": naive.Formula(
        flushed(lambda x: 1 / (1 + mpmath.exp(-x))), flushed(lambda x: mpmath.sech(x / 2) ** 2 / 4)
    ),
    "tanh": naive.Formula(elementwise(mpmath.tanh), flushed(lambda x: mpmath.sech(x) ** 2)),
    "gelu": naive.Formula(
        # Far out, where mpmath would take its time.
        elementwise(lambda x: x * mpmath.ncdf(x) if abs(x) < 50 else max(x, ZERO)),
        elementwise(lambda x: mpmath.ncdf(x) + x * mpmath.npdf(x) if abs(x) < 50 else ONE if x > 0 else ZERO),
    ),
}


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("gain", [1e-30, 1e-8, 1e8, 1e25])
@pytest.mark.parametrize("activation", MULTIPRECISION)
def test_extreme_gains(activation: str, gain: float, precision: str) -> None:
    """Width 6: now and then all units of a layer are off, and the next pre-activations are exactly 0."""
    network = Network((6,) * 31, activation, Initializer("normal", gain, "in"))
    bounded = activation in ("sigmoid", "tanh") and gain > 1  # then tails of f' decide the gradient
    names = ("activation_log10_norm",) if bounded else NORMS
    assert_same_norms(network, mpmath_oracle(MULTIPRECISION[activation]), precision, names)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(("bias_std", "gain"), [(1.0, 1e-30), (1e-30, 0.5), (1.0, 3.0), (1e30, 2.0), (1e-3, 1e25)])
def test_biases_beside_weights_of_any_size(bias_std: float, gain: float, precision: str) -> None:
    network = Network((6,) * 31, "relu", Initializer("normal", gain, "in"), bias_std)
    assert_same_norms(network, mpmath_oracle(MULTIPRECISION["relu"]), precision)


def test_an_exact_zero_is_a_zero_at_any_gain() -> None:
    """Sigmoids that are all off leave pre-activations of exactly 0, where f is 1/2 whatever the weights."""
    network = Network((2,) * 9, "sigmoid", Initializer("normal", 1e25, "in"))
    seen = 0
    for net in range(20):
        net_seen = stabsim.trace(network, net=net)
        for layer in range(1, 9):
            s, z, d = (each[layer] for each in (net_seen.preactivation, net_seen.activation, net_seen.derivative))
            if s is not None and d is not None and not s.any():
                seen += 1
                assert np.all(z == 0.5) and np.all(d == 0.25)
    assert seen > 0


def test_units_that_are_all_off_have_the_value_of_their_limit() -> None:
    """ELUs far on the left are -1, even where the layer before was at 1e100."""
    network = Network((1,) * 9, "elu", Initializer("normal", 1e25, "in"))
    for net in range(20):
        seen = stabsim.trace(network, net=net, precision="float64")
        for s, z in zip(seen.preactivation[1:], seen.activation[1:], strict=True):
            assert s is not None
            if s[0, 0] < -100:
                assert z[0, 0] == -1


def test_a_users_curve_is_not_taken_for_a_line_near_0() -> None:
    square = stabsim.Activation("square", f=lambda x: x * x, derivative=lambda x: 2 * x)
    network = Network((4,) * 7, square, Initializer("normal", 0.1, "in"))
    seen = stabsim.trace(network, precision="float64")
    for s, z, d in zip(seen.preactivation[1:], seen.activation[1:], seen.derivative[1:], strict=True):
        assert s is not None and d is not None
        assert np.allclose(z, s * s, rtol=1e-12, atol=0) and np.allclose(d, 2 * s, rtol=1e-12, atol=0)


@pytest.mark.parametrize("size", [1e30, 1e-30, 1e200, 1e-200])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("argument", ["inputs", "output_gradient"])
def test_arrays_of_any_size_are_exact_or_refused(argument: str, precision: str, size: float) -> None:
    network, rng = Network((6, 7, 5), "relu", "he_normal"), np.random.default_rng(3)
    arrays: dict[str, Any] = {"inputs": np.abs(rng.normal(size=(4, 6))), "output_gradient": rng.normal(size=(4, 5))}

    def run() -> dict[str, Numbers]:
        return stabsim.simulate(
            network, nets=5, batch=4, samples=NORMS, precision=precision, sampler="dense", **arrays
        ).samples

    one = run()
    arrays[argument] = arrays[argument] * size
    refusal = ""
    try:
        other = run()
    except ValueError as error:
        refusal = str(error)
    if refusal:
        assert argument in refusal
        return
    forward = {"activation_log10_norm": argument == "inputs", "weight_gradient_log10_norm": True}
    for name in NORMS:
        shift = math.log10(size) * forward.get(name, argument == "output_gradient")
        assert np.allclose(other[name], one[name] + shift, rtol=0, atol=1e-4, equal_nan=True), name


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_trace_gives_0_or_inf_for_what_float64_cannot_hold(precision: str) -> None:
    for gain, beyond in ((1e-30, 0.0), (1e25, math.inf)):
        seen = stabsim.trace(Network((6,) * 41, "linear", Initializer("normal", gain, "in")), precision=precision)
        assert np.all(np.abs(seen.activation[40]) == beyond)
        assert np.all(np.abs(seen.activation_gradient[0]) == beyond)
        for weight_gradient in seen.weight_gradient[1:]:
            assert weight_gradient is not None and np.all(np.abs(weight_gradient) == beyond)


@pytest.mark.parametrize("activation", ["tanh", "gelu", "elu", "sigmoid", "softplus"])
def test_a_sample_does_not_depend_on_its_neighbors(activation: str) -> None:
    """A sample of size 1 beside one of size 1e12: f is evaluated by the size of each."""
    network = Network((4,) * 3, activation, "lecun_normal")
    small = np.array([[1.0, 2.0, 3.0, 4.0]])
    beside = stabsim.trace(network, inputs=np.vstack([np.full((1, 4), 1e12), small]), batch=2, precision="float64")
    alone = stabsim.trace(network, inputs=small, precision="float64")
    for name in ("activation", "derivative"):
        for both, one in zip(getattr(beside, name)[1:], getattr(alone, name)[1:], strict=True):
            assert np.allclose(both[1], one[0], rtol=1e-9, atol=0), name
