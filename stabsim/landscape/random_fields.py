"""Gaussian random fields: surfaces whose critical points have a known law."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim.checks import whole_number
from stabsim.landscape.surface import check_points
from stabsim.task import LARGEST_SEED

Floats = NDArray[np.float64]

THRESHOLD = 2.0  # energy per dimension, 2 |f'(0)| / sqrt(f''(0)) for f(r) = exp(-r)


class GaussianField:
    """A Gaussian field on R^N with covariance N f(|x - y|^2 / 2N), f(r) = exp(-r): a sum of random waves.

    Parameters
    ----------
    dimensions : int
        N.
    waves : int
        How many, 2048 unless told: given their directions the field is exactly Gaussian, and its covariance is off by
        about N / sqrt(waves).
    seed : int
        Of directions, amplitudes and phases; 0 unless told.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range.

    Notes
    -----
    sqrt(N / waves) sum of a_i cos(k_i x) + b_i sin(k_i x), where a and b are normal and the components of k have
    variance 1 / N: random Fourier features (Rahimi & Recht 2007, NeurIPS 20). In the limit of many dimensions critical
    points of a loss of N `THRESHOLD` x have the index `stabsim.theory.saddle_index.bray_dean_index` (x); for this f the
    loss of a point and the trace of its Hessian say the same to leading order.

    Examples
    --------
    >>> field = GaussianField(4, seed=1)
    >>> field.gradient(np.zeros((3, 4))).shape, field.hessian(np.zeros(4)).shape
    ((3, 4), (4, 4))
    """

    def __init__(self, dimensions: int, waves: int = 2048, seed: int = 0) -> None:
        self.parameters = whole_number("dimensions", dimensions, 1, 10**4)
        waves = whole_number("waves", waves, 1, 10**7)
        draw = np.random.Generator(np.random.Philox(whole_number("seed", seed, 0, LARGEST_SEED)))
        self._directions = draw.standard_normal((waves, self.parameters)) / math.sqrt(self.parameters)
        self._cosines, self._sines = draw.standard_normal((2, waves)) * math.sqrt(self.parameters / waves)

    def loss(self, points: ArrayLike) -> Floats:
        """Return values (...)."""
        cosines, _ = self._waves(points)
        return np.asarray(np.sum(cosines, axis=-1))

    def gradient(self, points: ArrayLike) -> Floats:
        """Return gradients (..., N)."""
        _, slopes = self._waves(points)
        return np.asarray((slopes[..., None, :] @ self._directions)[..., 0, :])

    def hessian(self, points: ArrayLike) -> Floats:
        """Return Hessians (..., N, N)."""
        waves, _ = self._waves(points)
        found = (-waves[..., None, :] * self._directions.T) @ self._directions
        return np.asarray(0.5 * (found + np.swapaxes(found, -1, -2)))

    def hessian_vector(self, points: ArrayLike, vectors: ArrayLike) -> Floats:
        """Return Hessians times vectors (..., N): points and vectors broadcast."""
        at, moved = check_points(points, self.parameters), check_points(vectors, self.parameters, "vectors")
        try:
            np.broadcast_shapes(at.shape, moved.shape)
        except ValueError:
            raise ValueError(f"points {at.shape} and vectors {moved.shape} must broadcast") from None
        waves, _ = self._waves(at)
        along = (self._directions @ moved[..., None])[..., 0]
        return np.asarray((-(waves * along)[..., None, :] @ self._directions)[..., 0, :])

    def _waves(self, points: ArrayLike) -> tuple[Floats, Floats]:
        """Return each wave and its derivative by its phase, (..., waves), point by point."""
        phases = (self._directions @ check_points(points, self.parameters)[..., None])[..., 0]
        cosine, sine = np.cos(phases), np.sin(phases)
        return self._cosines * cosine + self._sines * sine, self._sines * cosine - self._cosines * sine
