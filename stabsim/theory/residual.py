"""Growth of signals and gradients through blocks x_l = x_(l-1) + scale branch(x_(l-1)), with fresh weights a block.

There are no biases. x and the branch are uncorrelated, or their correlation is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stabsim.activations import Activation
from stabsim.checks import number, whole_number
from stabsim.theory.finite_width import exponential, log_squared_norm_moment
from stabsim.theory.gaussian import moments

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ResidualProfile:
    """Laws of a wide residual net at every block, (depth + 1,).

    Attributes
    ----------
    mean, mean_square : array
        Of x_l over units; the input's first.
    log_gradient_growth : array
        ln of |dL/dx_0|^2 / |dL/dx_l|^2 = product of 1 + scale^2 gain^2 E f'^2 over the first l blocks.
    """

    mean: Floats
    mean_square: Floats
    log_gradient_growth: Floats


def squared_norm_growth(branch: Sequence[float], *, depth: int = 1, scale: float = 1.0) -> float:
    """Return E |x_L|^2 / |x_0|^2, which is E |dL/dx_0|^2 / |dL/dx_L|^2 as well.

    Parameters
    ----------
    branch : sequence of float
        Fan-in times weight variance of every matrix of the branch, each > 0; ReLU is between them. So ``(a,)`` is
        x + W x, and ``(2, 1)`` is x + W_2 relu(W_1 x) with He weights inside.
    depth : int, default 1
        L, blocks.
    scale : float, default 1
        Of the branch; from 0.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.
    OverflowError
        If it is outside float64: take depth times the logarithm of one block's.

    Notes
    -----
    (1 + scale^2 g)^L, g being the product of the branch times 1/2 per ReLU. Exact at any width for independent centered
    weights, symmetric ones if there is a ReLU; at depth L with scale 1 / sqrt(L) it tends to exp(g), with 1 / L to 1
    (Hanin & Rolnick 2018, arXiv:1803.01719; Hayou et al. 2021, arXiv:2010.12859).

    Examples
    --------
    >>> squared_norm_growth((2, 1), depth=10), squared_norm_growth((2, 2), depth=10)
    (1024.0, 59049.0)
    >>> round(squared_norm_growth((2, 1), depth=50, scale=50**-0.5), 13)
    2.6915880290736
    """
    return _power(1.0 + number("scale", scale, 0.0) ** 2 * _branch_gain(branch), depth)


def squared_norm_second_moment(
    branch: Sequence[float], width: int, *, hidden: int | None = None, depth: int = 1, scale: float = 1.0
) -> float:
    """Return E |x_L|^4 / |x_0|^4.

    Parameters
    ----------
    branch, depth, scale
        As in `squared_norm_growth`.
    width : int
        Units of x.
    hidden : int, default ``width``
        Units of the layers inside the branch.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `squared_norm_growth`.

    Notes
    -----
    Exact for normal weights. With b the branch, |x + b|^4 has the mean |x|^4 + 2 |x|^2 E |b|^2 + 4 E (x . b)^2 +
    E |b|^4: a block's factor is 1 + 2 g + 4 g / n + g^2 (1 + 2 / n) (1 + 5 / hidden)^k with k ReLU layers inside, g
    being that of `squared_norm_growth` times scale^2.

    Examples
    --------
    >>> round(squared_norm_second_moment((2, 1), 10, depth=3), 12)
    140.608
    """
    n, g = whole_number("width", width), number("scale", scale, 0.0) ** 2 * _branch_gain(branch)
    inside = (n, *(whole_number("hidden", n if hidden is None else hidden),) * (len(branch) - 1))
    log_spread = math.log1p(2.0 / n)
    if len(inside) > 1:
        log_spread += log_squared_norm_moment(inside, 2, activation="relu") - 2.0 * math.log(inside[-1] / n)
    factor = 1.0 + 2.0 * g + 4.0 * g / n + g**2 * math.exp(log_spread)
    return _power(factor, depth)


def _power(factor: float, depth: int) -> float:
    power = whole_number("depth", depth)
    exponential(power * math.log(factor), "take depth times the logarithm of one block's")
    return float(factor**power)


def _branch_gain(branch: Sequence[float]) -> float:
    """Return E |branch(x)|^2 / |x|^2."""
    if isinstance(branch, str) or not isinstance(branch, Sequence) or len(branch) == 0:
        raise TypeError(f"branch must be a sequence of numbers > 0, one of each weight matrix, not {branch!r}")
    return math.prod(number("branch", each, 0.0, open_ends=True) for each in branch) * 0.5 ** (len(branch) - 1)


def residual_profile(
    activation: str | Activation,
    depth: int,
    *,
    gain: float = 1.0,
    scale: float = 1.0,
    mean: float = 0.0,
    mean_square: float = 1.0,
) -> ResidualProfile:
    """Return how x_l = x_(l-1) + scale f(W x_(l-1)) and its gradient grow in a wide net.

    Parameters
    ----------
    activation : str or Activation
        f.
    depth : int
        Blocks.
    gain : float, default 1
        The standard deviation of the weights times the square root of the fan-in; > 0.
    scale : float, default 1
        Of the branch; from 0.
    mean, mean_square : float, default 0 and 1
        Of the input over units.

    Returns
    -------
    ResidualProfile

    Raises
    ------
    TypeError, ValueError
        If an argument is outside, or the mean square leaves what `moments` takes.

    Notes
    -----
    The reduced residual net of Yang & Schoenholz 2017 (arXiv:1712.08969), for width -> infinity; means are kept
    besides, so that f need not be odd. tanh nets: mean squares grow linearly, gradients as exp(c sqrt(L)).

    Examples
    --------
    >>> found = residual_profile("tanh", 50)
    >>> round(float(found.mean_square[50]), 10), round(math.exp(found.log_gradient_growth[50]), 8)
    (39.5935258325, 1361.17058377)
    """
    blocks = whole_number("depth", depth)
    gain, scale = number("gain", gain, 0.0, open_ends=True), number("scale", scale, 0.0)
    means, squares, steps = [number("mean", mean)], [number("mean_square", mean_square, mean**2)], [0.0]
    for _ in range(blocks):
        found = moments(activation, gain**2 * squares[-1])
        step = scale * float(found.mean)
        squares.append(squares[-1] + 2.0 * means[-1] * step + scale**2 * float(found.mean_square))
        means.append(means[-1] + step)
        steps.append(math.log1p((scale * gain) ** 2 * float(found.derivative_mean_square)))
    return ResidualProfile(np.array(means), np.array(squares), np.cumsum(steps))


def fixup_scale(depth: int, layers: int) -> float:
    """Return the factor of the weights inside a branch under Fixup initialization: depth^(-1 / (2 layers - 2)).

    Parameters
    ----------
    depth : int
        Blocks.
    layers : int
        Weight matrices in a branch, from 2; the last one begins at 0.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.

    Notes
    -----
    Zhang, Dauphin & Ma 2019 (arXiv:1901.09321), section 3.

    Examples
    --------
    >>> round(fixup_scale(100, 2), 15), round(fixup_scale(100, 3), 14)
    (0.1, 0.31622776601684)
    """
    return float(whole_number("depth", depth) ** (-1.0 / (2.0 * whole_number("layers", layers, 2) - 2.0)))


def normalized_branch_variance(depth: int, start: float = 1.0) -> float:
    """Return Var x_L where every branch ends at variance 1: start + L.

    Parameters
    ----------
    depth : int
        L, blocks; from 0.
    start : float, default 1
        Var x_0, from 0.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.

    Notes
    -----
    For a normalization over the batch in front of a He branch that keeps the variance, and width -> infinity
    (De & Smith 2020, arXiv:2002.10444).

    Examples
    --------
    >>> normalized_branch_variance(50)
    51.0
    """
    return number("start", start, 0.0) + whole_number("depth", depth, 0)
