"""What studies share: rows of what they measure, how far estimates are from theory, and verdicts in words.

A rule compares hundreds of estimates at once, so it asks for |z| < 5, not for 95% intervals that all cover.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stabsim.counting import exact_interval
from stabsim.estimates import UNCONVERGED
from stabsim.study import Verdict

if TYPE_CHECKING:
    from pandas import DataFrame

LARGEST_Z = 5.0


class Row(NamedTuple):
    """What a study measures, a number at a time; ``line`` and ``x`` are its place in a figure."""

    part: str
    line: str
    x: float
    quantity: str
    estimate: float
    ci_low: float
    ci_high: float
    theory: float
    nets: int


def exactly(part: str, line: str, x: float, quantity: str, value: float, theory: float = math.nan) -> Row:
    """Return a row of a number without chance."""
    return Row(part, line, x, quantity, float(value), float(value), float(value), theory, 1)


def among(part: str, line: str, x: float, quantity: str, found: Mapping[str, float], theory: float = math.nan) -> Row:
    """Return a row of what `counted`, `mean_with_interval` or `median_with_interval` has found among nets or runs."""
    low, high = found["ci_low"], found["ci_high"]
    return Row(part, line, x, quantity, found["estimate"], low, high, theory, int(found["nets"]))


def tabulated(rows: Iterable[Row]) -> DataFrame:
    """Return rows as a table.

    >>> tabulated([exactly("path", "sgd", 3.0, "length", 1.5)])[["line", "estimate", "nets"]].values.tolist()
    [['sgd', 1.5, 1]]
    """
    import pandas

    return pandas.DataFrame(rows, columns=Row._fields)


def converged(table: DataFrame) -> DataFrame:
    """Return the rows whose mean is not owned by few nets."""
    return table[~(table["top_share"] > UNCONVERGED)]


def largest_z(table: DataFrame) -> float:
    """Return the largest distance of an estimate from theory, in standard errors: of 1.96 to the end of the interval.

    Intervals know what the standard error does not: that mean squares are skewed, and that a share of 0 among n nets
    may be a few times 1/n. An estimate without an interval must equal theory to rounding.

    Raises
    ------
    ValueError
        If no row has a theory.
    """
    rows = table[np.isfinite(table["theory"])]
    if rows.empty:
        raise ValueError("no row has a theory to compare with")
    distance = np.abs(rows["estimate"] - rows["theory"]).to_numpy()
    above = rows["theory"] > rows["estimate"]
    room = (rows["ci_high"] - rows["estimate"]).where(above, rows["estimate"] - rows["ci_low"])
    error = room.to_numpy() / 1.96
    exact = distance <= 1e-12 * np.abs(rows["theory"].to_numpy())
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(exact, 0.0, distance / error).max())


def with_interval(table: DataFrame) -> DataFrame:
    """Return estimates with 95% intervals of their standard errors, for what is no row of a result's table."""
    half = 1.96 * table["std_error"]
    return table.assign(ci_low=table["estimate"] - half, ci_high=table["estimate"] + half)


def change(start: Any, end: Any) -> tuple[Any, Any]:
    """Return how much an estimate changes from one row to another, or column by column, with its standard error.

    Rows are treated as independent, which makes the error too large where they are positively correlated.
    """
    return end.estimate - start.estimate, np.hypot(start.std_error, end.std_error)


def counted(held: Any) -> dict[str, float]:
    """Return the share of cases in which a rule held, with its `exact_interval`, and how many.

    Examples
    --------
    >>> {name: round(value, 4) for name, value in counted([True] * 100).items()}
    {'estimate': 1.0, 'ci_low': 0.9638, 'ci_high': 1.0, 'nets': 100}
    """
    count = np.asarray(held, np.bool_).ravel()
    n, k = count.size, int(count.sum())
    low, high = exact_interval(k, n)
    return {"estimate": k / n, "ci_low": float(low), "ci_high": float(high), "nets": n}


def mean_with_interval(values: Any) -> dict[str, float]:
    """Return the mean of independent values, one a net, with Student's 95% interval, and how many they are.

    What is not defined is NaN: the interval of a single value, and the mean of none.

    Examples
    --------
    >>> {name: round(value, 4) for name, value in mean_with_interval([1.0, 2.0, 3.0]).items()}
    {'estimate': 2.0, 'ci_low': -0.4841, 'ci_high': 4.4841, 'nets': 3}
    """
    from scipy.special import stdtrit

    each = np.asarray(values, np.float64).ravel()
    n = each.size
    mean = float(each.mean()) if n else math.nan
    half = float(stdtrit(n - 1, 0.975)) * float(each.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return {"estimate": mean, "ci_low": mean - half, "ci_high": mean + half, "nets": n}


def median_with_interval(values: Any) -> dict[str, float]:
    """Return the median of independent values with an interval of order statistics, at least 95%, and how many.

    Below each end are few by fair coins. Infinite values are allowed, and the ends may be: of fewer than six values
    they are, since no two of these bound the median that surely.

    Examples
    --------
    >>> median_with_interval(range(1, 12))
    {'estimate': 6.0, 'ci_low': 2.0, 'ci_high': 10.0, 'nets': 11}
    """
    from scipy.stats import binom

    each = np.sort(np.asarray(values, np.float64).ravel())
    n = each.size
    place = int(binom.ppf(0.025, n, 0.5)) - 1
    low, high = (each[place], each[n - 1 - place]) if place >= 0 else (-np.inf, np.inf)
    ends = {"ci_low": float(low), "ci_high": float(high)}
    return {"estimate": float(np.median(each)), **ends, "nets": n}


def k_of_n(row: Any) -> str:
    """Write of a row that `counted` has made in how many cases of how many the rule held."""
    return f"{row.estimate * row.nets:.0f} of {row.nets:.0f}"


def judge(claim: str, row: Any, holds: bool, note: str, *, when: str = "") -> Verdict:
    """Return a verdict that rests on one row of a table: "holds" (or "holds when <when>") if it does, else "fails"."""
    words = (f"holds when {when}" if when else "holds") if holds else "fails"
    return Verdict(claim, words, row.estimate, row.ci_low, row.ci_high, row.theory, note)


def pick(table: DataFrame, **values: Any) -> Any:
    """Return the one row that has these values.

    Raises
    ------
    LookupError
        If there is none, or more than one.
    """
    rows = select(table, **values)
    if len(rows) != 1:
        raise LookupError(f"{len(rows)} rows have {values}; one is wanted")
    return next(rows.itertuples())


def select(table: DataFrame, **values: Any) -> DataFrame:
    """Return the rows that have these values (a tuple: any of them)."""
    for name, value in values.items():
        table = table[table[name].isin(value if isinstance(value, tuple) else (value,))]
    return table
