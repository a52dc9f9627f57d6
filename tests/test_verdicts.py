"""The rules that verdicts share."""

from __future__ import annotations

import math

import pandas
import pytest

from stabsim.verdicts import largest_z


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
