"""Checks of random results: tolerances come from standard errors, and every check has a twin that must fail."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from stabsim.quantities import QUANTITIES

WRONG = 1.05  # the factor of the twins: what a check cannot tell from 1 is too weak

LIMIT = 5.0  # standard errors: one of 1.7 million right results is further off

Samples = Mapping[str, NDArray[Any]]  # (nets, layers) of each quantity, as in `Result.samples`

BITS = 12  # in which samples are compared, so that what differs only by rounding is equal

# What plain nets have, asked for or not, but for their Jacobians.
RECORDED = {name: q for name, q in QUANTITIES.items() if not q.needs and q.tensor != "singular_value"}


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


def assert_finite_differences(cases: Iterable[tuple[Any, Any]], loss: Callable[[], float], step: float = 1e-6) -> None:
    """Fail unless, of each pair, the second array is the derivative of the loss by the first, which the loss reads."""
    for parameter, derivative in cases:
        for index in np.ndindex(parameter.shape):
            value = parameter[index]
            losses = []
            for moved in (value - step, value + step):
                parameter[index] = moved
                losses.append(loss())
            parameter[index] = value
            difference = (losses[1] - losses[0]) / (2 * step)
            assert difference == pytest.approx(derivative[index], rel=1e-6, abs=1e-8)


def must_fail(check: Callable[..., None], *arguments: Any, **keywords: Any) -> None:
    """Fail unless the check fails: the twin of a statistical test, given something 5% wrong."""
    with pytest.raises(AssertionError):
        check(*arguments, **keywords)


def assert_same_law(one: Samples, other: Samples, level: float) -> None:
    """Fail if two independent ensembles of equally many nets differ in law; right ones fail in at most ``level``.

    Every quantity at every layer is compared in its distribution, its mean and the share of nets where it is finite,
    and each two of these in the mean of their product: how the values of a net depend on each other.
    """
    found = law_p_values(one, other)
    limit = level / len(found)
    wrong = sorted((p, comparison) for comparison, p in found.items() if p < limit)
    lines = "\n".join(f"{p:.1e} {comparison}" for p, comparison in wrong[:10])
    assert not wrong, f"{len(wrong)} of {len(found)} p-values are below {limit:.1e}:\n{lines}"


def law_p_values(one: Samples, other: Samples) -> dict[str, float]:
    """Return, for each comparison of `assert_same_law`, a bound of its p-value that holds for every law."""
    names, x, y = _columns(one, other)
    found = {f"distribution of {name}": _distribution_bound(a, b) for name, a, b in zip(names, x, y, strict=True)}
    names, x, y = _standardized(names, x, y)
    means = _mean_bounds(np.sum(x - y, axis=1), np.sum((x - y) ** 2, axis=1))
    found |= {f"mean of {name}": p for name, p in zip(names, means.tolist(), strict=True)}
    # The sums, over nets, of v = x_a x_b - y_a y_b and of v^2, for all columns a and b.
    sums = x @ x.T - y @ y.T
    squares = (x * x) @ (x * x).T - 2 * (x * y) @ (x * y).T + (y * y) @ (y * y).T
    products = _mean_bounds(sums, squares)[np.triu_indices(len(names))]  # in the order of the pairs
    pairs = [f"product of {a} and {b}" for a, b in combinations_with_replacement(names, 2)]
    found.update(zip(pairs, products.tolist(), strict=True))
    return found


def _columns(one: Samples, other: Samples) -> tuple[list[str], NDArray[Any], NDArray[Any]]:
    """Return names and values (columns, nets) of what is not the same number in all nets of both."""
    assert set(one) == set(other)
    names = [f"{name}[{layer}]" for name, values in one.items() for layer in range(values.shape[1])]
    x, y = (_rounded(np.concatenate([samples[name] for name in one], axis=1).T) for samples in (one, other))
    assert x.shape == y.shape
    varied = np.any(x != x[:, :1], axis=1) | np.any(y != x[:, :1], axis=1)
    assert np.any(varied)
    return [name for name, kept in zip(names, varied, strict=True) if kept], x[varied], y[varied]


def _rounded(values: NDArray[Any]) -> NDArray[Any]:
    """Return values to `BITS` significant bits, and inf for NaN."""
    mantissa, exponent = np.frexp(np.where(np.isnan(values), np.inf, values))
    return np.asarray(np.ldexp(np.round(mantissa * 2**BITS) / 2**BITS, exponent))


def _distribution_bound(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Bound the p-value of the Kolmogorov-Smirnov test (Wei & Dudley, Stat. Probab. Lett. 82, 2012)."""
    assert len(x) >= 458  # as they prove
    both = np.concatenate([x, y])
    order = np.argsort(both)
    ahead, points = np.cumsum(np.where(order < len(x), 1, -1)), both[order]
    last = np.append(points[1:] != points[:-1], True)  # of equal values
    distance = np.max(np.abs(ahead[last])) / len(x)
    return min(2 * math.exp(-len(x) * distance**2), 1.0)


def _standardized(names: list[str], x: NDArray[Any], y: NDArray[Any]) -> tuple[list[str], NDArray[Any], NDArray[Any]]:
    """Return columns of mean 0 and variance 1 over both ensembles, 0 where not finite; then where they are finite."""
    both = np.concatenate([x, y], axis=1)
    finite = np.isfinite(both)
    some = ~np.all(finite, axis=1)
    names = names + [f"finite {name}" for name, each in zip(names, some, strict=True) if each]
    columns = np.concatenate([np.where(finite, both, 0.0), finite[some]])
    kept = np.concatenate([finite, np.ones_like(finite[some])])
    columns -= kept * np.sum(columns, axis=1, keepdims=True) / np.maximum(np.sum(kept, axis=1, keepdims=True), 1)
    scale = np.sqrt(np.mean(columns**2, axis=1, keepdims=True))
    columns /= np.where(scale > 0, scale, 1.0)
    return names, columns[:, : x.shape[1]], columns[:, x.shape[1] :]


def _mean_bounds(sums: NDArray[Any], squares: NDArray[Any]) -> NDArray[Any]:
    """Bound the p-values of sums, over nets, of differences, given the sums of their squares.

    Between equals in law a difference is symmetric about 0. So a sum beyond t sqrt(squares) has at most the probability
    2 exp(-t^2 / 2), for any law and any number of nets (Hoeffding's inequality, given the sizes of the differences).
    """
    return np.asarray(np.minimum(2 * np.exp(-0.5 * sums**2 / np.maximum(squares, 1e-9)), 1.0))
