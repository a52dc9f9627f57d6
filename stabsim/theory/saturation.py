"""How often a normal pre-activation lies beyond a threshold, where f saturates."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc, log_ndtr

from stabsim.checks import number, whole_number
from stabsim.theory.log_concave import log_integral

Floats = NDArray[np.float64]

LARGEST_RATIO = 1e100  # of a threshold to the standard deviation


def saturated_probability(threshold: float, std: float) -> float:
    """Return P(|s| > threshold) of a normal pre-activation s of mean 0.

    Parameters
    ----------
    threshold : float
        From 0.
    std : float
        Of s, > 0.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.

    Notes
    -----
    Exact for a unit with normal weights and bias and a given x: the standard deviation is `preactivation_std`.

    Examples
    --------
    >>> round(saturated_probability(3.0, 10.0), 14)
    0.76417715562209
    """
    ratio = number("threshold", threshold, 0.0) / number("std", std, 0.0, open_ends=True)
    return float(erfc(ratio / math.sqrt(2.0)))


def saturated_probability_of_normal_inputs(threshold: float, weight_std: float, inputs: int) -> float:
    """Return P(|s| > threshold) of s = sum w_i x_i, x_i standard normal and w_i normal, all independent.

    Parameters
    ----------
    threshold : float
        From 0.
    weight_std : float
        Of the weights, > 0.
    inputs : int
        How many.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.

    Notes
    -----
    Exact: `saturated_probability` at the standard deviation weight_std |x|, averaged over |x|^2, a chi-square.

    Examples
    --------
    >>> round(saturated_probability_of_normal_inputs(3.0, 1.0, 100), 12)
    0.762497678248
    """
    n = whole_number("inputs", inputs)
    std = number("weight_std", weight_std, 0.0, open_ends=True) * math.sqrt(n)
    ratio = number("threshold", threshold, 0.0) / std
    if ratio > LARGEST_RATIO:
        raise ValueError(f"threshold must be at most {LARGEST_RATIO:g} weight_std sqrt(inputs), not {threshold!r}")

    def log_chi(v: Floats) -> Floats:  # density of v = ln(|x| / sqrt(n)), but for a factor
        with np.errstate(over="ignore"):
            return np.asarray(n * (v - 0.5 * np.expm1(2.0 * v)))

    def log_density(v: Floats) -> Floats:
        return np.asarray(log_chi(v) + log_ndtr(-ratio * np.exp(-v)) + math.log(2.0))

    highest = math.log1p(ratio) + 1.0  # |x|^2 need not be larger for s to be
    return math.exp(log_integral(log_density, -1.0, highest) - log_integral(log_chi, -1.0, 1.0))


def preactivation_std(input_norm: float, weight_std: float, bias_std: float = 0.0) -> float:
    """Return the standard deviation of s = w . x + b over independent weights and biases, for a given x.

    Parameters
    ----------
    input_norm : float
        |x|, from 0.
    weight_std, bias_std : float
        From 0; no bias unless told.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.

    Notes
    -----
    Exact for centered weights and biases (Nielsen, Neural Networks and Deep Learning, chapter 3).

    Examples
    --------
    >>> round(preactivation_std(500**0.5, 1.0, 1.0), 12)
    22.383029285599
    """
    norm, weight = number("input_norm", input_norm, 0.0), number("weight_std", weight_std, 0.0)
    return math.hypot(norm * weight, number("bias_std", bias_std, 0.0))
