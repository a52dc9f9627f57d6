"""Nets with normalization and residual connections: every tensor and quantity against the oracle of `tests.naive`."""

from __future__ import annotations

from itertools import product

import pytest

import stabsim
from stabsim import Network, Normalization, Skip, Trace
from stabsim.activations import ACTIVATIONS
from tests import naive
from tests.test_naive import PRECISIONS, TENSORS, TOLERANCE, assert_close

PLACES = ("inside", "between", "before", "after")
NORMALIZATIONS = (None, "batch", "layer", "rms")
WIDTHS = (5, 8, 8, 6, 6, 6, 3)
ENDS = {1: {1: 2, 3: 4, 4: 5}, 2: {3: 5}}  # of the blocks of one and two layers in those widths


def oracle(seen: Trace, network: Network) -> naive.Net:
    """Run the oracle on what a trace drew."""
    norm, skip = network.normalization, network.skip
    blocks = None
    if skip is not None:
        ends = {start: end for end, start in enumerate(network.shortcuts) if start >= 0}
        blocks = naive.Blocks(ends, skip.activation, skip.branch, skip.shortcut)
    return naive.run(
        seen.weight,
        seen.bias,
        naive.FORMULAS[network.activation.name](),
        seen.activation[0],
        seen.activation_gradient[-1],
        None if norm is None else naive.Normalization(norm.kind, norm.epsilon),
        blocks,
    )


def assert_same_tensors(seen: Trace, network: Network, tolerance: float, what: object) -> None:
    expected = oracle(seen, network)
    for tensor in TENSORS:
        for layer, (actual, wanted) in enumerate(zip(getattr(seen, tensor), getattr(expected, tensor), strict=True)):
            assert (actual is None) == (wanted is None)
            if wanted is not None:
                assert_close(actual, wanted, tolerance, (what, tensor, layer))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_tensors_of_every_structure(activation: str, precision: str) -> None:
    for number, (kind, place) in enumerate(product(NORMALIZATIONS, (None, *PLACES))):
        epsilon, batch, bias_std = (0.0, 1e-5, 0.1)[number % 3], (5, 7, 4, 9)[number % 4], (0.0, 0.3)[number % 2]
        norm = kind and Normalization(kind, epsilon)
        skip = place and Skip(0.7, -1.3, 1 + number // 2 % 2, place, inner=0.8, last=1.2)
        network = Network(WIDTHS, activation, "lecun_normal", bias_std, norm, skip)
        seen = stabsim.trace(network, batch=batch, seed=number, precision=precision)
        assert_same_tensors(seen, network, TOLERANCE[precision], network)
