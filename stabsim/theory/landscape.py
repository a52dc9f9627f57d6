"""Critical points of deep linear nets in closed form: losses, Hessians and signs of their eigenvalues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim.checks import array, number, whole_number

Floats = NDArray[np.float64]


class CriticalPoint(NamedTuple):
    """A critical point: its loss, and how many eigenvalues of its Hessian are negative, zero and positive."""

    loss: float
    negative: int
    zero: int
    positive: int


def autoencoder_critical_point(eigenvalues: ArrayLike, hidden: int, kept: Sequence[int]) -> CriticalPoint:
    """Return loss and Hessian signs where a linear autoencoder with one hidden layer reproduces some eigenvectors.

    Parameters
    ----------
    eigenvalues : array (n,)
        Of the covariance S of the data, >= 0, in any order, equal ones allowed.
    hidden : int
        Units p of the hidden layer.
    kept : sequence of int
        Positions, from 0, of the eigenvalues whose eigenvectors U_I are reproduced; at most p and n, all different.

    Returns
    -------
    CriticalPoint
        Of the 2 n p weights of A and B.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range.

    Notes
    -----
    The loss is tr((1 - A B) S (1 - A B)^T) / 2; its critical points are A = U_I C, B = C^-1 U_I^T with invertible C
    (Baldi & Hornik 1989), here with unused units that have no weights on either side. Signs of the Hessian do not
    depend on C, and were derived here at C = 1: kept and unkept eigenvalues l_i, l_j give [[l_i, -l_j], [-l_j, l_j]],
    two kept ones l_i (x + y)^2, unused units +-l_j.

    Examples
    --------
    >>> autoencoder_critical_point([4, 3, 2, 1], 2, (0, 2))
    CriticalPoint(loss=2.0, negative=1, zero=4, positive=11)
    """
    values = array("eigenvalues", eigenvalues, 0.0)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"eigenvalues must have one dimension and an entry, not shape {values.shape}")
    n, units = len(values), whole_number("hidden", hidden)
    chosen = _positions(kept, n, units)
    inside, outside = values[chosen], np.delete(values, chosen)
    unused = units - len(chosen)
    varied = int(np.count_nonzero(outside))
    above = int(np.count_nonzero((inside[:, None] > outside) & (outside > 0)))
    below = int(np.count_nonzero(inside[:, None] < outside))
    negative = below + unused * varied
    mixed = int(np.count_nonzero(inside[:, None] + outside))  # each has one positive, and a second where above
    positive = len(chosen) * int(np.count_nonzero(inside)) + mixed + above + unused * varied
    zero = 2 * n * units - negative - positive
    return CriticalPoint(0.5 * float(np.sum(outside)), negative, zero, positive)


def chain_hessian(weights: ArrayLike, target: float, signal: float = 1.0) -> Floats:
    """Return the Hessian of (y - w_1 ... w_L x)^2 / 2, a chain of L weights.

    Parameters
    ----------
    weights : array (L,)
        At which point.
    target : float
        The output y that is asked for.
    signal : float
        The input x, 1 by default.

    Returns
    -------
    array (L, L)
        x^2 P_i P_j - (y - P x) x P_ij, where P is the product of all weights and indices say which are left out, and
        P_ii = 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is not finite, or the weights are no array (L,) with L >= 1.

    Notes
    -----
    At the origin it vanishes for L > 2: a saddle that second derivatives do not show (Kawaguchi 2016, theorem 2.3).

    Examples
    --------
    >>> chain_hessian([0.0, 0.0, 2.0], 1.0)
    array([[ 0., -2.,  0.],
           [-2.,  0.,  0.],
           [ 0.,  0.,  0.]])
    """
    w = array("weights", weights)
    if w.ndim != 1 or len(w) == 0:
        raise ValueError(f"weights must have one dimension and an entry, not shape {w.shape}")
    y, x = number("target", target), number("signal", signal)
    before = np.cumprod(np.concatenate([[1.0], w]))  # of the first 0, 1, ..., L weights
    after = np.cumprod(np.concatenate([[1.0], w[::-1]]))[::-1]  # of those from 0, 1, ..., L on
    single = before[:-1] * after[1:]
    double = np.zeros((len(w), len(w)))
    for i in range(len(w) - 1):
        between = np.cumprod(np.concatenate([[1.0], w[i + 1 : -1]]))
        double[i, i + 1 :] = before[i] * between * after[i + 2 :]
    hessian = x * x * np.outer(single, single) - (y - before[-1] * x) * x * (double + double.T)
    return np.asarray(hessian + 0.0)  # zeros without a sign


def chain_eigenvalues(weights: ArrayLike, target: float, signal: float = 1.0) -> Floats:
    """Return the eigenvalues of `chain_hessian`, ascending.

    Parameters
    ----------
    weights : array (L,)
        At which point.
    target : float
        The output that is asked for.
    signal : float
        The input, 1 by default.

    Returns
    -------
    array (L,)
        To rounding of the largest; at (0, ..., 0, w) with three weights they are -|y w|, 0 and |y w|.

    Raises
    ------
    TypeError, ValueError
        As there.

    Notes
    -----
    As for `chain_hessian`.

    Examples
    --------
    >>> chain_eigenvalues([0.0, 0.0, 2.0], 1.0)
    array([-2.,  0.,  2.])
    """
    return np.asarray(np.linalg.eigvalsh(chain_hessian(weights, target, signal)))


def _positions(kept: Sequence[int], n: int, hidden: int) -> list[int]:
    if isinstance(kept, str) or not isinstance(kept, Sequence | np.ndarray):
        raise TypeError(f"kept must be a sequence of whole numbers from 0 to {n - 1}, not {kept!r}")
    chosen = [whole_number("kept", position, 0, n - 1) for position in kept]
    if len(set(chosen)) < len(chosen) or len(chosen) > hidden:
        raise ValueError(f"kept must hold at most hidden={hidden} different positions, not {kept!r}")
    return chosen
