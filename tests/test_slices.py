"""Slices of landscapes, against surfaces that are known and against the definition of filter normalization."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from stabsim.landscape.slices import directions, line, plane, principal_curvatures
from stabsim.network import Network

Floats = NDArray[np.float64]


@dataclass
class Cubic:
    """x^3 + 2 x y + 3 y^2 - z^2."""

    parameters: int = 3

    def loss(self, points: Floats) -> Floats:
        x, y, z = np.moveaxis(points, -1, 0)
        return np.asarray(x**3 + 2 * x * y + 3 * y**2 - z**2)

    def gradient(self, points: Floats) -> Floats:
        x, y, z = np.moveaxis(points, -1, 0)
        return np.stack([3 * x**2 + 2 * y, 2 * x + 6 * y, -2 * z], axis=-1)

    def hessian(self, points: Floats) -> Floats:
        flat = np.array([[0.0, 2.0, 0.0], [2.0, 6.0, 0.0], [0.0, 0.0, -2.0]])
        return flat + 6 * points[..., :1, np.newaxis] * np.diag([1.0, 0.0, 0.0])

    def hessian_vector(self, points: Floats, vectors: Floats) -> Floats:
        return np.asarray(np.einsum("...pq,...q->...p", self.hessian(points), vectors))


class Wide(Cubic):
    """Losses and products with a side too many."""

    def loss(self, points: Floats) -> Floats:
        return points

    def hessian_vector(self, points: Floats, vectors: Floats) -> Floats:
        return super().hessian_vector(points, vectors)[..., np.newaxis]


@dataclass
class Layers:
    """Where the parameters of a net are."""

    network: Network
    train_biases: bool = True

    @property
    def parameters(self) -> int:
        return sum((fan_in + self.train_biases) * fan_out for fan_in, fan_out in self.network.fans)

    @property
    def layers(self) -> tuple[slice, ...]:
        ends = np.cumsum([0, *((fan_in + self.train_biases) * fan_out for fan_in, fan_out in self.network.fans)])
        return tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(ends))


NETWORK = Network((5, 4, 1, 3), "relu", "he_normal")


def filters(network: Network, vector: Floats, biases: bool) -> list[Floats]:
    """Return the weights and bias of each unit, one unit after the other: the naive way."""
    found, start = [], 0
    for fan_in, fan_out in network.fans:
        for unit in range(fan_out):
            places = [start + row * fan_out + unit for row in range(fan_in + biases)]
            found.append(vector[places])
        start += (fan_in + biases) * fan_out
    return found


@pytest.mark.parametrize("biases", [True, False])
def test_each_filter_has_the_norm_that_it_has_at_the_point(biases: bool) -> None:
    surface: Any = Layers(NETWORK, biases)
    point = np.random.default_rng(0).standard_normal(surface.parameters)
    found = directions(surface, point, number=3, seed=2)
    assert found.shape == (3, surface.parameters)
    for direction in found:
        pairs = zip(filters(NETWORK, direction, biases), filters(NETWORK, point, biases), strict=True)
        for moved, unit in pairs:
            np.testing.assert_allclose(np.linalg.norm(moved), np.linalg.norm(unit), rtol=1e-12)
    again = directions(surface, point, number=1, seed=2)
    np.testing.assert_array_equal(again, found[:1])
    assert abs(found[0] @ found[1]) < 0.8 * np.linalg.norm(found[0]) * np.linalg.norm(found[1])


def test_fixed_biases_do_not_move_and_are_not_counted() -> None:
    surface: Any = Layers(NETWORK)
    point = np.random.default_rng(0).standard_normal(surface.parameters)
    (found,) = directions(surface, point, number=1, biases="fixed")
    for moved, unit in zip(filters(NETWORK, found, True), filters(NETWORK, point, True), strict=True):
        assert moved[-1] == 0.0
        np.testing.assert_allclose(np.linalg.norm(moved), np.linalg.norm(unit[:-1]), rtol=1e-12)


def test_a_unit_of_zeros_does_not_move() -> None:
    surface: Any = Layers(NETWORK)
    point = np.ones(surface.parameters)
    point[: 6 * 4 : 4] = 0.0  # the first unit of the first layer, with its bias
    found = directions(surface, point)
    assert np.all(found[:, : 6 * 4 : 4] == 0.0) and np.count_nonzero(found) == found.size - 2 * 6


@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_norms_of_filters_neither_overflow_nor_underflow(size: float) -> None:
    surface: Any = Layers(NETWORK)
    point = np.random.default_rng(0).standard_normal(surface.parameters)
    np.testing.assert_allclose(directions(surface, size * point), size * directions(surface, point), rtol=1e-12)


def test_what_does_not_fit_into_memory_is_refused() -> None:
    surface, origin = Cubic(), np.zeros(3)
    layered: Any = Layers(NETWORK)
    with pytest.raises(MemoryError, match=r"losses of a plane need .* reduce resolution"):
        plane(surface, origin, origin, origin, resolution=10**8)
    with pytest.raises(MemoryError, match=r"points of a line need .* reduce resolution"):
        line(surface, origin, origin, resolution=10**12)
    with pytest.raises(MemoryError, match=r"random vectors need .* reduce number or probes"):
        directions(layered, np.ones(layered.parameters), number=10**12)


def test_points_beyond_floats_are_refused() -> None:
    surface, origin, one = Cubic(), np.zeros(3), np.ones(3)
    layered: Any = Layers(NETWORK)
    with pytest.raises(ValueError, match=r"low=-1e\+308 to high=1e\+308 must lead to points that are finite"):
        line(surface, origin, one, low=-1e308, high=1e308)
    with pytest.raises(ValueError, match="low=0 to high=20 must lead to points that are finite"):
        line(surface, origin, 1e307 * one, high=20.0)
    with pytest.raises(ValueError, match=r"reach=1e\+200 times first and second must lead to points that are finite"):
        plane(surface, origin, one, 1e200 * one, reach=1e200)
    with pytest.raises(ValueError, match=r"point must have directions within floats, and has entries of 1.7e\+308"):
        directions(layered, np.full(layered.parameters, 1.7e308))


def test_planes_and_lines_have_the_losses_of_their_points() -> None:
    surface = Cubic()
    point, first, second = np.array([[1.0, 2.0, 3.0], [0.5, 0.0, 1.0], [0.0, -1.0, 2.0]])
    found = plane(surface, point, first, second, reach=0.7, resolution=5)
    assert found.losses[2, 2] == surface.loss(point)
    for i, b in enumerate(found.second):
        for j, a in enumerate(found.first):
            assert found.losses[i, j] == pytest.approx(float(surface.loss(point + a * first + b * second)), rel=1e-13)
    places, losses = line(surface, point, first, low=-1.0, high=2.0, resolution=4)
    np.testing.assert_array_equal(places, [-1.0, 0.0, 1.0, 2.0])
    assert losses[1] == surface.loss(point) and losses[2] == surface.loss(first)


def test_curvatures_of_a_slice_lie_within_the_spectrum_and_are_second_differences() -> None:
    surface, generator = Cubic(), np.random.default_rng(3)
    points, pair = generator.standard_normal((4, 2, 3)), generator.standard_normal((2, 3))
    found = principal_curvatures(surface, points, *pair)
    whole = np.linalg.eigvalsh(surface.hessian(points))
    assert found.shape == (4, 2, 2) and np.all(found[..., 0] <= found[..., 1])
    assert np.all(whole[..., 0] <= found[..., 0] + 1e-12) and np.all(found[..., 1] <= whole[..., 2] + 1e-12)
    scaled = principal_curvatures(surface, points, 3 * pair[1], pair[0] - pair[1])
    np.testing.assert_allclose(scaled, found, rtol=1e-12)  # of the plane, whatever spans it
    across, step = np.linalg.qr(pair.T)[0].T, 1e-3
    values = plane(surface, points[0, 0], *across, reach=step, resolution=3).losses
    trace = (values[1, 0] + values[1, 2] + values[0, 1] + values[2, 1] - 4 * values[1, 1]) / step**2
    assert trace == pytest.approx(found[0, 0].sum(), rel=1e-5)


def test_bad_arguments() -> None:
    surface, origin = Cubic(), np.zeros(3)
    layered: Any = Layers(NETWORK)
    with pytest.raises(ValueError, match="span a plane"):
        principal_curvatures(surface, origin, [1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    with pytest.raises(ValueError, match="span a plane"):
        principal_curvatures(surface, origin, [0.0, 0.0, 0.0], [2.0, 4.0, 6.0])
    with pytest.raises(ValueError, match=r"points must have shape \(..., 3\), not \(2,\)"):
        principal_curvatures(surface, origin[:2], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    with pytest.raises(ValueError, match=r"first must have shape \(parameters,\)"):
        plane(surface, origin, [1.0], origin)
    with pytest.raises(ValueError, match="reach must be a finite number > 0"):
        plane(surface, origin, origin, origin, reach=0)
    with pytest.raises(ValueError, match="resolution must be an integer from 2"):
        line(surface, origin, origin, resolution=1)
    with pytest.raises(ValueError, match="high must be a finite number > 0"):
        line(surface, origin, origin, high=0)
    with pytest.raises(ValueError, match="unknown biases 'none'; known, nearest first"):
        directions(layered, np.zeros(layered.parameters), biases="none")


def test_what_is_no_surface_and_what_a_surface_must_not_return() -> None:
    origin, nothing = np.zeros(3), cast(Any, None)
    with pytest.raises(TypeError, match="landscape must be a Landscape, whose points are nets, not Cubic"):
        directions(cast(Any, Cubic()), origin)
    for call in (
        lambda surface: plane(surface, origin, np.ones(3), np.ones(3)),
        lambda surface: line(surface, origin, np.ones(3)),
        lambda surface: principal_curvatures(surface, origin, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]),
    ):
        with pytest.raises(TypeError, match=r"surface must have the methods .* not None"):
            call(nothing)
        with pytest.raises(ValueError, match=r"(loss|hessian_vector) of the surface must have shape .* not "):
            call(Wide())
    for bad, message in (([0.0, np.nan, 0.0], r"start\[1\] is nan"), ([[1.0], [1.0, 2.0]], "start must be an array")):
        with pytest.raises((TypeError, ValueError), match=message):
            line(Cubic(), bad, origin)
