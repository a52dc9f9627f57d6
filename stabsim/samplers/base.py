"""What a sampler is: the kernel that draws nets, where it keeps them, and what they cost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.initializers import LAWS
from stabsim.task import Task

Integers = NDArray[np.int64]

CACHE_LINE = 64  # bytes; layers start at multiples of as many numbers
KEEP_WEIGHTS = 2**27  # bytes a thread: what is drawn for the forward pass is kept up to this, and drawn again above

Terms = dict[str, float]  # how much of what is done
Prices = Mapping[str, Terms]  # nanoseconds of each, by precision


@dataclass(frozen=True)
class Layout:
    """Where a kernel keeps a net.

    Parameters
    ----------
    sizes, offsets : array of int (buffers, depth + 1)
        Of each layer's part of each buffer, in numbers.
    kept : bool
        Whether what is drawn for the forward pass is kept for the backward pass; else it is drawn again.
    keeps_s : bool
        Whether the pre-activations of all samples are kept, rather than those of a few at a time.
    ahead : int
        Of how many layers vectors are drawn before they are needed.
    """

    sizes: Integers
    offsets: Integers
    kept: bool
    keeps_s: bool = False
    ahead: int = 0

    @property
    def lengths(self) -> list[int]:
        """Return how long each buffer has to be."""
        return [int(length) for length in (self.offsets + self.sizes).max(axis=1)]


def side_by_side(sizes: Integers, buffers: Sequence[np.int64]) -> Integers:
    """Return offsets that keep all layers of these buffers; those of the others share one place."""
    offsets = np.zeros_like(sizes)
    steps = -(-sizes[list(buffers)] // CACHE_LINE) * CACHE_LINE
    offsets[list(buffers), 1:] = np.cumsum(steps, axis=1)[:, :-1]
    return offsets


def _either(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names))


@dataclass(frozen=True)
class Sampler:
    """One way to draw nets; several of one name share out the batches.

    Parameters
    ----------
    name : str
        What the argument ``sampler`` calls it.
    meaning : str
        One line for people.
    kernel : callable
        From a dtype to the compiled function, whose arguments are those of ``kernels/signature.py``.
    layout : callable
        From a task to where the kernel keeps what it works on.
    kind : callable
        From a task to the name of the prices that hold for it.
    prices : mapping
        Nanoseconds of each term by kind and precision: fitted on one core of an AMD EPYC (Zen 5) by
        ``benchmarks/samplers.py --fit``. They are numbers of the package, not of the machine it runs on, so that a
        task means the same nets everywhere.
    terms : callable
        From a task, a fan-in and a fan-out to how much of each term such a layer takes.
    laws, recurrent_laws : tuple of str
        Laws of the weights that it can draw, all of them unless told; of those on the state of a cell the same.
    samples : range
        Batches that it takes: all unless told.
    draws_weights : bool
        Whether each weight takes a random number.
    in_parts : bool
        Whether a tensor comes in parts, so that no statistic sees it whole.
    precisions : tuple of str
        Of the kernel: both unless told.
    features, needs : frozenset of str
        Of a task (`Task.features`): what it may have, and what it must have.
    """

    name: str
    meaning: str
    kernel: Callable[[np.dtype[Any]], Callable[..., None]]
    layout: Callable[[Task], Layout]
    kind: Callable[[Task], str]
    prices: Mapping[str, Prices]
    terms: Callable[[Task, int, int], Terms]
    laws: tuple[str, ...] = LAWS
    recurrent_laws: tuple[str, ...] = ()
    samples: range = range(1, 2**32)
    draws_weights: bool = False
    in_parts: bool = False
    precisions: tuple[str, ...] = ("float32", "float64")
    features: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()

    def runs(self, features: frozenset[str]) -> bool:
        """Return whether it is for tasks with these features."""
        return self.needs <= features <= self.features

    def refuses(self, task: Task) -> str:
        """Return why a task cannot be run, in words; nothing if it can."""
        if not self.runs(task.features):
            arguments = dict.fromkeys(task.arguments.values())
            return f"does not run nets with {' and '.join(arguments) or 'nothing but layers'}"
        laws = task.network.laws
        of_states = len(laws) // 2 if task.network.cell.recurrent else len(laws)
        for place, law in enumerate(law.law for law in laws):
            recurrent = place >= of_states
            known, which = (self.recurrent_laws or self.laws, "recurrent ") if recurrent else (self.laws, "")
            if law not in known:
                needed = f"needs {which}weights of law {_either(known)}, not {law!r}"
                needed += ": only their law is known without their entries"
                others = () if recurrent else self.recurrent_laws
                return f"{needed}; recurrent_weights may be {_either(others)}" if others else needed
        few, many = self.samples.start, self.samples.stop - 1
        allowed = f"one sample (batch={few})" if few == many else f"batches of {few} to {many}"
        return "" if task.batch in self.samples else f"takes {allowed}, not batch={task.batch}"

    def all_terms(self, task: Task) -> Terms:
        """Return how much of each term one net takes."""
        total: Terms = defaultdict(float)
        for (fan_in, fan_out), layers in Counter(task.network.fans).items():
            for name, number in self.terms(task, fan_in, fan_out).items():
                total[name] += layers * number
        return total

    def nanoseconds(self, task: Task) -> float:
        """Return about how long one net takes on one core."""
        prices = self.prices[self.kind(task)][task.precision]
        return sum(prices[name] * number for name, number in self.all_terms(task).items())
