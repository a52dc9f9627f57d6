"""Labeled data: which samples and classes are kept, and what principal components are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import stabsim
from stabsim.datasets import classification, dataset

LABELS = load_digits().target


def test_all_digits_with_their_labels() -> None:
    inputs, targets = classification("digits")
    np.testing.assert_array_equal(inputs, dataset("digits"))
    np.testing.assert_array_equal(targets.argmax(axis=1), LABELS)
    assert set(targets.sum(axis=1)) == {1.0} and targets.shape == (1797, 10)


def test_features_are_standardized_over_all_samples() -> None:
    inputs, _ = classification("digits", samples=50)
    np.testing.assert_array_equal(inputs, dataset("digits")[:50])
    assert abs(inputs.mean(axis=0)).max() > 0.1
    assert stabsim.datasets.classification is classification


def test_classes_and_samples_are_those_asked_for() -> None:
    inputs, targets = classification("digits", classes=(8, 3), samples=50)
    inside = np.flatnonzero((LABELS == 3) | (LABELS == 8))[:50]
    np.testing.assert_array_equal(inputs, dataset("digits")[inside])
    np.testing.assert_array_equal(targets[:, 0], LABELS[inside] == 8)


def test_components_are_principal() -> None:
    inputs, _ = classification("digits", components=6)
    np.testing.assert_allclose(inputs.T @ inputs / len(inputs), np.eye(6), atol=1e-12)
    np.testing.assert_allclose(inputs.mean(axis=0), 0.0, atol=1e-12)
    given = dataset("digits")
    explained = np.sort(np.linalg.eigvalsh(given.T @ given / len(given)))[::-1][:6]
    axes = given.T @ inputs / len(given)  # columns: axes times standard deviations
    np.testing.assert_allclose((axes**2).sum(axis=0), explained, rtol=1e-10)
    assert (axes[np.abs(axes).argmax(axis=0), range(6)] > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "digit"}, "unknown labeled data set 'digit'; known, nearest first: digits"),
        ({"classes": (3, 12)}, r"classes must be different ones of 0, 1, .*, not \(3, 12\)"),
        ({"classes": (3, 3)}, r"not \(3, 3\)"),
        ({"classes": 3}, "classes must be a sequence of integers"),
        ({"samples": 1798}, "samples must be an integer from 1 to 1797, not 1798"),
        ({"samples": 1, "components": 1}, "components=1 need at least 2 samples, not 1"),
        ({"components": 65}, "components must be an integer from 1 to 64, not 65"),
        ({"components": 64}, "components must be up to the rank of the inputs, not 64"),  # three pixels are always 0
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        classification(**{"name": "digits", **options})
