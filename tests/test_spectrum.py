"""Singular values against NumPy's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from stabsim.kernels.compile import kernel
from stabsim.kernels.spectrum import singular_values
from stabsim.threads import single_threaded_blas

Compiled = Callable[[Any, Any], None]


@pytest.fixture(scope="module")
def compiled() -> Iterator[Compiled]:
    @kernel("void(float64[:, ::1], float64[::1])")
    def values(matrix: Any, out: Any) -> None:
        singular_values(matrix, out)

    with single_threaded_blas():
        yield values


def spectrum(compiled: Compiled, matrix: Any) -> Any:
    out = np.full(min(matrix.shape), -1.0)
    compiled(np.array(matrix, np.float64, order="C"), out)
    return out


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (5, 5), (3, 8), (40, 12), (65, 66)])
def test_are_those_of_numpy(compiled: Compiled, shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(3).standard_normal(shape)
    expected = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(spectrum(compiled, matrix), expected, rtol=0, atol=1e-13 * expected[0])


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_of_any_size(compiled: Compiled, scale: float) -> None:
    matrix = np.random.default_rng(4).standard_normal((6, 9))
    expected = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(spectrum(compiled, matrix * scale) / scale, expected, rtol=1e-12)


def test_of_low_rank(compiled: Compiled) -> None:
    rng = np.random.default_rng(5)
    found = spectrum(compiled, rng.standard_normal((20, 3)) @ rng.standard_normal((3, 30)))
    assert np.sum(found > 30 * np.finfo(float).eps * found[0]) == 3
    np.testing.assert_array_equal(spectrum(compiled, np.zeros((4, 6))), np.zeros(4))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 11])
def test_are_nan_where_any_number_is_not_finite(compiled: Compiled, value: float, place: int) -> None:
    matrix = np.ones((3, 4))
    matrix.flat[place] = value
    assert np.isnan(spectrum(compiled, matrix)).all()


def test_leave_nothing_of_no_numbers(compiled: Compiled) -> None:
    assert spectrum(compiled, np.empty((0, 4))).shape == (0,)
