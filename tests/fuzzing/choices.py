"""Inputs out of choices: what makes an input asks only for whole numbers, whoever gives them.

They come from a seed (for volume), from Hypothesis (which shrinks), from a coverage-guided fuzzer, or from a file of
an input that failed: one grammar serves all four.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from stabsim.network import Network

Item = TypeVar("Item")
Content = TypeVar("Content", str, bytes)

LONGEST = 200_000  # characters or bytes


class Choices:
    """Choices among numbered things; 0 is the plainest, so that fewer and smaller numbers are a simpler input.

    Parameters
    ----------
    below : callable
        From a count to a whole number from 0 below it.
    """

    def __init__(self, below: Callable[[int], int]) -> None:
        self._below = below
        self.taken: list[int] = []

    @classmethod
    def seeded(cls, seed: str) -> Choices:
        """Return those of a seed: Python's generator gives one number in a tenth of the time that NumPy's takes."""
        draw = random.Random(seed).random
        return cls(lambda count: int(draw() * count))

    @classmethod
    def again(cls, taken: Iterable[int]) -> Choices:
        """Return those that were taken before, then zeros."""
        left = iter(taken)
        return cls(lambda count: min(next(left, 0), count - 1))

    def below(self, count: int) -> int:
        """Return a whole number from 0 below a count."""
        self.taken.append(self._below(count))
        return self.taken[-1]

    def pick(self, items: Sequence[Item]) -> Item:
        """Return one of some things."""
        return items[self.below(len(items))]

    def chance(self, percent: int) -> bool:
        """Return True in so many of a hundred cases."""
        return self.below(100) >= 100 - percent


TOKENS = (
    *"0123456789abcxyz_ABZ.,=()+-*/:;'\"[]{}<>|&%$#@!?~^\\ ",
    "", "nan", "inf", "-inf", "1e309", "1e-400", "-0", "+1", "0x10", "1_000", "1e5", "2.5", "-1", "1e-45", "3.4e38",
    "none", "None", "True", "null", "\t", "\n", "\r", "\x0b", "\x1b[31m", "\x85", "\u2028", "\u0663", "\uff19", "\xe9",
    "\xb2", "\u0130", "\u1e9e", "\U0001f600", "\u202e", "\udc80", "\ufeff", "((", "))", ",,", "==", "--", "%s", "{0}",
    "10000000000", "18446744073709551616", "-9223372036854775809", "\\u0000", "\\ud800", "//", "..", "()", "(=)",
)  # fmt: skip
LONG = (
    "9",
    "a",
    " ",
    "(",
    ")",
    "[",
    "{",
    ",",
    "a=1,",
    ") ",
    "e",
    "-",
    "_",
    "0",
    ".",
    '"',
    "\t",
    '{"a":',
    "\u0663",
    "1 ",
)
BYTES = (
    *(bytes((value,)) for value in range(256)),
    b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff" * 8, b"PK\x03\x04", b"\x1f\x8b", b"\x93NUMPY",
    b"\r\n",
    b"9999999999", b"'descr'", b"'|O'", b"(1,)", b"True", b",", b"\xc3\x28", b"nan", b"1e999", b'"', b"null", b"NaN",
    b"[",
)  # fmt: skip


def text(c: Choices, known: Sequence[str]) -> str:
    """Return one of some texts, as it is or changed up to three times, seldom to a very long one."""
    found = c.pick(known)
    for _ in range(c.below(4)):
        found = changed(c, found, TOKENS, known)
    if c.below(200) == 199:
        place = c.below(len(found) + 1)
        found = found[:place] + c.pick(LONG) * c.pick((100, 5000, 50_000)) + found[place:]
    return found[:LONGEST]


def content(c: Choices, known: Sequence[bytes], most: int = 3) -> bytes:
    """Return one of some contents of a file, as it is or changed."""
    found = c.pick(known)
    for _ in range(c.below(most + 1)):
        found = changed(c, found, BYTES, known)
    return found[:LONGEST]


def changed(c: Choices, value: Content, tokens: Sequence[Content], others: Sequence[Content]) -> Content:
    """Return a text, or bytes, changed once: inserted into, replaced, deleted, doubled, cut off or spliced."""
    size = len(value)
    start = c.below(size + 1)
    end = min(start + (1 if c.chance(50) else c.below(size + 1)), size)
    kind = c.below(6)
    if kind == 0:
        return value[:start] + c.pick(tokens) + value[start:]
    if kind == 1:
        return value[:start] + c.pick(tokens) + value[end:]
    if kind == 2:
        return value[:start] + value[end:]
    if kind == 3:
        return value[:end] + value[start:]
    if kind == 4:
        return value[:start]
    other = c.pick(others)
    return value[:start] + other[c.below(len(other) + 1) :]


class Lines:
    """Something whose spelling has many lines, as tables have."""

    def __repr__(self) -> str:
        return "<Lines\n  first\n  second\n>"


class Broken:
    """Something that compares with nothing, and has no truth value, as arrays have none."""

    __hash__ = None  # type: ignore[assignment]  # as Python spells what cannot be hashed

    def __eq__(self, other: object) -> bool:
        raise ValueError("compared")

    def __bool__(self) -> bool:
        raise ValueError("asked for its truth")


ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 1.5, 0.5, -0.0, math.nan, math.inf, -math.inf, 1e-320, 1e308, 2**31, 2**53,
    2**64,
    10**15, 10**16, 10**400, -(10**400), 10**5000, "", "relu", " ", "1", "nan", "a\nb", "\udc80", "x" * 100_000,
    b"relu",
    (), [], {}, set(), frozenset((1,)), (1,), (1, 2), [1, 2], [[1, 2], [3]], {"a": 1}, {1: 2}, range(3), range(10**4),
    object(), object, len, Ellipsis, 1j, Fraction(1, 3), Decimal("0.5"), Decimal("NaN"), np.float32(0.5),
    np.float64("nan"),
    np.int64(3), np.uint8(2), np.bool_(True), np.float16("inf"), np.array(3), np.array(0.5), np.array("relu"),
    np.array([1, 2]), np.zeros((6, 6)), np.zeros(0), np.array([1.0, np.nan]), np.array([None, 1]), np.array([2**63]),
    np.ma.masked_array([1.0, 2.0], [True, False]), np.datetime64("2020-01-01"), np.array(["2020"], "M8[Y]"),
    np.void(b"abc"),
    np.zeros(2, [("a", int)]), bytearray(b"relu"), memoryview(b"abc"), Lines(), Broken(), Network,
    type("Name", (str,), {})("tanh"),
    lambda x: x,
)  # fmt: skip


def odd(c: Choices) -> Any:
    """Return something that may be of any type, and is seldom what is wanted."""
    return c.pick(ODD)
