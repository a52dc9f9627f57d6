"""Learning-rate schedules: one entry each, with its source: by which factor each step multiplies the learning rate."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from stabsim import checks, names

Floats = NDArray[np.float64]
_WARMUP = "warmup"  # a parameter of every schedule


@dataclass(frozen=True)
class Schedule:
    """A schedule with its parameters; `schedule` makes it from a name.

    With t for the step from 0, and T for the number of all steps:

    - constant: 1.
    - step: factor^floor(t / every).
    - cosine: end + (1 - end) (1 + cos(pi t / T)) / 2; ``end`` is what it would reach in step T, which is none.

    Every schedule has ``warmup``, the number of steps before it in which the factor rises along a line, 1 / warmup,
    2 / warmup, ..., 1; then the schedule begins, of the steps that are left.

    Parameters
    ----------
    name : str
        A name of `SCHEDULES`.
    parameters : mapping
        All of them by name.
    source : str
        The publication.

    Examples
    --------
    >>> schedule("cosine(end=0.5)").factors(4)
    array([1.       , 0.9267767, 0.75     , 0.5732233])
    >>> schedule("step(every=2, warmup=4)").factors(9)
    array([0.25, 0.5 , 0.75, 1.  , 1.  , 1.  , 0.1 , 0.1 , 0.01])
    """

    name: str
    parameters: Mapping[str, float] = field(hash=False)
    source: str = field(repr=False)

    def __str__(self) -> str:
        return names.format_name(self.name, self.parameters)

    def factors(self, steps: int) -> Floats:
        """Return what the learning rate of an optimizer is multiplied by in each step.

        Parameters
        ----------
        steps : int
            T, at least 1. Where ``warmup`` takes as many or more, the line is cut off there.

        Returns
        -------
        array (steps,)

        Raises
        ------
        TypeError, ValueError
            If there is no whole number of steps.
        """
        total = checks.whole_number("steps", steps)
        given = dict(self.parameters)
        rising = int(given.pop(_WARMUP))
        ramp = np.arange(1.0, min(rising, total) + 1.0) / max(rising, 1)
        left = total - len(ramp)
        return np.concatenate([ramp, SCHEDULES[self.name].shape(np.arange(left, dtype=np.float64), left, **given)])


def schedule(spec: str | Schedule) -> Schedule:
    """Return the schedule of a name with parameters.

    Parameters
    ----------
    spec : str or Schedule
        A name of `SCHEDULES` with or without parameters; a `Schedule` is returned as it is.

    Raises
    ------
    TypeError, ValueError
        If the name or a parameter is unknown, or a value is not allowed.

    Examples
    --------
    >>> str(schedule("cosine(warmup=100)"))
    'cosine(end=0, warmup=100)'
    """
    if isinstance(spec, Schedule):
        return spec
    if not isinstance(spec, str):
        raise TypeError(f"schedule must be a name or a stabsim.training.Schedule, not {checks.brief(spec)}")
    name, given = names.parse(spec)
    if name not in SCHEDULES:
        raise names.unknown("schedule", name, SCHEDULES)
    entry = SCHEDULES[name]
    known = inspect.signature(entry.shape).parameters
    own = {key: known[key].default for key in list(known)[2:]} | {_WARMUP: 0.0}
    names.check_parameters(name, given, own)
    values = own | given
    _count(_WARMUP, values[_WARMUP], 0)
    entry.shape(np.zeros(1), 1, **{key: value for key, value in values.items() if key != _WARMUP})  # checks them
    return Schedule(name, MappingProxyType({key: float(value) for key, value in values.items()}), entry.source)


def _count(argument: str, value: float, least: int = 1) -> int:
    """Return a whole number, which names with parameters hold as a float."""
    whole = isinstance(value, float) and value.is_integer()
    return checks.whole_number(argument, int(value) if whole else value, least)


def _constant(t: Floats, steps: int) -> Floats:
    return np.ones_like(t)


def _step(t: Floats, steps: int, every: float = 500.0, factor: float = 0.1) -> Floats:
    return np.asarray(checks.number("factor", factor, 0.0, 1.0) ** (t // _count("every", every)))


def _cosine(t: Floats, steps: int, end: float = 0.0) -> Floats:
    last = checks.number("end", end, 0.0, 1.0)
    return np.asarray(last + (1.0 - last) * 0.5 * (1.0 + np.cos(np.pi * t / steps)))


@dataclass(frozen=True)
class Entry:
    """A named schedule: factors from steps t, their number and its parameters, and its source."""

    shape: Callable[..., Floats]
    source: str


_RAMP = "warm-up: Goyal et al. 2017, arXiv:1706.02677, section 2.2"
SCHEDULES = {
    "constant": Entry(_constant, f"Robbins & Monro 1951; {_RAMP}"),
    "step": Entry(_step, "Goyal et al. 2017, arXiv:1706.02677, section 5.1, at equal distances"),
    "cosine": Entry(_cosine, "Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5, without restarts"),
}
