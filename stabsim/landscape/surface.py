"""What a surface is: a function of many parameters with its derivatives, at many points at once."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim import checks

Floats = NDArray[np.float64]


class Surface(Protocol):
    """A twice differentiable function of P parameters; what takes one takes any, a user's own too.

    All methods take points of shape (..., P) and keep the leading axes. What is returned for a point does not depend
    on the points beside it.

    Parameters
    ----------
    parameters : int
        How many, P.

    Examples
    --------
    >>> class Saddle:
    ...     parameters = 2
    ...
    ...     def loss(self, points):
    ...         return points[..., 0] ** 2 - points[..., 1] ** 2
    ...
    ...     def gradient(self, points):
    ...         return points * [2.0, -2.0]
    ...
    ...     def hessian(self, points):
    ...         return np.zeros((*points.shape, 2)) + np.diag([2.0, -2.0])
    ...
    ...     def hessian_vector(self, points, vectors):
    ...         return vectors * [2.0, -2.0]
    """

    @property
    def parameters(self) -> int:
        """Return how many parameters there are, P."""

    def loss(self, points: Any) -> Any:
        """Return the values (...)."""

    def gradient(self, points: Any) -> Any:
        """Return the gradients (..., P)."""

    def hessian(self, points: Any) -> Any:
        """Return the second derivatives (..., P, P)."""

    def hessian_vector(self, points: Any, vectors: Any) -> Any:
        """Return Hessians times vectors (..., P)."""


def check_surface(surface: Any, needed: tuple[str, ...] = ("loss", "gradient", "hessian", "hessian_vector")) -> None:
    """Refuse what has not the methods that are needed, or no parameters.

    Raises
    ------
    TypeError, ValueError
        What is missing.

    Examples
    --------
    >>> check_surface(None)
    Traceback (most recent call last):
    TypeError: surface must have the methods loss, gradient, hessian, hessian_vector, and parameters, not None
    """
    if not all(callable(getattr(surface, name, None)) for name in needed) or not hasattr(surface, "parameters"):
        raise TypeError(
            f"surface must have the methods {', '.join(needed)}, and parameters, not {checks.brief(surface)}"
        )
    checks.whole_number("parameters of the surface", surface.parameters)


def check_values(name: str, values: Any, shape: tuple[int, ...]) -> Floats:
    """Return what a method of a surface has returned, which must have that shape.

    Raises
    ------
    TypeError, ValueError
        If it is no array of numbers, or of another shape.

    Examples
    --------
    >>> check_values("loss", np.zeros((3, 2)), (3,))
    Traceback (most recent call last):
    ValueError: loss of the surface must have shape (3,) at these points, not (3, 2)
    """
    found = np.asarray(values)
    if found.dtype.kind not in "iuf":
        raise TypeError(f"{name} of the surface must return an array of numbers, not {checks.brief(values)}")
    if found.shape != shape:
        raise ValueError(f"{name} of the surface must have shape {shape} at these points, not {found.shape}")
    return found.astype(np.float64, copy=False)


def check_points(points: ArrayLike, parameters: int, argument: str = "points") -> Floats:
    """Return points as a float64 array (..., P).

    Raises
    ------
    TypeError, ValueError
        If they are no finite numbers (then the first that is none is told), or their last side is not P.

    Examples
    --------
    >>> check_points([1, 2], 2)
    array([1., 2.])
    """
    try:
        given = np.asarray(points)
    except ValueError:  # lists of different lengths
        raise TypeError(
            f"{argument} must be an array of numbers (..., {parameters}), not {checks.brief(points)}"
        ) from None
    if given.size == 0:
        raise ValueError(f"{argument} must have shape (..., {parameters}), with one point at least, not {given.shape}")
    try:
        found = np.ascontiguousarray(checks.array(argument, points))
    except ValueError:
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(given))[0])
        place = f"{argument}[{', '.join(map(str, where))}]"
        raise ValueError(f"{argument} must be finite, but {place} is {given[where]}") from None
    if given.ndim == 0 or found.shape[-1] != parameters:
        raise ValueError(f"{argument} must have shape (..., {parameters}), not {given.shape}")
    return found
