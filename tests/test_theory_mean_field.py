"""Variance and correlation maps, their fixed points and the critical line: relations, limits and simulated nets."""

from __future__ import annotations

import math
import re
import time
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
SATURATING = ["tanh", "erf", "sigmoid", "lecun_tanh", "hard_tanh", "scaled_sigmoid", "softsign", "sine"]
weight_variances = st.floats(0.05, 25.0)
bias_variances = st.just(0.0) | st.floats(1e-3, 4.0)


@given(name=st.sampled_from(SATURATING), w=weight_variances, b=bias_variances)
@settings(max_examples=60)
def test_fixed_points_are_fixed_and_reached(name: str, w: float, b: float) -> None:
    found = fixed_point(name, w, b)
    assert 0.0 <= found.variance <= w * 4.0 + b  # f^2 of these is at most 4
    assume(found.variance > 0.0)
    assert variance_map(name, found.variance, w, b) == pytest.approx(found.variance, rel=1e-12)
    if found.variance_depth < 50:
        q = 1.0
        for _ in range(math.ceil(25 * found.variance_depth) + 25):
            q = float(variance_map(name, q, w, b))
        assert q == pytest.approx(found.variance, rel=1e-8)
    assert float(correlation_map(name, 1.0, w, b)) == pytest.approx(1.0, abs=1e-11)
    assert float(correlation_map(name, found.correlation, w, b)) == pytest.approx(found.correlation, abs=1e-10)
    assert (found.correlation < 1.0) == (found.chi > 1.0 + 1e-12)


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
    start = time.process_time()
    q, chi = phase_diagram("tanh", w, b)
    seconds = time.process_time() - start
    assert q.shape == chi.shape == (41, 41) and seconds < 1.0
    for i, j in ((0, 0), (5, 3), (40, 0), (20, 40)):
        alone = fixed_point("tanh", float(w[i, 0]), float(b[j]))
        assert (q[i, j], chi[i, j]) == pytest.approx((alone.variance, alone.chi), rel=1e-12)
    assert np.all(np.diff(q, axis=0) >= 0) and np.all(np.diff(q, axis=1) >= 0)
    assert np.all(np.diff(chi, axis=0) > 0) and np.all(np.diff(chi, axis=1) <= 1e-12)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: fixed_point("tanh", 0.0), "weight_variance must be finite and > 0, not 0.0"),
        (lambda: fixed_point("tanh", 1.0, -0.1), "bias_variance must be finite and >= 0, not -0.1"),
        (lambda: variance_map("tanh", -1.0, 1.0), "variance must be finite and >= 0"),
        (lambda: phase_diagram("tanh", [0.0, 1.0], 0.0), "weight_variance must be finite and > 0, not 0.0"),
        (lambda: correlation_map("tanh", 1.01, 1.0), "correlation must be finite and >= -1 and <= 1, not 1.01"),
        (lambda: correlation_map("tanh", 0.5, 0.5), "variance must be given where the variance map has no fixed point"),
        (lambda: correlation_map("relu", 0.5, 3.0), "(it ends at inf)"),
        (lambda: correlation_map("tanh", 0.5, 2.0, variance=0.0), "variance must be a number > 0, two of them or None"),
        (lambda: critical_weight_variance("relu", 0.1), "no critical weight variance at bias_variance=0.1"),
        (lambda: critical_approach("relu", 0.1), "activation must be smooth, with a second derivative, not 'relu'"),
        (lambda: critical_approach("tanh"), "bias_variance must be > 0 where f(0) = 0, as of 'tanh'"),
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
    table = stabsim.simulate(network, nets=2000, seed=6, precision="float64", quantities=EXACT).table
    known = table[np.isfinite(table["theory"])]
    assert len(known) >= (8 if initializer(weights).law in ("normal", "uniform", "truncated_normal") else 0)
    # Where all nets agree, what happens in fewer than one of them was not seen.
    error = known["std_error"].where(known["std_error"] > 0, 1 / known["nets"])
    if len(known):
        assert_agrees(known["estimate"], known["theory"], error)
        must_fail(assert_agrees, known["estimate"], known["theory"] * WRONG, error / 5)


EXACT = (
    "preactivation_mean", "preactivation_mean_square", "preactivation_variance", "preactivation_kurtosis",
    "activation_mean", "activation_mean_square", "activation_variance", "activation_zero_fraction",
    "activation_log10_norm", "derivative_mean_square", "derivative_zero_fraction", "activation_gradient_mean",
    "activation_gradient_mean_square", "activation_gradient_log10_norm", "preactivation_gradient_mean_square",
)  # fmt: skip


def test_a_5_percent_error_of_a_map_is_seen() -> None:
    q = float(variance_map("tanh", 1.0, 2.0, 0.1))
    assert_agrees(q, 0.888588980795682, 1e-3)
    must_fail(assert_agrees, q * WRONG, 0.888588980795682, 1e-3)
