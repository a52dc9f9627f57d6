"""Checks of random results: tolerances come from standard errors, and every check has a twin that must fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

WRONG = 1.05  # the factor of the twins: what a check cannot tell from 1 is too weak

LIMIT = 5.0  # standard errors: one of 1.7 million right results is further off


def z_scores(estimates: ArrayLike, expected: ArrayLike, errors: ArrayLike) -> NDArray[Any]:
    """Return how many standard errors the estimates are from what is expected; 0 where they are equal."""
    difference = np.asarray(estimates, np.float64) - np.asarray(expected, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference == 0, 0.0, difference / np.asarray(errors, np.float64))


def assert_agrees(estimates: ArrayLike, expected: ArrayLike, errors: ArrayLike) -> None:
    """Fail where an estimate is `LIMIT` standard errors or more from what is expected, or either is NaN."""
    z = z_scores(estimates, expected, errors)
    assert z.size > 0
    assert np.all(np.abs(z) < LIMIT), (
        f"z scores to {np.nanmax(np.abs(z)):.1f} at {np.argwhere(~(np.abs(z) < LIMIT))[0]}"
    )


def must_fail(check: Callable[..., None], *arguments: Any, **keywords: Any) -> None:
    """Fail unless the check fails: the twin of a statistical test, given something 5% wrong."""
    with pytest.raises(AssertionError):
        check(*arguments, **keywords)
