"""How long noise takes to leave a saddle: the exact law against recursions and walkers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ndtr

from stabsim.theory.escape import escape_probability, linear_covariance, saddle_variances
from tests.checks import WRONG, assert_agrees, must_fail


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.5, 0.9])
def test_variances_are_those_of_the_recursion(rate: float) -> None:
    ascent = descent = 0.0
    for step in range(12):
        found = saddle_variances(step, rate, 0.7, 1.5)
        np.testing.assert_allclose([found.ascent, found.descent], [ascent, descent], rtol=1e-12)
        ascent = (1 - 1.5 * rate) ** 2 * ascent + (rate * 0.7) ** 2
        descent = (1 + 1.5 * rate) ** 2 * descent + (rate * 0.7) ** 2


def test_walkers_leave_as_the_law_says() -> None:
    rate, noise, walkers, steps = 0.1, 0.05, 200_000, 25
    generator = np.random.Generator(np.random.Philox(1))
    x, y = np.zeros((2, walkers))
    for _ in range(steps):
        x = (1 - 2 * rate) * x - rate * noise * generator.standard_normal(walkers)
        y = (1 + 2 * rate) * y - rate * noise * generator.standard_normal(walkers)
    share = float(np.mean(x * x - y * y < -0.2))
    error = np.sqrt(share * (1 - share) / walkers)
    assert_agrees(share, escape_probability(steps, rate, noise, drop=0.2), error)
    must_fail(assert_agrees, share, escape_probability(steps, rate, WRONG * noise, drop=0.2), error)
    assert escape_probability([0, 10], rate, 0.0).tolist() == [0.0, 0.0]  # without noise nobody leaves


@pytest.mark.parametrize("noise", [1e-3, 0.3, 3.0, 100.0, 1e6])
@pytest.mark.parametrize("steps", [1, 10, 60])
def test_the_law_is_its_integral_at_any_noise(steps: int, noise: float) -> None:
    """Over x_1, in pieces about the kink of sqrt(R^2 + x_1^2); 60 Gauss-Hermite nodes are off by 4e-3 there."""
    ascent, descent = saddle_variances(steps, 0.1, noise)

    def density(x: float) -> float:
        return float(4 * np.exp(-x * x / 2) / np.sqrt(2 * np.pi) * ndtr(-np.sqrt((1 + ascent * x * x) / descent)))

    ends = sorted({0.0, 40.0, *(min(factor / float(np.sqrt(ascent)), 40.0) for factor in (0.01, 0.1, 1, 10, 100))})
    parts = [quad(density, low, high, epsabs=1e-14, epsrel=1e-12)[0] for low, high in itertools.pairwise(ends)]
    assert escape_probability(steps, 0.1, noise) == pytest.approx(sum(parts), rel=1e-11, abs=1e-300)


def test_the_law_far_out() -> None:
    assert escape_probability([10**4, 10**6], 0.1, 1.0) == pytest.approx([1.0, 1.0], abs=1e-15)
    assert np.isnan(escape_probability(10**6, 3.0, 1.0))  # both variances overflow


def test_the_time_is_logarithmic_in_the_noise() -> None:
    steps = np.arange(400)
    half = [int(np.argmax(escape_probability(steps, 0.05, noise) > 0.5)) for noise in (1e-3, 1e-5, 1e-7)]
    np.testing.assert_allclose(np.diff(half), 2 * np.log(10) / np.log(1.1), atol=1)


def test_the_covariance_is_that_of_the_recursion_with_flat_directions() -> None:
    generator = np.random.default_rng(0)
    root = generator.standard_normal((4, 4))
    noise, values, rate = root @ root.T, np.array([-1.0, 0.0, 0.0, 12.0]), 0.1
    expected, kept = np.zeros((4, 4)), np.diag(1 - rate * values)
    for step in range(8):
        np.testing.assert_allclose(linear_covariance(step, rate, values, noise), expected, rtol=1e-12, atol=1e-15)
        expected = kept @ expected @ kept + rate**2 * noise


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: saddle_variances(-1, 0.1, 1.0), "steps must be a finite number >= 0"),
        (lambda: saddle_variances(1, 0.0, 1.0), "learning_rate must be a finite number > 0"),
        (lambda: escape_probability(1, 0.1, -1.0), "noise must be a finite number >= 0"),
        (lambda: escape_probability(1, 0.1, 1.0, drop=0.0), "drop must be a finite number > 0"),
        (lambda: escape_probability(1, 0.1, 1.0, curvature=0.0), "curvature must be a finite number > 0"),
        (lambda: linear_covariance(1, 0.1, [1.0, 2.0], [[1.0]]), r"noise must have shape \(n, n\)"),
    ],
)
def test_bad_arguments(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
