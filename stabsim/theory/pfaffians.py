"""Eigenvalue signs of the Gaussian orthogonal ensemble, exactly: Pfaffians in decimal arithmetic of enough digits.

The density of the eigenvalues is |prod (x_i - x_j)| exp(-sum x^2 / 2). E z^(number of negative ones) is the ratio, at z
and at 1, of Pfaffians of the integrals of sgn(y - x) x^i y^j, with weights z times larger on the negative side (de
Bruijn 1955; Dedieu & Malajovich 2008; Chiani 2014, arXiv:1209.3394).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from decimal import Context, Decimal, localcontext

Matrix = list[list[Decimal]]


@functools.cache
def log_positive_definite_probabilities(most: int) -> tuple[float, ...]:
    """Return ln P(GOE matrix is positive definite) for 1 to ``most`` rows, an even number.

    One elimination gives all of one parity.

    Examples
    --------
    >>> [round(value, 9) for value in log_positive_definite_probabilities(4)]
    [-0.693147181, -1.921094358, -3.692047629, -6.008932524]
    """
    with localcontext(Context(prec=_digits(most))):
        ensemble = _HalfLine(most)
        logs = []
        for odd in (True, False):
            positive, every = (ensemble.pfaffians(Decimal(z), odd=odd) for z in (0, 1))
            logs.append([float((some / total).ln()) for some, total in zip(positive, every, strict=True)])
    return tuple(value for pair in zip(*logs, strict=True) for value in pair)


def index_distribution(n: int) -> list[float]:
    """Return the probabilities of 0, 1, ..., n negative eigenvalues of a GOE matrix.

    Examples
    --------
    >>> [round(value, 9) for value in index_distribution(2)]
    [0.146446609, 0.707106781, 0.146446609]
    """
    digits = _digits(n) + n * n // 8  # P(0) is about 10^(-0.12 n^2), and is found from sums of order 1
    with localcontext(Context(prec=digits)):
        ensemble = _HalfLine(n)
        values = [ensemble.pfaffians(Decimal(z), odd=n % 2 == 1)[-1] for z in range(n + 1)]
        return [float(coefficient / values[1]) for coefficient in _interpolated(values)]


def _digits(n: int) -> int:
    """Return digits to compute with: Pfaffians of n monomials lose 1.1 n of them (measured, n = 60 and 200)."""
    return 40 + 5 * n // 4


class _HalfLine:
    """Integrals of monomials x^i, i < n, over x > 0 with the weight exp(-x^2 / 2), and Pfaffians made of them.

    For odd n the integrals of x^i are put around those of pairs. Leading Pfaffians are those of smaller n: they are
    positive, so the elimination needs no pivots.
    """

    def __init__(self, n: int) -> None:
        root_pi = (16 * _arctan_of_inverse(5) - 4 * _arctan_of_inverse(239)).sqrt()  # Machin 1706
        gamma = [Decimal(0), root_pi, Decimal(1)]  # gamma(k / 2); the first is not used
        for k in range(3, 2 * n + 1):
            gamma.append(gamma[k - 2] * (k - 2) / 2)
        self.n = n
        self.moments = [root_pi / Decimal(2).sqrt(), Decimal(1)]  # of x^i
        for i in range(2, n):
            self.moments.append(self.moments[i - 2] * (i - 1))
        self.signed = [[Decimal(0)] * n for _ in range(n)]  # of sgn(y - x) x^i y^j
        for i in range(1, n):
            for j in range(i):  # by parts in x
                before = self.signed[i - 2][j] * (i - 1) if i > 1 else self.moments[j]
                self.signed[i][j] = before - gamma[i + j]
                self.signed[j][i] = -self.signed[i][j]

    def pfaffians(self, z: Decimal, *, odd: bool) -> list[Decimal]:
        """Return the Pfaffians for all even (or odd) matrices up to n rows."""
        rows = self._weighted(z)
        if odd:
            border = [m * (1 - z if i % 2 else 1 + z) for i, m in enumerate(self.moments[: self.n])]
            rows = [[Decimal(0), *border], *([-m, *row] for m, row in zip(border, rows, strict=True))]
        return _leading_pfaffians(rows)

    def _weighted(self, z: Decimal) -> Matrix:
        """Return the integrals over the whole line: both signs of x and y, with z for each that is negative."""
        same, opposite = 1 - z * z, 1 + z * z  # where i + j is even, odd: x^i y^j keeps or changes its sign
        m = self.moments
        return [
            [
                entry * same if (i + j) % 2 == 0 else entry * opposite + 2 * z * (-1) ** i * m[i] * m[j]
                for j, entry in enumerate(row)
            ]
            for i, row in enumerate(self.signed)
        ]


def _leading_pfaffians(rows: Matrix) -> list[Decimal]:
    """Return the Pfaffians of the first 2, 4, ... rows and columns; the rows, an antisymmetric matrix, are used up."""
    product, found = Decimal(1), []
    for k in range(0, len(rows) - 1, 2):
        first, second = rows[k], rows[k + 1]
        product *= first[k + 1]
        found.append(product)
        for i in range(k + 2, len(rows)):
            row, one, other = rows[i], second[i] / first[k + 1], first[i] / first[k + 1]
            for j in range(i + 1, len(rows)):
                row[j] += one * first[j] - other * second[j]
    return found


def _arctan_of_inverse(q: int) -> Decimal:
    power = total = Decimal(1) / q
    k = 1
    while True:
        power /= -q * q
        k += 2
        if total + power / k == total:
            return total
        total += power / k


def _interpolated(values: Sequence[Decimal]) -> list[Decimal]:
    """Return the coefficients of the polynomial with these values at 0, 1, ... (Newton's divided differences)."""
    differences = list(values)
    for order in range(1, len(values)):
        for k in range(len(values) - 1, order - 1, -1):
            differences[k] = (differences[k] - differences[k - 1]) / order
    coefficients = [Decimal(0)] * len(values)
    for k in range(len(values) - 1, -1, -1):  # Horner's rule: times (z - k), plus the difference
        shifted = [Decimal(0), *coefficients[:-1]]
        coefficients = [high - k * low for high, low in zip(shifted, coefficients, strict=True)]
        coefficients[0] += differences[k]
    return coefficients
