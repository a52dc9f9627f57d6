"""Slices of a landscape: losses on lines and planes through its points, along random or chosen directions."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim import checks
from stabsim.landscape.lanczos import DIRECTION, normals, one_point
from stabsim.landscape.surface import Surface, check_points, check_surface, check_values
from stabsim.names import unknown
from stabsim.network import Network
from stabsim.task import LARGEST_SEED
from stabsim.threads import check_memory

Floats = NDArray[np.float64]

BIASES = ("in_filter", "fixed")


class Layered(Surface, Protocol):
    """A surface whose points are the parameters of a net: see `Landscape`."""

    network: Network

    @property
    def layers(self) -> tuple[slice, ...]:
        """Return where each layer's parameters are: W (fan_in, fan_out) row after row, then b, if it is trained."""


class Plane(NamedTuple):
    """Losses on a plane: ``losses[i, j]`` at point + first[j] times the one direction + second[i] times the other."""

    first: Floats
    second: Floats
    losses: Floats


def directions(
    landscape: Layered, point: ArrayLike, *, number: int = 2, biases: str = "in_filter", seed: int = 0
) -> Floats:
    """Return random directions with filter normalization, which makes slices of different nets comparable.

    Parameters
    ----------
    landscape : Landscape
        The loss of nets.
    point : array (parameters,)
        The net.
    number : int
        How many; 2 unless told. Direction i is a function of the seed, i and the point.
    biases : str
        ``"in_filter"`` (unless told): the bias of a unit is one more of its incoming weights. ``"fixed"``: it does not
        move, as in the code of the paper.
    seed : int
        Of the directions; 0 unless told.

    Returns
    -------
    array (number, parameters)
        Normal numbers; those of each unit, a column of W, scaled to the norm that the unit has at the point. A unit
        whose weights are all 0 does not move.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or the directions are beyond every float.
    MemoryError
        If they do not fit into memory.

    Notes
    -----
    Li, Xu, Taylor, Studer & Goldstein 2018 (arXiv:1712.09913), section 4. Nets that differ by the scales of ReLU
    layers have the same slices with it.
    """
    if not (hasattr(landscape, "layers") and hasattr(landscape, "network")):
        raise TypeError(f"landscape must be a Landscape, whose points are nets, not {checks.brief(landscape)}")
    point = one_point(landscape, "point", point)
    if biases not in BIASES:
        raise unknown("biases", biases, BIASES)
    number = checks.whole_number("number", number)
    found = normals(number, landscape.parameters, checks.whole_number("seed", seed, 0, LARGEST_SEED), DIRECTION)
    for layer, (fan_in, fan_out) in zip(landscape.layers, landscape.network.fans, strict=True):
        units = point[layer].reshape(-1, fan_out)  # a column a unit, the bias in the last row
        moved = found[:, layer].reshape(number, -1, fan_out)
        if biases == "fixed":
            moved[:, fan_in:] = 0.0
            units = units[:fan_in]
        size = np.abs(units).max(axis=0)
        lengths = np.linalg.norm(units / np.where(size > 0, size, 1.0), axis=0)  # squares stay within floats
        with np.errstate(over="ignore"):
            moved *= lengths / np.linalg.norm(moved, axis=1, keepdims=True) * size
        found[:, layer] = moved.reshape(number, -1)
    if not np.isfinite(found).all():
        raise ValueError(f"point must have directions within floats, and has entries of {np.abs(point).max():g}")
    return found


def plane(
    surface: Surface,
    point: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    reach: float = 1.0,
    resolution: int = 51,
) -> Plane:
    """Return losses on a plane through a point.

    Parameters
    ----------
    surface : Surface
        What has losses.
    point, first, second : array (parameters,)
        Its middle and two directions, such as those of `directions` or two eigenvectors of the Hessian.
    reach : float
        How far it goes to each side, in lengths of the directions; 1 unless told.
    resolution : int
        Losses along each direction; 51 unless told. An odd number has the point among them.

    Returns
    -------
    Plane
        Two coordinates (resolution,) and losses (resolution, resolution).

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or a point of the plane is beyond every float.
    MemoryError
        If the losses, or the points of one row, do not fit into memory.

    Examples
    --------
    >>> class Saddle:
    ...     parameters = 2
    ...
    ...     def loss(self, points):
    ...         return points[..., 0] ** 2 - points[..., 1] ** 2
    >>> plane(Saddle(), [0.0, 0.0], [1.0, 0.0], [0.0, 1.0], resolution=3).losses
    array([[ 0., -1.,  0.],
           [ 1.,  0.,  1.],
           [ 0., -1.,  0.]])
    """
    check_surface(surface, ("loss",))
    point, first, second = (
        one_point(surface, name, value) for name, value in (("point", point), ("first", first), ("second", second))
    )
    reach = checks.number("reach", reach, 0.0, open_ends=True)
    number = checks.whole_number("resolution", resolution, 2)
    check_memory("losses of a plane", 8 * number * (number + 3 * surface.parameters), "resolution")
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.linspace(-reach, reach, number)
        row = point + steps[:, np.newaxis] * first
        corners = row[[0, -1], np.newaxis] + steps[[0, -1], np.newaxis] * second
    if not np.isfinite(corners).all():
        raise ValueError(f"reach={reach:g} times first and second must lead to points that are finite, and does not")
    losses = np.empty((number, number))
    for place, step in enumerate(steps):  # a row at a time: memory
        losses[place] = check_values("loss", surface.loss(row + step * second), (number,))
    return Plane(steps, steps, losses)


def line(
    surface: Surface, start: ArrayLike, end: ArrayLike, *, low: float = 0.0, high: float = 1.0, resolution: int = 101
) -> tuple[Floats, Floats]:
    """Return losses on the line through two points (Goodfellow, Vinyals & Saxe 2015, arXiv:1412.6544).

    Parameters
    ----------
    surface : Surface
        What has losses.
    start, end : array (parameters,)
        The points.
    low, high : float
        Where it begins and ends: ``start`` is 0, ``end`` is 1. From 0 to 1 unless told.
    resolution : int
        How many losses; 101 unless told.

    Returns
    -------
    places, losses : array (resolution,)
        From ``low`` to ``high``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or a point of the line is beyond every float.
    MemoryError
        If its points do not fit into memory.
    """
    check_surface(surface, ("loss",))
    start, end = one_point(surface, "start", start), one_point(surface, "end", end)
    low = checks.number("low", low)
    high = checks.number("high", high, low, open_ends=True)
    number = checks.whole_number("resolution", resolution, 2)
    check_memory("points of a line", 24 * number * surface.parameters, "resolution")
    with np.errstate(over="ignore", invalid="ignore"):
        places = np.linspace(low, high, number)
        points = start + places[:, np.newaxis] * (end - start)
    if not np.isfinite(points).all():
        raise ValueError(f"low={low:g} to high={high:g} must lead to points that are finite, and does not")
    return places, check_values("loss", surface.loss(points), (number,))


def principal_curvatures(surface: Surface, points: ArrayLike, first: ArrayLike, second: ArrayLike) -> Floats:
    """Return the eigenvalues of the Hessian restricted to a plane, for unit lengths within it.

    Parameters
    ----------
    surface : Surface
        What has a Hessian.
    points : array (..., parameters)
        Where.
    first, second : array (parameters,)
        Directions that span the plane.

    Returns
    -------
    array (..., 2)
        The lower first. Both lie between the lowest and the highest eigenvalue of the whole Hessian (Cauchy): where
        one is negative, the loss is not convex; where both are positive, it may still not be.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or the directions are parallel.

    Notes
    -----
    Li, Xu, Taylor, Studer & Goldstein 2018 (arXiv:1712.09913), section 6, compare both ends of the whole spectrum
    for that reason.
    """
    check_surface(surface, ("hessian_vector",))
    places = check_points(points, surface.parameters)
    pair = np.stack([one_point(surface, name, v) for name, v in (("first", first), ("second", second))])
    across, triangle = np.linalg.qr(pair.T)
    length = np.linalg.norm(pair, axis=1)
    if abs(triangle[1, 1]) <= surface.parameters * np.finfo(np.float64).eps * length[1] or length[0] == 0:
        raise ValueError("first and second must span a plane: one is 0, or they are parallel")
    basis = np.ascontiguousarray(across.T)
    shape = (*places.shape[:-1], *basis.shape)
    bent = check_values("hessian_vector", surface.hessian_vector(places[..., np.newaxis, :], basis), shape) @ across
    return np.linalg.eigvalsh(0.5 * (bent + np.swapaxes(bent, -1, -2)))
