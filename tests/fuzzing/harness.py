"""What is done with an input, and what counts as a failure.

An input is *valid* if it makes an object, which can be used; *refused* if an error of an allowed kind says so in one
line that names the argument or the file; and all else has *failed*: any other exception, a warning, a message of many
lines or none, more time or memory than is allowed.
"""

from __future__ import annotations

import contextlib
import re
import resource
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzzing.choices import Choices

OUTCOMES = ("valid", "refused", "failed")
LONGEST_MESSAGE = 1000  # characters
SECONDS = 20.0  # that an input may take: thousands of times what it does, since other processes may be in its way
MEMORY = 2 * 2**30  # bytes, beside what is taken already


@dataclass(frozen=True)
class Target:
    """One function that takes input from people or from the disk.

    Parameters
    ----------
    make : callable
        From choices to an input.
    use : callable
        What is done with an input, in an empty folder of its own if it ``writes``.
    refusals : tuple of types
        What may be raised.
    subjects : str
        A regular expression: what refusals name, one of them at least.
    share : int
        Of all inputs, relative to the others': less where an input takes longer.
    writes : bool
        Whether it needs the folder.
    """

    make: Callable[[Choices], Any]
    use: Callable[[Any, Path], object]
    refusals: tuple[type[Exception], ...]
    subjects: str
    share: int = 10
    writes: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of an input; ``problem`` is one line where it failed, ``trace`` the traceback, if there is one."""

    kind: str
    problem: str = ""
    trace: str = ""


class Hang(BaseException):
    """An input takes longer than it may; nothing that handles errors should handle this one."""


def attempt(target: Target, value: Any, folder: Path, seconds: float = SECONDS) -> Outcome:
    """Return what becomes of an input, within `guarded`."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        target.use(value, folder)
        return Outcome("valid")
    except target.refusals as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        problem = _problem(error, target.subjects)
        return Outcome("failed", problem, traceback.format_exc()) if problem else Outcome("refused")
    except Hang:
        return Outcome("failed", f"more than {seconds:g} s", traceback.format_exc())
    except Exception as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return Outcome("failed", problem, traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _problem(error: Exception, subjects: str) -> str:
    """Return what is wrong with the message of a refusal."""
    message = str(error)
    lines = len(message.splitlines())
    if lines != 1:
        return f"{type(error).__name__} of {lines} lines: {message[:100]!r}"
    if len(message) > LONGEST_MESSAGE:
        return f"{type(error).__name__} of {len(message)} characters: {message[:100]!r}"
    if not re.search(subjects, message):
        return f"{type(error).__name__} that names no argument or file: {message[:100]!r}"
    return ""


@contextlib.contextmanager
def guarded(memory: int = MEMORY) -> Iterator[None]:
    """Make warnings errors, bound the memory of this process, and raise `Hang` when the time of an input is over."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Hang

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = _taken() + memory
    before, timer = signal.signal(signal.SIGALRM, stop), signal.getitimer(signal.ITIMER_REAL)
    resource.setrlimit(resource.RLIMIT_AS, (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def _taken() -> int:
    """Return the bytes of address space that this process has taken."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
