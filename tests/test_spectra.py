"""Spectra without Hessians, against Hessians whose spectrum is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stabsim.landscape.extremes import Extremes, extreme_eigenvalues
from stabsim.landscape.landscape import Landscape
from stabsim.landscape.spectra import SpectralDensity, spectral_density
from stabsim.network import Network
from tests.checks import WRONG, assert_agrees, must_fail

Floats = NDArray[np.float64]
ORIGIN = np.zeros(200)


@dataclass
class Quadratic:
    """Half of x^T H x, whose Hessian is H everywhere."""

    matrix: Floats
    parameters: int = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = len(self.matrix)

    def loss(self, points: Floats) -> Floats:
        return np.asarray(0.5 * np.sum(points * self.gradient(points), axis=-1))

    def gradient(self, points: Floats) -> Floats:
        return points @ self.matrix

    def hessian(self, points: Floats) -> Floats:
        return np.broadcast_to(self.matrix, (*points.shape, self.parameters))

    def hessian_vector(self, points: Floats, vectors: Floats) -> Floats:
        return vectors @ self.matrix


def rotated(eigenvalues: Any, seed: int = 0) -> Quadratic:
    """Return a surface with these eigenvalues and random eigenvectors."""
    values = np.asarray(eigenvalues, np.float64)
    random = np.random.default_rng(seed).standard_normal((len(values), len(values)))
    across = np.linalg.qr(random)[0]
    return Quadratic((across * values) @ across.T)


def bulk(parameters: int = 200) -> Floats:
    """Return a spectrum as nets have it: a null space, small ones of both signs, a few large ones."""
    small = np.random.default_rng(1).normal(0.0, 0.1, parameters - parameters // 4 - 5)
    return np.sort(np.concatenate([small, np.zeros(parameters // 4), [-0.9, 1.5, 2.0, 3.0, 10.0]]))


BULK = bulk()


# --- both ends ------------------------------------------------------------------------------------------


def assert_ends(found: Extremes, surface: Quadratic, lowest: int, highest: int) -> None:
    exact = np.linalg.eigvalsh(surface.matrix)
    norm = np.abs(exact).max()
    np.testing.assert_allclose(found.lowest, exact[:lowest], rtol=0, atol=1e-10 * norm)
    np.testing.assert_allclose(found.highest, exact[::-1][:highest], rtol=0, atol=1e-10 * norm)
    sides = (
        (found.lowest, found.lowest_vectors, found.lowest_residuals),
        (found.highest, found.highest_vectors, found.highest_residuals),
    )
    for values, vectors, residuals in sides:
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-12)
        error = np.linalg.norm(vectors @ surface.matrix - values[:, None] * vectors, axis=1)
        np.testing.assert_allclose(error, residuals, rtol=1e-3, atol=1e-13 * norm)
        nearest = np.abs(exact - values[:, None]).min(axis=1)
        assert np.all(nearest <= residuals + 1e-14 * norm)  # what a residual promises


@pytest.mark.parametrize("seed", [0, 1])
def test_both_ends_of_a_spectrum_like_that_of_nets(seed: int) -> None:
    surface = rotated(BULK, seed)
    assert_ends(extreme_eigenvalues(surface, ORIGIN, 3, 4, seed=seed), surface, 3, 4)


@pytest.mark.parametrize(
    "eigenvalues", [[3.0, -1.0], [0.0, 0.0, 5.0], [1e-300, -1e-300, 3e-300], [7.0] * 6, [0.0] * 4, [1e150, 1.0, -1e150]]
)
def test_both_ends_of_few_and_of_equal_eigenvalues(eigenvalues: list[float]) -> None:
    surface = Quadratic(np.diag(eigenvalues))
    assert_ends(extreme_eigenvalues(surface, np.zeros(len(eigenvalues))), surface, 1, 1)


def test_a_lowest_eigenvalue_near_zero_does_not_take_for_ever() -> None:
    surface = rotated(np.concatenate([np.zeros(50), np.linspace(0.5, 100.0, 150)]))
    found = extreme_eigenvalues(surface, ORIGIN)
    assert abs(found.lowest[0]) < 1e-10 and found.products < 400


def test_one_end_only_and_the_count_of_products() -> None:
    surface = rotated(BULK)
    found = extreme_eigenvalues(surface, ORIGIN, lowest=0, highest=2)
    assert found.lowest.shape == (0,) and found.lowest_vectors.shape == (0, 200)
    again = extreme_eigenvalues(surface, ORIGIN, lowest=0, highest=2)
    np.testing.assert_array_equal(again.highest_vectors, found.highest_vectors)
    assert found.products == again.products > 20


REPEATED = [
    np.r_[-2.0, -2.0, -1.0, np.linspace(0.0, 1.0, 97), 3.0, 4.0, 4.0],
    np.r_[np.full(6, -5.0), np.linspace(-4.9, 1.0, 20), np.full(3, 1.5), 1.5 + 1e-6, 2.0],
    np.r_[np.full(60, 7.0)],
    np.zeros(60),
    np.r_[np.zeros(150), np.linspace(0.1, 1.0, 10)],
    np.r_[[-3e-100] * 2, [1e-100] * 30, [2e-100] * 2],
]


@pytest.mark.parametrize("seed", [0, 1, 4])
@pytest.mark.parametrize("eigenvalues", REPEATED)
def test_repeated_eigenvalues_are_found_as_often_as_they_are(eigenvalues: Floats, seed: int) -> None:
    surface = rotated(eigenvalues, seed)
    for lowest, highest in ((2, 3), (7, 2)):
        found = extreme_eigenvalues(surface, np.zeros(len(eigenvalues)), lowest, highest, seed=seed)
        assert_ends(found, surface, lowest, highest)
        for vectors in (found.lowest_vectors, found.highest_vectors):
            np.testing.assert_allclose(vectors @ vectors.T, np.eye(len(vectors)), atol=1e-7)


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "mean_squared_error"])
def test_a_symmetric_point_of_a_net(loss: str) -> None:
    generator = np.random.default_rng(0)
    data = generator.standard_normal((20, 5)), np.eye(3)[generator.integers(0, 3, 20)]
    surface = Landscape(Network((5, 16, 3), "tanh", "lecun_normal"), data, loss)
    origin = np.zeros(surface.parameters)
    exact = np.linalg.eigvalsh(surface.hessian(origin))
    found = extreme_eigenvalues(surface, origin, 12, 8)
    np.testing.assert_allclose(found.lowest, exact[:12], rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.highest, exact[::-1][:8], rtol=0, atol=1e-10)
    assert np.diff(exact[:12]).min() < 1e-12  # there are copies


@pytest.mark.parametrize("parameters", [1, 2, 20, 21, 25])
def test_as_many_eigenvalues_as_parameters(parameters: int) -> None:
    surface = rotated(np.arange(parameters) - 3.0)
    point = np.zeros(parameters)
    assert_ends(extreme_eigenvalues(surface, point), surface, 1, 1)
    assert_ends(extreme_eigenvalues(surface, point, parameters, parameters), surface, parameters, parameters)


def test_copies_that_cannot_be_excluded_are_told() -> None:
    surface = rotated(np.r_[-3.0, -2.0, np.linspace(0.0, 0.01, 198)])
    with pytest.warns(
        RuntimeWarning, match="2 lowest eigenvalues converged and are the outermost if none is repeated: .* more"
    ):
        found = extreme_eigenvalues(surface, ORIGIN, lowest=2, highest=0, restarts=2, tolerance=1e-12)
    np.testing.assert_allclose(found.lowest, [-3.0, -2.0], rtol=1e-10)


def test_what_does_not_converge_is_nan_and_told() -> None:
    surface = rotated(np.linspace(-1.0, 1.0, 200))
    with pytest.warns(RuntimeWarning, match=r"of 5 lowest eigenvalues converged to tolerance=1e-14 within restarts=1"):
        found = extreme_eigenvalues(surface, ORIGIN, lowest=5, highest=0, tolerance=1e-14, restarts=1)
    assert np.isnan(found.lowest).any() and np.array_equal(np.isnan(found.lowest), np.isnan(found.lowest_residuals))


# --- the density ----------------------------------------------------------------------------------------


def smoothed(eigenvalues: Floats, grid: Floats, width: float) -> Floats:
    bells = np.exp(-0.5 * ((grid[:, None] - eigenvalues) / width) ** 2)
    return np.asarray(bells.mean(axis=1) / (width * math.sqrt(2 * math.pi)))


def assert_spectrum(found: SpectralDensity, exact: Floats) -> None:
    for order in (1, 2, 3, 4):
        moment = found.moment(order)
        assert_agrees(moment.estimate, np.mean(exact**order), moment.std_error)
    grid, width = np.linspace(-0.5, 0.5, 21), 0.05
    density = found.density(grid, width)
    assert_agrees(density.estimate, smoothed(exact, grid, width), density.std_error)
    share = found.share_below(1.0)  # in a gap: all nodes are resolved there
    assert_agrees(share.estimate, np.mean(exact < 1.0), share.std_error)


def test_moments_shares_and_density() -> None:
    surface = rotated(BULK)
    found = spectral_density(surface, ORIGIN, probes=400, steps=60)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1.0, rtol=1e-12)
    assert_spectrum(found, BULK)
    must_fail(assert_spectrum, spectral_density(rotated(WRONG * BULK), ORIGIN, probes=400, steps=60), BULK)
    negative = found.negative_share()
    exact = np.mean(-found.band > BULK)
    assert negative.low <= exact <= negative.high
    below = found.share_below(-0.15)
    assert below.low <= np.mean(BULK < -0.15) <= below.high and below.high - below.low < 0.15


def test_the_spread_over_probes_is_that_of_vectors_on_the_sphere() -> None:
    values, probes = np.array([-1.0, 1.0] * 10), 20_000
    moment = spectral_density(rotated(values), np.zeros(20), probes=probes, steps=1).moment(1)
    error = math.sqrt(2 / (20 + 2) * np.var(values) / probes)  # of v^T H v over the sphere, nearly a normal law
    assert_agrees(moment.std_error, error, error / math.sqrt(2 * probes))
    must_fail(assert_agrees, moment.std_error, WRONG * error, error / math.sqrt(2 * probes))


def test_as_many_steps_as_parameters_give_the_spectrum_itself() -> None:
    values = np.array([-2.0, -1.0, 0.0, 0.0, 0.0, 1.0, 3.0])
    found = spectral_density(rotated(values), np.zeros(7), probes=200)
    distinct = np.array([-2.0, -1.0, 0.0, 1.0, 3.0])
    for nodes, weights in zip(found.nodes, found.weights, strict=True):
        assert np.abs(nodes[weights > 1e-12, None] - distinct).min(axis=1).max() < 1e-7
    zero = found.zero_share()
    negative = found.negative_share()
    assert_agrees(zero.estimate, 3 / 7, zero.std_error)
    assert_agrees(negative.estimate, 2 / 7, negative.std_error)


def test_no_node_is_a_copy_of_another() -> None:
    found = spectral_density(rotated(BULK), ORIGIN, probes=3, steps=150)
    assert np.all(np.sum(found.nodes > 5.0, axis=1) == 1)


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.eye(3), np.diag([1.0, 0.0, 0.0])])
def test_few_different_eigenvalues(matrix: Floats) -> None:
    found = spectral_density(Quadratic(matrix), np.zeros(3), probes=50)
    exact = np.linalg.eigvalsh(matrix)
    assert found.moment(1).ci_low - 1e-12 <= exact.mean() <= found.moment(1).ci_high + 1e-12
    assert found.negative_share().estimate == 0.0
    assert abs(found.zero_share().estimate - np.mean(exact == 0)) < 0.2


def test_a_probe_does_not_depend_on_the_others_and_fewer_steps_are_a_part() -> None:
    surface = rotated(BULK)
    many, few = (spectral_density(surface, ORIGIN, probes=probes, steps=20, seed=3) for probes in (5, 2))
    np.testing.assert_allclose(many.diagonal[:2], few.diagonal, rtol=1e-10)
    shorter = spectral_density(surface, ORIGIN, probes=5, steps=8, seed=3)
    np.testing.assert_array_equal(many.truncated(8).nodes, shorter.nodes)
    assert not np.allclose(spectral_density(surface, ORIGIN, probes=2, steps=20, seed=4).diagonal, few.diagonal)


def test_far_from_all_nodes_the_density_is_0() -> None:
    found = spectral_density(rotated(BULK), ORIGIN, probes=2, steps=10).density([-1e300, 1.7e308], 1e-10)
    np.testing.assert_array_equal(found.estimate, [0.0, 0.0])


def test_one_probe_has_no_interval() -> None:
    found = spectral_density(rotated(BULK), ORIGIN, probes=1, steps=10)
    assert np.isnan(found.moment(2).std_error) and np.isfinite(found.moment(2).estimate)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"point": [0.0, 0.0]}, r"point must have shape \(parameters,\) = \(3,\), not \(2,\)"),
        ({"probes": 0}, "probes must be an integer from 1"),
        ({"steps": 4}, "steps must be an integer from 1 to 3, not 4"),
        ({"seed": -1}, "seed must be an integer from 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spectral_density(Quadratic(np.eye(3)), **{"point": np.zeros(3), **arguments})


def test_bad_arguments_of_extremes_and_results() -> None:
    surface = Quadratic(np.eye(3))
    for name, number in (("lowest", 4), ("highest", -1)):
        with pytest.raises(ValueError, match=f"{name} must be an integer from 0 to 3, not {number}"):
            extreme_eigenvalues(surface, np.zeros(3), **{name: number})
    with pytest.raises(ValueError, match="tolerance must be a finite number >= 2"):
        extreme_eigenvalues(surface, np.zeros(3), tolerance=0.0)
    for size in (3, 30):
        with pytest.raises(ValueError, match="hessian_vector must be finite at point"):
            extreme_eigenvalues(Quadratic(np.full((size, size), np.nan)), np.zeros(size))
    found = spectral_density(surface, np.zeros(3))
    with pytest.raises(ValueError, match=r"order must be an integer from 1 to 5, not 6"):
        found.moment(6)
    with pytest.raises(ValueError, match=r"width must be a finite number >= 2.22045e-16, not 0"):
        found.density([0.0], 0.0)
    with pytest.raises(ValueError, match=r"width must be a finite number >= 2.22045e-16, not 1e-300"):
        found.density([0.0], 1e-300)
    with pytest.raises(MemoryError, match=r"random vectors need .* reduce number or probes"):
        spectral_density(surface, np.zeros(3), probes=10**12)
    with pytest.raises(ValueError, match=r"grid must have shape \(n,\)"):
        found.density([[0.0]], 1.0)


@pytest.mark.parametrize("find", [extreme_eigenvalues, spectral_density])
def test_what_is_no_surface_and_what_a_surface_must_not_return(find: Any) -> None:
    with pytest.raises(TypeError, match="surface must have the methods hessian_vector, and parameters, not None"):
        find(None, np.zeros(3))
    for size in (3, 30):
        surface: Any = Quadratic(np.eye(size))
        for returned, error, message in (
            (np.ones((2, size)), ValueError, "hessian_vector of the surface must have shape .* not "),
            (None, TypeError, "hessian_vector of the surface must return an array of numbers, not None"),
        ):
            surface.hessian_vector = lambda _points, _vectors, returned=returned: returned
            with pytest.raises(error, match=message):
                find(surface, np.zeros(size))
    surface.parameters = 0
    with pytest.raises(ValueError, match=r"parameters of the surface must be an integer from 1 .* not 0"):
        find(surface, np.zeros(0))
