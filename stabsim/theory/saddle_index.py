"""Share of negative Hessian eigenvalues against energy, in two random-matrix models of a loss surface.

A Wishart plus a Wigner matrix (Pennington & Bahri 2017) and the shifted semicircle of a Gaussian landscape (Bray & Dean
2007), both in the limit of many parameters.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim.checks import array, number

Floats = NDArray[np.float64]

_SINE_TERMS = [(-1.0) ** k / math.factorial(2 * k + 3) for k in range(10)][::-1]  # of (u - sin u) / u^3, in u^2

RANGE = (1e-9, 1e9)  # of ratios and energies: further out the cubic's roots lose their digits


def wigner_wishart_density(x: ArrayLike, ratio: float, energy: float) -> Floats:
    """Return the spectral density of a Wishart matrix plus an independent Wigner matrix.

    Parameters
    ----------
    x : array
        Where, of any shape.
    ratio : float
        Of the Wishart matrix, rows by columns: parameters by data. Positive.
    energy : float
        Positive; the Wigner matrix has a semicircle of variance 2 energy.

    Returns
    -------
    array
        Of the shape of x, with integral 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range; at energy 0 it is `marchenko_pastur`.

    Notes
    -----
    The resolvent g solves z = 1 / g + 1 / (1 - ratio g) + 2 energy g, which adds R-transforms (Pennington & Bahri 2017,
    ICML, section 4); solved here for 1 / g, which stays bounded. Near an edge errors are the root of rounding.

    Examples
    --------
    >>> wigner_wishart_density([0.0, 1.0], 0.25, 0.1)
    array([0.34602326, 0.48037691])
    """
    phi = number("ratio", ratio, *RANGE)
    variance = 2 * number("energy", energy, *RANGE)
    z = array("x", x)
    companion = np.zeros((*z.shape, 3, 3))
    companion[..., 0, 0] = z + phi - 1
    companion[..., 0, 1] = -(variance + phi * z)
    companion[..., 0, 2] = variance * phi
    companion[..., 1, 0] = companion[..., 2, 1] = 1.0
    inverse = np.linalg.eigvals(companion).astype(np.complex128)
    return np.asarray(np.max(np.imag(1 / inverse), axis=-1) / math.pi)


def wigner_wishart_index(ratio: float, energy: float) -> float:
    """Return the share of negative eigenvalues of a Wishart matrix plus an independent Wigner matrix.

    Parameters
    ----------
    ratio : float
        Of the Wishart matrix, parameters by data. Positive.
    energy : float
        At least 0; the Wigner matrix has a semicircle of variance 2 energy.

    Returns
    -------
    float
        0 up to the `critical_energy`; above it to about 1e-15 energy / (energy - critical energy), relatively.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range.

    Notes
    -----
    The model is Pennington & Bahri's (2017, ICML), who expand this near the critical energy. The closed form was
    derived here: with dz expressed by dg the integral of g is elementary, and if g = -p + i y at z = 0, the index is
    (e(arg(p + i y)) - e(arg(1 + ratio p + i ratio y)) / ratio) / pi with e(a) = a - sin(a) cos(a).

    Examples
    --------
    >>> round(wigner_wishart_index(0.25, 2 * critical_energy(0.25)), 12), wigner_wishart_index(0.25, 0.04)
    (0.041467054968, 0.0)
    """
    phi, epsilon = number("ratio", ratio, *RANGE), number("energy", energy, 0.0, RANGE[1])
    if epsilon == 0:
        return 0.0
    p, square = _resolvent_at_zero(phi, epsilon)
    if square <= 0:
        return 0.0
    y = math.sqrt(square)
    return (_excess(math.atan2(y, p)) - _excess(math.atan2(phi * y, 1 + phi * p)) / phi) / math.pi


def critical_energy(ratio: float) -> float:
    """Return the energy up to which a Wishart plus a Wigner matrix has no negative eigenvalues.

    Parameters
    ----------
    ratio : float
        Of the Wishart matrix, parameters by data, 0 to 1. Above 1 any Wigner matrix makes some of its zeros negative.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If the ratio is outside its range.

    Notes
    -----
    (1 - 20 phi - 8 phi^2 + (1 + 8 phi)^(3/2)) / 16 (Pennington & Bahri 2017, ICML), written without cancellation:
    4 (1 - phi)^3 (1 + s) / (3 + s)^3 with s = sqrt(1 + 8 phi).

    Examples
    --------
    >>> round(critical_energy(0.25), 15), critical_energy(0.0)
    (0.043509526419165, 0.125)
    """
    phi = number("ratio", ratio, 0.0, 1.0)
    root = math.sqrt(1 + 8 * phi)
    return 4 * (1 - phi) ** 3 * (1 + root) / (3 + root) ** 3


def bray_dean_index(energy: float) -> float:
    """Return the share of negative eigenvalues at the stationary points of a Gaussian landscape with that energy.

    Parameters
    ----------
    energy : float
        In units of the threshold 2 |f'(0)| / sqrt(f''(0)), from -1, below which stationary points are minima, to 1,
        where C = N f(|x - y|^2 / 2N) is the covariance of the landscape.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If the energy is not in -1 .. 1.

    Notes
    -----
    1/2 + (x sqrt(1 - x^2) + arcsin x) / pi in the limit of many dimensions: the Hessian is a semicircle, shifted by the
    energy (Bray & Dean 2007, PRL 98, 150201).

    Examples
    --------
    >>> bray_dean_index(-1.0), round(bray_dean_index(-0.5), 12)
    (0.0, 0.195501109478)
    """
    x = number("energy", energy, -1.0, 1.0)
    return _excess(2 * math.asin(math.sqrt((1 + x) / 2))) / math.pi


def bray_dean_energy(index: float) -> float:
    """Return the energy of stationary points of a Gaussian landscape with that share of negative eigenvalues.

    Parameters
    ----------
    index : float
        0 to 1.

    Returns
    -------
    float
        In units of the threshold, -1 to 1: the inverse of `bray_dean_index`.

    Raises
    ------
    TypeError, ValueError
        If the index is not in 0 .. 1.

    Notes
    -----
    As for `bray_dean_index`.

    Examples
    --------
    >>> round(bray_dean_energy(0.1), 12), bray_dean_energy(0.5)
    (-0.687048826133, 0.0)
    """
    from scipy.optimize import brentq

    alpha = number("index", index, 0.0, 1.0)
    if alpha > 0.5:
        return -bray_dean_energy(1 - alpha)
    if alpha == 0.5:
        return 0.0
    return -math.cos(float(brentq(lambda angle: _excess(angle) - math.pi * alpha, 0.0, math.pi / 2, xtol=1e-16)))


def _excess(angle: float) -> float:
    """Return a - sin a cos a, to full relative precision."""
    u = 2 * angle
    if u > 1:
        return 0.5 * (u - math.sin(u))
    return 0.5 * u**3 * float(np.polyval(_SINE_TERMS, u * u))


def _resolvent_at_zero(phi: float, epsilon: float) -> tuple[float, float]:
    """Return p and y^2 of the resolvent -p + i y at z = 0; y^2 is negative where it is real.

    The real root of its cubic is 1 / phi + 2 p, by the sum of the roots, so 2 p solves an equation with one positive
    solution; the product of the roots gives p^2 + y^2.
    """
    from scipy.optimize import brentq

    largest = 0.5 / epsilon
    twice = float(brentq(
        lambda s: s * (2 * epsilon * (1 + phi * s) ** 2 - phi * (1 - phi)) - 1,
        0.0, largest, xtol=np.finfo(float).tiny, rtol=4 * np.finfo(float).eps, maxiter=1000,
    ))  # fmt: skip
    return 0.5 * twice, largest / (1 + phi * twice) - 0.25 * twice**2
