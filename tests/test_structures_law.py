"""Nets with normalization and residual connections have the same law without W as with it, and the same bits anyhow."""

from __future__ import annotations

from itertools import product

import pytest

import stabsim
from stabsim import Network, Normalization, Skip
from stabsim.quantities import PLAIN
from tests.checks import WRONG, assert_same_law, must_fail
from tests.test_matrix_free_law import Case
from tests.test_structures import NORMALIZATIONS, PLACES

WIDTHS = (9, 6, 6, 6, 5)
LAWS = ("normal", "orthogonal")
LEVEL = 1e-8  # how often two right ensembles may fail


def case(number: int, kind: str | None, place: str | None, factor: float = 1.0) -> Case:
    """Return an ensemble: what else there is to choose goes around with its number."""
    norm = kind and Normalization(kind, (0.1, 0.0, 1e-5)[number % 3])
    skip = place and Skip(0.7 * factor, -1.3, 1 + number // 2 % 2, place, inner=0.8, last=float(number % 5 > 0))
    weights = stabsim.Initializer(LAWS[number % 2], 1.3)
    activation = ("tanh", "relu", "gelu")[number // 3 % 3]
    network = Network(WIDTHS, activation, weights, (0.0, 0.4)[number // 4 % 2], norm, skip)
    # A batch's gradients by s add up to 0, each unit's: what there is of means is rounding.
    known = [name for name, entry in PLAIN.items() if not entry.missing(2, network.structures)]
    names = tuple(name for name in known if not (kind == "batch" and name.endswith("gradient_mean")))
    batch, precision = (8, 4, 1, 3)[number // 2 % 4], ("float32", "float64")[number // 5 % 2]
    return Case(network, batch, precision, quantities=names, nets=1000)


CASES = [
    (number, kind, place)
    for number, (kind, place) in enumerate(product(NORMALIZATIONS, (None, *PLACES)))
    if kind or place
]


@pytest.mark.parametrize(("number", "kind", "place"), CASES)
def test_samplers_agree_in_law(number: int, kind: str | None, place: str | None) -> None:
    chosen = case(number, kind, place)
    assert_same_law(chosen.samples("dense", 1), chosen.samples("matrix_free", 2), LEVEL)


@pytest.mark.parametrize("sampler", ["dense", "matrix_free"])
@pytest.mark.parametrize(("kind", "place"), [(None, "inside"), ("batch", "inside"), ("layer", "after")])
def test_a_wrong_factor_is_seen(kind: str | None, place: str, sampler: str) -> None:
    right, wrong = (case(0, kind, place, factor).samples("dense", seed) for factor, seed in ((1.0, 1), (WRONG, 2)))
    assert_same_law(right, case(0, kind, place).samples(sampler, 3), LEVEL)
    must_fail(assert_same_law, right, wrong, LEVEL)
