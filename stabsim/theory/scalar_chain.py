"""Chains of one unit a layer, s_l = w_l z_(l-1) + b_l and z_l = f(s_l): where a factor f'(s_l) w_l is above 1.

For sigmoid (a = 2) and tanh (a = 1) f'(s) = 1 / (a^2 cosh^2(s / a)), so abs(f'(s) w) > 1 where abs(s) is below
a arccosh(sqrt(abs(w)) / a), in x = (s - b) / w an interval that is 2 / abs(w) times as wide.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import erf

from stabsim.checks import array, number, whole_number
from stabsim.names import unknown

Floats = NDArray[np.float64]

STRETCH = {"sigmoid": 2.0, "tanh": 1.0}  # the a of f'(s) = 1 / (a^2 cosh^2(s / a))
LARGEST_WEIGHT = 1e300
LARGEST_STD = 5.0  # of weights and biases of chains
LEAST_SHARE = 0.05  # of biases beside weights, with tanh: below, the polynomials are off by up to 2e-2 after 30 layers
FARTHEST = 12.0  # standard normal numbers that count
STEP = 0.05  # of the trapezoidal rule, over the standard deviation of s if that is above 1: half of it changes 1e-9
DEGREE = 48  # of polynomials in the variance of s
TOGETHER = 16  # variances


class Widest(NamedTuple):
    """The weight at which the interval is widest, and how wide it is there."""

    weight: float
    width: float


def _stretch(activation: str) -> float:
    if activation not in STRETCH:
        raise unknown("activation of a chain with bounded factors", activation, STRETCH)
    return STRETCH[activation]


def steep_reach(weight: ArrayLike, activation: str = "sigmoid") -> Floats:
    """Return the largest abs(s) up to which abs(f'(s) w) is at least 1; 0 where no s is.

    Parameters
    ----------
    weight : array
        w, up to 1e300 in size, any shape.
    activation : str
        "sigmoid" unless told, or "tanh".

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.

    Examples
    --------
    >>> steep_reach([3.0, 8.0]).round(8)
    array([0.        , 1.76274717])
    """
    a = _stretch(activation)
    size = np.abs(array("weight", weight, -LARGEST_WEIGHT, LARGEST_WEIGHT))
    return np.asarray(a * np.arccosh(np.maximum(np.sqrt(size) / a, 1.0)))


def steep_width(weight: ArrayLike, activation: str = "sigmoid") -> Floats:
    """Return how wide the interval of x is in which abs(f'(w x + b) w) > 1, whatever b; 0 where there is none.

    Parameters
    ----------
    weight : array
        w, up to 1e300 in size, any shape.
    activation : str
        "sigmoid" unless told, which needs abs(w) > 4, or "tanh", which needs abs(w) > 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.

    Notes
    -----
    For sigmoid (2 / abs(w)) ln(abs(w) (1 + sqrt(1 - 4 / abs(w))) / 2 - 1): Nielsen, Neural Networks and Deep Learning,
    2015, chapter 5.

    Examples
    --------
    >>> steep_width([3.0, 4.0, 8.0, -8.0]).round(8)
    array([0.        , 0.        , 0.44068679, 0.44068679])
    """
    reach = steep_reach(weight, activation)
    size = np.abs(np.asarray(weight, np.float64))
    return np.asarray(2.0 * reach / np.where(reach > 0.0, size, 1.0))


def widest_steep(activation: str = "sigmoid") -> Widest:
    """Return where the interval of `steep_width` is widest.

    Parameters
    ----------
    activation : str
        "sigmoid" unless told, or "tanh".

    Raises
    ------
    ValueError
        If the activation is another one.

    Notes
    -----
    With abs(w) = (a cosh u)^2 the width is 2 u / (a cosh^2 u), which is largest where u tanh u = 1/2.

    Examples
    --------
    >>> [round(value, 5) for value in widest_steep()], [round(value, 5) for value in widest_steep("tanh")]
    ([6.89415, 0.44774], [1.72354, 0.89549])
    """
    a = _stretch(activation)
    u = float(brentq(lambda u: u * math.tanh(u) - 0.5, 0.5, 1.0, xtol=1e-15))
    return Widest((a * math.cosh(u)) ** 2, 2.0 * u / (a * math.cosh(u) ** 2))


def steep_probability(activation: str = "sigmoid") -> float:
    """Return P(abs(f'(w x + b) w) > 1) for independent standard normal w, b and x.

    Parameters
    ----------
    activation : str
        "sigmoid" unless told, "tanh" or "relu".

    Raises
    ------
    ValueError
        If the activation is another one.

    Notes
    -----
    Given w, s is normal with variance 1 + w^2. The sign of a ReLU's s is a fair coin whatever abs(w) is.

    Examples
    --------
    >>> [round(steep_probability(activation), 8) for activation in ("sigmoid", "tanh", "relu")]
    [4.75e-06, 0.07791557, 0.15865525]
    """
    if activation == "relu":
        return 0.5 * math.erfc(math.sqrt(0.5))
    a = _stretch(activation)

    def given(root: float) -> float:  # root^2 is how far w is beyond the least one: smooth at 0
        w = a * a + root * root
        inside = erf(float(steep_reach(w, activation)) / math.sqrt(2.0 * (1.0 + w * w)))
        return float(inside * math.exp(-0.5 * w * w) * 2.0 * root)

    found, _ = quad(given, 0.0, 6.0, epsabs=0.0, epsrel=1e-12, limit=200)
    return float(2.0 / math.sqrt(2.0 * math.pi) * found)


def mean_log_weight(weight_std: float = 1.0) -> float:
    """Return E ln abs(w) of a normal weight: ln of its standard deviation, less half of Euler's constant + ln 2.

    Parameters
    ----------
    weight_std : float
        > 0; 1 unless told.

    Raises
    ------
    TypeError, ValueError
        If it is outside.

    Examples
    --------
    >>> round(mean_log_weight(), 10)
    -0.6351814227
    """
    return math.log(number("weight_std", weight_std, 0.0, open_ends=True)) - 0.5 * (np.euler_gamma + math.log(2.0))


def mean_log_derivative(
    depth: int, activation: str = "sigmoid", *, weight_std: float = 1.0, bias_std: float = 1.0
) -> Floats:
    """Return E ln f'(s_l) of every layer of a chain with normal weights and biases and a standard normal input.

    Parameters
    ----------
    depth : int
        Layers, from 1.
    activation : str
        "sigmoid" unless told, or "tanh".
    weight_std, bias_std : float
        From 0 to 5; 1 unless told. With tanh biases have at least a twentieth of the standard deviation of the weights:
        without, variances near 0 matter, for which no law is here.

    Returns
    -------
    array, (depth,)
        Layers 1 to depth: to 1e-6 at standard deviations up to 1, 1e-4 at 5.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.

    Notes
    -----
    Given z_(l-1), s_l is normal with variance b^2 + w^2 z_(l-1)^2, so these variances are a Markov chain. Its means are
    taken by the trapezoidal rule (Trefethen & Weideman, SIAM Review 56, 2014) and carried from layer to layer as
    polynomials in the variance.

    Examples
    --------
    >>> mean_log_derivative(3).round(8)
    array([-1.78988602, -1.67454725, -1.67244798])
    """
    depth = whole_number("depth", depth, 1)
    a = _stretch(activation)
    w, b = (
        number(name, value, 0.0, LARGEST_STD) ** 2
        for name, value in (("weight_std", weight_std), ("bias_std", bias_std))
    )
    if activation == "tanh" and math.sqrt(b) < LEAST_SHARE * math.sqrt(w):
        raise ValueError(
            f"bias_std={bias_std!r} must be at least {LEAST_SHARE} weight_std with tanh, weight_std={weight_std!r}"
        )
    x, masses = _normal(math.sqrt(b + w))
    zero = len(x) // 2
    first = b + w * x[zero:] ** 2  # variances of s_1 at the nodes of the input: those below 0 have the same
    shares = np.where(x[zero:] > 0.0, 2.0, 1.0) * masses[zero:]
    found = [float(shares @ _mean_log_slope(first, a, x, masses))]
    if depth > 1:
        middle, half = b + 0.5 * w, 0.5 * w  # abs(z) <= 1
        nodes = np.polynomial.chebyshev.chebpts1(DEGREE)
        inverse = np.asarray(np.linalg.inv(np.polynomial.chebyshev.chebvander(nodes, DEGREE - 1)), np.float64)
        start = shares @ _next_values(first, activation, inverse, x, masses)
        step = _next_values(middle + half * nodes, activation, inverse, x, masses)
        values = _mean_log_slope(middle + half * nodes, a, x, masses)
        for _ in range(depth - 1):
            found.append(float(start @ values))
            values = step @ values
    return np.array(found)


def _normal(std: float) -> tuple[Floats, Floats]:
    """Return nodes of a standard normal variable and their masses, for functions of it times a standard deviation."""
    step = STEP / max(std, 1.0)
    most = round(FARTHEST / step)
    nodes = step * np.arange(-most, most + 1.0)
    return nodes, step / math.sqrt(2.0 * math.pi) * np.exp(-0.5 * nodes**2)


def _mean_log_slope(variances: Floats, a: float, x: Floats, masses: Floats) -> Floats:
    """Return E ln f'(s) of normal s, for each variance."""
    s = np.abs(np.sqrt(variances)[:, None] * x) / a
    return np.asarray(-2.0 * (math.log(a) + (s + np.log1p(np.exp(-2.0 * s)) - math.log(2.0)) @ masses))


def _next_values(variances: Floats, activation: str, inverse: Floats, x: Floats, masses: Floats) -> Floats:
    """Return the matrix from values at Chebyshev's nodes to their means one layer on, given the variances here."""
    means = []
    for part in np.array_split(variances, -(-len(variances) // TOGETHER)):
        s = np.sqrt(part)[:, None] * x
        z = np.tanh(s) if activation == "tanh" else 0.5 * (1.0 + np.tanh(0.5 * s))
        twice = 2.0 * (2.0 * z * z - 1.0)
        before, now = np.ones_like(z), 0.5 * twice
        of_polynomials = [before @ masses]
        for _ in range(DEGREE - 1):  # one after the other: what is worked on stays in the cache
            of_polynomials.append(now @ masses)
            before, now = now, twice * now - before
        means.append(np.stack(of_polynomials, axis=1))
    return np.asarray(np.concatenate(means) @ inverse)
