"""Laws of bias-free nets of finite width with independent normal weights and one sample, linear or ReLU.

Given h_(l-1), the pre-activations are independent normals, so |h_l|^2 is weight variance times |h_(l-1)|^2 times a
chi-square with as many degrees of freedom as units are on: all of them, or, of a ReLU layer, a binomial number.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma, polygamma

from stabsim.checks import array, number, whole_number, whole_numbers
from stabsim.names import unknown

Floats = NDArray[np.float64]

_PASSED = {"linear": Fraction(1), "relu": Fraction(1, 2)}  # the probability that a unit is on
_LARGEST_LOG = 700.0  # exp of more is near the end of float64
LARGEST_ORDER = 100  # fractions of higher moments take seconds
WIDEST_RELU = 10**10  # the numbers of units that may be on, of wider layers, take seconds


@dataclass(frozen=True)
class LogNorm:
    """Mean and variance of ln(|h_L|^2 / |h_0|^2)."""

    mean: float
    variance: float


@dataclass(frozen=True)
class LogGains:
    """Means of ln of what f' and W make of a gradient's norm in one layer."""

    derivative: float
    weights: float


@dataclass(frozen=True)
class JacobianMoments:
    """E (1/n) tr (J J^T)^2 and E ((1/n) tr J J^T)^2, n being the last width: the mean of (1/n) tr J J^T is 1."""

    trace_of_square: float
    square_of_trace: float


def log_norm(widths: Sequence[int], *, activation: str = "linear", gain: float | None = None) -> LogNorm:
    """Return mean and variance of ln(|h_L|^2 / |h_0|^2) over nets; of ReLU nets, over those that are alive.

    Parameters
    ----------
    widths : sequence of int
        Units of every layer, the input's first.
    activation : {"linear", "relu"}, default "linear"
        f. A ReLU net is alive if no layer is entirely 0 (`log_alive_probability`).
    gain : float, default 1 (linear) or sqrt(2) (ReLU)
        The weights are independent N(0, gain^2 / fan_in); there are no biases.

    Returns
    -------
    LogNorm

    Raises
    ------
    TypeError, ValueError
        If the widths are not two or more whole numbers >= 1, the activation is another or the gain is not > 0.

    Notes
    -----
    Exact, for one sample that is not 0. Per layer a linear net adds psi(n/2) - ln(n/2) and psi_1(n/2). Hanin & Nica
    2018 (arXiv:1812.05994) give the limit, `log_normal_spread`.

    Examples
    --------
    >>> deep = log_norm((100,) * 51), log_norm((100,) * 11, activation="relu")
    >>> [round(each.variance, 12) for each in deep]
    [1.010066661335, 0.519399921487]
    """
    layers, log_growth = _checked(widths, activation, gain)
    means, variances = zip(*(log_step(width, activation) for width in layers[1:]), strict=True)
    return LogNorm(math.fsum([*means, log_growth]), math.fsum(variances))


def relu_log_gains(width: int, gain: float = math.sqrt(2.0)) -> LogGains:
    """Return E ln(|ds_l| / |dz_l|) and E ln(|dz_(l-1)| / |ds_l|) of ReLU nets of equal widths that are alive.

    Parameters
    ----------
    width : int
        Units of every layer.
    gain : float, default sqrt(2)
        The weights are independent N(0, gain^2 / width); there are no biases.

    Returns
    -------
    LogGains

    Raises
    ------
    TypeError, ValueError
        If the width is not a whole number >= 1, or the gain is not > 0.

    Notes
    -----
    Exact, for one sample and a normal gradient at the last layer. With k units on, |ds|^2 / |dz|^2 is beta(k/2,
    (n - k)/2), and W makes an independent chi-square of it: signs of the gradient are fair coins whatever is on
    (Hanin & Nica 2018, arXiv:1812.05994), so it is of no account that W has decided that too. Half of ``log_norm``
    of one layer is the sum.

    Examples
    --------
    >>> found = relu_log_gains(64)
    >>> round(found.derivative, 6), round(found.weights, 6)
    (-0.358775, 0.33872)
    """
    _, log_growth = _checked((width, width), "relu", gain)
    of_weights = 0.5 * (log_growth + math.log(2.0) + log_step(width, "linear")[0])
    return LogGains(0.5 * (log_growth + log_step(width, "relu")[0]) - of_weights, of_weights)


def log_squared_norm_moment(
    widths: Sequence[int], order: int, *, activation: str = "linear", gain: float | None = None
) -> float:
    """Return ln E (|h_L|^2 / |h_0|^2)^order, where dead ReLU nets count as 0.

    Parameters
    ----------
    widths, activation, gain
        As in `log_norm`.
    order : int
        From 1 to 100.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        As in `log_norm`, or if the order is not a whole number from 1 to 100.

    Notes
    -----
    Exact as `log_norm` is; at order 1 for all centered weights of that variance, symmetric ones if f is ReLU. At order
    2 every layer has the factor 1 + 2 / n (linear) or 1 + 5 / n (ReLU) at the default gain.

    Examples
    --------
    >>> round(log_squared_norm_moment((100,) * 100_001, 2), 9)
    1980.262729618
    """
    layers, log_growth = _checked(widths, activation, gain)
    order = whole_number("order", order, 1, LARGEST_ORDER)
    steps = [_log_moment(width, order, activation) for width in layers[1:]]
    return math.fsum([*steps, order * log_growth])


def squared_norm_moment(
    widths: Sequence[int], order: int, *, activation: str = "linear", gain: float | None = None
) -> float:
    """Return E (|h_L|^2 / |h_0|^2)^order: exp of `log_squared_norm_moment`, which has the parameters and conditions.

    Raises
    ------
    OverflowError
        If it is outside float64.

    Examples
    --------
    >>> round(squared_norm_moment((10,) * 6, 2), 12), round(squared_norm_moment((100,) * 51, 2, activation="relu"), 12)
    (2.48832, 11.467399785754)
    """
    return exponential(
        log_squared_norm_moment(widths, order, activation=activation, gain=gain), "take log_squared_norm_moment"
    )


def exponential(log: float, advice: str) -> float:
    """Return exp(log).

    Raises
    ------
    OverflowError
        If it over- or underflows.

    Examples
    --------
    >>> exponential(0.0, "take the logarithm")
    1.0
    """
    if abs(log) > _LARGEST_LOG:
        raise OverflowError(f"exp({log:.6g}) is outside float64: {advice}")
    return math.exp(log)


def log_alive_probability(widths: Sequence[int]) -> float:
    """Return ln of the probability that no layer of a ReLU net is entirely 0: the sum of ln(1 - 2^-n).

    Parameters
    ----------
    widths : sequence of int
        Units of every layer, the input's first; the input alone is alive.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If the widths are not whole numbers >= 1.

    Notes
    -----
    Exact for one sample that is not 0, weights with a symmetric density, no biases: given the layer before, each unit
    is off with probability 1/2.

    Examples
    --------
    >>> log_alive_probability((100, 100))
    -7.888609052210118e-31
    """
    return math.fsum(math.log1p(-(0.5**width)) for width in whole_numbers("widths", widths)[1:])


def alive_probability(widths: Sequence[int]) -> float:
    """Return the probability that no layer of a ReLU net is entirely 0: exp of `log_alive_probability`.

    Examples
    --------
    >>> alive_probability((2, 2, 3))
    0.65625
    """
    return math.exp(log_alive_probability(widths))


def log_normal_spread(widths: Sequence[int], activation: str = "linear") -> float:
    """Return beta of the limit law ln(|h_L|^2 / |h_0|^2) ~ N(-beta / 2, beta).

    Parameters
    ----------
    widths : sequence of int
        Units of every layer, the input's first.
    activation : {"linear", "relu"}, default "linear"

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        As in `log_norm`.

    Notes
    -----
    (3 / p - 1) times the sum of 1 / n_l, where p is the probability that a unit is on: 2 and 5 times that sum. The
    leading order where depth and width grow at a fixed ratio, for weights of kurtosis 3 at the gain that keeps
    E |h|^2 (Hanin & Nica 2018, arXiv:1812.05994, theorem 1); `log_norm` is exact.

    Examples
    --------
    >>> log_normal_spread((100,) * 51, "relu")
    2.5
    """
    layers, _ = _checked(widths, activation, None)
    return float(3 / _PASSED[activation] - 1) * math.fsum(1 / width for width in layers[1:])


def kurtosis_term(width: int, kurtosis: float, inputs: ArrayLike) -> float:
    """Return Var(|W x|^2 / |x|^2) of one layer whose weights are independent and centered, of variance 1 / width.

    Parameters
    ----------
    width : int
        Units of the layer: rows of W.
    kurtosis : float
        E w^4 / (E w^2)^2 of the weights, from 1: 3 if normal, 9/5 if uniform.
    inputs : array, (fan_in,)
        x, not all 0.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.

    Notes
    -----
    (2 + (kurtosis - 3) |x|_4^4 / |x|_2^4) / width, exact at any width: s_i has the kurtosis 3 + (kurtosis - 3) times
    that ratio. It is the term of the first layer in Hanin & Nica 2018 (arXiv:1812.05994).

    Examples
    --------
    >>> round(kurtosis_term(100, 9 / 5, [1.0] * 100), 12)
    0.01988
    """
    x = array("inputs", inputs)
    if x.ndim != 1 or not x.any():
        raise ValueError(f"inputs must be one row of numbers that are not all 0, not of shape {x.shape}")
    squares = np.square(x / np.abs(x).max())
    concentration = float(np.sum(squares**2) / np.sum(squares) ** 2)
    return (2.0 + (number("kurtosis", kurtosis, 1.0) - 3.0) * concentration) / whole_number("width", width)


def jacobian_moments(widths: Sequence[int], activation: str = "linear") -> JacobianMoments:
    """Return second moments of J J^T, J = dh_L / dh_0 being the Jacobian of the whole net.

    Parameters
    ----------
    widths : sequence of int
        Units of every layer, the input's first.
    activation : {"linear", "relu"}, default "linear"

    Returns
    -------
    JacobianMoments

    Raises
    ------
    TypeError, ValueError
        As in `log_norm`.
    OverflowError
        If they are outside float64.

    Notes
    -----
    Exact for normal weights of variance 1 / (p fan_in), p = 1 (linear) or 1/2 (ReLU), a dead net's J being 0. Wick's
    theorem for the weights, and units that are on independently of |w_i| as rows w_i and -w_i are equally likely, give
    for both moments a, b and a layer of n units with m inputs: c = (2 a / m + b) / p, a' = c + (n - 1) a / m,
    b' = (c + (n - 1) b) / n. At equal widths a tends to 1 + L / p (Pennington, Schoenholz & Ganguli 2017,
    arXiv:1711.04735).

    Examples
    --------
    >>> found = jacobian_moments((100,) * 6, "relu")
    >>> round(found.trace_of_square, 10), round(found.square_of_trace, 12)
    (12.0109014783, 1.061589164184)
    """
    layers, _ = _checked(widths, activation, None)
    passed = float(_PASSED[activation])
    a = b = 1.0
    for m, n in itertools.pairwise(layers):
        c = (2.0 * a / m + b) / passed
        a, b = c + (n - 1) / m * a, (c + (n - 1) * b) / n
    if not math.isfinite(a):
        raise OverflowError(f"the Jacobian's second moment is outside float64 after {len(layers) - 1} layers")
    return JacobianMoments(a, b)


def _checked(widths: Sequence[int], activation: str, gain: float | None) -> tuple[tuple[int, ...], float]:
    """Return the widths, and ln of the factor by which the mean of |h|^2 grows."""
    layers = whole_numbers("widths", widths)
    if len(layers) < 2:
        raise ValueError(f"widths must be those of the input and of one layer or more, not {widths!r}")
    if activation == "relu" and max(layers) > WIDEST_RELU:
        raise ValueError(f"widths of ReLU nets must be at most {WIDEST_RELU}, not {max(layers)}")
    if activation not in _PASSED:
        raise unknown("activation of a closed form at finite width", activation, _PASSED)
    per_layer = 0.0  # at the default gain, which is critical
    if gain is not None:
        per_layer = 2.0 * math.log(number("gain", gain, 0.0, open_ends=True)) + math.log(_PASSED[activation])
    return layers, (len(layers) - 1) * per_layer + math.log(layers[-1] / layers[0])


@functools.lru_cache(maxsize=4096)
def log_step(width: int, activation: str) -> tuple[float, float]:
    """Return mean and variance of ln of the chi-square of a layer ("linear" or "relu", alive), divided by its mean.

    Examples
    --------
    >>> [round(1000 * log_step(1000, activation)[1], 3) for activation in ("linear", "relu")]  # about 2 and 5
    [2.002, 5.019]
    """
    if activation == "linear":
        return float(_digamma_less_log(np.array(width / 2))), float(polygamma(1, width / 2))
    on, probability = live_units(width)
    means = _digamma_less_log(on / 2) + np.log1p((2 * on - width) / width)
    mean = probability @ means
    return float(mean), float(probability @ (polygamma(1, on / 2) + (means - mean) ** 2))


def _digamma_less_log(x: Floats) -> Floats:
    """Return psi(x) - ln x, by its asymptotic series where the difference would cancel."""
    r = 1.0 / np.square(np.maximum(x, 50.0))
    series = -0.5 * np.sqrt(r) - r * (1 / 12 - r * (1 / 120 - r / 252))
    return np.asarray(np.where(x < 50.0, digamma(x) - np.log(x), series))


def live_units(width: int) -> tuple[Floats, Floats]:
    """Return numbers of units of a ReLU layer that may be on, and their probabilities, given that one is.

    Numbers further than 20 standard deviations from half the width, of probability 0 in float64, are left out.

    Examples
    --------
    >>> live_units(2)
    (array([1., 2.]), array([0.66666667, 0.33333333]))
    """
    middle, reach = max(width // 2, 1), 10 * math.isqrt(width) + 10
    on = np.arange(max(middle - reach, 1), min(middle + reach, width) + 1, dtype=np.float64)
    steps = np.log((width - on[:-1]) / (on[:-1] + 1))  # of ln of the binomial coefficient, summed up from the largest
    at = int(np.searchsorted(on, middle))
    logs = np.concatenate([-np.cumsum(steps[:at][::-1])[::-1], [0.0], np.cumsum(steps[at:])])
    weights = np.exp(logs)
    return on, np.asarray(weights / weights.sum())


@functools.lru_cache(maxsize=4096)
def _log_moment(width: int, order: int, activation: str) -> float:
    """Return ln E (chi-square of a layer / its mean)^order, from exact fractions.

    The square of one unit has the moments p (2 j - 1)!!; those of the sum of ``width`` of them are coefficients of the
    power of a series (Miller's recurrence: Knuth, The Art of Computer Programming 2, section 4.7).
    """
    one, total = [Fraction(1)], [Fraction(1)]
    for j in range(1, order + 1):
        odds = math.prod(range(1, 2 * j, 2))
        one.append(_PASSED[activation] * odds / math.factorial(j))
        total.append(sum((one[i] * total[j - i] * (i * (width + 1) - j) for i in range(1, j + 1)), Fraction(0)) / j)
    moment = total[order] * math.factorial(order) / (_PASSED[activation] * width) ** order
    excess = moment - 1
    if excess < 1:
        return math.log1p(float(excess))
    return math.log(moment.numerator) - math.log(moment.denominator)
