"""The oracle of optimizers: one number at a time in plain Python, each line as published, nothing shared."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

Gradient = Callable[[float], float]


def sgd(x: float, gradient: Gradient, learning_rate: float = 0.01) -> Iterator[float]:
    while True:
        x -= learning_rate * gradient(x)
        yield x


def momentum(x: float, gradient: Gradient, learning_rate: float = 0.01, momentum: float = 0.9) -> Iterator[float]:
    v = 0.0
    while True:
        v = momentum * v - learning_rate * gradient(x)
        x += v
        yield x


def nesterov(x: float, gradient: Gradient, learning_rate: float = 0.01, momentum: float = 0.9) -> Iterator[float]:
    """Yield the points ahead, theta + momentum v (Sutskever et al. 2013, equations 3 and 4, of theta and v)."""
    theta, v = x, 0.0
    while True:
        v = momentum * v - learning_rate * gradient(theta + momentum * v)
        theta += v
        yield theta + momentum * v


def adagrad(x: float, gradient: Gradient, learning_rate: float = 0.01, epsilon: float = 1e-10) -> Iterator[float]:
    squares = []
    while True:
        g = gradient(x)
        squares.append(g**2)
        x -= learning_rate * g / (math.sqrt(math.fsum(squares)) + epsilon)
        yield x


def rmsprop(
    x: float, gradient: Gradient, learning_rate: float = 0.001, decay: float = 0.9, epsilon: float = 1e-8
) -> Iterator[float]:
    squares: list[float] = []
    while True:
        g = gradient(x)
        squares.insert(0, g**2)
        mean = (1 - decay) * math.fsum(decay**k * square for k, square in enumerate(squares))
        x -= learning_rate * g / (math.sqrt(mean) + epsilon)
        yield x


def adam(
    x: float,
    gradient: Gradient,
    learning_rate: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    epsilon_beside: str = "corrected",
    weight_decay: float = 0.0,
) -> Iterator[float]:
    """Yield, with means as weighted sums of all gradients so far (Kingma & Ba 2015, section 3, equation 1)."""
    gradients: list[float] = []
    while True:
        g = gradient(x)
        gradients.insert(0, g)
        t = len(gradients)
        m = (1 - beta1) * math.fsum(beta1**k * each for k, each in enumerate(gradients))
        v = (1 - beta2) * math.fsum(beta2**k * each**2 for k, each in enumerate(gradients))
        x -= learning_rate * weight_decay * x
        if epsilon_beside == "corrected":
            x -= learning_rate * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + epsilon)
        else:
            x -= learning_rate * math.sqrt(1 - beta2**t) / (1 - beta1**t) * m / (math.sqrt(v) + epsilon)
        yield x


def adamw(
    x: float,
    gradient: Gradient,
    learning_rate: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
) -> Iterator[float]:
    return adam(x, gradient, learning_rate, beta1, beta2, epsilon, "corrected", weight_decay)


ORACLES: dict[str, Callable[..., Iterator[float]]] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
}
