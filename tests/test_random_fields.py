"""Gaussian fields: which points they take, and how others are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stabsim.landscape.random_fields import GaussianField

FIELD = GaussianField(3, waves=16, seed=1)


def test_lists_are_points_too() -> None:
    point, vector = np.array([0.5, -1.0, 2.0]), np.array([1.0, 0.0, -1.0])
    assert FIELD.loss(point.tolist()) == FIELD.loss(point)
    np.testing.assert_array_equal(FIELD.gradient([[0, 0, 1]]), FIELD.gradient(np.array([[0.0, 0.0, 1.0]])))
    bent = FIELD.hessian_vector(point.tolist(), vector.tolist())
    np.testing.assert_allclose(bent, FIELD.hessian(point) @ vector, rtol=1e-12)


@pytest.mark.parametrize(
    "call", [FIELD.loss, FIELD.gradient, FIELD.hessian, lambda points: FIELD.hessian_vector(points, np.zeros(3))]
)
def test_what_is_no_point_is_refused(call: Callable[[Any], Any]) -> None:
    for points, message in (
        (np.zeros((2, 4)), r"points must have shape \(..., 3\), not \(2, 4\)"),
        ([0.0, 0.0, np.nan], "points.* finite"),
        (None, "points must be"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call(points)


def test_vectors_are_checked() -> None:
    with pytest.raises(ValueError, match=r"vectors must have shape \(..., 3\), not \(2,\)"):
        FIELD.hessian_vector(np.zeros(3), [1.0, 0.0])
    with pytest.raises(ValueError, match=r"points \(2, 3\) and vectors \(4, 3\) must broadcast"):
        FIELD.hessian_vector(np.zeros((2, 3)), np.ones((4, 3)))
