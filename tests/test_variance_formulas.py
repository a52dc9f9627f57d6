"""How variances travel, and what must not change when inputs are scaled, permuted or nets are shared out."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import stabsim
from stabsim import Initializer, Network, Result
from stabsim.arguments import make_task
from stabsim.moments import Sums
from stabsim.plan import Plan
from stabsim.quantities import PLAIN, select
from tests import strategies
from tests.checks import WRONG, assert_agrees, must_fail

Numbers = NDArray[Any]
Widths = tuple[int, ...]

MEANS = ("activation_mean", "preactivation_mean", "activation_gradient_mean", "preactivation_gradient_mean")
SQUARES = (
    "preactivation_mean_square", "activation_mean_square",
    "activation_gradient_mean_square", "preactivation_gradient_mean_square",
)  # fmt: skip
FEW = settings(max_examples=15)


def measure(
    widths: Widths, activation: str, weights: str | Initializer, bias_std: float = 0.0, **options: Any
) -> Result:
    given = {"nets": 600, "seed": 21, "quantities": (*MEANS, *SQUARES), **options}
    return stabsim.simulate(Network(widths, activation, weights, bias_std), **given)


def assert_estimates(result: Result, quantity: str, exact: Any, first: int = 0) -> None:
    found = result.estimates(quantity)
    assert_agrees(found.estimate[first:], np.broadcast_to(exact, found.estimate.shape)[first:], found.std_error[first:])


def forward_factors(widths: Widths, variance: Any) -> Numbers:
    """Return E s_l^2 / E z_0^2 of linear nets: the product of fan_in times the variance of a weight."""
    return np.cumprod([1.0, *(i * variance(i, o) for i, o in pairwise(widths))])


def backward_factors(widths: Widths, variance: Any) -> Numbers:
    """Return E dz_l^2 / E dz_L^2 of linear nets: the product of fan_out times the variance of a weight."""
    factors = [o * variance(i, o) for i, o in pairwise(widths)]
    return np.cumprod([1.0, *factors[::-1]])[::-1]


# n gamma = 1 (claims B06, B07).
@FEW
@given(widths=strategies.moderate_widths, law=strategies.independent_laws)
def test_variance_is_kept_forward_where_fan_in_times_variance_is_1(widths: Widths, law: str) -> None:
    result = measure(widths, "linear", Initializer(law, 1.0, "in"))
    assert_estimates(result, "activation_mean_square", 1.0)
    assert_estimates(result, "activation_mean", 0.0)


@FEW
@given(widths=strategies.moderate_widths, law=strategies.independent_laws)
def test_variance_is_kept_backward_where_fan_out_times_variance_is_1(widths: Widths, law: str) -> None:
    result = measure(widths, "linear", Initializer(law, 1.0, "out"))
    assert_estimates(result, "activation_gradient_mean_square", 1.0)
    assert_estimates(result, "activation_gradient_mean", 0.0)


@pytest.mark.parametrize("law", ["normal", "uniform", "truncated_normal", "orthogonal"])
@pytest.mark.parametrize(("fan", "quantity"), [("in", "activation"), ("out", "activation_gradient")])
def test_a_gain_5_percent_off_is_seen(law: str, fan: str, quantity: str) -> None:
    widths = (40,) * 6
    assert_estimates(measure(widths, "linear", Initializer(law, 1.0, fan)), f"{quantity}_mean_square", 1.0)
    wrong = measure(widths, "linear", Initializer(law, WRONG, fan))
    must_fail(assert_estimates, wrong, f"{quantity}_mean_square", 1.0)


# Between unequal widths (claim B08), from the formulas of the papers.
PUBLISHED: dict[str, Any] = {
    "glorot_normal": lambda i, o: 2 / (i + o),
    "glorot_uniform": lambda i, o: (math.sqrt(6 / (i + o))) ** 2 / 3,
    "lecun_normal": lambda i, _: 1 / i,
    "he_normal": lambda i, _: 2 / i,
    "he_uniform(fan=out)": lambda _, o: 2 / o,
    "normal(std=0.1)": lambda _i, _o: 0.01,
    "uniform(bound=0.2)": lambda _i, _o: 0.04 / 3,
    "truncated_normal(std=0.2)": lambda _i, _o: 0.04,
}


@FEW
@given(widths=strategies.moderate_widths, name=st.sampled_from(list(PUBLISHED)))
def test_linear_nets_between_unequal_widths(widths: Widths, name: str) -> None:
    result = measure(widths, "linear", name)
    assert_estimates(result, "preactivation_mean_square", forward_factors(widths, PUBLISHED[name]), first=1)
    assert_estimates(result, "activation_gradient_mean_square", backward_factors(widths, PUBLISHED[name]))


@FEW
@given(widths=strategies.moderate_widths, slope=st.sampled_from([0.0, 0.2]))
def test_rectifiers_pass_the_mean_of_their_squared_slopes(widths: Widths, slope: float) -> None:
    passed = (1 + slope**2) / 2
    gain = math.sqrt(1 / passed)
    activation = f"leaky_relu(slope={slope})" if slope else "relu"
    forward = measure(widths, activation, Initializer("normal", gain, "in"))
    assert_estimates(forward, "activation_mean_square", 1.0)
    backward = measure(widths, activation, Initializer("normal", gain, "out"))
    assert_estimates(backward, "activation_gradient_mean_square", 1.0)


def test_xavier_is_a_compromise() -> None:
    widths = (30, 60, 30)
    result = measure(widths, "linear", "glorot_normal", nets=2000)
    assert_estimates(result, "preactivation_mean_square", np.array([math.nan, 2 * 30 / 90, 8 / 9]), first=1)
    assert_estimates(result, "activation_gradient_mean_square", np.array([8 / 9, 2 * 30 / 90, 1.0]))
    must_fail(assert_estimates, result, "preactivation_mean_square", 1.0, first=1)
    must_fail(assert_estimates, result, "activation_gradient_mean_square", 1.0)


def test_small_weights_vanish_in_deep_nets() -> None:
    """Normal weights of standard deviation 0.01 lose a factor n 0.0001 a layer (claim B09)."""
    widths = (50,) * 21
    result = measure(widths, "linear", "normal(std=0.01)")
    exact = 0.005 ** np.arange(21.0)
    assert_estimates(result, "activation_mean_square", exact)
    assert_estimates(result, "activation_gradient_mean_square", exact[::-1])


# f(x) = alpha x + beta (claim B10).
@pytest.mark.parametrize(("alpha", "beta"), [(1, 0), (0.8, 0), (1.2, 0), (-1, 0), (1, 0.5), (0.9, -0.3)])
def test_affine_activations(alpha: float, beta: float) -> None:
    depth, width = 6, 40
    spec = f"linear(alpha={alpha}, beta={beta})"
    result = measure((width,) * (depth + 1), spec, "lecun_normal", nets=1000, quantities=None)
    s, z = [math.nan], [1.0]
    for _ in range(depth):
        s.append(z[-1])
        z.append(alpha**2 * s[-1] + beta**2)
    passed_back = float(alpha) ** (2 * np.arange(depth, -1, -1))
    mean = np.array([0.0] + [beta] * depth)
    if beta:
        assert_estimates(result, "activation_mean", mean)
    assert_estimates(result, "preactivation_mean", 0.0, first=1)
    assert_estimates(result, "preactivation_variance", np.array(s), first=1)
    assert_estimates(result, "activation_variance", np.array(z) - mean**2)
    assert_estimates(result, "activation_gradient_mean_square", passed_back)
    kept = alpha**2 == 1
    if not kept:
        must_fail(assert_estimates, result, "activation_gradient_mean_square", 1.0)
    if not kept or beta:  # an offset adds up: alpha = 1 alone does not keep the variance of s
        must_fail(assert_estimates, result, "preactivation_variance", 1.0, first=1)
    if beta:
        must_fail(assert_estimates, result, "activation_mean", 0.0)


# Scale.
def samples(network: Network, names: tuple[str, ...] | None = None, **options: Any) -> dict[str, Numbers]:
    names = names or tuple(q.name for q in select(None, options.get("batch", 1)))
    return stabsim.simulate(network, nets=4, seed=6, samples=names, quantities=names[:1], **options).samples


BEFORE = {  # the gradient by which a gain is divided
    "activation_gradient": "preactivation_gradient",
    "preactivation_gradient": "activation_gradient",
    "weight_gradient": "preactivation_gradient",
}


def assert_scaled(one: dict[str, Numbers], other: dict[str, Numbers], powers: dict[str, float], exponent: int) -> None:
    """Compare values that must be the same but for 2 to the exponent times the power of their quantity."""
    for name, values in one.items():
        if name.endswith(("log10_norm", "log10_gain")):
            before = BEFORE[PLAIN[name].tensor] if name.endswith("gain") else ""
            shift = (powers[PLAIN[name].tensor] - powers.get(before, 0.0)) * exponent * math.log10(2)
            assert np.allclose(other[name], values + shift, rtol=1e-13, atol=1e-13, equal_nan=True), name
        else:
            degree = {"mean": 1, "mean_square": 2, "variance": 2}.get(PLAIN[name].statistic, 0)
            factor = 2.0 ** (degree * powers[PLAIN[name].tensor] * exponent)
            assert np.array_equal(other[name], values * factor, equal_nan=True), name


@given(
    activation=strategies.homogeneous_activations, widths=strategies.widths, batch=strategies.batches,
    exponent=st.integers(-50, 50), precision=st.sampled_from(["float32", "float64"]),
)  # fmt: skip
def test_inputs_times_a_power_of_two(
    activation: str, widths: Widths, batch: int, exponent: int, precision: str
) -> None:
    inputs = np.random.default_rng(2).normal(size=(7, widths[0]))
    network = Network(widths, activation, "he_normal")
    one = samples(network, batch=batch, inputs=inputs, precision=precision)
    other = samples(network, batch=batch, inputs=inputs * 2.0**exponent, precision=precision)
    forward = {"preactivation": 1, "activation": 1, "weight_gradient": 1}
    powers = {tensor: float(forward.get(tensor, 0)) for tensor in {q.tensor for q in PLAIN.values()}}
    assert_scaled(one, other, powers, exponent)


@given(
    activation=strategies.activation_names, widths=strategies.widths, batch=strategies.batches,
    exponent=st.integers(-50, 50), precision=st.sampled_from(["float32", "float64"]),
)  # fmt: skip
def test_gradient_times_a_power_of_two(
    activation: str, widths: Widths, batch: int, exponent: int, precision: str
) -> None:
    gradient = np.random.default_rng(3).normal(size=(batch, widths[-1]))
    network = Network(widths, activation, "glorot_uniform", 0.1)
    one = samples(network, batch=batch, output_gradient=gradient, precision=precision)
    other = samples(network, batch=batch, output_gradient=gradient * 2.0**exponent, precision=precision)
    powers = {q.tensor: float(q.tensor.endswith("gradient")) for q in PLAIN.values()}
    assert_scaled(one, other, powers, exponent)


@given(activation=strategies.homogeneous_activations, widths=strategies.widths, factor=st.floats(1e-6, 1e6))
def test_inputs_times_any_factor(activation: str, widths: Widths, factor: float) -> None:
    inputs = np.random.default_rng(2).normal(size=(3, widths[0]))
    network, names = Network(widths, activation, "he_normal"), ("activation_log10_norm", "weight_gradient_log10_norm")
    one = samples(network, names, batch=3, inputs=inputs, precision="float64")
    other = samples(network, names, batch=3, inputs=inputs * factor, precision="float64")
    for name in names:
        assert np.allclose(other[name], one[name] + math.log10(factor), rtol=0, atol=1e-12, equal_nan=True)


# Permutations.
def assert_nearly_equal(one: dict[str, Numbers], other: dict[str, Numbers]) -> None:
    for name, values in one.items():
        if name != "activation_correlation" and not name.endswith("kurtosis"):
            assert np.allclose(values, other[name], rtol=1e-9, atol=1e-12, equal_nan=True), name


@given(activation=strategies.activation_names, widths=strategies.widths, order=st.permutations(range(5)))
def test_the_order_of_samples_does_not_matter(activation: str, widths: Widths, order: list[int]) -> None:
    rng = np.random.default_rng(4)
    inputs, gradient = rng.normal(size=(5, widths[0])), rng.normal(size=(5, widths[-1]))
    network = Network(widths, activation, "he_normal", 0.1)
    one = samples(network, batch=5, inputs=inputs, output_gradient=gradient, precision="float64")
    other = samples(network, batch=5, inputs=inputs[order], output_gradient=gradient[order], precision="float64")
    assert_nearly_equal(one, other)


@given(
    activation=strategies.activation_names, order=st.permutations(range(6)),
    weights=st.sampled_from(["constant(value=0.3)", "identity"]),
)  # fmt: skip
def test_the_order_of_units_does_not_matter(activation: str, weights: str, order: list[int]) -> None:
    rng = np.random.default_rng(4)
    inputs, gradient = rng.normal(size=(3, 6)), rng.normal(size=(3, 6))
    network = Network((6,) * 4, activation, weights)
    one = samples(network, batch=3, inputs=inputs, output_gradient=gradient, precision="float64")
    turned: dict[str, Any] = {"inputs": inputs[:, order], "output_gradient": gradient[:, order]}
    assert_nearly_equal(one, samples(network, batch=3, precision="float64", **turned))


def test_the_order_of_input_units_does_not_matter_in_law() -> None:
    inputs = np.linspace(-2, 3, 10)[None]
    one, other = (
        measure((10, 30, 20), "tanh", "glorot_normal", seed=seed, inputs=x).estimates("activation_mean_square")
        for seed, x in ((1, inputs), (2, inputs[:, ::-1]))
    )
    assert_agrees(one.estimate[1:], other.estimate[1:], np.hypot(one.std_error, other.std_error)[1:])


# The same nets, however they are shared out.
DEEP = Network((4,) * 151, "relu", "he_normal")


def test_a_split_run_is_the_whole_run() -> None:
    kept = "activation_log10_norm"
    plan = Plan(make_task(DEEP, batch=2, seed=3, samples=(kept,), histograms={"activation": (0, 2, 9)}))
    chunks = plan.chunks(3 * plan.chunk_nets + 5)
    assert len(chunks) == 4
    whole = Result(plan, _merged(plan.run(chunks, 2)))
    parts = Result(plan, _merged([*plan.run(chunks[:1], 1), *plan.run(chunks[1:], 3)]))
    stored = Result(plan, Sums.from_arrays(whole.sums.to_arrays()))
    for other in (parts, stored):
        assert whole.table.equals(other.table)
        assert np.array_equal(whole.samples[kept], other.samples[kept], equal_nan=True)
        assert np.array_equal(whole.histograms["activation"][1], other.histograms["activation"][1])


def _merged(parts: Iterable[Sums]) -> Sums:
    return functools.reduce(Sums.merge, parts)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_threads_do_not_change_a_bit(precision: str) -> None:
    def run(threads: int) -> Result:
        return stabsim.simulate(
            Network((16, 33, 20, 7), "gelu", "orthogonal", 0.1), nets=150, batch=3, threads=threads,
            precision=precision, samples=("weight_gradient_mean_square",), histograms={"preactivation": (-3, 3, 11)},
        )  # fmt: skip

    one = run(1)
    for threads in (2, 3):
        other = run(threads)
        assert one.table.equals(other.table)
        name = "weight_gradient_mean_square"
        assert np.array_equal(one.samples[name], other.samples[name], equal_nan=True)
        assert np.array_equal(one.histograms["preactivation"][1], other.histograms["preactivation"][1])


@given(fewer=st.integers(1, 20), more=st.integers(0, 20), seed=strategies.seeds, batch=strategies.batches)
def test_more_nets_begin_with_the_same(fewer: int, more: int, seed: int, batch: int) -> None:
    network, names = Network((5, 6, 3), "relu", "he_normal"), ("activation_mean", "weight_gradient_log10_norm")
    few, many = (
        stabsim.simulate(network, nets=nets, seed=seed, batch=batch, samples=names, quantities=names[:1]).samples
        for nets in (fewer, fewer + more)
    )
    for name in names:
        assert np.array_equal(few[name], many[name][:fewer], equal_nan=True)


@FEW
@given(network=strategies.networks(), seed=strategies.seeds)
def test_a_network_read_back_gives_the_same_table(network: Network, seed: int) -> None:
    tables = [
        stabsim.simulate(each, nets=3, seed=seed, precision="float64").table
        for each in (network, Network.from_json(network.to_json()))
    ]
    assert tables[0].equals(tables[1])
