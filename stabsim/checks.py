"""The checks of an argument's value, one for each kind: errors repeat the argument, its value and what is allowed."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # NumPy is imported where it is used: names and the command line come without it
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

LARGEST_WHOLE_NUMBER = 10**15  # unless told: those beyond are not exact in float64 sums


def number(
    argument: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_ends: bool = False,
    open_high: bool = False,
) -> float:
    """Return a finite real number (Python's or NumPy's; a bool is none) as float.

    Parameters
    ----------
    argument : str
        What errors call it.
    value : number
        To be checked.
    low, high : float
        Ends, which are allowed themselves unless ``open_ends``; with ``open_high`` the high one is not.

    Raises
    ------
    TypeError, ValueError
        If it is no number, or lies outside.

    Examples
    --------
    >>> number("correlation", 1, -1, 1)
    1.0
    >>> number("gain", 0, 0, open_ends=True)
    Traceback (most recent call last):
    ValueError: gain must be a finite number > 0, not 0.0
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{argument} must be a finite number, not {brief(value)}")
    try:
        found = float(value)
    except OverflowError:  # an int beyond every float
        found = math.inf
    if not math.isfinite(found):
        raise ValueError(f"{argument} must be {_range(low, high, open_ends, open_high)}, not {brief(value)}")
    if not (low < found < high if open_ends else low <= found <= high) or (open_high and found == high):
        raise ValueError(f"{argument} must be {_range(low, high, open_ends, open_high)}, not {found!r}")
    return found + 0.0  # zero without a sign: one value, one spelling, one hash


def factor(argument: str, value: Any) -> float:
    """Return a factor by which something is remembered: from 0, below 1.

    Examples
    --------
    >>> factor("momentum", 1.0)
    Traceback (most recent call last):
    ValueError: momentum must be a finite number >= 0 and < 1, not 1.0
    """
    return number(argument, value, 0.0, 1.0, open_high=True)


def whole_number(argument: str, value: Any, least: int = 1, most: int = LARGEST_WHOLE_NUMBER) -> int:
    """Return an integer in its range.

    Raises
    ------
    TypeError, ValueError
        If it is no integer, or outside.

    Examples
    --------
    >>> whole_number("width", 100)
    100
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{argument} must be an integer from {least} to {most}, not {brief(value)}")
    found = int(value)
    if not least <= found <= most:
        raise ValueError(f"{argument} must be an integer from {least} to {most}, not {brief(found)}")
    return found


def whole_numbers(argument: str, values: Any, least: int = 1) -> tuple[int, ...]:
    """Return integers of at least ``least``, one or more.

    Examples
    --------
    >>> whole_numbers("widths", (100, 50))
    (100, 50)
    """
    import numpy as np

    listed = isinstance(values, Sequence | np.ndarray) and not isinstance(values, str | bytes)
    found = np.atleast_1d(np.asarray(values if listed else [], object))
    if len(found) == 0:
        raise TypeError(f"{argument} must be a sequence of integers >= {least}, not {brief(values)}")
    return tuple(whole_number(argument, value, least) for value in found)


def array(
    argument: str,
    values: ArrayLike,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_ends: bool = False,
    open_high: bool = False,
) -> NDArray[np.float64]:
    """Return finite numbers between two ends, at least one, as an array of any shape; see `number`.

    Examples
    --------
    >>> array("variance", [0.0, 2.0], 0.0)
    array([0., 2.])
    """
    import numpy as np

    try:
        given = np.asarray(values)
    except ValueError:  # lists of different lengths
        given = np.empty(0, object)
    if given.dtype.kind not in "iuf" or given.size == 0 or isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{argument} must be a number or an array of numbers, not {brief(values)}")
    with np.errstate(over="ignore", invalid="ignore"):  # of longer floats, which are then not finite
        checked = given.astype(np.float64)
    inside = (low < checked) & (checked < high) if open_ends else (low <= checked) & (checked <= high)
    inside &= np.isfinite(checked) & ~(open_high & (checked == high))
    if not np.all(inside):
        wrong = float(checked[~inside].flat[0])
        raise ValueError(f"{argument} must be {_range(low, high, open_ends, open_high)}, not {wrong!r}")
    return checked


def path(argument: str, value: Any) -> str:
    r"""Return a path as text.

    Examples
    --------
    >>> path("directory", b"mnist")
    Traceback (most recent call last):
    TypeError: directory must be a path, as text or an os.PathLike of text, not b'mnist'
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise TypeError(f"{argument} must be a path, as text or an os.PathLike of text, not {brief(value)}")
    if "\0" in text:
        raise ValueError(f"{argument} must be a path, which has no zero characters, not {brief(value)}")
    return text


def text(argument: str, value: Any) -> str:
    r"""Return a text that can be written: a str without half of a pair of UTF-16.

    Examples
    --------
    >>> text("note", "\ud800")
    Traceback (most recent call last):
    ValueError: note must be a text that UTF-8 can hold, not '\ud800'
    """
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a str, not {brief(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{argument} must be a text that UTF-8 can hold, not {brief(value)}") from None
    return value


def rows(argument: str, values: Any, shape: str, ends: tuple[int, ...]) -> NDArray[np.float64]:
    """Return finite numbers as an array whose last sides are ``ends``, behind one that is not 0.

    ``shape`` is what errors call the sides; they say where a number is not finite.

    Examples
    --------
    >>> rows("inputs", [[1, 2], [3, 4], [5, 6]], "(samples, widths[0])", (2,)).shape
    (3, 2)
    """
    import numpy as np

    try:
        given = np.asarray(values)
    except ValueError:  # ragged
        given = np.empty(0, object)
    if given.dtype.kind not in "iuf" or isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{argument} must be an array of numbers {shape}, not {_kind(given, values)}")
    with np.errstate(over="ignore", invalid="ignore"):  # of longer floats, which are then not finite
        found = given.astype(np.float64)
    if found.ndim != 1 + len(ends) or found.shape[1:] != ends or not len(found):
        at_least = ", at least one row" if found.ndim and not len(found) else ""
        raise ValueError(
            f"{argument} must have shape {shape} = (..., {', '.join(map(str, ends))}){at_least}, not {found.shape}"
        )
    if not np.isfinite(found).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(found))[0])
        raise ValueError(f"{argument} must be finite, but {argument}[{', '.join(map(str, where))}] is {found[where]}")
    return np.ascontiguousarray(found)


def _kind(array: NDArray[Any], values: object) -> str:
    """Return what an array that is none of real numbers is of, or the value that makes none, for a message."""
    return f"of {array.dtype}" if array.ndim and array.dtype.kind in "bc" else brief(values)


def brief(value: object) -> str:
    """Return a value for a message: one line, not endless, whatever it is.

    Examples
    --------
    >>> brief([1] * 50), brief(10**5000)
    ('[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1...', 'an int of 16610 bits')
    """
    try:
        text = " ".join(repr(value).split())
    except Exception:  # of an int that Python does not spell, or what others have written
        return f"an int of {value.bit_length()} bits" if isinstance(value, int) else f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def reason(error: BaseException) -> str:
    r"""Return what an error says for a message: one line, not endless.

    Examples
    --------
    >>> reason(ValueError("two\nlines\n")), reason(MemoryError())
    ('two lines', 'MemoryError')
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."


def named(text: str) -> str:
    """Return a name from a file for a message: as it is, or, where that is no short line, as `brief` has it."""
    return text if text.isprintable() and len(text) <= 80 else brief(text)


def _range(low: float, high: float, open_ends: bool, open_high: bool) -> str:
    more, less = ">" if open_ends else ">=", "<" if open_ends or open_high else "<="
    ends = [f"{sign} {end:g}" for sign, end in ((more, low), (less, high)) if math.isfinite(end)]
    return f"a finite number {' and '.join(ends)}".strip()
