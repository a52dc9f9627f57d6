"""Random numbers of the device: the CPU's words bit for bit, its numbers to rounding, at the same places."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest

from stabsim.cuda import draws, shim
from stabsim.cuda.shim import cuda
from stabsim.kernels import laws, philox
from stabsim.kernels.compile import kernel as compiled_for_cpu

SEED, FIRST, LAYER = 2**40 + 7, 41, 3
UNITS = 2  # in the last place, at most: the CPU's loops may be fused otherwise
LEAST = 1e-3  # below, units are those of this size: what is near 0 is a difference, or a small sine

Words = namedtuple("Words", "words")


@compiled_for_cpu()
def words_of(group):  # type: ignore[no-untyped-def]
    return philox.philox(
        np.uint32(group), np.uint32(LAYER), np.uint32(FIRST), philox.WEIGHT, np.uint32(7), np.uint32(256)
    )


@shim.kernel
def write_words(out):  # type: ignore[no-untyped-def]
    group = cuda.threadIdx.x
    words = words_of(group)
    for i in range(4):
        out.words[group, i] = words[i]


def test_words_are_those_of_the_cpu() -> None:
    out = shim.zeros((32, 4), np.uint32)
    write_words(1, 32, Words(out))
    np.testing.assert_array_equal(shim.to_host(out), [words_of(group) for group in range(32)])


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)], ids=str)
@pytest.mark.parametrize("law", draws.LAWS)
def test_numbers_are_those_of_the_cpu(law: str, dtype: np.dtype[np.floating]) -> None:
    for shape in ((5, 17), (1, 3), (7, 40), (1, 64)):
        stack = shim.empty((2, *shape), dtype)
        stack[...] = np.nan
        draws.fill(law, stack, FIRST, SEED, philox.WEIGHT, LAYER, 0.25)
        for net, found in enumerate(shim.to_host(stack)):
            expected = np.empty(shape, dtype)
            counter = np.uint64(SEED), philox.WEIGHT, np.uint32(LAYER), np.uint32(FIRST + net)
            laws.law(law, dtype)(expected, np.uint64(0), *counter, dtype.type(0.25))
            units = np.spacing(np.maximum(np.abs(expected), dtype.type(LEAST)))
            np.testing.assert_array_less(np.abs(found - expected), (UNITS + 0.5) * units)


@pytest.mark.parametrize("words", [2, 4])
def test_groups_have_every_place_once(words: int) -> None:
    for size in range(1, 300):
        groups = draws.groups_of(size, words)
        places = []
        for first in (draws.place_of(group, words) for group in range(groups)):
            places += [first + i * draws.LANES for i in range(draws.count_before(first, size, words))]
        assert sorted(places) == list(range(size)) and draws.place_of(groups, words) >= size
