"""Closed forms of products and finite widths, against enumeration, iteration, other quadrature and small ensembles."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stabsim.number_formats import FLOAT8_E4M3, FLOAT16, FLOAT32, NumberFormat
from stabsim.theory import finite_width, jacobian, number_formats, quadratic, recurrent, residual, saturation, zeros
from tests.checks import assert_agrees, must_fail

Numbers = NDArray[np.float64]

WIDTHS = (4, 7, 6)
PASSED = {"linear": 1.0, "relu": 0.5}
NETS = 40_000


def exact(value: float, expected: Any, digits: float = 1e-12) -> None:
    assert value == pytest.approx(float(expected), rel=digits, abs=0)


def assert_mean(samples: Numbers, expected: float) -> None:
    assert_agrees(samples.mean(), expected, samples.std() / math.sqrt(len(samples)))


def ensemble(widths: tuple[int, ...], activation: str, nets: int = NETS, seed: int = 1) -> tuple[Numbers, Numbers]:
    """Return h_L from a unit input (nets, n_L), and J (nets, n_L, n_0), of nets at the critical gain."""
    rng = np.random.default_rng(seed)
    h = np.zeros((nets, widths[0]))
    h[:, 0] = 1.0
    product = np.broadcast_to(np.eye(widths[0]), (nets, widths[0], widths[0]))
    for m, n in itertools.pairwise(widths):
        weights = rng.normal(0.0, math.sqrt(1.0 / (PASSED[activation] * m)), (nets, n, m))
        s = np.einsum("knm,km->kn", weights, h)
        on = (s > 0) | (activation == "linear")
        h, product = s * on, on[:, :, None] * (weights @ product)
    return h, product


# Finite width.
@pytest.mark.parametrize("activation", PASSED)
def test_norms_of_narrow_nets(activation: str) -> None:
    squares = np.square(ensemble(WIDTHS, activation)[0]).sum(axis=1)
    for order in (1, 2):
        expected = finite_width.squared_norm_moment(WIDTHS, order, activation=activation)
        assert_mean(squares**order, expected)
        must_fail(assert_mean, squares**order, expected * 1.3)
    alive = squares > 0
    assert_mean(alive.astype(float), finite_width.alive_probability(WIDTHS) if activation == "relu" else 1.0)
    law = finite_width.log_norm(WIDTHS, activation=activation)
    logs = np.log(squares[alive])
    assert_mean(logs, law.mean)
    assert_mean((logs - law.mean) ** 2, law.variance)
    must_fail(assert_mean, logs, law.mean + 0.1)
    must_fail(assert_mean, (logs - law.mean) ** 2, law.variance * 1.1)


@pytest.mark.parametrize("activation", PASSED)
@pytest.mark.parametrize("widths", [WIDTHS, (5, 5, 5)])
def test_jacobians_of_narrow_nets(activation: str, widths: tuple[int, ...]) -> None:
    product = ensemble(widths, activation, seed=2)[1]
    gram = product @ np.swapaxes(product, 1, 2)
    law = finite_width.jacobian_moments(widths, activation)
    of_square = np.einsum("kij,kij->k", gram, gram) / widths[-1]
    squared = (np.einsum("kii->k", gram) / widths[-1]) ** 2
    assert_mean(of_square, law.trace_of_square)
    assert_mean(squared, law.square_of_trace)
    must_fail(assert_mean, of_square, law.trace_of_square * 1.3)
    must_fail(assert_mean, squared, law.square_of_trace * 1.3)


@given(width=st.integers(1, 12), order=st.integers(1, 5))
def test_moments_by_summing_over_units_that_are_on(width: int, order: int) -> None:
    def chi_square(degrees: int) -> float:
        return math.prod(degrees + 2 * j for j in range(order))

    exact(finite_width.squared_norm_moment((width, width), order), chi_square(width) / width**order)
    on = sum(math.comb(width, k) * chi_square(k) for k in range(1, width + 1)) / 2**width
    exact(finite_width.squared_norm_moment((width, width), order, activation="relu"), on * (2 / width) ** order)


@pytest.mark.parametrize("width", [1, 2, 10, 99, 101, 1000, 1700])
def test_logarithms_by_summing_over_units_that_are_on(width: int) -> None:
    with mpmath.workdps(30):
        n = mpmath.mpf(width)
        exact(finite_width.log_norm((width,) * 2).mean, mpmath.digamma(n / 2) - mpmath.log(n / 2))
        on = range(1, width + 1)
        odds = [mpmath.binomial(width, k) / (2**n - 1) for k in on]
        logs = [mpmath.digamma(mpmath.mpf(k) / 2) + mpmath.log(4 / n) for k in on]
        mean = mpmath.fdot(odds, logs)
        spread = mpmath.fdot(
            odds, [(x - mean) ** 2 + mpmath.psi(1, mpmath.mpf(k) / 2) for k, x in zip(on, logs, strict=True)]
        )
        law = finite_width.log_norm((width,) * 2, activation="relu")
        exact(law.mean, mean, 1e-11)
        exact(law.variance, spread)


@pytest.mark.parametrize("layer", [0, 3])
def test_gains_of_relu_gradients_are_those_of_direct_sampling(layer: int) -> None:
    width, depth, gain, nets = 5, 4, 1.3, 100_000
    generator = np.random.default_rng(7)
    w = gain / math.sqrt(width) * generator.standard_normal((depth, nets, width, width))
    z, open_units = generator.standard_normal((nets, width)), []
    for weights in w:
        s = np.einsum("ni,nij->nj", z, weights)
        open_units.append(s > 0)
        z = np.maximum(s, 0)
    alive, dz = z.any(axis=1), generator.standard_normal((nets, width))
    for place in range(depth - 1, layer, -1):
        dz = np.einsum("nij,nj->ni", w[place], dz * open_units[place])
    ds = dz * open_units[layer]
    below = np.einsum("nij,nj->ni", w[layer], ds)
    law = finite_width.relu_log_gains(width, gain)
    norms = [np.linalg.norm(each[alive], axis=1) for each in (dz, ds, below)]
    for found, mean in ((norms[1] / norms[0], law.derivative), (norms[2] / norms[1], law.weights)):
        logs = np.log(found)
        error = logs.std() / math.sqrt(len(logs))
        assert abs(logs.mean() - mean) < 5 * error < abs(logs.mean() - 1.1 * mean)
    total = finite_width.log_norm((width, width), activation="relu", gain=gain).mean
    exact(2 * (law.derivative + law.weights), total)


def test_wide_nets_reach_the_limits() -> None:
    widths = (10**7,) * 11
    for activation in PASSED:
        beta = finite_width.log_normal_spread(widths, activation)
        law = finite_width.log_norm(widths, activation=activation)
        exact(law.mean, -beta / 2, 1e-5)
        exact(law.variance, beta, 1e-5)
        spread = finite_width.jacobian_moments(widths, activation).trace_of_square - 1.0
        exact(spread, jacobian.squared_singular_value_variance(activation, 10), 1e-4)


def test_gains_and_widths() -> None:
    exact(finite_width.squared_norm_moment((256,) * 21, 1, gain=2**0.5), 2**20)
    exact(finite_width.squared_norm_moment((4, 12, 6), 1, activation="relu", gain=1.0), 0.25 * 6 / 4)
    exact(finite_width.log_norm((4, 12), gain=3.0).mean - finite_width.log_norm((4, 12)).mean, math.log(9.0))


def test_the_first_layer_feels_the_kurtosis() -> None:
    x = np.array([3.0, 1.0, -1.0])
    weights = np.random.default_rng(3).uniform(-1, 1, (NETS, 4, 3)) * math.sqrt(3 / 4)
    squares = np.square(weights @ x).sum(axis=1) / (x @ x)
    expected = finite_width.kurtosis_term(4, 9 / 5, x)
    assert_mean((squares - 1) ** 2, expected)
    must_fail(assert_mean, (squares - 1) ** 2, finite_width.kurtosis_term(4, 3, x))


# Zeros.
def backward(widths: tuple[int, ...], gradient: Numbers, nets: int = NETS) -> list[Numbers]:
    """Return ds_l (nets, n_l) of He nets from layer 1."""
    rng = np.random.default_rng(4)
    h, layers = np.ones((nets, widths[0])), []
    for m, n in itertools.pairwise(widths):
        weights = rng.normal(0.0, math.sqrt(2 / m), (nets, n, m))
        s = np.einsum("knm,km->kn", weights, h)
        layers.append((weights, s > 0))
        h = np.maximum(s, 0.0)
    dz, found = np.broadcast_to(gradient, h.shape), []
    for weights, on in reversed(layers):
        found.append(dz * on)
        dz = np.einsum("knm,kn->km", weights, found[-1])
    return found[::-1]


def test_zeros_and_squares_of_gradients() -> None:
    widths = (3, 2, 4, 3)
    one = np.array([0.0, 2.0, 0.0])
    signs = np.random.default_rng(5).choice([-1.0, 1.0], (NETS, 3))
    for layer, ds in enumerate(backward(widths, signs), 1):
        assert_mean((ds == 0).mean(axis=1), zeros.gradient_zero_fraction(widths, layer))
        expected = zeros.delta_mean_square(widths, layer)
        assert_mean(np.square(ds).sum(axis=1) / 3, expected)
        must_fail(assert_mean, np.square(ds).sum(axis=1) / 3, expected * 1.1)
        assert_mean(np.square(backward(widths, one)[layer - 1]).sum(axis=1) / 4, expected)
    assert zeros.activation_zero_fraction(widths) == zeros.gradient_zero_fraction(widths, 3)
    assert zeros.gradient_zero_fraction(widths, 1) != zeros.gradient_zero_fraction(widths, 2)


def test_a_gradient_of_equal_signs_adds_up() -> None:
    """As `delta_mean_square` says: with a given gradient g, |ds_(L-1)|^2 has (sum g)^2 - |g|^2 over n pi besides."""
    n = 6
    squares = np.square(backward((n,) * 3, np.ones(n))[0]).sum(axis=1) / n
    alive = 1 - 0.5**n
    must_fail(assert_mean, squares, zeros.delta_mean_square((n,) * 3, 1))
    assert_mean(squares, zeros.delta_mean_square((n,) * 3, 1) + (n - 1) / (n * math.pi) * alive)


def test_dead_samples() -> None:
    assert zeros.dead_probability((5, 100)) == 2.0**-100
    exact(zeros.dead_probability((9, 2, 3)), 1 - 3 / 4 * 7 / 8)
    exact(zeros.dead_probability((7,) * 4) + finite_width.alive_probability((7,) * 4), 1)


@pytest.mark.parametrize(("width", "depth"), [(1, 3), (2, 1), (2, 5), (3, 12), (20, 6), (60, 300)])
def test_bounds_of_being_born_dead(width: int, depth: int) -> None:
    """The lower bound as Lu et al. print it, in many digits."""
    with mpmath.workdps(80):
        q = mpmath.mpf(2) ** -width
        a, b = 1 - q, 1 - 2 * q - (width - 1) * q**2
        factor = (1 - 2 * q) * (1 - q) / (1 + (width - 1) * q)
        printed = 1 - a ** (depth - 1) + factor * (b ** (depth - 1) - a ** (depth - 1))
        lower, upper = zeros.born_dead_bounds(width, depth)
        exact(lower, printed)
        exact(upper, 1 - a**depth)


def test_nets_are_born_dead_within_the_bounds() -> None:
    rng = np.random.default_rng(6)
    h = np.broadcast_to(np.array([[1.0], [-1.0]]), (NETS, 2, 1))
    for depth in range(1, 9):
        h = np.maximum(h @ rng.normal(size=(NETS, h.shape[2], 3)), 0.0)
        dead = (h == 0).all(axis=(1, 2)).mean()
        lower, upper = zeros.born_dead_bounds(3, depth)
        margin = 5 * math.sqrt(dead * (1 - dead) / NETS) + 1e-12
        assert lower - margin <= dead <= upper + margin
        assert depth > 2 or dead == pytest.approx(lower, abs=margin)  # two layers are exact


@pytest.mark.parametrize("correlation", [1e-9, 0.01, 0.3, 0.5, 0.9, 1 - 1e-6, 1 - 1e-13])
@pytest.mark.parametrize("inputs", [3, 10, 1000])
def test_dead_units_by_other_quadrature(inputs: int, correlation: float) -> None:
    found = zeros.unit_dead_probability(inputs, correlation)
    if inputs == 3:
        exact(found, 1 / 8 + 3 * math.asin(correlation) / (4 * math.pi))
    elif correlation == 0.5:
        exact(found, 1 / (inputs + 1))
    elif 1e-3 < correlation < 0.99:
        slope = mpmath.sqrt(mpmath.mpf(correlation) / (1 - mpmath.mpf(correlation)))
        ends = [mpmath.mpf(z) for z in range(-10, 41, 2)]  # the integrand is made 1 in size: quad's errors are absolute
        exact(
            found, found * mpmath.quad(lambda z: mpmath.npdf(z) * mpmath.ncdf(slope * z) ** inputs / found, ends), 1e-11
        )
    else:
        assert 0.5**inputs < found < 0.5


def test_dead_units_at_the_ends() -> None:
    assert zeros.unit_dead_probability(40, 0.0) == 2.0**-40
    assert zeros.unit_dead_probability(40, 1.0) == zeros.unit_dead_probability(1, 0.2) == 0.5
    exact(zeros.unit_dead_probability(2, -0.5), 1 / 6)
    exact(zeros.unit_dead_probability_at(2, 2), 0.25 + math.asin(1 / math.pi) / (2 * math.pi))


@pytest.mark.parametrize(("ratio", "inputs"), [(3.0, 100), (20.0, 3), (0.01, 1), (40.0, 10), (0.5, 1000)])
def test_saturation_by_other_quadrature(ratio: float, inputs: int) -> None:
    with mpmath.workdps(25):
        half, root = mpmath.mpf(inputs) / 2, mpmath.sqrt(inputs)

        def integrand(r: Any) -> Any:
            chi = 2 * r ** (inputs - 1) * mpmath.exp(-r * r / 2) / (2**half * mpmath.gamma(half))
            return chi * mpmath.erfc(ratio / r / mpmath.sqrt(2))

        ends = [0.0, 0.01, *(float(root) + step for step in np.arange(-12.0, 12.1, 1.5) if root + step > 0.02)]
        expected = mpmath.quad(integrand, ends)
    exact(saturation.saturated_probability_of_normal_inputs(2.0 * ratio, 2.0, inputs), expected, 1e-11)


def test_saturation_at_a_given_input() -> None:
    exact(saturation.saturated_probability(5.0, 1.0), 2 * mpmath.ncdf(-5))
    wide = saturation.saturated_probability_of_normal_inputs(5.0, 1e-3, 10**6)
    exact(wide, saturation.saturated_probability(5.0, 1.0), 3e-4)
    assert saturation.saturated_probability_of_normal_inputs(0.0, 1.0, 3) == pytest.approx(1.0, rel=1e-13)


# Singular values.
@pytest.mark.parametrize("variance", [1e-6, 0.5, 5e3])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu(slope=0.2)", "hard_tanh", "erf"])
def test_closed_slope_variations_by_quadrature(activation: str, variance: float) -> None:
    from stabsim.activations import activation as named

    quadrature = jacobian._by_quadrature(named(activation), math.sqrt(variance))
    assert jacobian.slope_variation(activation, variance) == pytest.approx(quadrature, rel=1e-9, abs=1e-15)


def test_slope_variation_of_tanh() -> None:
    def moment(power: int) -> Any:
        return mpmath.quad(lambda z: mpmath.npdf(z) * mpmath.sech(2 * z) ** (2 * power), [-12, -2, 0, 2, 12])

    exact(jacobian.slope_variation("tanh", 4.0), moment(4) / moment(2) ** 2 - 1, 1e-11)
    orthogonal = jacobian.squared_singular_value_variance("tanh", 7, variance=4.0, weights="orthogonal")
    exact(orthogonal + 7, jacobian.squared_singular_value_variance("tanh", 7, variance=4.0))


def test_singular_values_of_matrices() -> None:
    rng = np.random.default_rng(7)
    matrix = rng.normal(0.0, 300**-0.5, (300, 300))
    values = np.linalg.svd(matrix, compute_uv=False)
    assert values.mean() == pytest.approx(jacobian.mean_singular_value(), rel=0.01)
    largest = [np.linalg.norm(np.linalg.matrix_power(matrix, t), 2) for t in (1, 2, 3)]
    assert largest == pytest.approx([jacobian.largest_squared_singular_value(t) ** 0.5 for t in (1, 2, 3)], rel=0.05)
    corner = matrix[:150, :150] * 2**0.5
    assert np.abs(np.linalg.eigvals(corner)).max() == pytest.approx(recurrent.spectral_radius(), rel=0.05)
    exact(jacobian.largest_squared_singular_value(10), 11**11 / 10**10)
    exact(jacobian.largest_squared_singular_value(10**9), math.e * (10**9 + 0.5), 1e-9)


# Residual nets.
def test_residual_blocks() -> None:
    n, hidden, depth, scale = 3, 4, 2, 0.7
    rng = np.random.default_rng(8)
    x = np.zeros((NETS, n))
    x[:, 0] = 1.0
    product = np.broadcast_to(np.eye(n), (NETS, n, n))
    for _ in range(depth):
        first = rng.normal(0.0, math.sqrt(2 / n), (NETS, hidden, n))
        second = rng.normal(0.0, math.sqrt(1.5 / hidden), (NETS, n, hidden))
        s = np.einsum("khn,kn->kh", first, x)
        x = x + scale * np.einsum("knh,kh->kn", second, np.maximum(s, 0.0))
        product = product + scale * second @ ((s > 0)[:, :, None] * first) @ product
    squares = np.square(x).sum(axis=1)
    growth = residual.squared_norm_growth((2, 1.5), depth=depth, scale=scale)
    assert_mean(squares, growth)
    assert_mean(np.square(product[:, 1]).sum(axis=1), growth)  # the gradient of one output
    must_fail(assert_mean, squares, growth * 1.1)
    second_moment = residual.squared_norm_second_moment((2, 1.5), n, hidden=hidden, depth=depth, scale=scale)
    assert_mean(squares**2, second_moment)
    must_fail(assert_mean, squares**2, second_moment * 1.3)


def test_residual_factors() -> None:
    a, n = 0.3, 7
    exact(residual.squared_norm_second_moment((a,), n), (1 + a) ** 2 + 2 * a**2 / n + 4 * a / n)
    exact(residual.squared_norm_second_moment((2, 1), n), 3 + (1 + 5 / n) * (1 + 2 / n) + 4 / n)
    exact(residual.squared_norm_growth((2, 1), depth=10**6, scale=1e-3), math.e, 1e-6)
    with pytest.raises(OverflowError):
        residual.squared_norm_growth((2, 1), depth=2000)


def test_residual_profiles() -> None:
    linear = residual.residual_profile("linear", 5, gain=0.5, scale=2.0)
    assert linear.mean_square == pytest.approx(2.0 ** np.arange(6))
    assert np.exp(linear.log_gradient_growth) == pytest.approx(2.0 ** np.arange(6))
    n, rng = 2000, np.random.default_rng(9)
    x = rng.normal(size=n)
    expected = residual.residual_profile("relu", 4)
    for block in range(1, 5):
        x = x + np.maximum(rng.normal(0.0, n**-0.5, (n, n)) @ x, 0.0)
        assert x.mean() == pytest.approx(expected.mean[block], rel=0.15)
        assert np.square(x).mean() == pytest.approx(expected.mean_square[block], rel=0.15)
    without_mean = 1.5**4
    assert expected.mean_square[4] > 1.3 * without_mean


# Recurrent nets.
def pairings(power: int) -> tuple[int, ...]:
    """Return `power_polynomial` by all pairings of the letters of tr W^k (W^T)^k."""
    letters = 2 * power
    indices = [(p, (p + 1) % letters)[:: 1 if p < power else -1] for p in range(letters)]
    found: Counter[int] = Counter()

    def root(parent: list[int], x: int) -> int:
        return x if parent[x] == x else root(parent, parent[x])

    def pair(left: list[int], parent: list[int]) -> None:
        if not left:
            found[sum(parent[x] == x for x in range(letters))] += 1
        for i, other in enumerate(left[1:], 1):
            merged = parent[:]
            for x, y in zip(indices[left[0]], indices[other], strict=True):
                merged[root(merged, x)] = root(merged, y)
            pair(left[1:i] + left[i + 1 :], merged)

    pair(list(range(letters)), list(range(letters)))
    return tuple(found[exponent] for exponent in range(power + 2))


@pytest.mark.parametrize("power", range(1, 6))
def test_powers_by_all_pairings(power: int) -> None:
    assert recurrent.power_polynomial(power) == pairings(power)


def test_powers_of_higher_order() -> None:
    for power in range(1, recurrent.MOST_POWERS + 1):
        polynomial = recurrent.power_polynomial(power)
        assert sum(polynomial) == math.prod(range(1, 2 * power, 2))  # all pairings
        assert polynomial[-1] == 1 and polynomial[power] == 0
        assert polynomial[power - 1] == recurrent.power_correction(power)
        exact(recurrent.power_squared_norm(power, 1), math.prod(range(1, 2 * power, 2)))  # E g^2k


def test_powers_of_matrices() -> None:
    matrices = np.random.default_rng(10).normal(0.0, 6**-0.5, (NETS, 6, 6))
    squares = np.square(np.linalg.matrix_power(matrices, 3)).sum(axis=(1, 2)) / 6
    assert_mean(squares, recurrent.power_squared_norm(3, 6))
    must_fail(assert_mean, squares, 1.0)


@pytest.mark.parametrize(("bias", "std"), [(0.0, 1.0), (-30.0, 2.0), (5.0, 20.0), (2.0, 0.0), (-3.0, 0.1)])
def test_gates_by_other_quadrature(bias: float, std: float) -> None:
    ends = sorted({*range(-12, 45, 2), *((near - bias) / std for near in (-6.0, 0.0, 6.0) if std > 1)})

    def mean(function: Callable[[Any], Any], size: float) -> Any:
        with mpmath.workdps(25):
            return size * mpmath.quad(lambda z: mpmath.npdf(z) * function(mpmath.sigmoid(bias + std * z)) / size, ends)

    found = recurrent.gate_moments(bias, std)
    exact(found.mean, mean(lambda gate: gate, found.mean), 1e-11)
    exact(found.log_mean, mean(mpmath.log, 1.0), 1e-11)
    exact(found.mean_square, mean(lambda gate: gate**2, found.mean_square), 1e-11)


def test_cells() -> None:
    exact(recurrent.cell_gradient(0.0, 100), 2.0**-100)
    exact(recurrent.log_cell_gradient(0.0, 10**6), -(10**6) * math.log(2))
    exact(recurrent.cell_gradient(1.0, 1), 1 / (1 + math.exp(-1)))
    exact(recurrent.cell_gradient(recurrent.chrono_bias(50), 1), 1 - 1 / 50)
    exact(recurrent.memory_time(40.0), math.exp(40.0))
    with pytest.raises(OverflowError, match="log_cell_gradient"):
        recurrent.cell_gradient(0.0, 2000)


# Number formats.
def test_float16_and_float32_are_numpy_s() -> None:
    for ours, theirs in ((FLOAT16, np.float16), (FLOAT32, np.float32)):
        info = np.finfo(theirs)
        assert ours.smallest_subnormal == info.smallest_subnormal and ours.smallest_normal == info.smallest_normal
        assert ours.largest == info.max and ours.epsilon == info.eps
        with np.errstate(over="ignore"):
            assert np.isinf(theirs(ours.overflow_threshold))
            assert theirs(np.nextafter(ours.overflow_threshold, 0.0)) == ours.largest
        assert theirs(ours.flush_threshold) == 0
        assert theirs(np.nextafter(ours.flush_threshold, 1.0)) == ours.smallest_subnormal


def test_fractions_of_float16() -> None:
    z = np.random.default_rng(11).normal(size=NETS)
    small = (z * 2.0**-24).astype(np.float16) == 0
    assert_mean(small.astype(float), FLOAT16.flushed_fraction(2.0**-24))
    with np.errstate(over="ignore"):
        large = np.isinf((z * 30000.0).astype(np.float16))
    assert_mean(large.astype(float), FLOAT16.overflowed_fraction(30000.0))
    exact(FLOAT16.overflowed_fraction(4000.0), 2 * mpmath.ncdf(-65520 / mpmath.mpf(4000)))


def test_eight_bits() -> None:
    """All numbers of float8_e4m3: the largest exponent holds numbers too, but for one NaN of either sign."""
    exponents, fractions = np.arange(16)[:, None], np.arange(8)
    values = np.where(exponents == 0, fractions / 8 * 2.0**-6, (1 + fractions / 8) * 2.0 ** (exponents - 7.0))
    held = np.sort(values.reshape(-1))[:-1]
    assert FLOAT8_E4M3.largest == held[-1] and FLOAT8_E4M3.smallest_subnormal == held[1]
    assert FLOAT8_E4M3.smallest_normal == values[1, 0] and FLOAT8_E4M3.epsilon == 1 / 8
    assert FLOAT8_E4M3.overflow_threshold == 0.5 * (held[-1] + values[-1, -1])


@given(
    exponent=st.integers(-40, 40).filter(bool), factor=st.sampled_from([0.125, 0.5, 2.0, 8.0, 1 / 3, 0.9, 50.0]),
)  # fmt: skip
def test_levels_are_crossed_at_the_first_layer_beyond(exponent: int, factor: float) -> None:
    level = 2.0 ** (abs(exponent) if factor > 1 else -abs(exponent))
    found = number_formats.depth_at(level, factor)
    with mpmath.workdps(40):
        square = mpmath.mpf(factor)

        def beyond(depth: int) -> bool:
            grown = square**depth
            return bool(grown > mpmath.mpf(level) ** 2 if factor > 1 else grown < mpmath.mpf(level) ** 2)

        assert beyond(found.layer) and not beyond(found.layer - 1)
        exact(found.depth, 2 * mpmath.log(level) / mpmath.log(square))


# Quadratic bowls.
RATES = st.floats(0.001, 4.0)


@given(rate=RATES, curvature=st.floats(0.01, 2.0), momentum=st.floats(0.0, 0.99))
def test_trajectories_by_iteration(rate: float, curvature: float, momentum: float) -> None:
    x, v, path = -7.0, 0.0, [-7.0]
    for _ in range(40):
        v = momentum * v - rate * curvature * x
        x += v
        path.append(x)
    found = quadratic.trajectory(-7.0, curvature, rate, np.arange(41), momentum=momentum)
    assert found == pytest.approx(np.array(path), rel=1e-9, abs=1e-9 * np.abs(path).max())


@pytest.mark.parametrize("momentum", [0.0, 0.25, 0.81])
def test_double_roots(momentum: float) -> None:
    for rate in ((1 - math.sqrt(momentum)) ** 2, (1 + math.sqrt(momentum)) ** 2):
        test_trajectories_by_iteration.hypothesis.inner_test(rate, 1.0, momentum)  # type: ignore[attr-defined]
        assert quadratic.contraction(1.0, rate, momentum) == pytest.approx(math.sqrt(momentum), abs=1e-7)


@given(curvature=st.floats(0.01, 100.0), momentum=st.floats(0.0, 0.99))
def test_stability_ends_where_a_root_leaves_the_circle(curvature: float, momentum: float) -> None:
    rate = quadratic.largest_stable_rate(curvature, momentum)
    exact(quadratic.contraction(curvature, rate, momentum), 1.0)
    assert (
        quadratic.contraction(curvature, 0.99 * rate, momentum)
        < 1
        < quadratic.contraction(curvature, 1.01 * rate, momentum)
    )


@given(smallest=st.floats(0.01, 1.0), ratio=st.floats(1.1, 1e4))
def test_optimal_rates_are_optimal(smallest: float, ratio: float) -> None:
    ends = smallest, smallest * ratio

    def worst(rate: float, momentum: float) -> float:
        return max(quadratic.contraction(each, rate, momentum) for each in ends)

    for best in (quadratic.optimal_gradient_descent(*ends), quadratic.optimal_heavy_ball(*ends)):
        assert worst(best.rate, best.momentum) == pytest.approx(best.contraction, abs=1e-6)
        moved = [worst(best.rate * factor, best.momentum) for factor in (0.99, 1.01)]
        if best.momentum:
            moved += [worst(best.rate, best.momentum * 0.99), worst(best.rate, min(best.momentum * 1.01, 0.9999999))]
        assert min(moved) > best.contraction


# What is refused.
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: finite_width.log_norm((5,)), "widths"),
    (lambda: finite_width.log_norm((5, 0)), "widths"),
    (lambda: finite_width.log_norm((5, 5), activation="tanh"), "unknown activation"),
    (lambda: finite_width.log_norm((5, 5), gain=0.0), "gain must be a finite number > 0"),
    (lambda: finite_width.squared_norm_moment((5, 5), 0), "order"),
    (lambda: finite_width.kurtosis_term(5, 0.5, [1.0]), "kurtosis"),
    (lambda: finite_width.kurtosis_term(5, 3.0, [0.0]), "inputs"),
    (lambda: zeros.gradient_zero_fraction((5, 5), 2), "layer must be from 1 to 1, not 2"),
    (lambda: zeros.unit_dead_probability(3, -0.1), "correlation"),
    (lambda: saturation.saturated_probability(1.0, 0.0), "std"),
    (lambda: jacobian.slope_variation("relu", 0.0), "variance"),
    (lambda: jacobian.squared_singular_value_variance("relu", 3, weights="uniform"), "unknown weights"),
    (lambda: residual.squared_norm_growth((2, -1)), "branch"),
    (lambda: residual.fixup_scale(10, 1), "layers"),
    (lambda: residual.residual_profile("tanh", 3, mean=2.0), "mean_square must be a finite number >= 4"),
    (lambda: recurrent.power_polynomial(13), "take power_correction"),
    (lambda: recurrent.chrono_bias(1.0), "steps"),
    (lambda: recurrent.gate_moments(0.0, 50.0), "std"),
    (lambda: NumberFormat("wide", 11, 52), "exponent_bits"),
    (lambda: number_formats.depth_at(2.0, 0.5), "level must be ahead"),
    (lambda: quadratic.trajectory(1.0, 1.0, 0.1, 1.5), "steps must be whole"),
    (lambda: quadratic.contraction(1.0, 0.1, 1.0), "momentum must be < 1"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_what_lies_outside_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_what_float64_cannot_hold_is_refused() -> None:
    with pytest.raises(OverflowError, match="log_squared_norm_moment"):
        finite_width.squared_norm_moment((3,) * 2000, 2)
    with pytest.raises(OverflowError, match="1999 layers"):
        finite_width.jacobian_moments((3,) * 2000)
    with pytest.raises(OverflowError, match="rate=3"):
        quadratic.trajectory(1.0, 1.0, 3.0, 2000)
