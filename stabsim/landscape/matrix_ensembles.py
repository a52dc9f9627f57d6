"""Ensembles of random symmetric matrices, and how many negative eigenvalues they have, by simulation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stabsim import names
from stabsim.checks import brief, number, whole_number
from stabsim.counting import exact_interval
from stabsim.kernels.matrix_index import count_index
from stabsim.task import LARGEST_SEED
from stabsim.threads import count_threads, spread

Floats = NDArray[np.float64]

LARGEST_MATRIX = 200  # rows
MOST_MATRICES = 2**32 - 1  # or particles: numbers of nets in counters
MOST_COLUMNS = 10**6
LEAST_ENERGY, LARGEST_ENERGY = 1e-16, 1e9  # less is lost in rounding beside X X^T, and zeros of it count as positive


class Ensemble(NamedTuple):
    """Law of a symmetric matrix: independent normal entries, plus X X^T / columns with standard normal X."""

    name: str
    variance: float
    diagonal_variance: float
    columns: int = 0

    @property
    def tridiagonal(self) -> bool:
        """Return whether a tridiagonal matrix has the law of its eigenvalues."""
        return self.columns == 0 and self.variance in (0.0, self.diagonal_variance / 2)


def _wishart(n: int, columns: int) -> Ensemble:
    return Ensemble(f"wishart(columns={columns})", 0.0, 0.0, columns)


def _energy(value: float | str) -> float:
    found = number("energy", value, 0.0, LARGEST_ENERGY)
    if 0 < found < LEAST_ENERGY:
        raise ValueError(f"energy must be 0 or a number from {LEAST_ENERGY:g} to {LARGEST_ENERGY:g}, not {found:g}")
    return found


def _wigner_wishart(n: int, columns: int, energy: float) -> Ensemble:
    name = names.format_name("wigner_wishart", {"columns": columns, "energy": energy})
    return Ensemble(name, 2 * energy / n, 4 * energy / n, columns)


_PLAIN = {"goe": (1.0, 2.0), "equal_variance": (1.0, 1.0), "independent_signs": (0.0, 1.0)}
_WITH_PARAMETERS: dict[str, tuple[tuple[str, ...], Callable[..., Ensemble]]] = {
    "wishart": (("columns",), _wishart),
    "wigner_wishart": (("columns", "energy"), _wigner_wishart),
}
_EXAMPLES = {"wishart": "wishart(columns=20)", "wigner_wishart": "wigner_wishart(columns=20, energy=0.1)"}
ENSEMBLES = (*_PLAIN, *_WITH_PARAMETERS)


def ensemble_of(text: str, n: int) -> Ensemble:
    """Return the law of matrices of n rows that a name with parameters stands for.

    Parameters
    ----------
    text : str
        ``"goe"``, ``"equal_variance"`` and ``"independent_signs"`` as in
        `stabsim.theory.random_matrix.positive_definite_probability`; ``"wishart(columns=20)"``, X X^T / columns with
        independent standard normal X (n, columns); ``"wigner_wishart(columns=20, energy=0.1)"``, such a one plus a GOE
        matrix with entries of variance 2 energy / n off the diagonal (energy 0, or 1e-16 to 1e9), as in
        `stabsim.theory.saddle_index.wigner_wishart_index` with ratio = n / columns.
    n : int
        Rows.

    Raises
    ------
    TypeError, ValueError
        If the name is unknown, or a parameter is missing, unknown or outside its range.

    Examples
    --------
    >>> ensemble_of("wigner_wishart(columns=20, energy=0.1)", 10)
    Ensemble(name='wigner_wishart(columns=20, energy=0.1)', variance=0.02, diagonal_variance=0.04, columns=20)
    """
    if not isinstance(text, str):
        raise TypeError(f"ensemble must be a str such as 'goe' or '{_EXAMPLES['wishart']}', not {brief(text)}")
    name, given = names.parse(text)
    if name not in ENSEMBLES:
        raise names.unknown("ensemble", name, ENSEMBLES)
    if name in _PLAIN:
        names.check_parameters(name, given, ())
        return Ensemble(name, *_PLAIN[name])
    known, build = _WITH_PARAMETERS[name]
    names.check_parameters(name, given, known)
    if missing := [parameter for parameter in known if parameter not in given]:
        raise ValueError(f"{name} needs {' and '.join(missing)}, as in {_EXAMPLES[name]}")
    parameters: dict[str, float] = {}
    for parameter, value in given.items():
        whole = isinstance(value, float) and value.is_integer()
        parameters[parameter] = (
            whole_number("columns", int(value) if whole else value, 1, MOST_COLUMNS)
            if parameter == "columns"
            else _energy(value)
        )
    return build(n, **parameters)


@dataclass(frozen=True)
class IndexCounts:
    """How many of the matrices have 0, 1, ..., n negative eigenvalues.

    Attributes
    ----------
    ensemble : str
        Canonical spelling.
    counts : array (n + 1,) of int
        Matrices by their number of negative eigenvalues.
    """

    ensemble: str
    counts: NDArray[np.int64]

    @property
    def matrices(self) -> int:
        """How many there are."""
        return int(self.counts.sum())

    @property
    def shares(self) -> Floats:
        """Estimates of the probabilities, (n + 1,)."""
        return self.counts / self.matrices

    @property
    def interval(self) -> tuple[Floats, Floats]:
        """Exact 95% intervals of the probabilities, each (n + 1,)."""
        low, high = exact_interval(self.counts, self.matrices)
        return low, high

    @property
    def index(self) -> tuple[float, float]:
        """Mean share of negative eigenvalues, and its standard error."""
        n = len(self.counts) - 1
        share = np.arange(n + 1) / n
        mean = float(self.shares @ share)
        return mean, float(np.sqrt(self.shares @ (share - mean) ** 2 / max(self.matrices - 1, 1)))


def index_counts(
    n: int, ensemble: str = "goe", *, matrices: int, seed: int = 0, threads: int | None = None
) -> IndexCounts:
    """Draw random symmetric matrices, and count their negative eigenvalues.

    Parameters
    ----------
    n : int
        Rows, up to 200.
    ensemble : str
        As in `ensemble_of`; "goe" unless told.
    matrices : int
        How many.
    seed : int
        Of all random numbers; 0 unless told.
    threads : int, optional
        As many as there are processors, unless told. It does not affect the result.

    Returns
    -------
    IndexCounts
        Eigenvalues down to -n eps |H| are zeros of a Wishart matrix, and do not count.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range.

    Notes
    -----
    GOE: by tridiagonal matrices of the same spectrum (Dumitriu & Edelman 2002, J. Math. Phys. 43).

    Examples
    --------
    >>> found = index_counts(3, matrices=100_000)
    >>> bool(abs(found.shares - [0.025, 0.475, 0.475, 0.025]).max() < 0.005)
    True
    """
    rows = whole_number("n", n, 1, LARGEST_MATRIX)
    law = ensemble_of(ensemble, rows)
    total = whole_number("matrices", matrices, 1, MOST_MATRICES)
    key = np.uint64(whole_number("seed", seed, 0, LARGEST_SEED))
    count = count_index()  # compiled before threads ask for it
    counts, lock = np.zeros(rows + 1, np.int64), threading.Lock()

    def piece(first: int, last: int) -> None:
        own = np.zeros_like(counts)
        count(first, last, law.columns, law.variance, law.diagonal_variance, law.tridiagonal, key, own)
        with lock:
            counts[:] += own

    spread(piece, total, count_threads(threads))
    return IndexCounts(law.name, counts)
