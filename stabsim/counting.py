"""Rules that are checked and counted: in how many of how many checks each holds, with exact intervals of the share."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame

_COLUMNS = ["claim", "part", "rule", "holds", "checks"]


class Rules:
    """How often each rule holds of how many checks; rules are told apart by claim, part (of the checks) and name.

    Examples
    --------
    >>> rules = Rules()
    >>> for values in ([0.0, 0.0], [0.0, 0.0, 0.0]):
    ...     rules.add("A10", "constructed", "it is 0", np.array(values) == 0)
    >>> row = next(rules.table().itertuples())
    >>> row.holds, row.checks, row.estimate, round(row.ci_low, 6), row.ci_high
    (5, 5, 1.0, 0.478176, 1.0)
    """

    def __init__(self) -> None:
        self.holds: Counter[tuple[str, str, str]] = Counter()
        self.checks: Counter[tuple[str, str, str]] = Counter()

    def add(self, claim: str, part: str, rule: str, found: Any) -> None:
        """Count truth values, of any shape."""
        self.holds[claim, part, rule] += int(np.sum(found))
        self.checks[claim, part, rule] += int(np.size(found))

    def table(self) -> DataFrame:
        """Return a row a rule that was checked, as `with_shares` has it."""
        import pandas

        rows = [(*key, self.holds[key], checks) for key, checks in self.checks.items() if checks]
        return with_shares(pandas.DataFrame(rows, columns=_COLUMNS))


def exact_interval(held: Any, checks: Any) -> tuple[Any, Any]:
    """Return the 95% interval of a share (Clopper & Pearson 1934), of numbers or of arrays: checks being independent.

    Those of units or layers of one net are not, so that it is too narrow for a share that is not 0 or 1.
    """
    from scipy.special import betaincinv

    with np.errstate(invalid="ignore"):
        low, high = betaincinv(held, checks - held + 1, 0.025), betaincinv(held + 1, checks - held, 0.975)
    return np.where(held == 0, 0.0, low), np.where(held == checks, 1.0, high)


def exact_z(held: Any, checks: Any, share: Any) -> Any:
    """Return how far counts are from a probability: the smaller exact tail as standard deviations of a normal law.

    Intervals about an estimate do not tell that: with one of 30 found, they end near any tiny probability.

    Examples
    --------
    >>> [round(float(exact_z(held, 30, 1e-9)), 1) for held in (0, 1, 2)], round(float(exact_z(40, 100, 0.5)), 2)
    ([0.0, 5.4, 8.0], 1.9)
    """
    from scipy.special import betainc, ndtri

    with np.errstate(invalid="ignore"):
        at_least = np.where(held == 0, 1.0, betainc(held, checks - held + 1, share))
        at_most = np.where(held == checks, 1.0, betainc(checks - held, held + 1, 1.0 - share))
        return np.maximum(-ndtri(np.minimum(at_least, at_most)), 0.0)


def with_shares(counts: DataFrame) -> DataFrame:
    """Add the share of checks that hold, which should be 1, with its `exact_interval`."""
    k, n = counts["holds"], counts["checks"]
    low, high = exact_interval(k, n)
    return counts.assign(estimate=k / n, ci_low=low, ci_high=high, theory=1.0)


def pooled(counts: DataFrame) -> Any:
    """Return one row for all checks together."""
    import pandas

    total = pandas.DataFrame({name: [counts[name].sum()] for name in ("holds", "checks")})
    return next(with_shares(total).itertuples())
