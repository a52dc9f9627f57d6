"""Deep linear nets, of which every critical point is known: the searches find them all, with the exact index."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stabsim import Network
from stabsim.landscape import METHODS, GaussianField, Kind, Landscape, classify, find
from stabsim.theory.landscape import autoencoder_critical_point, chain_hessian
from stabsim.theory.saddle_index import bray_dean_energy
from tests.checks import must_fail

MINIMIZERS = [name for name, method in METHODS.items() if method.minimizes == "loss"]
FILE = Path(__file__).parents[1] / "data" / "reference_values.csv"


def reference(prefix: str) -> dict[str, str]:
    """Return the published or closed-form values of rows by what follows a prefix."""
    with FILE.open(newline="") as lines:
        return {row["id"].removeprefix(prefix): row["value"] for row in csv.DictReader(lines)
                if row["id"].startswith(prefix)}  # fmt: skip


def autoencoder(n: int, hidden: int) -> Landscape:
    """Return inputs whose covariance has the eigenvalues n, ..., 1; its loss is 2 / n of that of the theory."""
    inputs = np.diag(np.sqrt(n * np.arange(n, 0, -1.0)))
    return Landscape(Network((n, hidden, n), "linear", "lecun_normal"), (inputs, inputs), train_biases=False)


def normals(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def starts(count: int, surface: Landscape) -> Any:
    """Return points of several sizes."""
    return np.concatenate([size * normals(i, count, surface.parameters) for i, size in enumerate([0.3, 0.6, 1.0, 2.0])])


@pytest.mark.parametrize(("n", "hidden", "count", "families"), [(4, 2, 150, 11), (5, 3, 300, 26)])
def test_every_critical_point_of_a_linear_autoencoder(n: int, hidden: int, count: int, families: int) -> None:
    surface = autoencoder(n, hidden)
    values = np.arange(n, 0, -1.0)
    ends = find(surface, starts(count, surface))
    assert ends.critical.mean() > 0.98
    products = surface.weights(ends.points, 1) @ surface.weights(ends.points, 2)
    found: Counter[tuple[int, ...]] = Counter()
    for i in np.flatnonzero(ends.critical):
        kept = tuple(int(k) for k in np.flatnonzero(np.diag(products[i]) > 0.5))
        np.testing.assert_allclose(products[i], np.diag([float(k in kept) for k in range(n)]), atol=1e-7)
        expected = autoencoder_critical_point(values, hidden, kept)
        assert (ends.negative[i], ends.zero[i], ends.positive[i]) == expected[1:], kept
        assert 0.5 * n * ends.losses[i] == pytest.approx(expected.loss, abs=1e-9)
        found[kept] += 1
    everyone = {kept for rank in range(hidden + 1) for kept in itertools.combinations(range(n), rank)}
    assert len(everyone) == families and found.keys() == everyone
    if (n, hidden) == (4, 2):
        rows = reference("9.ae.n4p2.I")
        indices = {kept: autoencoder_critical_point(values, hidden, kept).negative for kept in found}
        assert len(rows) == 6
        for name, value in rows.items():
            assert indices[tuple(int(k) - 1 for k in name if k != "0")] == int(value), name


@pytest.mark.parametrize(("method", "count"), [*((name, 4) for name in MINIMIZERS), ("levenberg_marquardt", 60)])
def test_every_minimum_of_a_linear_net_is_global(method: str, count: int) -> None:
    """Kawaguchi 2016: with one hidden layer each critical point without negative eigenvalues, too."""
    surface = autoencoder(4, 2)
    size = 0.5 if method in MINIMIZERS else 1.5  # from nearer to 0 only saddles are found
    ends = find(surface, size * normals(20, count, surface.parameters), method=method, max_steps=1500)
    without = ends.critical & (ends.negative == 0)
    assert without.any()
    np.testing.assert_allclose(0.5 * 4 * ends.losses[without], 1.5, rtol=1e-9)
    if method in MINIMIZERS:
        assert without.all()


def test_every_minimum_of_a_deep_linear_net_is_global() -> None:
    """Of depth 3, with a bottleneck: reduced-rank regression says the least loss."""
    inputs, targets = normals(21, 30, 4), normals(22, 30, 3)
    surface = Landscape(Network((4, 3, 2, 3), "linear", "lecun_normal"), (inputs, targets), train_biases=False)
    fitted = inputs @ np.linalg.lstsq(inputs, targets, rcond=None)[0]
    u, s, v = np.linalg.svd(fitted, full_matrices=False)
    least = np.mean((targets - u[:, :2] * s[:2] @ v[:2]) ** 2)
    ends = find(surface, surface.draw(6, seed=3), method="l_bfgs", max_steps=3000)
    assert ends.critical.mean() > 0.8 and (ends.negative[ends.critical] == 0).all()
    np.testing.assert_allclose(ends.losses[ends.critical], least, rtol=1e-9)


# --- chains of three weights --------------------------------------------------------------------------------------

CHAIN = Landscape(Network((1, 1, 1, 1), "linear", "lecun_normal"), ([[1.0]], [[1.0]]), train_biases=False)


def test_the_hessian_of_a_chain() -> None:
    for weights in normals(23, 10, 3):
        np.testing.assert_allclose(CHAIN.hessian(weights), 2 * chain_hessian(weights, 1.0), atol=1e-13)
    expected = [float(value) for value in reference("9.chain.3.")["00w"].split(";")]
    np.testing.assert_allclose(np.linalg.eigvalsh(CHAIN.hessian([0.0, 0.0, 2.0])) / 2, expected, atol=1e-14)


def test_the_origin_of_a_chain_is_critical_and_all_its_eigenvalues_are_zero() -> None:
    """A saddle that second derivatives do not show: reference row 9.chain.3.origin."""
    at, beside = classify(CHAIN, [[0.0, 0.0, 0.0]]), classify(CHAIN, [[0.0, 0.0, 2.0]])
    assert reference("9.chain.3.")["origin"] == "0;0;0" and at.zero.tolist() == [3] and at.critical.all()
    assert [beside.negative.tolist(), beside.zero.tolist(), beside.positive.tolist()] == [[1], [1], [1]]


def test_all_critical_points_of_a_chain() -> None:
    """Where the product is 1: minima with two zeros; where two weights are 0: index 1, or none at the origin."""
    ends = find(CHAIN, normals(24, 300, 3))
    assert ends.critical.mean() > 0.98
    points, product = ends.points[ends.critical], np.prod(ends.points[ends.critical], axis=-1)
    signs = np.stack([ends.negative, ends.zero, ends.positive], axis=-1)[ends.critical]
    minima = np.abs(product - 1) < 1e-8
    assert 10 < minima.sum() < len(points) - 10
    np.testing.assert_array_equal(signs[minima], np.broadcast_to([0, 2, 1], (minima.sum(), 3)))
    sizes = np.sort(np.abs(points[~minima]), axis=-1)
    assert sizes[:, 1].max() < 1e-7
    away = sizes[:, 2] > 1e-4
    np.testing.assert_array_equal(signs[~minima][away], np.broadcast_to([1, 1, 1], (away.sum(), 3)))
    at_origin = find(CHAIN, [[0.01, 0.01, 0.01], [0.02, -0.01, 0.015]])
    np.testing.assert_array_equal(at_origin.kinds, Kind.CRITICAL)
    np.testing.assert_allclose(at_origin.points, 0.0, atol=1e-10)
    np.testing.assert_array_equal(at_origin.zero, 3)


# --- Gaussian fields at low energy --------------------------------------------------------------------------------


def test_the_energy_of_low_saddles_of_a_field() -> None:
    """Searched from where descent has come after some steps, since almost all saddles are near energy 0.

    The law is a limit: at N = 20 energies are within 1 / N of it (6% off, by 3 standard errors), so that no error of 5%
    could be told from its distance. What is held is that two negative eigenvalues have the energy of two, and not that
    of one or of three.
    """
    index, n, descent = "0.1", 20, (3, 6, 10)
    field = GaussianField(n, waves=1000, seed=1)
    begin = 3 * np.sqrt(n) * normals(25, 40, n)
    points = [find(field, begin, method="gradient_descent", max_steps=steps).points for steps in descent]
    ends = find(field, np.concatenate(points), max_steps=200)
    there = ends.critical & (ends.negative == round(float(index) * n))
    assert there.sum() >= 10
    energy = float(reference("9.bd.eps.")[index])
    assert bray_dean_energy(float(index)) == pytest.approx(energy, rel=1e-12)

    def check(expected: float) -> None:
        assert abs(ends.losses[there].mean() / (2 * n) - expected) < 1 / n

    check(energy)
    for other in (1, 3):
        must_fail(check, bray_dean_energy(other / n))
