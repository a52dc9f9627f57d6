"""Names of ensembles of random matrices: what is refused, and how it is told."""

from __future__ import annotations

from typing import Any

import pytest

from stabsim.landscape.matrix_ensembles import ensemble_of, index_counts
from stabsim.landscape.positive_definite import positive_definite_estimate


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
