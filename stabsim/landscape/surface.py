"""What a surface is: a function of many parameters with its derivatives, at many points at once."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

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


def check_points(points: ArrayLike, parameters: int, argument: str = "points") -> Floats:
    """Return points as a float64 array (..., P).

    Raises
    ------
    TypeError, ValueError
        If they are no finite numbers, or their last side is not P.

    Examples
    --------
    >>> check_points([1, 2], 2)
    array([1., 2.])
    """
    from stabsim import checks

    found = np.ascontiguousarray(checks.array(argument, points))
    if np.ndim(points) == 0 or found.shape[-1] != parameters:
        raise ValueError(f"{argument} must have shape (..., {parameters}), not {np.shape(points)}")
    return found
