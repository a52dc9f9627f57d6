"""Estimates of the probability that all eigenvalues of a random symmetric matrix are positive, however small it is."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.checks import whole_number
from stabsim.kernels.positive_definite import grow
from stabsim.landscape.matrix_ensembles import LARGEST_MATRIX, MOST_MATRICES, Ensemble, ensemble_of
from stabsim.task import LARGEST_SEED
from stabsim.threads import check_memory, count_threads, spread

Floats = NDArray[np.float64]

PILOTS = 3  # repetitions, one after the other, that only settle the tilt
FEWEST_REPETITIONS = 8  # for Student's interval
LARGEST_SPREAD = 1.0  # standard deviation by mean, of repetitions
LEAST_ENERGY = 0.01  # of a Wigner matrix beside a Wishart one of a lower rank
LEAST_TILT = 0.05  # in standard deviations of a diagonal entry: where nearly all matrices are positive definite
GOE_MEAN = 4 / 27**0.5  # of eigenvalues of positive definite matrices, by sqrt(n variance), many rows


@dataclass(frozen=True)
class PositiveDefiniteEstimate:
    """An unbiased estimate of a probability, with a 95% interval; as logarithms, since it may be below every float.

    Attributes
    ----------
    n, ensemble : int, str
        Rows, and the law in its canonical spelling.
    log_estimate, log_ci_low, log_ci_high : float
        Natural logarithms of the estimate and of the ends of its interval.
    relative_error : float
        Standard error by estimate.
    logs : array (repetitions,)
        Natural logarithms of the independent estimates that it is the mean of; none where it is known.
    particles : int
        Matrices of each.
    """

    n: int
    ensemble: str
    log_estimate: float
    log_ci_low: float
    log_ci_high: float
    relative_error: float
    logs: Floats
    particles: int

    @property
    def estimate(self) -> float:
        """The estimate, 0 where no float is as small."""
        return math.exp(self.log_estimate)

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95% interval."""
        return math.exp(self.log_ci_low), math.exp(self.log_ci_high)


def positive_definite_estimate(
    n: int,
    ensemble: str = "goe",
    *,
    particles: int = 1000,
    repetitions: int = 32,
    seed: int = 0,
    threads: int | None = None,
) -> PositiveDefiniteEstimate:
    """Estimate the probability that a random symmetric matrix has positive eigenvalues only, by importance splitting.

    Parameters
    ----------
    n : int
        Rows, up to 200.
    ensemble : str
        As in `stabsim.landscape.matrix_ensembles.ensemble_of`; "goe" unless told. Of a Wishart matrix it is known: 1
        with at least as many columns as rows, 0 with fewer. That is returned, with an error of 0. With fewer, a
        wigner_wishart one needs an energy of at least 0.01.
    particles : int
        Matrices that are grown together, at least 2; 1000 unless told.
    repetitions : int
        Independent repetitions, at least 8; 32 unless told.
    seed : int
        Of all random numbers; 0 unless told.
    threads : int, optional
        As many as there are processors, unless told. It does not affect the result.

    Returns
    -------
    PositiveDefiniteEstimate
        With an interval by Student's t over repetitions, on the log scale.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range.
    MemoryError
        If the particles do not fit into memory.

    Warns
    -----
    RuntimeWarning
        If few repetitions own the mean.

    Notes
    -----
    Sequential Monte Carlo (Del Moral, Doucet & Jasra 2006, J. R. Stat. Soc. B 68): matrices grow row by row, a tilt
    stands for the rows to come, and matrices of small weight give way to copies of others (systematic resampling, where
    the effective number falls below half). The estimate is unbiased whatever the tilt; it may exceed 1. Of the GOE,
    32 x 1000 matrices have a relative standard error of 0.7% at n = 10 (P = 2e-14) and 4% at n = 60 (P = e^-1012).
    Intervals cover in 94 to 96% of repetitions where repetitions differ by up to 0.4 times their mean, in 92% at 0.8.
    With fewer columns than rows the weights get heavy tails as the energy falls, which few particles see: intervals
    covered in 87 of 100 runs at an energy of 0.01, n from 2 to 6, and in 5 of 12 and less at 1e-6, which is refused.

    Examples
    --------
    >>> found = positive_definite_estimate(10)
    >>> round(1e14 * found.estimate, 1), 0 < found.relative_error < 0.01
    (2.3, True)
    """
    rows = whole_number("n", n, 1, LARGEST_MATRIX)
    law = ensemble_of(ensemble, rows)
    size = whole_number("particles", particles, 2)
    number = whole_number("repetitions", repetitions, FEWEST_REPETITIONS)
    if (PILOTS + number) * size > MOST_MATRICES:
        raise ValueError(
            f"particles={size} of repetitions={number} and {PILOTS} pilots are {(PILOTS + number) * size} matrices: "
            f"at most {MOST_MATRICES} are allowed"
        )
    key = np.uint64(whole_number("seed", seed, 0, LARGEST_SEED))
    workers = min(count_threads(threads), number)
    if law.diagonal_variance == 0:
        known = 0.0 if law.columns >= rows else -math.inf
        return PositiveDefiniteEstimate(rows, law.name, known, known, known, 0.0, np.empty(0), size)
    energy = law.diagonal_variance * rows / 4
    if 0 < law.columns < rows and energy < LEAST_ENERGY * (1 - 1e-12):
        raise ValueError(
            f"energy must be 0 or at least {LEAST_ENERGY:g} with fewer columns than rows, not {energy:g}: "
            "weights have tails that too few particles see; index_counts takes less"
        )
    logs = _repetitions(rows, law, size, number, key, workers)
    if not (spread := _summary(logs)[3] * math.sqrt(number)) <= LARGEST_SPREAD:
        warnings.warn(
            f"the estimates of {number} repetitions of {size} particles differ by {spread:.2g} times their mean, which "
            "few of them own: it is most likely too small, and so is its interval; take more particles",
            RuntimeWarning,
            stacklevel=2,
        )
    return PositiveDefiniteEstimate(rows, law.name, *_summary(logs), logs, size)


def _repetitions(n: int, law: Ensemble, particles: int, repetitions: int, key: Any, workers: int) -> Floats:
    side, inner = (n, min(n, law.columns)) if law.columns else (0, 0)
    check_memory("particles", 8 * workers * particles * (n * n + side * side + side * inner), "particles or threads")
    run = grow()  # compiled before threads ask for it
    tilt = _first_tilt(n, law)

    def repetition(number: int) -> Floats:
        found = np.empty(2)
        upper = np.empty((particles, n, n))
        lower, wishart = np.empty((particles, side, side)), np.empty((particles, side, inner))
        first = number * particles
        run(law.columns, law.variance, law.diagonal_variance, tilt, key, first, upper, lower, wishart, found)
        return found

    least = LEAST_TILT / math.sqrt(law.diagonal_variance)
    for pilot in range(PILOTS):
        tilt = max(float(repetition(pilot)[1]), least)
    logs = np.empty(repetitions)

    def piece(first: int, last: int) -> None:
        for number in range(first, last):
            logs[number] = repetition(PILOTS + number)[0]

    spread(piece, repetitions, workers)
    return logs


def _first_tilt(n: int, law: Ensemble) -> float:
    """Return about the mean of a diagonal entry of positive definite matrices, beyond its own, by its variance."""
    beyond = GOE_MEAN * math.sqrt(n * law.variance) - (1.0 if law.columns else 0.0)
    return max(beyond / law.diagonal_variance, LEAST_TILT / math.sqrt(law.diagonal_variance))


def _summary(logs: Floats) -> tuple[float, float, float, float]:
    """Return the log of the mean, the ends of its interval, and its relative standard error."""
    from scipy.special import stdtrit

    top = logs.max()
    values = np.exp(logs - top)
    mean = values.mean()
    relative = float(values.std(ddof=1) / mean / math.sqrt(len(logs)))
    log_mean, reach = float(top + math.log(mean)), float(stdtrit(len(logs) - 1, 0.975)) * relative
    return log_mean, log_mean - reach, log_mean + reach, relative
