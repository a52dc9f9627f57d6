"""Surfaces whose critical points are known: plain functions with their derivatives, written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Planted:
    """A surface made of three functions of points (..., parameters)."""

    def __init__(self, parameters: int, loss: Callable[[Any], Any], gradient: Any, hessian: Any) -> None:
        self.parameters = parameters
        self._loss, self._gradient, self._hessian = loss, gradient, hessian

    def loss(self, points: Floats) -> Floats:
        return np.asarray(self._loss(points))

    def gradient(self, points: Floats) -> Floats:
        return np.asarray(self._gradient(points))

    def hessian(self, points: Floats) -> Floats:
        return np.asarray(self._hessian(points))

    def hessian_vector(self, points: Floats, vectors: Floats) -> Floats:
        return np.asarray((self.hessian(points) @ vectors[..., None])[..., 0])


def quadratic(matrix: ArrayLike, center: ArrayLike) -> Planted:
    """Return (x - center)^T matrix (x - center) / 2."""
    h, c = np.asarray(matrix, np.float64), np.asarray(center, np.float64)

    def gradient(x: Floats) -> Any:
        return ((x - c)[..., None, :] @ h)[..., 0, :]

    return Planted(
        len(c),
        lambda x: 0.5 * np.sum((x - c) * gradient(x), axis=-1),
        gradient,
        lambda x: np.broadcast_to(h, (*x.shape, len(c))),
    )


def diagonal(functions: list[tuple[Any, Any, Any]]) -> Planted:
    """Return a sum of functions, one of each parameter, given with two derivatives."""

    def each(x: Floats, order: int) -> Floats:
        return np.stack([f[order](x[..., i]) for i, f in enumerate(functions)], axis=-1)

    n = len(functions)
    return Planted(n, lambda x: each(x, 0).sum(-1), lambda x: each(x, 1), lambda x: each(x, 2)[..., None] * np.eye(n))


SQUARE = (lambda x: 0.5 * x**2, lambda x: x, np.ones_like)
QUARTIC = (lambda x: x**4, lambda x: 4 * x**3, lambda x: 12 * x**2)


def fold(slope: float) -> tuple[Any, Any, Any]:
    """Return x^3 / 3 + slope x: at 0 the gradient is the slope and least, and the second derivative 0."""
    return (lambda x: x**3 / 3 + slope * x, lambda x: x**2 + slope, lambda x: 2 * x)


def monkey_saddle() -> Planted:
    """Return x^3 - 3 x y^2: at 0 the Hessian vanishes."""

    def gradient(p: Floats) -> Any:
        x, y = p[..., 0], p[..., 1]
        return np.stack([3 * x**2 - 3 * y**2, -6 * x * y], axis=-1)

    def hessian(p: Floats) -> Any:
        x, y = p[..., 0], p[..., 1]
        return 6 * np.stack([np.stack([x, -y], axis=-1), np.stack([-y, -x], axis=-1)], axis=-2)

    return Planted(2, lambda p: p[..., 0] ** 3 - 3 * p[..., 0] * p[..., 1] ** 2, gradient, hessian)


def scalar_net(inputs: ArrayLike, targets: ArrayLike) -> Planted:
    """Return mean of (tanh(w x) - y)^2 / 2: one parameter."""
    x, y = np.asarray(inputs, np.float64), np.asarray(targets, np.float64)

    def parts(w: Floats) -> tuple[Any, Any, Any]:
        t = np.tanh(w * x)  # (..., 1) by (samples,)
        first = x * (1 - t**2)
        return t - y, first, -2 * x * t * first

    def gradient(w: Floats) -> Any:
        r, first, _ = parts(w)
        return np.mean(r * first, axis=-1, keepdims=True)

    def hessian(w: Floats) -> Any:
        r, first, second = parts(w)
        return np.mean(first**2 + r * second, axis=-1)[..., None, None]

    return Planted(1, lambda w: np.mean(0.5 * parts(w)[0] ** 2, axis=-1), gradient, hessian)


def separable(inputs: ArrayLike) -> Planted:
    """Return mean of log(1 + exp(-x w)): where all x w > 0 for some w, it falls to 0 at infinity."""
    x = np.asarray(inputs, np.float64)

    def shares(w: Floats) -> Any:
        return 1 / (1 + np.exp((x @ w[..., None])[..., 0]))

    def hessian(w: Floats) -> Any:
        p = shares(w)
        return np.einsum("...s,si,sj->...ij", p * (1 - p), x, x) / len(x)

    return Planted(
        x.shape[1],
        lambda w: np.mean(np.logaddexp(0, -(x @ w[..., None])[..., 0]), axis=-1),
        lambda w: -(shares(w)[..., None, :] @ x)[..., 0, :] / len(x),
        hessian,
    )
