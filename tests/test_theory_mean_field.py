"""Variance and correlation maps, their fixed points and the critical line: relations, limits and simulated nets."""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Callable

import numpy as np
import pandas
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import stabsim
from stabsim.activations import ACTIVATIONS
from stabsim.initializers import INITIALIZERS, initializer
from stabsim.theory.gaussian import moments
from stabsim.theory.mean_field import (
    correlation_map,
    critical_approach,
    critical_weight_variance,
    fixed_point,
    phase_diagram,
    ray_approach,
    variance_map,
)
from tests.checks import WRONG, assert_agrees, must_fail

CENTERED = ("normal", "uniform", "truncated_normal", "orthogonal")
STEP = stabsim.Activation("step", lambda x: 1.0 if x > 0 else 0.0, lambda _: 0.0, kinks=(0.0,))
SATURATING = ["tanh", "erf", "sigmoid", "lecun_tanh", "hard_tanh", "scaled_sigmoid", "softsign", "sine"]
weight_variances = st.floats(0.05, 25.0)
bias_variances = st.just(0.0) | st.floats(1e-3, 4.0)


def followed(name: str, w: float, b: float, layers: int) -> float:
    """Return where the map has come from 1 after so many layers: earlier, where it stands still, or is beyond 1e+-9."""
    q = 1.0
    for _ in range(layers):
        before, q = q, float(variance_map(name, q, w, b))
        if abs(q - before) <= 1e-15 * q or not 1e-9 < q < 1e9:
            break
    return q


@given(name=st.sampled_from(SATURATING), w=weight_variances, b=bias_variances)
@settings(max_examples=60)
def test_fixed_points_are_fixed_and_reached(name: str, w: float, b: float) -> None:
    found = fixed_point(name, w, b)
    assert 0.0 <= found.variance <= w * 4.0 + b  # f^2 of these is at most 4
    assume(found.variance > 0.0)
    assert variance_map(name, found.variance, w, b) == pytest.approx(found.variance, rel=1e-12)
    if found.variance_depth < 50:
        q = followed(name, w, b, math.ceil(25 * found.variance_depth) + 25)
        assert q == pytest.approx(found.variance, rel=1e-8)
    assert float(correlation_map(name, 1.0, w, b)) == pytest.approx(1.0, abs=1e-11)
    assert float(correlation_map(name, found.correlation, w, b)) == pytest.approx(found.correlation, abs=1e-10)
    assert (found.correlation < 1.0) == (found.chi > 1.0 + 1e-12)


@given(name=st.sampled_from(["gelu", "gelu_tanh", "silu", "elu", "selu"]), w=st.floats(0.05, 4.0), b=bias_variances)
@settings(max_examples=60)
def test_fixed_points_of_growing_activations_are_where_the_map_goes(name: str, w: float, b: float) -> None:
    """Their maps may cross the diagonal several times, and not at all."""
    found = fixed_point(name, w, b)
    assume(found.variance == 0.0 or math.isinf(found.variance) or found.variance_depth < 30)
    q = followed(name, w, b, 1500)
    limit = 0.0 if q <= 1e-9 else math.inf if q >= 1e9 else q
    slow = limit == q and abs(float(variance_map(name, q, w, b)) / q - 1) > 1e-12
    assume(not slow)
    assert found.variance == pytest.approx(limit, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("w", "b", "exact"), [(2.0429, 0.4017, 3.0003069135)])
def test_the_nearest_of_two_fixed_points_is_found(w: float, b: float, exact: float) -> None:
    assert fixed_point("silu", w, b).variance == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("name", ["hard_tanh", "relu6"])
def test_maps_that_are_the_identity_to_rounding_end_at_0(name: str) -> None:
    assert fixed_point(name, critical_weight_variance(name)).variance == 0.0


def test_users_activations_that_grow_without_straight_ends() -> None:
    square = stabsim.Activation("square", lambda x: x * x, lambda x: 2 * x)
    assert fixed_point(square, 0.3).variance == fixed_point(square, 0.3).chi == 0.0
    growing = fixed_point(square, 0.34)
    assert math.isinf(growing.variance) and math.isnan(growing.chi) and math.isnan(growing.correlation)
    exponential = stabsim.Activation("exponential", lambda x: math.exp(x), lambda x: math.exp(x))
    small = fixed_point(exponential, 0.1).variance
    assert small == pytest.approx(0.1 * math.exp(2 * small), rel=1e-12) and small < 1
    with pytest.raises(ValueError, match="'exponential' cannot be followed to its fixed point at weight_variance=1 "):
        fixed_point(exponential, 1.0, 1.0)
    cosine = stabsim.Activation("cosine", lambda x: math.cos(x), lambda x: -math.sin(x))
    w = np.array([1.0, 50.0, 1e6])
    q, chi = phase_diagram(cosine, w, 0.1)
    np.testing.assert_allclose(q[:2], w[:2] * (1 + np.exp(-2 * q[:2])) / 2 + 0.1, rtol=1e-12)
    assert math.isnan(q[2]) and math.isnan(chi[2])  # it oscillates too often, which is no growth
    assert critical_weight_variance(cosine) == pytest.approx(2.2, abs=0.05)
    shrink = stabsim.Activation("shrink", lambda x: max(x - 0.5, 0.0), lambda x: 1.0 if x > 0.5 else 0.0, kinks=(0.5,))
    found = fixed_point(shrink, 3.0, 0.5)  # flat at 0, and growing: no growth that matters at small variances
    assert math.isinf(found.variance) or variance_map(shrink, found.variance, 3.0, 0.5) == pytest.approx(found.variance)


@pytest.mark.parametrize("name", ["tanh", "hard_tanh", "softsign", "erf"])
def test_fixed_points_of_large_weights(name: str) -> None:
    """Far out f is a sign, so E f(u) f(v) is the arcsine law, and chi grows like the square root of q."""
    found = fixed_point(name, 1e5, 0.1)
    assert found.chi > 20 and found.correlation < 1e-3 and found.variance == pytest.approx(1e5, rel=0.05)


@given(name=st.sampled_from(SATURATING), w=weight_variances, b=st.floats(0.01, 4.0))
@settings(max_examples=30)
def test_chi_is_the_slope_of_the_correlation_map_at_1(name: str, w: float, b: float) -> None:
    found = fixed_point(name, w, b)
    assume(found.variance < 20.0)  # the map bends near 1 within 1 / q
    step = 1e-6
    slope = (1.0 - float(correlation_map(name, 1.0 - step, w, b))) / step
    assert slope == pytest.approx(found.chi, rel=3e-3, abs=1e-6)


@given(q=st.floats(1e-3, 30.0), w=weight_variances, b=bias_variances, name=st.sampled_from(list(ACTIVATIONS)))
@settings(max_examples=60)
def test_correlation_maps_rise_and_stay_within_1(q: float, w: float, b: float, name: str) -> None:
    c = np.linspace(0.0, 1.0, 41)
    after = np.asarray(correlation_map(name, c, w, b, variance=q))
    assert np.all(np.diff(after) >= -1e-12) and after[-1] == pytest.approx(1.0, abs=1e-11)
    assert np.all(np.diff(after, 2) >= -1e-10)  # Mehler: a power series in c with coefficients >= 0


@given(scale=st.floats(0.01, 100.0), w=weight_variances, slope=st.floats(-1.0, 1.0))
def test_rays_do_not_care_for_the_scale(scale: float, w: float, slope: float) -> None:
    name = f"leaky_relu(slope={slope!r})"
    assert variance_map(name, scale, w) == pytest.approx(scale * float(variance_map(name, 1.0, w)), rel=1e-12)
    one, other = (float(correlation_map(name, 0.3, w, variance=q)) for q in (1.0, scale))
    assert one == pytest.approx(other, abs=1e-13)
    assert critical_weight_variance(name) == pytest.approx(2.0 / (1.0 + slope**2), rel=1e-12)


@given(w=st.floats(0.05, 1.95), b=st.floats(1e-3, 4.0))
def test_rectifiers_have_a_closed_fixed_point(w: float, b: float) -> None:
    found = fixed_point("relu", w, b)
    assert found.variance == pytest.approx(b / (1.0 - w / 2.0), rel=1e-11)
    assert found.chi == pytest.approx(w / 2.0) and found.correlation == 1.0
    assert found.correlation_depth == pytest.approx(-1.0 / math.log(w / 2.0), rel=1e-9)


@pytest.mark.parametrize("name", ["tanh", "erf", "hard_tanh", "sine", "softsign", "lecun_tanh", "elu"])
def test_the_critical_line_is_where_chi_is_1(name: str) -> None:
    for b in (0.01, 0.1, 0.5):
        w = critical_weight_variance(name, b)
        at = moments(name, fixed_point(name, w, b).variance)
        assert w * at.derivative_mean_square == pytest.approx(1.0, abs=1e-8)
        below, above = (fixed_point(name, w * factor, b).chi for factor in (0.9, 1.1))
        assert below < 1.0 < above


@pytest.mark.parametrize("name", ["tanh", "erf", "lecun_tanh"])
def test_samples_approach_each_other_like_1_over_depth_on_the_critical_line(name: str) -> None:
    b = 0.1
    w, beta = critical_weight_variance(name, b), critical_approach(name, b)
    c, depth = 0.5, 20_000
    for _ in range(depth):
        c = float(correlation_map(name, c, w, b))
    assert (1.0 - c) * depth == pytest.approx(beta, rel=0.01)


@pytest.mark.parametrize("name", ["relu", "leaky_relu(slope=0.2)", "leaky_relu(slope=-1)"])
def test_rays_approach_each_other_like_1_over_the_square_of_the_depth(name: str) -> None:
    c, depth = 0.0, 20_000
    for _ in range(depth):
        c = float(correlation_map(name, c, critical_weight_variance(name), variance=1.0))
    assert (1.0 - c) * depth**2 == pytest.approx(ray_approach(name), rel=0.01)


def test_a_phase_diagram_is_one_of_each_and_takes_less_than_a_second() -> None:
    w, b = np.linspace(0.1, 4.0, 41)[:, None] ** 2, np.linspace(0.0, 2.0, 41) ** 2
    phase_diagram("tanh", 1.0, 1.0)  # loads what is compiled
    start = time.process_time()
    q, chi = phase_diagram("tanh", w, b)
    seconds = time.process_time() - start
    assert q.shape == chi.shape == (41, 41) and seconds < 1.0  # 0.1 measured, of processor time
    for i, j in ((0, 0), (5, 3), (40, 0), (20, 40)):
        alone = fixed_point("tanh", float(w[i, 0]), float(b[j]))
        assert (q[i, j], chi[i, j]) == pytest.approx((alone.variance, alone.chi), rel=1e-12)
    assert np.all(np.diff(q, axis=0) >= 0) and np.all(np.diff(q, axis=1) >= 0)
    assert np.all(np.diff(chi, axis=0) > 0) and np.all(np.diff(chi, axis=1) <= 1e-12)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: fixed_point("tanh", 0.0), "weight_variance must be a finite number >= 1e-09 and <= 1e+09, not 0.0"),
        (lambda: fixed_point("tanh", 1.0, -0.1), "bias_variance must be a finite number >= 0 and <= 1e+09, not -0.1"),
        (lambda: variance_map("tanh", -1.0, 1.0), "variance must be a finite number >= 0"),
        (lambda: phase_diagram("tanh", [0.0, 1.0], 0.0), "weight_variance must be a finite number >= 1e-09"),
        (lambda: correlation_map("tanh", 1.01, 1.0), "correlation must be a finite number >= -1 and <= 1, not 1.01"),
        (lambda: correlation_map("tanh", 0.5, 0.5), "variance must be given where the variance map has no fixed point"),
        (lambda: correlation_map("relu", 0.5, 3.0), "(it ends at inf)"),
        (lambda: correlation_map("tanh", 0.5, 2.0, variance=0.0), "variance must be a number > 0, two of them or None"),
        (lambda: critical_weight_variance("relu", 0.1), "no critical weight variance at bias_variance=0.1"),
        (lambda: critical_weight_variance("gelu"), "'gelu' has no critical weight variance at bias_variance=0.0"),
        (lambda: critical_weight_variance("silu", 0.1), "'silu' has no critical weight variance at bias_variance=0.1"),
        (lambda: critical_weight_variance("tanh", 1e-20), "bias_variance must be 0 or at least 1e-12, not 1e-20"),
        (lambda: correlation_map("linear(alpha=0)", 0.5, 1.0, variance=1.0), "where the next layer is 0"),
        (lambda: critical_approach("relu", 0.1), "activation must be smooth, with a second derivative, not 'relu'"),
        (lambda: critical_approach("tanh"), "bias_variance must be > 0 where f(0) = 0, as of 'tanh'"),
        (lambda: fixed_point(STEP, 1.0), "activation must be continuous, but 'step' jumps at 0"),
        (lambda: ray_approach("tanh"), "two rays from the origin, not 'tanh'"),
        (lambda: ray_approach("linear"), "must bend at 0, not 'linear"),
    ],
)  # fmt: skip
def test_what_lies_outside_is_refused(make: Callable[[], object], told: str) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*{re.escape(told)}[^\n]*$"):
        make()


LIMITS = (
    "preactivation_mean_square", "activation_mean", "activation_variance", "derivative_mean_square",
    "activation_gradient_mean_square", "preactivation_gradient_variance", "activation_correlation",
)  # fmt: skip


def estimates(name: str, weights: str, width: int) -> pandas.DataFrame:
    network = stabsim.Network((width,) * 4, name, weights, 0.0 if "default" in weights else 0.3)
    table = stabsim.simulate(network, nets=200, batch=2, seed=9, quantities=LIMITS).table
    return table[table["layer"] > 0].set_index(["quantity", "layer"])


@pytest.mark.parametrize("weights", ["lecun_normal(gain=1.4)", "orthogonal(gain=1.4)"])
@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_nets_tend_to_their_limits(name: str, weights: str) -> None:
    """What is left at width 1024 is noise and a term in 1 / width, of which width 128 has eight times as much."""

    def check(factor: float) -> None:
        narrow, wide = (estimates(name, weights, width) for width in (128, 1024))
        limit = factor * wide["infinite_width"]
        assert np.isfinite(limit).all() and len(limit) == 3 * len(LIMITS)
        left = np.abs(narrow["estimate"] - factor * narrow["infinite_width"]) + 5 * narrow["std_error"]
        distance = np.abs(wide["estimate"] - limit)
        assert (distance <= 5 * wide["std_error"] + left / 8 + 1e-12).all(), (distance / wide["std_error"]).max()

    check(1.0)
    must_fail(check, WRONG)


@pytest.mark.parametrize("weights", [name for name in INITIALIZERS if initializer(name).law in CENTERED])
@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_every_law_that_exists_agrees(name: str, weights: str) -> None:
    """Hold every exact prediction of every activation with every initializer that has one."""
    network = stabsim.Network((12, 24, 16, 20), name, weights, 0.0 if "default" in weights else 0.2)
    table = stabsim.simulate(network, nets=4000, seed=6, precision="float64", quantities=EXACT).table
    known = table[np.isfinite(table["theory"])]
    if initializer(weights).law == "orthogonal":  # its entries depend on each other: no law is claimed
        assert known.empty
        return
    assert len(known) >= 8
    # Where all nets agree, what happens in fewer than one of them was not seen.
    error = known["std_error"].where(known["std_error"] > 0, 1 / known["nets"])
    assert_agrees(known["estimate"], known["theory"], error)
    must_fail(assert_agrees, known["estimate"], known["theory"] * WRONG, error)


EXACT = (
    "preactivation_mean", "preactivation_mean_square", "preactivation_variance", "preactivation_kurtosis",
    "activation_mean", "activation_mean_square", "activation_variance", "activation_zero_fraction",
    "activation_log10_norm", "derivative_mean_square", "derivative_zero_fraction", "activation_gradient_mean",
    "activation_gradient_mean_square", "activation_gradient_log10_norm", "preactivation_gradient_mean_square",
    "activation_dead_sample_fraction", "derivative_dead_sample_fraction", "activation_gradient_zero_fraction",
    "preactivation_gradient_zero_fraction",
)  # fmt: skip


def test_gradients_of_deep_nets_do_not_underflow() -> None:
    """A sigmoid loses 0.627 of log10 of the norm a layer: after 400 of them float64 holds no mean square."""
    network = stabsim.Network((64,) * 401, "sigmoid", "lecun_normal")
    table = stabsim.simulate(network, nets=4, quantities=(GRADIENT, "activation_gradient_mean_square")).table
    norms = table[table["quantity"] == GRADIENT].set_index("layer")["infinite_width"]
    assert np.allclose(np.diff(norms)[10:380], norms[200] - norms[199], atol=1e-6) and norms[0] < -240
    squares = table[table["quantity"] != GRADIENT].set_index("layer")["infinite_width"]
    assert np.isfinite(squares[395]) and not (squares < 1e-300).any()


GRADIENT = "activation_gradient_log10_norm"


@pytest.mark.parametrize(
    ("f", "derivative", "gain"),
    [
        (lambda x: math.exp(-x), lambda x: -math.exp(-x), 100.0),
        (lambda x: math.sin(30 * x), lambda x: 30 * math.cos(30 * x), 50.0),
    ],
)
def test_tables_have_no_theory_where_quadrature_refuses(
    f: Callable[[float], float], derivative: Callable[[float], float], gain: float
) -> None:
    network = stabsim.Network((8, 8, 8), stabsim.Activation("rough", f, derivative), f"lecun_normal(gain={gain})")
    inputs = np.full((2, 8), 50.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # exp overflows, which is not the point
        table = stabsim.simulate(network, nets=20, batch=2, inputs=inputs).table
    rows = table[(table["quantity"] == "activation_mean_square") & (table["layer"] == 1)]
    assert rows["theory"].isna().all() and rows["infinite_width"].isna().all()
