"""Signs of eigenvalues: against NumPy, under congruence, of matrices with null spaces, and next to the band."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stabsim.landscape.inertia import EPSILON, eigenvalues, inertia


def symmetric(seed: int, *shape: int) -> Any:
    a = np.random.default_rng(seed).standard_normal(shape)
    return a + np.swapaxes(a, -1, -2)


def counts(found: Any) -> list[Any]:
    return [each.tolist() for each in found[:3]]


@pytest.mark.parametrize("n", [1, 2, 3, 17, 60])
def test_are_those_of_numpy(n: int) -> None:
    matrices = symmetric(n, 3, 4, n, n)
    values = np.linalg.eigvalsh(matrices)
    np.testing.assert_allclose(eigenvalues(matrices), values, rtol=0, atol=n * EPSILON * np.abs(values).max())
    found = inertia(matrices)
    np.testing.assert_array_equal(found.negative, np.sum(values < 0, axis=-1))
    np.testing.assert_array_equal(found.zero, 0)
    np.testing.assert_array_equal(found.positive, np.sum(values > 0, axis=-1))
    np.testing.assert_allclose(found.band, n * EPSILON * np.abs(values).max(axis=-1))


@pytest.mark.parametrize("signs", [(0, 0, 5), (5, 0, 0), (2, 0, 4), (3, 4, 2), (0, 7, 1), (1, 0, 0)])
def test_survive_congruence(signs: tuple[int, int, int]) -> None:
    """Sylvester's law: A^T D A has the signs of D for every invertible A."""
    negative, zero, positive = signs
    n = sum(signs)
    rng = np.random.default_rng(n)
    values = np.concatenate([-rng.uniform(0.5, 2, negative), np.zeros(zero), rng.uniform(0.5, 2, positive)])
    a = rng.standard_normal((50, n, n)) + 3 * np.eye(n)
    matrices = np.swapaxes(a, -1, -2) @ (values[:, None] * a)
    found = inertia((matrices + np.swapaxes(matrices, -1, -2)) / 2)
    assert counts(found) == [[count] * 50 for count in signs]


def test_of_matrices_with_null_spaces() -> None:
    """Units without weights leave rows of zeros, symmetries a kernel: zeros, not negative ones."""
    dead = symmetric(2, 6, 6)
    dead[[1, 4]] = dead[:, [1, 4]] = 0.0
    assert int(inertia(dead).zero) == 2
    basis = np.linalg.qr(np.random.default_rng(3).standard_normal((9, 9)))[0]
    matrix = basis[:, :4] @ np.diag([5.0, 1.0, -1e-3, -2.0]) @ basis[:, :4].T
    assert counts(inertia((matrix + matrix.T) / 2)) == [2, 5, 2]
    assert counts(inertia(np.zeros((2, 3, 3)))) == [[0, 0], [3, 3], [0, 0]]
    assert counts(inertia([[[-2.0]], [[0.0]], [[1e-300]]])) == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_next_to_the_band(scale: float) -> None:
    band = 4 * EPSILON
    assert counts(inertia(scale * np.diag([1.0, 0.9 * band, -0.9 * band, 0.0]))) == [0, 3, 1]
    assert counts(inertia(scale * np.diag([1.0, 1.1 * band, -1.1 * band, 0.0]))) == [1, 1, 2]


def test_with_a_band_of_ones_own() -> None:
    matrices = np.array([np.diag([-3.0, -1.0, 2.0])] * 3)
    assert counts(inertia(matrices, band=[0.0, 1.0, 2.5])) == [[2, 1, 1], [0, 1, 2], [1, 1, 0]]
    assert counts(inertia(matrices, band=1.5)) == [[1] * 3, [1] * 3, [1] * 3]


def test_threads_change_nothing() -> None:
    matrices = symmetric(7, 101, 12, 12)
    one = eigenvalues(matrices, threads=1)
    for threads in (2, 5):
        np.testing.assert_array_equal(eigenvalues(matrices, threads=threads), one)
    np.testing.assert_array_equal(eigenvalues(matrices[40]), one[40])


def test_leaves_what_it_is_given() -> None:
    matrices = symmetric(8, 2, 5, 5)
    before = matrices.copy()
    inertia(matrices)
    np.testing.assert_array_equal(matrices, before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inertia(np.zeros((2, 3))), r"matrices must be .* \(\.\.\., n, n\) .* not an array of shape \(2, 3\)"),
        (lambda: inertia(np.zeros((0, 0))), r"not an array of shape \(0, 0\)"),
        (lambda: inertia("abc"), "matrices must be .* not 'abc'"),
        (lambda: inertia([[[1.0]], [[np.nan]]]), r"matrices must be finite, but matrices\[1\] is not"),
        (lambda: inertia([[np.inf, 0.0], [0.0, 1.0]]), "matrices must be finite, but matrices is not"),
        (lambda: inertia([[1.0, 2.0], [2.1, 1.0]]), "symmetric to 1e-08 .* differs from its transpose by 0.0476 of it"),
        (lambda: inertia(np.eye(2), band=-1.0), "band must be a finite number >= 0, not -1.0"),
        (lambda: inertia(np.zeros((3, 2, 2)), band=[1.0, 2.0]), r"band must have the shape \(3,\) .* not \(2,\)"),
        (lambda: inertia(np.eye(2), threads=0), "threads must be an integer from 1"),
    ],
)
def test_refuses(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
