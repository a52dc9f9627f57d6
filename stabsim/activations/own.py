"""What is checked of a user's own activation."""

from __future__ import annotations

import numpy as np

from stabsim.activations.base import Activation

# Where a user's functions are tried: at sizes from 0.001 to 50, on both sides of 0.
POINTS = tuple(float(sign * size) for size in np.geomspace(1.1e-3, 49.7, 48) for sign in (-1, 1))
DERIVATIVES = (("f", "derivative"), ("derivative", "second_derivative"))


def check_functions(activation: Activation) -> None:
    """Hold f' and f'' against central differences, and what is said of f against f, at many points; not at kinks.

    Raises
    ------
    ValueError
        If f or f' fails or they do not match, or f is not as its asymptotes, homogeneity or affinity say, with the
        point and both values.
    """
    for x in POINTS:
        step = 1e-5 * max(1.0, abs(x))
        if any(abs(x - kink) <= step for kink in activation.kinks):
            continue
        try:
            for function, role in DERIVATIVES:
                if getattr(activation, role) is not None:
                    _hold_derivative(activation, function, role, x, step)
        except ValueError as error:
            if isinstance(
                error.__cause__, OverflowError
            ):  # such as math.exp: it is only warned of where nets get there
                continue
            raise
        if activation.positively_homogeneous:
            _hold(activation, 1024 * x, 1024 * activation.evaluate("f", x), "positively_homogeneous")
        if activation.affine and activation.asymptotes is not None:
            slope, offset = activation.asymptotes[0]
            _hold(activation, x, slope * x + offset, "affine")
    for sign, (slope, offset) in zip((-1, 1), activation.asymptotes or (), strict=False):
        _hold(activation, sign * 2.0**30, slope * sign * 2.0**30 + offset, "asymptotes")


def _hold_derivative(activation: Activation, function: str, role: str, x: float, step: float) -> None:
    below, above = (activation.evaluate(function, y) for y in (x - step, x + step))
    derivative = activation.evaluate(role, x)
    difference = (above - below) / (2 * step)
    tolerance = 1e-4 * max(abs(difference), abs(derivative)) + 1e-8 * max(1.0, abs(above))
    if not abs(difference - derivative) <= tolerance:
        raise ValueError(
            f"{role} of activation {str(activation)!r} is {derivative:.6g} at x = {x:.6g}, "
            f"but a finite difference of {function} is {difference:.6g}"
        )


def _hold(activation: Activation, x: float, expected: float, promise: str) -> None:
    found = activation.evaluate("f", x)
    if not abs(found - expected) <= 1e-6 * max(1.0, abs(expected)):
        raise ValueError(
            f"{promise} of activation {str(activation)!r} say that f({x:.6g}) is {expected:.6g}, but it is {found:.6g}"
        )
