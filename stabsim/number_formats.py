"""Binary floating-point formats (IEEE 754-2019): what they hold, and what becomes of numbers that they do not."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stabsim.checks import number, whole_number


@dataclass(frozen=True)
class NumberFormat:
    """A sign, an exponent and a fraction, rounded to nearest, ties to even, with subnormal numbers.

    Parameters
    ----------
    name : str
    exponent_bits : int
        From 2 to 8.
    fraction_bits : int
        From 1 to 50.
    infinity : bool, default True
        Whether the largest exponent is kept for infinity and NaN, as IEEE 754 has it; or else only its largest
        fraction, for NaN.

    Raises
    ------
    TypeError, ValueError
        If a number of bits is outside.

    Examples
    --------
    >>> FLOAT16.smallest_subnormal == 2**-24, FLOAT16.smallest_normal == 2**-14, FLOAT16.largest, FLOAT16.epsilon
    (True, True, 65504.0, 0.0009765625)
    >>> FLOAT16.overflow_threshold, FLOAT16.flush_threshold == 2**-25, FLOAT8_E4M3.largest
    (65520.0, True, 448.0)
    """

    name: str
    exponent_bits: int
    fraction_bits: int
    infinity: bool = True

    def __post_init__(self) -> None:
        whole_number("exponent_bits", self.exponent_bits, 2, 8)
        whole_number("fraction_bits", self.fraction_bits, 1, 50)

    @property
    def _bias(self) -> int:
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def _largest_exponent(self) -> int:
        return self._bias if self.infinity else self._bias + 1

    @property
    def smallest_normal(self) -> float:
        """The smallest number > 0 with all its digits."""
        return 2.0 ** (1 - self._bias)

    @property
    def smallest_subnormal(self) -> float:
        """The smallest number > 0."""
        return self.smallest_normal * self.epsilon

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return (2.0 - (1 if self.infinity else 2) * self.epsilon) * 2.0**self._largest_exponent

    @property
    def epsilon(self) -> float:
        """The distance from 1 to the next larger number."""
        return 2.0**-self.fraction_bits

    @property
    def overflow_threshold(self) -> float:
        """Half a step beyond the largest number: what is larger becomes infinite, or NaN in a format without infinity.

        The threshold itself becomes infinite; without infinity, the largest number.
        """
        return self.largest + 0.5 * self.epsilon * 2.0**self._largest_exponent

    @property
    def flush_threshold(self) -> float:
        """Half the smallest number: that and what is smaller becomes 0."""
        return 0.5 * self.smallest_subnormal

    def flushed_fraction(self, std: float) -> float:
        """Return the probability that a number from N(0, std^2) becomes 0: 2 Phi(flush_threshold / std) - 1.

        Parameters
        ----------
        std : float
            > 0.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If it is outside.

        Examples
        --------
        >>> round(FLOAT16.flushed_fraction(2.0**-24), 12)
        0.382924922548
        """
        return math.erf(self.flush_threshold / number("std", std, 0.0, open_ends=True) / math.sqrt(2.0))

    def overflowed_fraction(self, std: float) -> float:
        """Return the probability that a number from N(0, std^2) overflows: 2 Phi(-overflow_threshold / std).

        Parameters
        ----------
        std : float
            > 0.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If it is outside.

        Examples
        --------
        >>> round(FLOAT16.overflowed_fraction(30000.0), 12)
        0.02896224806
        """
        return math.erfc(self.overflow_threshold / number("std", std, 0.0, open_ends=True) / math.sqrt(2.0))


FLOAT32 = NumberFormat("float32", 8, 23)
FLOAT16 = NumberFormat("float16", 5, 10)
BFLOAT16 = NumberFormat("bfloat16", 8, 7)
FLOAT8_E5M2 = NumberFormat("float8_e5m2", 5, 2)
FLOAT8_E4M3 = NumberFormat("float8_e4m3", 4, 3, infinity=False)  # Micikevicius et al. 2022, arXiv:2209.05433

# Those that a simulation can round to, by name.
FORMATS = {each.name: each for each in (FLOAT16, BFLOAT16, FLOAT8_E5M2, FLOAT8_E4M3)}
