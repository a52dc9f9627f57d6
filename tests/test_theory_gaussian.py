"""Gaussian means of activations: closed forms, quadrature and mpmath against each other, gains, batch normalization."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import stabsim
from stabsim.activations import ACTIVATIONS, Activation, ClosedForm, activation
from stabsim.theory.closed_forms import arc_cosine, closed_form
from stabsim.theory.gains import DIRECTIONS, centered_gain, gain, published_gain
from stabsim.theory.gaussian import at_correlation, moments, pair_moments
from stabsim.theory.normalization import batch_norm_correlation, batch_norm_gradient_rate
from stabsim.theory.quadrature import QuadratureError
from tests.checks import WRONG, assert_agrees, must_fail

FIELDS = ("mean", "mean_square", "derivative_mean", "derivative_mean_square", "slope")
SPECS = [*ACTIVATIONS, "linear(alpha=-0.7, beta=0.3)", "leaky_relu(slope=0.2)", "elu(alpha=0.4)"]
CLOSED = [spec for spec in (*SPECS, "leaky_relu(slope=-1)") if closed_form(activation(spec)) is not None]
CORRELATIONS = np.array([-1.0, -0.999, -0.7, -0.2, 0.0, 0.1, 0.5, 0.9, 0.999, 1.0])
variances = st.floats(1e-6, 100.0)


@pytest.mark.parametrize("variance", [0.0, 1e-8, 0.3, 1.0, 20.0, 1e4, 1e8, 1e12])
@pytest.mark.parametrize("spec", CLOSED)
def test_closed_moments_are_those_of_quadrature(spec: str, variance: float) -> None:
    if spec == "sine" and variance > 1e4:  # it oscillates too often for panels
        with pytest.raises(QuadratureError, match="too rough between"):
            moments(spec, variance, closed=False)
        return
    closed, by_quadrature = moments(spec, variance), moments(spec, variance, closed=False)
    for name in FIELDS:
        found, expected = getattr(by_quadrature, name), getattr(closed, name)
        rounding = 1e-10 if name == "slope" and variance < 1e-7 else 1e-12  # see SMALLEST_SLOPE_STD
        size = 1e-15 * math.sqrt(closed.mean_square)  # of f, where its mean is small beside it
        assert found == pytest.approx(expected, rel=rounding, abs=max(1e-14, size)), name


def by_mpmath(spec: str, role: str, power: int, variance: float) -> float:
    """Integrate over each smooth piece."""
    entry = activation(spec)
    std = math.sqrt(variance)
    near = {sign * 4.0**power / std for sign in (-1, 1) for power in range(-1, 4)}  # where f bends
    near = {end for end in near if abs(end) < 12.0}
    ends = sorted({-12.0, -4.0, -1.0, 0.0, 1.0, 4.0, 12.0, *near, *(kink / std for kink in entry.kinks)})
    with mpmath.workdps(20):
        return float(mpmath.quad(lambda z: entry.evaluate(role, float(z) * std) ** power * mpmath.npdf(z), ends))


@pytest.mark.parametrize("variance", [0.05, 1.0, 9.0, 1e6, 1e12])
@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec != "sine"])
def test_moments_are_those_of_mpmath(spec: str, variance: float) -> None:
    found = moments(spec, variance)
    for role, power, name in (
        ("f", 1, "mean"), ("f", 2, "mean_square"),
        ("derivative", 1, "derivative_mean"), ("derivative", 2, "derivative_mean_square"),
    ):  # fmt: skip
        size = 1e-13 * max(1.0, math.sqrt(found.mean_square))
        assert getattr(found, name) == pytest.approx(by_mpmath(spec, role, power, variance), rel=1e-11, abs=size)


@pytest.mark.parametrize("spec", SPECS)
def test_slope_is_that_of_the_mean_square(spec: str) -> None:
    for variance in (0.1, 1.0, 5.0):
        step = 1e-4 * variance
        above, below = moments(spec, variance + step).mean_square, moments(spec, variance - step).mean_square
        assert moments(spec, variance).slope == pytest.approx((above - below) / (2 * step), rel=1e-6, abs=1e-9)


@given(variance=variances, spec=st.sampled_from(SPECS))
def test_variances_are_not_negative_and_bound_the_mean_slope(variance: float, spec: str) -> None:
    found = moments(spec, variance)
    rounding = 1e-12 * float(found.mean_square)
    assert found.variance >= -rounding
    # Gaussian Poincare: q (E f')^2 <= Var f <= q E f'^2.
    assert variance * found.derivative_mean**2 <= found.variance + rounding
    assert found.variance <= variance * found.derivative_mean_square + rounding


@given(variance=variances, factor=st.floats(0.1, 10.0), slope=st.floats(-2.0, 2.0))
def test_rays_scale(variance: float, factor: float, slope: float) -> None:
    one, scaled = (moments(f"leaky_relu(slope={slope!r})", variance * each) for each in (1.0, factor**2))
    assert scaled.mean == pytest.approx(factor * one.mean, rel=1e-12)
    assert scaled.mean_square == pytest.approx(factor**2 * one.mean_square, rel=1e-12)
    assert scaled.derivative_mean_square == pytest.approx(one.derivative_mean_square, rel=1e-12)


def test_an_array_of_variances_is_one_of_each() -> None:
    variance = np.array([[0.0, 0.5], [1.0, 30.0]])
    for spec in ("gelu", "erf"):
        together = moments(spec, variance)
        for name in FIELDS:
            alone = [[getattr(moments(spec, each), name) for each in row] for row in variance]
            np.testing.assert_allclose(getattr(together, name), alone, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("p", "q"), [(1.0, 1.0), (12.6, 12.6), (0.2, 3.0), (1e-3, 1e-3)])
@pytest.mark.parametrize("spec", CLOSED)
def test_closed_pairs_are_those_of_series(spec: str, p: float, q: float) -> None:
    closed, series = (pair_moments(activation(spec), p, q, closed=each) for each in (True, False))
    for name in ("product", "derivative_product"):
        expected = getattr(closed, name)(CORRELATIONS)
        size = np.abs(expected).max()
        np.testing.assert_allclose(getattr(series, name)(CORRELATIONS), expected, rtol=0, atol=1e-11 * size)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if closed_form(activation(spec)) is None])
def test_pairs_end_at_the_moments(spec: str) -> None:
    entry, found = activation(spec), moments(spec, 0.8)
    pair = pair_moments(entry, 0.8, 0.8)
    ends = np.array([0.0, 1.0])
    np.testing.assert_allclose(pair.product(ends), [found.mean**2, found.mean_square], rtol=1e-11, atol=1e-13)
    squares = [found.derivative_mean**2, found.derivative_mean_square]
    np.testing.assert_allclose(pair.derivative_product(ends), squares, rtol=1e-11)


@pytest.mark.parametrize("spec", ["tanh", "gelu", "hard_tanh", "selu", "softsign"])
def test_pairs_are_those_of_sampled_pairs(spec: str) -> None:
    """Hold both series (Mehler's for tanh and gelu, quadrature for kinks) against two million samples."""
    random = np.random.default_rng(5)
    z = random.standard_normal((2, 2_000_000))
    u, v = 1.3 * z[0], 0.9 * (0.6 * z[0] + 0.8 * z[1])

    def values(role: str, x: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.interp(x, GRID, [activation(spec).evaluate(role, point) for point in GRID]))

    pair = pair_moments(activation(spec), 1.3**2, 0.9**2)
    c = np.array([0.6])
    for role, exact in (("f", pair.product(c)[0]), ("derivative", pair.derivative_product(c)[0])):
        products = values(role, u) * values(role, v)
        error = products.std() / math.sqrt(products.size)
        assert_agrees(products.mean(), exact, error)
        must_fail(assert_agrees, products.mean(), exact * WRONG, error)


GRID = np.sort(np.concatenate([np.linspace(-9, 9, 9001), [-1 - 1e-9, 1 + 1e-9, 1e-9, -1e-9]]))


@given(c=st.floats(-1.0, 1.0))
def test_arc_cosine_kernels(c: float) -> None:
    for order in (0, 1, 2):
        low, here, high = arc_cosine(order, [-1.0, c, 1.0])
        assert low == pytest.approx(0.0, abs=1e-15) and high == 1.0
        assert -1e-15 <= here <= arc_cosine(order, min(1.0, c + 1e-6)) + 1e-15 <= 1.0 + 2e-15
    one = float(arc_cosine(1, c))
    assert c <= one + 1e-15  # ReLU nets never turn samples apart
    assert one == pytest.approx(2 * float(pair_moments(activation("relu"), 1.0, 1.0).product(np.array(c))), abs=1e-12)


def test_a_users_own_activation() -> None:
    own = Activation(
        "own", f=lambda x: abs(x) ** 1.5, derivative=lambda x: 1.5 * math.copysign(abs(x) ** 0.5, x), kinks=(0.0,)
    )
    assert moments(own).mean_square == pytest.approx(2 * math.sqrt(2 / math.pi), rel=1e-11)  # E |z|^3
    softer = Activation("softer", f=lambda x: math.tanh(x), derivative=lambda x: 1 / math.cosh(x) ** 2)
    assert gain(softer) == pytest.approx(gain("tanh"), rel=1e-13)
    hidden = Activation("hidden", f=lambda x: max(x, 0.3), derivative=lambda x: 1.0 if x > 0.3 else 0.0)
    known = Activation("known", f=hidden.f, derivative=hidden.derivative, kinks=(0.3,))
    assert moments(hidden).mean_square == pytest.approx(moments(known).mean_square, rel=1e-9)  # a kink that is not told


SQUARED_RELU = Activation(
    "squared_relu", lambda x: x * x if x > 0 else 0.0, lambda x: 2.0 * x if x > 0 else 0.0, kinks=(0.0,)
)
ITS_MEANS: dict[str, Any] = {
    "product": lambda p, q, c: 1.5 * p * q * arc_cosine(2, c),
    "derivative_product": lambda p, q, c: 2.0 * np.sqrt(p) * np.sqrt(q) * arc_cosine(1, c),
    "mean": lambda q: 0.5 * q,
    "derivative_mean": lambda q: math.sqrt(2.0 / math.pi) * np.sqrt(q),
    "slope": lambda q: 3.0 * q,
}


def squared_relu(**changed: Any) -> Activation:
    return dataclasses.replace(SQUARED_RELU, gaussian_means=lambda: ClosedForm(**ITS_MEANS | changed))


def test_a_users_own_closed_form_is_used() -> None:
    own = squared_relu()
    assert own == SQUARED_RELU and closed_form(SQUARED_RELU) is None
    assert moments(own, 1e9).mean_square == 1.5e18
    closed, by_quadrature = moments(own, 0.7), moments(own, 0.7, closed=False)
    for name in FIELDS:
        assert getattr(closed, name) == pytest.approx(getattr(by_quadrature, name), rel=1e-12)
    with_parameter = Activation(
        "wave", lambda x, rate: math.sin(rate * x), lambda x, rate: rate * math.cos(rate * x), parameters={"rate": 2.0},
        gaussian_means=lambda rate: ClosedForm(
            lambda p, q, c: np.exp(-0.5 * rate**2 * (p + q)) * np.sinh(rate**2 * np.sqrt(p * q) * c),
            lambda p, q, c: rate**2 * np.exp(-0.5 * rate**2 * (p + q)) * np.cosh(rate**2 * np.sqrt(p * q) * c),
            np.zeros_like,
            lambda q: rate * np.exp(-0.5 * rate**2 * q),
            lambda q: rate**2 * np.exp(-2.0 * rate**2 * q),
        ),
    )  # fmt: skip
    assert moments(with_parameter, 1.0).mean_square == pytest.approx(0.5 * (1 - math.exp(-8.0)), rel=1e-12)


@pytest.mark.parametrize("spec", ["erf", "sine", "linear(alpha=-0.7, beta=0.3)"])
def test_a_closed_form_of_the_registry_passes_the_check_of_a_users(spec: str) -> None:
    entry = activation(spec)
    means = entry.gaussian_means
    assert means is not None and closed_form(entry) is not None
    copied = dataclasses.replace(entry, gaussian_means=lambda *parameters: means(*parameters))
    assert closed_form(copied) is not closed_form(entry)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"product": lambda p, q, c: p * q * (1 + 2 * c * c)}, " is 1.29 at p = 0.3, q = 2.5, c = -0.6, but quad"),
        ({"derivative_product": lambda p, q, c: 1.00001 * np.sqrt(p * q) * c}, "derivative_product of the closed form"),
        (
            {"mean": lambda q: q},
            "mean of the closed form of activation 'squared_relu' is 2.5 at q = 2.5, but",
        ),
        ({"mean": lambda q: np.nan * q}, "is nan at q = 2.5, but quadrature finds 1.25"),
        ({"derivative_mean": lambda q: 0.0}, "must return an array of the shape (3,) of its arguments, not ()"),
        ({"slope": lambda q: 3.00001 * q}, "slope of the closed form of activation 'squared_relu' is 7.50002 at"),
        ({"slope": lambda q: 1 / 0}, "slope of the closed form of activation 'squared_relu' fails: division by zero"),
    ],
)
def test_a_wrong_closed_form_is_refused(changed: dict[str, Any], told: str) -> None:
    assert closed_form(squared_relu()) is not None  # equal, but for the closed form
    with pytest.raises(ValueError, match=rf"^[^\n]*{re.escape(told)}[^\n]*$"):
        closed_form(squared_relu(**changed))


def test_gaussian_means_that_are_no_closed_form_are_refused() -> None:
    # What the types refuse already is refused at run time, too: users need not check types.
    wrong = dataclasses.replace(SQUARED_RELU, gaussian_means=lambda: 3)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="gaussian_means of activation 'squared_relu' must return a ClosedForm, not 3"):
        closed_form(wrong)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: moments("tanhh"), "unknown activation 'tanhh'; known, nearest first: tanh"),
        (lambda: moments("tanh", -1.0), "variance must be a finite number >= 0 and <= 1e+12, not -1.0"),
        (lambda: moments("tanh", [1.0, math.nan]), "variance must be a finite number >= 0 and <= 1e+12, not nan"),
        (lambda: gain("relu", "sideways"), "unknown direction 'sideways'"),
        (lambda: gain("linear(alpha=0)"), "has no forward gain: f is 0 everywhere"),
        (lambda: gain("linear(alpha=0, beta=1)", "backward"), "has no backward gain: f' is 0 everywhere"),
        (lambda: centered_gain("linear(alpha=0, beta=2)"), "constant"),
        (lambda: published_gain("relu", "keras"), "unknown source of gains 'keras'"),
        (lambda: arc_cosine(3, 0.5), "must be 0, 1 or 2, not 3"),
        (lambda: arc_cosine(1, 1.5), "correlation must be a finite number >= -1 and <= 1, not 1.5"),
        (lambda: batch_norm_gradient_rate("relu", 3), "batch must be an integer from 4"),
        (lambda: batch_norm_gradient_rate("linear(alpha=0)", 8), "is constant"),
    ],
)  # fmt: skip
def test_what_lies_outside_is_refused(make: Callable[[], object], told: str) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*{re.escape(told)}[^\n]*$"):
        make()


def test_what_grows_too_fast_is_refused() -> None:
    exponential = Activation("exponential", lambda x: math.exp(x), lambda x: math.exp(x))
    assert moments(exponential, 0.5).mean_square == pytest.approx(math.e, rel=1e-9)
    with pytest.raises(QuadratureError, match=r"'exponential' grows too fast .* at a variance of 4$"):
        moments(exponential, [1.0, 4.0])
    cube = Activation("cube", lambda x: x**3, lambda x: 3 * x * x)
    assert moments(cube, 2.0).mean_square == pytest.approx(15 * 8, rel=1e-11)


@pytest.mark.parametrize("kink", [0.3, 0.4999, 0.5001, 0.01])
def test_kinks_that_are_not_told_are_found(kink: float) -> None:
    hidden = Activation("hidden", lambda x: max(x - kink, 0.0), lambda x: 1.0 if x > kink else 0.0)
    known = Activation("known", hidden.f, hidden.derivative, kinks=(kink,))
    variance = np.array([0.1, 1.0, 15.0, 25.0, 400.0])
    for name in FIELDS:
        np.testing.assert_allclose(
            getattr(moments(hidden, variance), name), getattr(moments(known, variance), name), rtol=1e-9
        )


def test_an_infinite_mean_square_of_the_derivative_is_refused() -> None:
    def slope(x: float) -> float:
        return math.copysign(0.5 / math.sqrt(abs(x)), x) if x != 0 else 0.0

    root = Activation("root", lambda x: math.sqrt(abs(x)), slope)
    with pytest.raises(QuadratureError, match="derivative of activation 'root' has no bound near"):
        moments(root)


@pytest.mark.parametrize("center", [0.0, 0.3, 0.5, 0.53])
def test_steep_activations(center: float) -> None:
    steep = Activation(
        "steep", lambda x: math.tanh(50 * (x - center)), lambda x: 50 / math.cosh(50 * (x - center)) ** 2
    )
    ends = [-10, center - 1, center, center + 1, 10]
    exact = mpmath.quad(lambda x: (50 / mpmath.cosh(50 * (x - center)) ** 2) ** 2 * mpmath.npdf(x), ends)
    assert moments(steep).derivative_mean_square == pytest.approx(float(exact), rel=1e-9)


def test_a_feature_far_out_is_seen() -> None:
    far = Activation("far", lambda x: max(x - 100.77, 0.0), lambda x: 1.0 if x > 100.77 else 0.0)
    tail = 0.5 * math.erfc(1.0077 / math.sqrt(2))
    assert moments(far, 1e4).derivative_mean_square == pytest.approx(tail, rel=1e-9)


def test_a_narrow_feature_is_seen() -> None:
    def f(x: float) -> float:
        return x + math.exp(-(((x - 5.7) * 20) ** 2))

    own = Activation("bump", f, lambda x: 1 - 800 * (x - 5.7) * math.exp(-(((x - 5.7) * 20) ** 2)))
    exact = float(mpmath.quad(lambda x: mpmath.exp(-(((x - 5.7) * 20) ** 2)) * mpmath.npdf(x, 0, 3), [5, 5.7, 6.4]))
    assert moments(own, 9.0).mean == pytest.approx(exact, rel=1e-9)


def test_a_series_whose_first_terms_are_small_is_not_cut() -> None:
    """The weight of sin at variance 400 lies near the 400th Hermite polynomial."""
    own = Activation("own_sine", lambda x: math.sin(x), lambda x: math.cos(x))
    pairs = pair_moments(own, 400.0, 400.0), pair_moments(activation("sine"), 400.0, 400.0)
    np.testing.assert_allclose(pairs[0].product(CORRELATIONS), pairs[1].product(CORRELATIONS), atol=1e-11)


@pytest.mark.parametrize("spec", ["tanh", "hard_tanh", "relu", "erf"])
def test_one_correlation_is_that_of_the_series(spec: str) -> None:
    pair = pair_moments(activation(spec), 0.7, 2.0)
    for c in CORRELATIONS:
        series = float(pair.product(c)), float(pair.derivative_product(c))
        assert at_correlation(activation(spec), 0.7, 2.0, float(c)) == pytest.approx(series, abs=1e-11)


def test_what_oscillates_too_fast_is_refused() -> None:
    wild = Activation("wild", f=lambda x: math.sin(5 * x), derivative=lambda x: 5 * math.cos(5 * x))
    assert moments(wild, 1.0).mean_square == pytest.approx((1 - math.exp(-50)) / 2, rel=1e-12)
    with pytest.raises(ValueError, match=r"'wild' is too rough between -16384 and 16384 for quadrature"):
        moments(wild, 1e6)


@pytest.mark.parametrize("spec", SPECS)
def test_gains_keep_what_they_say(spec: str) -> None:
    found = moments(spec)
    assert gain(spec) ** 2 * found.mean_square == pytest.approx(1.0, rel=1e-13)
    assert gain(spec, "backward") ** 2 * found.derivative_mean_square == pytest.approx(1.0, rel=1e-13)
    assert centered_gain(spec) >= gain(spec) * (1 - 1e-13)


@pytest.mark.parametrize("spec", SPECS)
def test_forward_gain_in_simulation(spec: str) -> None:
    """One wide layer on inputs of mean square 1 keeps the mean square, and a gain 5% off does not."""
    widths, quantity = (64, 512, 512), "preactivation_mean_square"

    def check(second: float) -> None:
        network = stabsim.Network(widths, spec, stabsim.Initializer("normal", second, "in"))
        scaled = np.full((1, 64), 1 / second)  # so that the first layer's s is standard normal
        found = stabsim.simulate(network, nets=600, seed=4, inputs=scaled, quantities=(quantity,)).estimates(quantity)
        assert_agrees(found.estimate[1:], 1.0, found.std_error[1:])

    check(gain(spec))
    must_fail(check, gain(spec) * WRONG)


def test_published_gains() -> None:
    assert DIRECTIONS == ("forward", "backward")
    for spec in SPECS:
        torch, nfnet = published_gain(spec), published_gain(spec, "nfnet")
        if nfnet is not None:  # sampled, so right to a thousandth
            assert nfnet == pytest.approx(centered_gain(spec), rel=1.1e-3)
        if torch is not None and spec.startswith(("relu", "leaky_relu", "linear")):
            assert torch == pytest.approx(gain(spec), rel=1e-13)
    assert published_gain("tanh") == pytest.approx(1.0466 * gain("tanh"), rel=1e-4)  # 5/3 is 4.7% too much
    assert published_gain("selu") == pytest.approx(0.75 * gain("selu"))
    own = Activation("own", f=lambda x: 2 * x, derivative=lambda _: 2.0)
    assert published_gain(own) is None


@given(batch=st.integers(4, 10**6))
@settings(max_examples=20)
def test_batch_norm_without_f(batch: int) -> None:
    assert batch_norm_gradient_rate("linear", batch) == pytest.approx((batch - 2) / (batch - 3), rel=1e-10)
    assert batch_norm_correlation("linear", batch) == pytest.approx(-1 / (batch - 1), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if not spec.startswith("linear")])
def test_batch_norm_explodes_less_with_more_samples(spec: str) -> None:
    rates = [batch_norm_gradient_rate(spec, batch) for batch in (4, 6, 10, 100, 10**6)]
    limit = batch_norm_gradient_rate(spec)
    assert all(a > b for a, b in zip(rates, [*rates[1:], limit], strict=True))
    assert limit > 1.0  # Gaussian Poincare
    assert rates[-1] == pytest.approx(limit, rel=1e-5)


@pytest.mark.parametrize("spec", ["relu", "tanh", "hard_tanh"])
def test_batch_norm_rate_against_sampled_batches(spec: str) -> None:
    """Sample uniform points of the sphere, and take the mean of what the formula is the mean of."""
    batch, size = 6, 400_000
    random = np.random.default_rng(8)
    u = random.standard_normal((size, batch))
    u -= u.mean(axis=1, keepdims=True)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    s = math.sqrt(batch) * u
    f, d = {
        "relu": (np.maximum(s, 0), (s > 0) * 1.0),
        "tanh": (np.tanh(s), 1 - np.tanh(s) ** 2),
        "hard_tanh": (np.clip(s, -1, 1), (np.abs(s) < 1) * 1.0),
    }[spec]
    centered = f - f.mean(axis=1, keepdims=True)
    apart = (centered**2).sum(axis=1) / (batch - 1)  # of mean a - b
    du_centered = d * u - (d * u).mean(axis=1, keepdims=True)
    # sum_ij d_i d_j G_ij (G_ij - u_i u_j) with G_ij = 1(i = j) - 1 / B
    first = (d * d).sum(axis=1) * (1 - 2 / batch) + d.sum(axis=1) ** 2 / batch**2
    second = (du_centered * d * u).sum(axis=1)
    passed = first - second
    ratio = passed.mean() / apart.mean()
    spread = passed - ratio * apart
    error = spread.std() / math.sqrt(size) / apart.mean()
    exact = batch_norm_gradient_rate(spec, batch) * (batch - 1) * (batch - 3) / batch
    assert_agrees(ratio, exact, error)
    must_fail(assert_agrees, ratio, exact * WRONG, error)
