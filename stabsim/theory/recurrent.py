"""Nets that use the same weights at every step: powers of one random matrix, and products of forget gates."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.special import log_expit

from stabsim.checks import number, whole_number
from stabsim.theory.finite_width import exponential

MOST_POWERS = 12  # whose contractions take 0.15 s; those of the next one twice as long


@dataclass(frozen=True)
class GateMoments:
    """Means of a gate sigma(s), the logistic function of a normal s.

    Attributes
    ----------
    mean, mean_square : float
        E sigma(s), E sigma(s)^2.
    log_mean : float
        E ln sigma(s): the Lyapunov exponent of a cell behind independent gates.
    """

    mean: float
    mean_square: float
    log_mean: float


def power_polynomial(power: int) -> tuple[int, ...]:
    """Return the coefficients of n^0, n^1, ... in n^(k + 1) E |W^k u|^2, |u| = 1 and W n x n, of N(0, 1/n) entries.

    Parameters
    ----------
    power : int
        k, from 1 to 12.

    Returns
    -------
    tuple of int
        Of length k + 2.

    Raises
    ------
    TypeError, ValueError
        If the power is outside.

    Notes
    -----
    Exact. W and Q W Q^T have the same law, so it is E tr W^k (W^T)^k, and Wick's theorem contracts two factors at a
    time. Fresh weights at every step have n^(k + 1) alone.

    Examples
    --------
    >>> power_polynomial(4)
    (0, 48, 28, 28, 0, 1)
    """
    k = whole_number("power", power)
    if k > MOST_POWERS:
        raise ValueError(f"power must be from 1 to {MOST_POWERS}, not {k}: take power_correction")
    counted = _contracted((_canonical("W" * k + "T" * k),))
    return tuple(counted.get(exponent, 0) for exponent in range(k + 2))


def power_squared_norm(power: int, width: int) -> float:
    """Return E |W^k u|^2 of one matrix used k times, |u| = 1 and W of independent N(0, 1/width) entries.

    Parameters
    ----------
    power : int
        k, from 1 to 12.
    width : int

    Returns
    -------
    float
        1 if W were drawn afresh at every step.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.

    Notes
    -----
    Exact, see `power_polynomial`.

    Examples
    --------
    >>> power_squared_norm(3, 100), power_squared_norm(4, 10)
    (1.001004, 1.3128)
    """
    n = whole_number("width", width)
    total = sum(times * n**exponent for exponent, times in enumerate(power_polynomial(power)))
    return float(Fraction(total, n ** (power + 1)))


def power_correction(power: int) -> int:
    """Return the coefficient of n^-2, the leading one, in E |W^k u|^2 - 1 at width n.

    Parameters
    ----------
    power : int
        k, from 1.

    Returns
    -------
    int

    Raises
    ------
    TypeError, ValueError
        If the power is outside.

    Notes
    -----
    (2 k^4 + 16 k^3 - 8 k^2 - 16 k, and 6 more for odd k) / 48. The pairings of that order are gluings of a few shapes,
    so that their number is a polynomial in k, one for even and one for odd k; its coefficients are fitted to the exact
    numbers of k = 2 to 7, and it has those of k = 1 to 12 too. (k^3 - 4 k^2 + 9 k - 8 has them from 2 to 6 only.)

    Examples
    --------
    >>> [power_correction(power) for power in (2, 3, 4, 5, 6, 7)]
    [2, 10, 28, 62, 118, 204]
    """
    k = whole_number("power", power)
    return (2 * k**4 + 16 * k**3 - 8 * k**2 - 16 * k + 6 * (k % 2)) // 48


Words = tuple[str, ...]  # of letters W and T = W^T: the trace of each word's product, all multiplied


def _transposed(word: str) -> str:
    return word[::-1].translate(str.maketrans("WT", "TW"))


def _canonical(word: str) -> str:
    """Return the last in the alphabet of the words with the same trace; it begins with W."""
    return max(turned[i:] + turned[:i] for turned in (word, _transposed(word)) for i in range(max(len(word), 1)))


@functools.cache
def _contracted(words: Words) -> dict[int, int]:
    """Return the mean of the product of traces, n^m times over for m pairs of letters: coefficients by power of n.

    The first letter is paired with every other one: tr(W X W Y) gives tr(X Y^T), tr(W X W^T Y) gives tr(X) tr(Y),
    tr(W X) tr(W Y) gives tr(X Y^T), and tr(W X) tr(W^T Y) gives tr(X Y).
    """
    if not words:
        return {0: 1}
    first, *rest = words
    if not first:
        return {exponent + 1: times for exponent, times in _contracted(tuple(rest)).items()}
    counted: dict[int, int] = {}
    for where, word in enumerate(words):
        for i in range(1 if where == 0 else 0, len(word)):
            if where == 0:
                x, y = word[1:i], word[i + 1 :]
                new, others = ([x, y] if word[i] == "T" else [x + _transposed(y)]), rest
            else:
                x, y = first[1:], word[i + 1 :] + word[:i]
                new = [x + (y if word[i] == "T" else _transposed(y))]
                others = [*words[1:where], *words[where + 1 :]]
            state = tuple(sorted([*others, *map(_canonical, new)]))
            for exponent, times in _contracted(state).items():
                counted[exponent] = counted.get(exponent, 0) + times
    return counted


def spectral_radius(gain: float = 1.0) -> float:
    """Return the largest modulus of the eigenvalues of W with independent entries of variance gain^2 / width: the gain.

    Parameters
    ----------
    gain : float, default 1
        From 0.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If the gain is outside.

    Notes
    -----
    The circular law, for width -> infinity and entries with a fourth moment (Bai & Yin 1986). The largest singular
    value is 2 gain; that of W^k is the root of `stabsim.theory.jacobian.largest_squared_singular_value`.

    Examples
    --------
    >>> spectral_radius(0.9)
    0.9
    """
    return number("gain", gain, 0.0)


def log_cell_gradient(bias: float, steps: int) -> float:
    """Return ln of the gradient that a memory cell passes back: steps times ln sigma(bias).

    Parameters
    ----------
    bias : float
        Of the forget gate.
    steps : int
        From 0.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.

    Notes
    -----
    The cell path alone, dc_t/dc_(t-1) = sigma(bias), where weights and inputs of the gate are 0 (Jozefowicz, Zaremba &
    Sutskever 2015; Hochreiter & Schmidhuber 1997). `gate_moments` has random gates.

    Examples
    --------
    >>> round(log_cell_gradient(1.0, 10_000), 9)
    -3132.616875182
    """
    return whole_number("steps", steps, 0) * float(log_expit(number("bias", bias)))


def cell_gradient(bias: float, steps: int) -> float:
    """Return sigma(bias)^steps: exp of `log_cell_gradient`, which has the parameters and conditions.

    Raises
    ------
    OverflowError
        If it is below float64.

    Examples
    --------
    >>> round(cell_gradient(1.0, 10), 15)
    0.043603542794129
    """
    return exponential(log_cell_gradient(bias, steps), "take log_cell_gradient")


def memory_time(bias: float) -> float:
    """Return the steps after which a memory cell has forgotten all but 1 / e: -1 / ln sigma(bias).

    Parameters
    ----------
    bias : float
        Of the forget gate, up to 700.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If the bias is outside.

    Notes
    -----
    As `log_cell_gradient`.

    Examples
    --------
    >>> round(memory_time(0.0), 12), round(memory_time(5.0), 9)
    (1.442695040889, 148.912599491)
    """
    return -1.0 / float(log_expit(number("bias", bias, high=700.0)))


def chrono_bias(steps: float) -> float:
    """Return the bias of the forget gate for memories of a length: ln(steps - 1), so that sigma(bias) = 1 - 1 / steps.

    Parameters
    ----------
    steps : float
        > 1.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If the steps are outside.

    Notes
    -----
    Tallec & Ollivier 2018 (arXiv:1804.11188), who draw the steps uniformly from 2 to the longest memory.

    Examples
    --------
    >>> round(cell_gradient(chrono_bias(100), 100), 14)
    0.36603234127323
    """
    return math.log(number("steps", steps, 1.0, open_ends=True) - 1.0)


def gate_moments(bias: float, std: float = 1.0) -> GateMoments:
    """Return means of sigma(bias + std z) over standard normal z.

    Parameters
    ----------
    bias : float
        From -500 to 500.
    std : float, default 1
        From 0 to 20.

    Returns
    -------
    GateMoments

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.

    Notes
    -----
    Quadrature by the trapezoidal rule: sigma is analytic up to the distance a = pi / std from the real line, so the
    error at step h is some exp(-2 pi a / h + a^2 / 2), below 1e-20.

    Examples
    --------
    >>> found = gate_moments(1.0)
    >>> round(found.mean_square, 13), round(found.log_mean, 13)
    (0.5187912899788, -0.4068562830875)
    """
    b, sigma = number("bias", bias, -500.0, 500.0), number("std", std, 0.0, 20.0)
    step = min(0.1, 0.3 / max(sigma, 1.0))
    z = step * np.arange(-math.ceil(60.0 / step), math.ceil(60.0 / step) + 1)
    logs = log_expit(b + sigma * z)
    density = -0.5 * z * z + math.log(step) - 0.5 * math.log(2.0 * math.pi)
    return GateMoments(
        float(np.sum(np.exp(logs + density))),
        float(np.sum(np.exp(2.0 * logs + density))),
        float(np.sum(logs * np.exp(density))),
    )
