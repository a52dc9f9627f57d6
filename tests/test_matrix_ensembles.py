"""Ensembles of random matrices by name: what is refused, how it is told, and that what is left holds."""

from __future__ import annotations

import math
from typing import Any

import pytest

from stabsim.landscape.matrix_ensembles import ensemble_of, index_counts
from stabsim.landscape.positive_definite import positive_definite_estimate
from tests.checks import WRONG, assert_agrees, must_fail


@pytest.mark.parametrize(
    ("ensemble", "message"),
    [
        ("wishart", r"wishart needs columns, as in wishart\(columns=20\)$"),
        ("wigner_wishart(energy=1)", r"wigner_wishart needs columns, as in wigner_wishart\(columns=20, energy=0.1\)$"),
        (None, r"ensemble must be a str such as 'goe' or 'wishart\(columns=20\)', not None$"),
    ],
)
def test_what_is_missing_is_told_by_what_was_asked_for(ensemble: Any, message: str) -> None:
    for call in (lambda: ensemble_of(ensemble, 2), lambda: positive_definite_estimate(2, ensemble)):
        with pytest.raises((TypeError, ValueError), match=message):
            call()


@pytest.mark.parametrize("energy", ["1e-300", "1e-160", "1e-30", "0.99e-16"])
def test_energies_that_rounding_takes_are_refused(energy: str) -> None:
    name = f"wigner_wishart(columns=3, energy={energy})"
    for call in (lambda: index_counts(4, name, matrices=10), lambda: positive_definite_estimate(3, name)):
        with pytest.raises(ValueError, match=r"energy must be 0 or a number from 1e-16 to 1e\+09, not "):
            call()


def test_the_least_energy_beside_a_wishart_matrix() -> None:
    name = "wigner_wishart(columns=3, energy=1e-16)"
    found = positive_definite_estimate(3, name)
    assert_agrees(found.estimate, 1.0, found.relative_error)
    counts = index_counts(4, name, matrices=100_000)  # the sign of the fourth eigenvalue is that of a normal number
    assert_agrees(counts.shares[0], 0.5, 0.5 / math.sqrt(counts.matrices))
    must_fail(assert_agrees, counts.shares[0], 0.5 * WRONG, 0.5 / math.sqrt(counts.matrices))
    for known in ("wigner_wishart(columns=3, energy=0)", "wishart(columns=3)"):
        assert index_counts(4, known, matrices=10).counts[0] == 10


def test_energies_at_which_too_few_particles_see_the_tails_are_refused() -> None:
    for n, columns in ((4, 3), (10, 1)):
        with pytest.raises(
            ValueError, match=r"energy must be 0 or at least 0.01 with fewer columns than rows, not 0.0099"
        ):
            positive_definite_estimate(n, f"wigner_wishart(columns={columns}, energy=0.0099)")
    for n in (2, 3, 4, 6):
        name = f"wigner_wishart(columns={n - 1}, energy=0.01)"
        found, plain = positive_definite_estimate(n, name), index_counts(n, name, matrices=30_000, seed=1)
        share = plain.shares[0]
        error = math.hypot(found.relative_error * found.estimate, math.sqrt(share * (1 - share) / plain.matrices))
        assert_agrees(found.estimate, share, error)
    assert positive_definite_estimate(2, "wigner_wishart(columns=2, energy=1e-12)").relative_error < 0.01
