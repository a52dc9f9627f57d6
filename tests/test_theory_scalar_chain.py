"""Chains of one unit a layer: intervals against brute force, means against direct sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from stabsim.theory.scalar_chain import (
    mean_log_derivative,
    mean_log_weight,
    steep_probability,
    steep_reach,
    steep_width,
    widest_steep,
)

Floats = NDArray[np.float64]
LEAST = {"sigmoid": 4.0, "tanh": 1.0}  # abs(w) from which on there is an interval


def derivative(name: str, s: Floats) -> Floats:
    return 1.0 / np.cosh(s) ** 2 if name == "tanh" else 0.25 / np.cosh(0.5 * s) ** 2


def function(name: str, s: Floats) -> Floats:
    return np.tanh(s) if name == "tanh" else 1.0 / (1.0 + np.exp(-s))


def nielsen(weight: float) -> float:
    """Return the width for sigmoid as it is printed."""
    return 2.0 / weight * math.log(weight * (1.0 + math.sqrt(1.0 - 4.0 / weight)) / 2.0 - 1.0)


@pytest.mark.parametrize("name", LEAST)
def test_a_factor_is_1_at_the_ends_of_the_interval_and_above_inside(name: str) -> None:
    weights = LEAST[name] * np.array([1.0001, 1.2, 2.0, 10.0, 1e4])
    reach = steep_reach(-weights, name)
    np.testing.assert_allclose(weights * derivative(name, reach), 1.0, rtol=1e-9)
    assert (weights * derivative(name, 0.99 * reach) > 1.0).all() and (reach > 0.0).all()
    np.testing.assert_allclose(steep_width(weights, name), 2.0 * reach / weights, rtol=1e-14)
    assert not steep_width(LEAST[name] * np.array([0.0, 0.3, 1.0, -1.0]), name).any()


def test_the_width_is_as_printed_and_widest_at_6_894() -> None:
    for weight in (4.001, 5.0, 6.9, 30.0, 1e6):
        assert steep_width(weight) == pytest.approx(nielsen(weight), rel=1e-9)
    found = minimize_scalar(lambda weight: -nielsen(weight), bounds=(4.1, 20.0), options={"xatol": 1e-9})
    best = widest_steep()
    assert best.weight == pytest.approx(found.x, rel=1e-6) and best.width == pytest.approx(-found.fun, rel=1e-12)
    assert (round(best.weight, 3), round(best.width, 5)) == (6.894, 0.44774)
    assert widest_steep("tanh") == pytest.approx((best.weight / 4.0, 2.0 * best.width))


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu"])
def test_the_probability_of_a_steep_factor_is_that_of_sampling(name: str) -> None:
    generator = np.random.default_rng(1)
    x, b = generator.standard_normal((2, 1_000_000))
    # Sigmoid's is 5e-6: weights are drawn from N(0, 4^2) and weighted.
    spread = 4.0 if name == "sigmoid" else 1.0
    w = spread * generator.standard_normal(x.size)
    likelihood = spread * np.exp(-0.5 * w**2 * (1.0 - spread**-2))
    s = w * x + b
    slope = (s > 0).astype(float) if name == "relu" else derivative(name, s)
    values = likelihood * (np.abs(slope * w) > 1.0)
    error = values.std() / math.sqrt(x.size)
    theory = steep_probability(name)
    assert abs(values.mean() - theory) < 5 * error
    assert abs(values.mean() - 1.1 * theory) > 5 * error


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.parametrize(("weight_std", "bias_std"), [(1.0, 1.0), (5.0, 0.25), (2.0, 0.5)])
def test_means_of_logs_are_those_of_sampling(name: str, weight_std: float, bias_std: float) -> None:
    generator = np.random.default_rng(2)
    z, depth = generator.standard_normal(400_000), 5
    theory = mean_log_derivative(depth, name, weight_std=weight_std, bias_std=bias_std)
    assert theory.shape == (depth,)
    for layer in range(depth):
        w, b = generator.standard_normal((2, z.size))
        s = weight_std * w * z + bias_std * b
        logs = np.log(derivative(name, s))
        error = logs.std() / math.sqrt(z.size)
        assert abs(logs.mean() - theory[layer]) < 5 * error
        assert abs(logs.mean() - 1.05 * theory[layer]) > 5 * error
        z = function(name, s)


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.parametrize("weight_std", [1.0, 5.0])
def test_means_of_logs_do_not_depend_on_how_fine_they_are_taken(
    name: str, weight_std: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = mean_log_derivative(30, name, weight_std=weight_std, bias_std=0.05 * weight_std)
    for constant, finer in (("STEP", 0.025), ("DEGREE", 72)):
        with monkeypatch.context() as patch:
            patch.setattr(f"stabsim.theory.scalar_chain.{constant}", finer)
            again = mean_log_derivative(30, name, weight_std=weight_std, bias_std=0.05 * weight_std)
        np.testing.assert_allclose(found, again, rtol=0, atol=1e-4 if weight_std > 1 else 1e-6)


def test_tanh_without_biases_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^bias_std=0.0 must be at least 0.05 weight_std with tanh"):
        mean_log_derivative(3, "tanh", bias_std=0.0)


def test_means_of_logs_of_weights_are_those_of_sampling() -> None:
    logs = np.log(np.abs(0.3 * np.random.default_rng(3).standard_normal(1_000_000)))
    assert abs(logs.mean() - mean_log_weight(0.3)) < 5e-3 < abs(logs.mean() - 1.05 * mean_log_weight(0.3))


def test_chains_without_weights_have_the_same_slope_everywhere() -> None:
    # s = b: E ln f'(b) at every layer.
    found = mean_log_derivative(4, "tanh", weight_std=0.0, bias_std=1.0)
    np.testing.assert_allclose(found, found[0], rtol=1e-13)
    assert mean_log_derivative(3, weight_std=0.0, bias_std=0.0) == pytest.approx(math.log(0.25), rel=1e-13)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="unknown activation of a chain with bounded factors 'relu'; known"):
        steep_width(2.0, "relu")
    with pytest.raises(ValueError, match="weight"):
        steep_reach(math.inf)
    with pytest.raises(ValueError, match="depth"):
        mean_log_derivative(0)
    with pytest.raises(ValueError, match="weight_std"):
        mean_log_weight(0.0)
    with pytest.raises(ValueError, match="bias_std"):
        mean_log_derivative(2, bias_std=-1.0)
