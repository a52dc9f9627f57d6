"""Runs of an optimizer on functions of few numbers: after how many steps each has come how far.

A profile writes the gradient at x and returns how far x has come; it reaches the loop as a function pointer.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import float64, int64, types, uint64, void

from stabsim.kernels import blocks, optimizers, philox
from stabsim.kernels.compile import atom, kernel

GRADIENT_NOISE = np.uint32(20)  # a purpose of philox; its layer is 0
DRAWN = 512  # normals at a time

PROFILE = float64(float64[::1], float64[::1], float64[::1])


@atom
def rise(x):
    """Return a polynomial that goes from 0 at 0 to 1 at 1, constant outside, with two continuous derivatives."""
    t = min(max(x, 0.0), 1.0)
    return t * t * t * (10.0 + t * (6.0 * t - 15.0))


def plateau(x, gradient, shape):
    """Fall with slope ``shape[1]`` on 0 <= x <= ``shape[0]``, with ``shape[2]`` outside, from ``shape[3]`` away on."""
    width, slope, outside, edge = shape[0], shape[1], shape[2], shape[3]
    away = rise(max(-x[0], x[0] - width) / edge)
    gradient[0] = -(slope + (outside - slope) * away)
    return x[0]


def saddle(x, gradient, shape):
    """Rise by ``shape[0]`` x_0^2 / 2, fall by ``shape[1]`` x_1^2 / 2."""
    gradient[0] = shape[0] * x[0]
    gradient[1] = -shape[1] * x[1]
    return abs(x[1])


def cliff(x, gradient, shape):
    """Fall with slope ``shape[0]`` before 0, then the bowl (x - 1)^2 / 2, beyond 2 rise with slope ``shape[1]``.

    Both changes take ``shape[2]``. How far: minus the distance from the minimum.
    """
    steep, slope, edge = shape[0], shape[1], shape[2]
    wall, far = rise(-x[0] / edge), rise((x[0] - 2.0) / edge)
    gradient[0] = (x[0] - 1.0) * (1.0 - wall) * (1.0 - far) - steep * wall + slope * far
    return -abs(x[0] - 1.0)


PROFILES = {"plateau": plateau, "saddle": saddle, "cliff": cliff}


@functools.cache
def profile(name: str) -> Any:
    """Return the compiled profile of a name."""
    return kernel(PROFILE, cache=f"profile {name}")(PROFILES[name])


@atom
def add_noise(gradient, noise, drawn, at, seed, run):
    """Add normals of standard deviation ``noise``, those from number ``at`` of the run on."""
    for i in range(gradient.size):
        place = (at + i) % DRAWN
        if place == 0:
            first = np.uint64(at + i)
            philox.fill(
                philox.normals_64, philox.write_64, philox.TILE // 2, drawn, first, seed, GRADIENT_NOISE,
                np.uint32(0), np.uint32(run), 1.0,
            )  # fmt: skip
        gradient[i] += noise * drawn[place]


@atom
def clip(gradient, bound):
    """Scale the gradient to a norm of at most ``bound``."""
    square = 0.0
    for i in range(gradient.size):
        square += gradient[i] * gradient[i]
    if square > bound * bound:
        factor = bound / math.sqrt(square)
        for i in range(gradient.size):
            gradient[i] *= factor


def _passages(first_run, seed, profile, shape, update, settings, noise, bound, starts, levels, most, passed, ends):
    size = starts.shape[1]
    x, gradient, first, second = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    drawn = np.empty(DRAWN)
    for run in range(starts.shape[0]):
        blocks.copy(starts[run], x)
        blocks.fill(first, 0.0)
        blocks.fill(second, 0.0)
        level = 0
        for step in range(most + 1):
            come = profile(x, gradient, shape)
            while level < levels.size and come >= levels[level]:
                passed[run, level] = step
                level += 1
            if level == levels.size or step == most or not math.isfinite(come):
                break
            if noise > 0.0:
                add_noise(gradient, noise, drawn, step * size, seed, first_run + run)
            if bound < math.inf:
                clip(gradient, bound)
            update(x, gradient, first, second, step + 1, settings)
        blocks.copy(x, ends[run])


@functools.cache
def runner() -> Any:
    """Return the compiled loop; ``stabsim.training.passages`` makes its arguments."""
    signature = void(
        int64,  # number of the first run
        uint64,  # seed
        types.FunctionType(PROFILE),
        float64[::1],  # shape of the profile
        optimizers.pointer(np.dtype("float64")),
        float64[::1],  # settings of the optimizer
        float64,  # standard deviation of what is added to each number of the gradient
        float64,  # largest norm of a gradient, infinite: any
        float64[:, ::1],  # starts (runs, numbers)
        float64[::1],  # levels, rising
        int64,  # most steps
        int64[:, ::1],  # passed (runs, levels): the first step from which a level is reached, -1 to start with
        float64[:, ::1],  # ends (runs, numbers)
    )
    return kernel(signature, cache="passages")(_passages)
