"""Exact zeros of ReLU nets: dead samples, dead units, and the zeros of signals and gradients.

Nets have no biases and independent weights with a symmetric density, and f'(0) = 0: given the layer before, each unit
is off with probability 1/2, independently of the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from stabsim.checks import number, whole_number, whole_numbers
from stabsim.theory.closed_forms import arc_cosine
from stabsim.theory.finite_width import log_alive_probability
from stabsim.theory.log_concave import log_integral

Floats = NDArray[np.float64]

DEEPEST = 10**6  # layers


def dead_probability(widths: Sequence[int]) -> float:
    """Return the probability that a sample is dead at the last layer: that some layer is entirely 0.

    Parameters
    ----------
    widths : sequence of int
        Units of every layer, the input's first.

    Returns
    -------
    float
        Of one layer of n units it is 2^-n.

    Raises
    ------
    TypeError, ValueError
        If the widths are not whole numbers >= 1.

    Notes
    -----
    Exact for a sample that is not 0. It bounds from above the probability that the net is born dead (Lu et al. 2019,
    arXiv:1903.06733), which is that all samples are.

    Examples
    --------
    >>> dead_probability((100, 4)), round(dead_probability((10,) * 21), 12)
    (0.0625, 0.019351109195)
    """
    return -math.expm1(log_alive_probability(widths))


def activation_zero_fraction(widths: Sequence[int]) -> float:
    """Return the mean fraction of zeros among f(s_L), as among f'(s_L): 1 - P(alive before) / 2.

    Parameters
    ----------
    widths : sequence of int
        Units of every layer up to this one, the input's first.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If the widths are not two or more whole numbers >= 1.

    Notes
    -----
    Exact for a sample that is not 0.

    Examples
    --------
    >>> round(activation_zero_fraction((10,) * 21), 12)
    0.509196254064
    """
    layers = whole_numbers("widths", widths)
    return gradient_zero_fraction(layers, len(layers) - 1)


def gradient_zero_fraction(widths: Sequence[int], layer: int) -> float:
    """Return the mean fraction of zeros among ds_l, the gradient with respect to the pre-activations of a layer.

    Parameters
    ----------
    widths : sequence of int
        Units of every layer, the input's first.
    layer : int
        From 1 to the last.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If the widths are not two or more whole numbers >= 1 or the layer is another.

    Notes
    -----
    Exact for a sample that is not 0 and a gradient dz_L without zeros: ds_l is not 0 where the unit is on, which takes
    live layers before, and where the layers after it are alive. At equal widths all layers have the same.

    Examples
    --------
    >>> round(gradient_zero_fraction((4,) * 11, 3), 12)
    0.720287746641
    """
    layers = _layers(widths, layer)
    others = layers[:layer] + layers[layer + 1 :]
    return 1.0 - 0.5 * math.exp(log_alive_probability(others))


def delta_mean_square(widths: Sequence[int], layer: int) -> float:
    """Return E |ds_l|^2 / |dz_L|^2, the squared gradient with respect to pre-activations of a He net.

    Parameters
    ----------
    widths : sequence of int
        Units of every layer, the input's first.
    layer : int
        From 1 to the last.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If the widths are not two or more whole numbers >= 1 or the layer is another.

    Notes
    -----
    1/2 P(alive before the layer), exact for weights of variance 2 / fan_in, a sample that is not 0, and a gradient dz_L
    whose entries have mean 0 and are uncorrelated, or with one entry that is not 0. It does not hold for other given
    gradients: entries W_ij f'(s_i) have a mean along z_(l-1), so that those of equal signs add up.

    Examples
    --------
    >>> delta_mean_square((6,) * 11, 3)
    0.4844970703125
    """
    return 0.5 * math.exp(log_alive_probability(_layers(widths, layer)[:layer]))


def born_dead_bounds(width: int, depth: int) -> tuple[float, float]:
    """Return bounds of the probability that a ReLU net on the line is dead for every input.

    Parameters
    ----------
    width : int
        Units of every hidden layer.
    depth : int
        Hidden layers.

    Returns
    -------
    (float, float)
        Lower and upper.

    Raises
    ------
    TypeError, ValueError
        If they are not whole numbers >= 1.

    Notes
    -----
    One input unit: the inputs are two rays (Lu et al. 2019, arXiv:1903.06733, whose L counts the output's layer too).
    The lower bound is the probability that a chain has lost both directions, as if two stayed at right angles: with
    q = 2^-n both die with probability q^2; one does with 2 q - 2 q^2, or both become one with n q^2, as the same single
    unit is on; the last one dies with q. So it is computed here: the differences of powers in the paper cancel.

    Examples
    --------
    >>> [round(bound, 12) for bound in born_dead_bounds(2, 10)]
    [0.902566074517, 0.943686485291]
    """
    n, depth = whole_number("width", width), whole_number("depth", depth, 1, DEEPEST)
    q = 0.5**n
    loses_one = 2.0 * q + (n - 2) * q * q
    steps = np.array([[1.0, q, q * q], [0.0, 1.0 - q, loses_one], [0.0, 0.0, 1.0 - loses_one - q * q]])
    rays = np.array([0.0, 2.0 * q, 1.0 - 2.0 * q])  # none, one or two of them alive after the first layer
    lower = (np.linalg.matrix_power(steps, depth - 1) @ rays)[0]
    return float(lower), dead_probability((1, *(n,) * depth))


def unit_dead_probability(inputs: int, correlation: float) -> float:
    """Return the probability that a ReLU unit is off on all of several inputs of equal correlation.

    Parameters
    ----------
    inputs : int
        How many.
    correlation : float
        Of the unit's pre-activations: the cosine of any two inputs of a layer without biases. From 0 to 1; from -1 if
        there are two inputs or one.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.

    Notes
    -----
    Exact for normal weights: the orthant probability of equicorrelated normal variables, which is the mean of
    Phi(sqrt(c / (1 - c)) z)^m over normal z. It is 2^-m at c = 0 and 1 / (m + 1) at c = 1/2.

    Examples
    --------
    >>> [round(unit_dead_probability(5, correlation), 12) for correlation in (0.0, 0.5, 0.9)]
    [0.03125, 0.166666666667, 0.352738773142]
    """
    m = whole_number("inputs", inputs)
    c = number("correlation", correlation, -1.0 if m <= 2 else 0.0, 1.0)
    if m == 1 or c == 1.0:
        return 0.5
    if m == 2:
        return math.acos(-c) / (2.0 * math.pi)
    if c == 0.0:
        return 0.5**m
    slope = math.sqrt(c / (1.0 - c))
    stretch = max(slope, 1.0)  # so that neither factor changes within less than 1

    def log_density(x: Floats) -> Floats:
        return np.asarray(m * log_ndtr(slope / stretch * x) - 0.5 * np.square(x / stretch))

    # The largest value is where m slope / Phi phi = z, which m slope bounds, and so does the tail of phi.
    highest = stretch * min(m * slope, 13.0 / slope) + 1.0
    return math.exp(log_integral(log_density, 0.0, highest) - math.log(stretch) - 0.5 * math.log(2.0 * math.pi))


def unit_dead_probability_at(layer: int, inputs: int, correlation: float = 0.0) -> float:
    """Return the probability that a unit of a wide He net is off on all of several inputs.

    Parameters
    ----------
    layer : int
        From 1.
    inputs : int
        How many.
    correlation : float, default 0
        The cosine of any two inputs of the net, from 0 to 1.

    Returns
    -------
    float
        It tends to 1/2, slowly.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.

    Notes
    -----
    `unit_dead_probability` at the correlation that layer - 1 arc-cosine maps (Cho & Saul, NeurIPS 2009, order 1) leave;
    for width -> infinity, weights of variance 2 / fan_in and no biases.

    Examples
    --------
    >>> round(unit_dead_probability_at(5, inputs=10), 12)
    0.164114907731
    """
    c = number("correlation", correlation, 0.0, 1.0)
    for _ in range(whole_number("layer", layer) - 1):
        c = min(float(arc_cosine(1, c)), 1.0)  # rounding may exceed 1
    return unit_dead_probability(inputs, c)


def always_dead_probability(inputs: int, units: int) -> float:
    """Return the probability that a unit of the second hidden layer is off, whatever the input.

    Parameters
    ----------
    inputs : int
        Dimension of the inputs, which are all of the space.
    units : int
        Of the first hidden layer: up to ``inputs + 1``.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If they are no whole numbers >= 1, or there are more units.

    Notes
    -----
    Exact for weights and biases of symmetric densities (Brownlowe et al. 2024, arXiv:2412.06829; for more
    units they have a conjecture). Up to as many units as inputs, the first layer reaches all of the positive orthant,
    so all weights and the bias must be negative: 2^-(units + 1). A unit of the first layer is off only on a half-space.

    Examples
    --------
    >>> [always_dead_probability(inputs, units) for inputs, units in ((1, 1), (1, 2), (2, 2), (2, 3))]
    [0.25, 0.1875, 0.125, 0.078125]
    """
    inputs, units = whole_number("inputs", inputs), whole_number("units", units)
    if units > inputs + 1:
        raise ValueError(f"units must be up to inputs + 1 = {inputs + 1}, beyond which no law is known, not {units}")
    return 0.5 ** (units + 1) if units <= inputs else (1.0 + 0.5**inputs) * 0.5 ** (inputs + 2)


def _layers(widths: Sequence[int], layer: int) -> tuple[int, ...]:
    layers = whole_numbers("widths", widths)
    if len(layers) < 2:
        raise ValueError(f"widths must be those of the input and of one layer or more, not {widths!r}")
    if not 1 <= whole_number("layer", layer) < len(layers):
        raise ValueError(f"layer must be from 1 to {len(layers) - 1}, not {layer}")
    return layers
