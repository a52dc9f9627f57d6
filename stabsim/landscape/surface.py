"""What a surface is: a function of many parameters with its first two derivatives."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Surface(Protocol):
    """A twice-differentiable function of points (..., parameters); leading axes are kept, all numbers are float64.

    What it says of a point does not depend on which others are beside it, nor on threads.
    """

    parameters: int

    def loss(self, points: Floats) -> Floats:
        """Return values (...)."""
        ...

    def gradient(self, points: Floats) -> Floats:
        """Return gradients (..., parameters)."""
        ...

    def hessian(self, points: Floats) -> Floats:
        """Return Hessians (..., parameters, parameters)."""
        ...

    def hessian_vector(self, points: Floats, vectors: Floats) -> Floats:
        """Return Hessians times vectors (..., parameters)."""
        ...
