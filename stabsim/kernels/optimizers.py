"""Optimizers: what one step makes of one number, its gradient and what is remembered of it, and loops over vectors.

Each optimizer is two atoms. One turns the number of the step (1 is the first) and the settings (an array of float64,
the learning rate first) into what the whole step shares; the other takes one number. A loop reaches other kernels as a
function pointer, as laws of weights do, so that one trainer serves every optimizer.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import float32, float64, int64, types, void

from stabsim.kernels.compile import CONTRACT, atom, kernel, wide_vectors

Function = Callable[..., Any]


class Rule(NamedTuple):
    """The two atoms of an optimizer, and how many numbers it remembers of each: 0, 1 or 2."""

    shared: Function
    step: Function
    memories: int


@functools.cache
def signature(dtype: np.dtype[Any]) -> Any:
    """Return the type ``void(values, gradient, first, second, step, settings)``; memories that are not used: (0,)."""
    real = float32 if dtype == np.float32 else float64
    return void(real[::1], real[::1], real[::1], real[::1], int64, float64[::1])


@functools.cache
def pointer(dtype: np.dtype[Any]) -> Any:
    """Return the Numba type of a pointer to a loop."""
    return types.FunctionType(signature(dtype))


@atom
def as_given(_step, settings):
    """Return the settings alone: up to four."""
    count = settings.size
    return (
        settings[0],
        settings[1] if count > 1 else 0.0,
        settings[2] if count > 2 else 0.0,
        settings[3] if count > 3 else 0.0,
    )


@atom
def sgd(x, g, shared):
    """Settings: rate."""
    T = type(x)
    return x - T(shared[0]) * g


@atom
def momentum(x, g, v, shared):
    """Settings: rate, momentum."""
    T = type(x)
    v = T(shared[1]) * v - T(shared[0]) * g
    return x + v, v


@atom
def nesterov(x, g, v, shared):
    """Settings: rate, momentum; x is the point ahead, where the gradient is taken."""
    T = type(x)
    step = T(shared[0]) * g
    v = T(shared[1]) * v - step
    return x + T(shared[1]) * v - step, v


@atom
def adagrad(x, g, h, shared):
    """Settings: rate, epsilon."""
    T = type(x)
    h = h + g * g
    return x - T(shared[0]) * g / (T(math.sqrt(h)) + T(shared[1])), h


@atom
def rmsprop(x, g, h, shared):
    """Settings: rate, decay, epsilon."""
    T = type(x)
    h = T(shared[1]) * h + T(1.0 - shared[1]) * g * g
    return x - T(shared[0]) * g / (T(math.sqrt(h)) + T(shared[2])), h


@atom
def unbiased(step, settings):
    """Return, of rate, beta1, beta2, epsilon, place (of epsilon) and decay, the rate and epsilon of this step.

    m / c1 / (sqrt(v / c2) + epsilon) is sqrt(c2) / c1 m / (sqrt(v) + sqrt(c2) epsilon), with c = 1 - beta^step. Where
    place is 1, epsilon stands beside sqrt(v) as it is.
    """
    rate, beta1, beta2, epsilon = settings[0], settings[1], settings[2], settings[3]
    t = float(step)  # measured: powers of whole numbers take 100 ns longer
    root = math.sqrt(1.0 - beta2**t)
    near = epsilon if settings[4] == 1.0 else epsilon * root
    return rate * root / (1.0 - beta1**t), beta1, beta2, near, 1.0 - rate * settings[5]


@atom
def adam(x, g, m, v, shared):
    """Take the moments of g, and x with its decay."""
    T = type(x)
    m = T(shared[1]) * m + T(1.0 - shared[1]) * g
    v = T(shared[2]) * v + T(1.0 - shared[2]) * g * g
    return T(shared[4]) * x - T(shared[0]) * m / (T(math.sqrt(v)) + T(shared[3])), m, v


RULES = {
    "sgd": Rule(as_given, sgd, 0),
    "momentum": Rule(as_given, momentum, 1),
    "nesterov": Rule(as_given, nesterov, 1),
    "adagrad": Rule(as_given, adagrad, 1),
    "rmsprop": Rule(as_given, rmsprop, 1),
    "adam": Rule(unbiased, adam, 2),
}


# The loops close over atoms only, so that Numba's cache knows them again.
def _without(shared: Function, update: Function) -> Function:
    def optimizer(values, gradient, first, second, step, settings):
        wide_vectors()
        now = shared(step, settings)
        for i in range(values.size):
            values[i] = update(values[i], gradient[i], now)

    return optimizer


def _with_one(shared: Function, update: Function) -> Function:
    def optimizer(values, gradient, first, second, step, settings):
        wide_vectors()
        now = shared(step, settings)
        for i in range(values.size):
            values[i], first[i] = update(values[i], gradient[i], first[i], now)

    return optimizer


def _with_two(shared: Function, update: Function) -> Function:
    def optimizer(values, gradient, first, second, step, settings):
        wide_vectors()
        now = shared(step, settings)
        for i in range(values.size):
            values[i], first[i], second[i] = update(values[i], gradient[i], first[i], second[i], now)

    return optimizer


@functools.cache
def loop(rule: str, dtype: np.dtype[Any]) -> Any:
    """Return the compiled loop of a rule of `RULES`."""
    shared, update, memories = RULES[rule]
    function = (_without, _with_one, _with_two)[memories](shared, update)
    return kernel(signature(dtype), fastmath=CONTRACT, cache=f"{rule} {dtype.name}")(function)
