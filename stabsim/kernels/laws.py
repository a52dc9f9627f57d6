"""Laws of weights and biases: each fills a matrix (fan_in, fan_out) with draws of variance 1 times a scale.

A law reaches the kernels as a function pointer, so one compiled kernel serves every law. ``first`` is the position
of the first entry (a multiple of ``philox.TILE``): laws with independent entries can draw any part of a matrix,
the others only the whole (``first`` = 0).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import float32, float64, types, uint32, uint64, void

from stabsim.kernels import philox
from stabsim.kernels.compile import CONTRACT, kernel, wide_vectors
from stabsim.kernels.views import flat

Function = Callable[..., Any]


@functools.cache
def signature(dtype: np.dtype[Any]) -> Any:
    """Return the type ``void(matrix, first, seed, purpose, layer, net, scale)`` of a law."""
    real = float32 if dtype == np.float32 else float64
    return void(real[:, ::1], uint64, uint64, uint32, uint32, uint32, real)


@functools.cache
def pointer(dtype: np.dtype[Any]) -> Any:
    """Return the Numba type of a pointer to a law."""
    return types.FunctionType(signature(dtype))


# The inner functions close over plain functions of a module and numbers only, so that Numba's cache knows them again.
def _independent(numbers: Function, write: Function, size: int) -> Function:
    fill = philox.fill

    def law(matrix, first, seed, purpose, layer, net, scale):
        wide_vectors()
        fill(numbers, write, size, flat(matrix), first, seed, purpose, layer, net, scale)

    return law


def _orthogonal(numbers: Function, write: Function, size: int) -> Function:
    fill = philox.fill

    def law(matrix, first, seed, purpose, layer, net, scale):
        """Haar: Q of a Gaussian matrix, columns signed by the diagonal of R (Mezzadri, math-ph/0609050)."""
        wide_vectors()
        fan_in, fan_out = matrix.shape
        longer = max(fan_in, fan_out)
        shorter = min(fan_in, fan_out)
        gaussian = np.empty((longer, shorter), matrix.dtype)
        one = matrix.dtype.type(1)
        fill(numbers, write, size, flat(gaussian), first, seed, purpose, layer, net, one)
        q, r = np.linalg.qr(gaussian)
        unit = scale * matrix.dtype.type(math.sqrt(longer))
        for j in range(shorter):
            factor = unit if r[j, j] > 0 else -unit
            for i in range(longer):
                if fan_in >= fan_out:
                    matrix[i, j] = q[i, j] * factor
                else:
                    matrix[j, i] = q[i, j] * factor

    return law


def _constant(matrix, first, seed, purpose, layer, net, scale):
    matrix[:, :] = scale


def _identity(matrix, first, seed, purpose, layer, net, scale):
    matrix[:, :] = 0
    for i in range(min(matrix.shape)):
        matrix[i, i] = scale


_INDEPENDENT = {
    "normal": (philox.normals_32, philox.normals_64),
    "uniform": (philox.uniforms_32, philox.uniforms_64),
    "truncated_normal": (philox.truncated_normals_32, philox.truncated_normals_64),
}
_FIXED: dict[str, Function] = {"constant": _constant, "identity": _identity}
LAWS = (*_INDEPENDENT, "orthogonal", *_FIXED)


@functools.cache
def law(name: str, dtype: np.dtype[Any]) -> Any:
    """Return the compiled law of that name, one of ``LAWS``."""
    if name in _FIXED:
        return kernel(signature(dtype), cache=f"{name} {dtype}")(_FIXED[name])
    numbers = _INDEPENDENT["normal" if name == "orthogonal" else name]
    single = dtype == np.float32
    build = _orthogonal if name == "orthogonal" else _independent
    write = philox.write_32 if single else philox.write_64
    size = philox.TILE if single else philox.TILE // 2
    function = build(numbers[0 if single else 1], write, size)
    return kernel(signature(dtype), fastmath=CONTRACT, cache=f"{name} {dtype}")(function)


@functools.cache
def of_matrices(names: tuple[str, ...], dtype: np.dtype[Any]) -> Any:
    """Return the compiled law of matrices 1, 2, ... of those names; of one name, it is that of all of them."""
    last = law(names[-1], dtype)
    before = len(names)
    while before > 0 and names[before - 1] == names[-1]:
        before -= 1
    if before == 0:
        return last
    fewer = of_matrices(names[:before], dtype)

    # Never cached: what it closes over are compiled functions, which Numba's cache does not know again.
    @kernel(signature(dtype))
    def choose(matrix, first, seed, purpose, layer, net, scale):
        if layer <= before:
            fewer(matrix, first, seed, purpose, layer, net, scale)
        else:
            last(matrix, first, seed, purpose, layer, net, scale)

    return choose
