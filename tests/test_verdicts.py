"""The rules that verdicts share."""

from __future__ import annotations

import math

import numpy as np
import pandas
import pytest
import scipy.stats

from stabsim.counting import exact_z
from stabsim.verdicts import largest_z, mean_with_interval


def rows(**columns: list[float]) -> pandas.DataFrame:
    return pandas.DataFrame(columns)


def test_largest_z_counts_to_the_end_of_the_interval_on_the_side_of_theory() -> None:
    table = rows(estimate=[1.0, 1.0], ci_low=[0.9, 0.9], ci_high=[1.4, 1.4], theory=[1.4, 0.9])
    assert largest_z(table) == pytest.approx(1.96)
    assert largest_z(table.assign(theory=[1.8, math.nan])) == pytest.approx(2 * 1.96)
    assert largest_z(table.assign(theory=[math.nan, 0.5])) == pytest.approx(5 * 1.96)


def test_largest_z_of_what_has_no_spread_is_0_or_infinite() -> None:
    table = rows(estimate=[2.0], ci_low=[2.0], ci_high=[2.0], theory=[2.0 + 1e-13])
    assert largest_z(table) == 0.0
    assert largest_z(table.assign(theory=2.1)) == math.inf


def test_largest_z_needs_a_theory() -> None:
    with pytest.raises(ValueError, match="no row has a theory to compare with"):
        largest_z(rows(estimate=[1.0], ci_low=[0.9], ci_high=[1.1], theory=[math.nan]))


def test_the_interval_of_a_mean_is_students_and_none_of_a_single_value() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, (4, 2))
    row = mean_with_interval(values)
    ends = scipy.stats.t.interval(0.95, 7, loc=values.mean(), scale=scipy.stats.sem(values.ravel()))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(ends, rel=1e-12) and row["nets"] == 8
    one, none = mean_with_interval([2.0]), mean_with_interval([])
    assert one["estimate"] == 2.0 and math.isnan(one["ci_low"]) and math.isnan(one["ci_high"])
    assert math.isnan(none["estimate"]) and none["nets"] == 0


@pytest.mark.parametrize("share", [1e-9, 0.03, 0.5, 1 - 1e-9])
def test_exact_z_is_that_of_the_smaller_tail(share: float) -> None:
    held = np.arange(31)
    law = scipy.stats.binom(30, share)
    tail = np.minimum(law.cdf(held), law.sf(held - 1))
    np.testing.assert_allclose(
        exact_z(held, 30, share), np.maximum(scipy.stats.norm.isf(tail), 0.0), rtol=1e-6, atol=1e-9
    )
    assert np.isnan(exact_z(np.array([-1, 31]), 30, share)).all()
