"""Batch normalization makes gradients explode: by how much a layer, for a batch of any size and any activation.

Pre-activations of a unit over the batch are centered and brought to variance 1 before f. In a wide and deep net every
permutation of the samples is alike, and then the normalized batch of a unit is uniform on the sphere of radius
sqrt(B) in the B - 1 dimensions orthogonal to (1, ..., 1) (Yang et al. 2019, arXiv:1902.08129, section 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

from stabsim import activations
from stabsim.activations import Activation
from stabsim.checks import whole_number
from stabsim.theory import quadrature
from stabsim.theory.gaussian import moments

Floats = NDArray[np.float64]

LARGEST_BATCH = 10**6  # beyond, differences of large terms cost digits, and the limit is as good


def batch_norm_gradient_rate(activation: str | Activation, batch: int | None = None) -> float:
    """Return the factor on the mean square of gradients, a layer, of a wide and deep net with batch normalization.

    Parameters
    ----------
    activation : str or Activation
        f, which follows the normalization: a name of the registry, or the user's own.
    batch : int or None
        Samples B, from 4 (below, the mean is infinite) to 10^6. None: an infinite batch, E f'(s)^2 / Var f(s).

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or the activation is constant.

    Notes
    -----
    Fully connected layers, normalization before f, no epsilon, gamma = 1 and beta = 0, gradients independent of the
    weights of the forward pass, width to infinity. With u uniform on the unit sphere orthogonal to 1, s = sqrt(B) u,
    G = I - 11^T / B and P = G - u u^T the rate is B / ((B - 1) (B - 3) (a - b)) E sum_ij f'(s_i) f'(s_j) G_ij P_ij,
    where a = E f(s_1)^2 and b = E f(s_1) f(s_2): Yang et al. 2019, theorems 8 and 9, here for any f. It is
    (B - 2) / (B - 3) without f. Finite nets average a heavy tail (1 / chi-square of B - 1 degrees): its variance needs
    B >= 6.

    Examples
    --------
    >>> round(batch_norm_gradient_rate("relu", 8), 10), round(batch_norm_gradient_rate("linear", 8), 10)
    (1.7881899767, 1.2)
    >>> round(batch_norm_gradient_rate("relu"), 10)  # pi / (pi - 1)
    1.4669422069
    """
    chosen = activations.activation(activation)
    if batch is None:
        at = moments(chosen)
        if at.variance <= 0.0:
            raise ValueError(f"activation {str(chosen)!r} is constant")
        return at.derivative_mean_square / at.variance
    size = _batch(batch)
    at_sphere = _sphere_moments(chosen, size)
    apart = at_sphere.square - at_sphere.product
    if apart <= 0.0:
        raise ValueError(f"activation {str(chosen)!r} is constant")
    return size / ((size - 1) * (size - 3) * apart) * at_sphere.passed


def batch_norm_correlation(activation: str | Activation, batch: int | None = None) -> float:
    """Return E f(s_1) f(s_2) / E f(s_1)^2 of two samples of a batch, to which deep nets with batch normalization tend.

    Parameters
    ----------
    activation : str or Activation
        f, which follows the normalization: a name of the registry, or the user's own.
    batch : int or None
        Samples B, from 4 to 10^6. None: an infinite batch, (E f(s))^2 / E f(s)^2.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or f is 0.

    Notes
    -----
    Yang et al. 2019 (arXiv:1902.08129), section 3; the conditions of `batch_norm_gradient_rate`.

    Examples
    --------
    >>> round(batch_norm_correlation("relu"), 12), round(batch_norm_correlation("linear", 5), 12)
    (0.318309886184, -0.25)
    """
    chosen = activations.activation(activation)
    if batch is None:
        at = moments(chosen)
        square, product = at.mean_square, at.mean**2
    else:
        at_sphere = _sphere_moments(chosen, _batch(batch))
        square, product = at_sphere.square, at_sphere.product
    if square == 0.0:
        raise ValueError(f"activation {str(chosen)!r} is 0 everywhere")
    return product / square


def _batch(batch: int) -> int:
    return whole_number("batch", batch, 4, LARGEST_BATCH)


@dataclass(frozen=True)
class _SphereMoments:
    square: float  # E f(s_1)^2
    product: float  # E f(s_1) f(s_2)
    passed: float  # E sum_ij f'(s_i) f'(s_j) G_ij P_ij


def _sphere_moments(activation: Activation, batch: int) -> _SphereMoments:
    """Integrate over s_1, then, given it, over s_2: along sines of angles both have powers of cosines as densities."""
    radius, dimension = math.sqrt(batch - 1.0), batch - 1
    ends = quadrature.panels(activation, quadrature.reach_of(radius))
    correlation = -1.0 / dimension
    kinks = np.array([kink for kink in activation.kinks if abs(kink) < radius])
    touching = np.sqrt((1.0 - correlation**2) * (radius**2 - kinks**2))  # where a kink of s_2 enters its range
    all_ends = np.sort(np.concatenate([ends, correlation * kinks - touching, correlation * kinks + touching]))
    one = _nodes(all_ends, np.zeros(1), np.full(1, radius), dimension - 2)
    center = (correlation * one.x).reshape(-1)
    rest = np.sqrt((1.0 - correlation**2) * np.maximum(radius**2 - one.x**2, 1e-300)).reshape(-1)
    other = _nodes(ends, center, rest, dimension - 3)
    (f_one, d_one), (f_other, d_other) = (
        quadrature.evaluate(activation, one.x),
        quadrature.evaluate(activation, other.x),
    )

    def given_one(values: Floats) -> Floats:
        return other.mean(values, center.size).reshape(one.x.shape)

    def mean(values: Floats) -> float:
        return float(one.mean(values, 1)[0])

    kept = 1.0 - 1.0 / batch
    diagonal = mean(d_one**2 * kept * (kept - one.x**2 / batch))
    off_diagonal = mean(d_one * (given_one(d_other) + one.x * given_one(d_other * other.x))) / batch**2
    passed = batch * diagonal + batch * (batch - 1) * off_diagonal
    return _SphereMoments(mean(f_one**2), mean(f_one * given_one(f_other)), passed)


def _nodes(ends: Floats, center: Floats, radius: Floats, power: int) -> quadrature.Nodes:
    """Return nodes of the laws of center + radius sin(angle), where the angle's density is cos(angle)^power."""
    reach = min(0.5 * math.pi, 10.0 / math.sqrt(power + 1.0))  # beyond lies less than 1e-20
    steps = np.linspace(-reach, reach, 9)
    sines = np.clip((ends[None, :] - center[:, None]) / radius[:, None], -1.0, 1.0)
    cuts = np.concatenate([np.arcsin(sines), np.tile(steps, (len(center), 1))], axis=1)
    angle = quadrature.on_panels(np.clip(cuts, -reach, reach))
    sine = np.sin(angle.x)
    log_density = 0.5 * power * np.log1p(-sine * sine) - betaln(0.5, 0.5 * (power + 1.0))
    x = center[angle.owner, None] + radius[angle.owner, None] * sine
    return quadrature.Nodes(angle.owner, x, np.exp(log_density) * angle.weights)
