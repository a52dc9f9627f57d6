"""``passages``: after how many steps an optimizer has crossed a plateau, left a saddle or come down a cliff."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim import checks, names
from stabsim.kernels import passages as kernels
from stabsim.task import LARGEST_SEED
from stabsim.threads import count_threads, spread
from stabsim.training.optimizers import Optimizer
from stabsim.training.optimizers import optimizer as optimizer_of

MOST_STEPS = 10**12


class Passages(NamedTuple):
    """Steps (runs, levels), -1 where a level was not reached, and where the runs ended (runs, numbers)."""

    steps: NDArray[np.int64]
    ends: NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """What a profile is called, how many numbers it is of, and its parameters."""

    name: str
    size: int
    values: tuple[float, ...]


def _plateau(width: float = 1.0, slope: float = 0.01, outside: float = 1.0, edge: float = 0.01) -> tuple[float, ...]:
    return _positive("width", width), checks.number("slope", slope), checks.number("outside", outside), _edge(edge)


def _saddle(up: float = 2.0, down: float = 2.0) -> tuple[float, ...]:
    return checks.number("up", up), checks.number("down", down)


def _cliff(steep: float = 1000.0, slope: float = 0.01, edge: float = 0.1) -> tuple[float, ...]:
    return checks.number("steep", steep), checks.number("slope", slope), _edge(edge)


def _positive(argument: str, value: float) -> float:
    return checks.number(argument, value, 0.0, open_ends=True)


def _edge(value: float) -> float:
    return _positive("edge", value)


SHAPES: Mapping[str, tuple[Callable[..., tuple[float, ...]], int]] = {
    "plateau": (_plateau, 1),
    "saddle": (_saddle, 2),
    "cliff": (_cliff, 1),
}


def shape(spec: str) -> Shape:
    """Return a profile by its name with parameters.

    Raises
    ------
    TypeError, ValueError
        If the name or a parameter is unknown, or a value is not allowed.

    Examples
    --------
    >>> shape("plateau(width=2, slope=0)").values
    (2.0, 0.0, 1.0, 0.01)
    """
    name, given = names.parse(spec)
    if name not in SHAPES:
        raise names.unknown("profile", name, SHAPES)
    make, size = SHAPES[name]
    names.check_parameters(name, given, inspect.signature(make).parameters)
    return Shape(name, size, make(**given))


def passages(
    profile: str,
    optimizer: str | Optimizer,
    starts: ArrayLike,
    levels: ArrayLike,
    *,
    most_steps: int,
    noise: float = 0.0,
    bound: float = math.inf,
    seed: int = 0,
    threads: int | None = None,
) -> Passages:
    """Return after how many steps each run has first come so far.

    Parameters
    ----------
    profile : str
        A function to be minimized, by name: "plateau(width=1, slope=0.01, outside=1, edge=0.01)" of x falls with
        ``slope`` from 0 to ``width`` and with ``outside`` elsewhere, the change taking ``edge`` on either side; how far
        a run has come is x. "saddle(up=2, down=2)" is up x^2 / 2 - down y^2 / 2; how far: abs(y). "cliff(steep=1000,
        slope=0.01, edge=0.1)" falls with slope ``steep`` before 0, is the bowl (x - 1)^2 / 2 up to 2, and rises with
        ``slope`` beyond; how far: minus the distance from 1.
    optimizer : str or Optimizer
        A name of `OPTIMIZERS`, with parameters.
    starts : array (runs, numbers)
        One number a run for "plateau" and "cliff", two for "saddle".
    levels : array (levels,)
        How far, rising.
    most_steps : int
        Where a run ends that has not reached all levels.
    noise : float
        Standard deviation of independent normal numbers that are added to the gradient in each step; 0 unless told.
    bound : float
        The gradient, with its noise, is scaled to this norm where it is longer; unless told, it is not.
    seed : int
        Of the noise; 0 unless told. Run i has the same noise whatever the other arguments.
    threads : int, optional
        As many as there are processors, unless told; they change nothing.

    Returns
    -------
    Passages
        The number of steps after which each level is reached first, and where runs ended.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.

    Examples
    --------
    >>> passages("plateau(slope=0.5)", "sgd(learning_rate=0.0625)", [[0.0]], [0.0, 1.0], most_steps=100).steps
    array([[ 0, 32]])
    """
    form, chosen = shape(profile), optimizer_of(optimizer)
    x = checks.rows("starts", starts, "(runs, numbers)", (form.size,))
    given = checks.array("levels", levels)
    if given.ndim != 1 or np.any(np.diff(given) <= 0):
        raise ValueError(f"levels must be rising numbers, not {checks.brief(levels)}")
    most = checks.whole_number("most_steps", most_steps, 0, MOST_STEPS)
    sigma, seed = checks.number("noise", noise, 0.0), checks.whole_number("seed", seed, 0, LARGEST_SEED)
    longest = bound if bound == math.inf else checks.number("bound", bound, 0.0, open_ends=True)
    found = Passages(np.full((len(x), given.size), -1, np.int64), np.empty_like(x))
    rule, settings = chosen.loop(np.float64), np.array(chosen.settings)
    run, function, values = kernels.runner(), kernels.profile(form.name), np.array(form.values)

    def piece(first: int, last: int) -> None:
        run(
            first, seed, function, values, rule, settings, sigma, longest, x[first:last], given, most,
            found.steps[first:last], found.ends[first:last],
        )  # fmt: skip

    spread(piece, len(x), count_threads(threads))
    return found
