"""The samplers, one file each, and which one runs a task; ``sampler="auto"`` takes the cheaper."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from stabsim.quantities import QUANTITIES
from stabsim.samplers import (
    dense,
    jacobian,
    matrix_free,
    matrix_free_batch,
    matrix_free_jacobian,
    matrix_free_rnn,
    recurrent,
    rounded,
)
from stabsim.samplers.base import Sampler
from stabsim.task import WITHOUT_SPECTRUM, Task

SAMPLERS = (
    dense.SAMPLER, matrix_free.SAMPLER, matrix_free_batch.SAMPLER, dense.STRUCTURED, matrix_free_batch.STRUCTURED,
    recurrent.RNN, recurrent.LSTM, recurrent.GRU, matrix_free_rnn.SAMPLER, rounded.SAMPLER, jacobian.SAMPLER,
    matrix_free_jacobian.SAMPLER,
)  # fmt: skip
WIDEST_EXACT = 512  # units up to which "auto" finds all singular values, whose time grows as the cube
NAMES = tuple(dict.fromkeys(sampler.name for sampler in SAMPLERS))


def sampler_of(task: Task) -> Sampler:
    """Return the sampler of a task, which names it.

    Raises
    ------
    ValueError
        If none of that name runs the task, with the reason.
    """
    found = _serving(task)
    if found is None:
        raise ValueError(_refusal(task))
    return found


def _refusal(task: Task) -> str:
    """Return why no sampler of its name runs a task: what does not go together, the name with it, or its own reason."""
    named = [sampler for sampler in SAMPLERS if sampler.name == task.sampler]
    fit = [sampler for sampler in named if sampler.runs(task.features)]
    if fit:
        return f"sampler={task.sampler!r} {fit[-1].refuses(task)}"
    if any(sampler.runs(task.features) for sampler in SAMPLERS):
        unfit = _unfit(named, task)
        known = f": of singular values it gives {' and '.join(WITHOUT_SPECTRUM)}" * (
            task.arguments.get("spectrum") in unfit
        )
        return f"sampler={task.sampler!r} does not run nets with {' and '.join(unfit)}{known}"
    first, *others = _unfit(SAMPLERS, task)
    return f"{first} does not go with {' and '.join(others)}"


def _unfit(samplers: Sequence[Sampler], task: Task) -> tuple[str, ...]:
    """Return the fewest arguments that none of the samplers takes together."""
    features = list(task.arguments)
    sets = (each for size in range(1, len(features) + 1) for each in itertools.combinations(features, size))
    unfit = next(each for each in sets if not any(sampler.features.issuperset(each) for sampler in samplers))
    return tuple(dict.fromkeys(task.arguments[feature] for feature in unfit))


def _serving(task: Task) -> Sampler | None:
    return next((each for each in SAMPLERS if each.name == task.sampler and not each.refuses(task)), None)


def choose(task: Task) -> str:
    """Return the name of the cheaper sampler: by the geometric mean of all quantities and of few.

    What is asked for must not change what is drawn, so it does not count; but for singular values, of which one sampler
    finds all and the other, at layer 0, two: above `WIDEST_EXACT` units the other, where it runs the task.
    """
    able = [each for each in (replace(task, sampler=name) for name in NAMES) if _serving(each) is not None]
    if "jacobian" in task.features:
        wide = max(task.network.widths) > WIDEST_EXACT
        able = [each for each in able if sampler_of(each).draws_weights != wide] or able
    return min(able, key=_squared_mean).sampler if able else NAMES[0]


def _squared_mean(task: Task) -> float:
    asked = (None, (QUANTITIES["activation_gradient_mean_square"],))
    tasks = [replace(task, quantities=quantities, samples=(), histograms=()) for quantities in asked]
    return math.prod(sampler_of(each).nanoseconds(each) for each in tasks)
