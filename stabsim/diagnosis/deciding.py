"""Draw nets until a verdict is decided: twice as many at each look, up to a limit."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stabsim.arguments import make_task
from stabsim.diagnosis.criteria import quantities
from stabsim.diagnosis.judging import Judgment, judge_each, worse
from stabsim.network import Network
from stabsim.plan import Plan
from stabsim.quantities import QUANTITIES
from stabsim.result import Result, growing
from stabsim.task import Task
from stabsim.threads import count_threads

if TYPE_CHECKING:
    from collections.abc import Iterable

Progress = Callable[[str, Result, int], None]
Judged = tuple[Result, Judgment, Judgment]

# Beside what verdicts need: what a report tells, where it exists.
TOLD = (
    "activation_zero_fraction", "activation_dead_unit_fraction", "activation_correlation", "derivative_zero_fraction",
    "activation_gradient_zero_fraction", "preactivation_gradient_dead_unit_fraction",
)  # fmt: skip


def task_of(network: Network, told: Iterable[str] = TOLD, *, judged: bool = True, **options: Any) -> Task:
    """Return the task of a network with the quantities of verdicts, where it is judged, and those told that exist.

    Where there is none of them, it has all.
    """
    bare = make_task(network, **options)
    there = [name for name in told if not QUANTITIES[name].missing(bare.batch, bare.features)]
    names = dict.fromkeys([*(quantities(bare) if judged else ()), *there])
    return make_task(network, quantities=tuple(names) or None, **options)


def looks_of(first: int, most: int) -> list[int]:
    """Return the numbers of nets at which one looks.

    >>> looks_of(16, 100)
    [16, 32, 64, 100]
    """
    numbers = [min(first, most)]
    while numbers[-1] < most:
        numbers.append(min(2 * numbers[-1], most))
    return numbers


def decide(
    task: Task,
    tolerance: float,
    looks: list[int],
    *,
    networks: int = 1,
    threads: int | None,
    progress: Callable[[Result, int], None],
) -> Judged:
    """Return the result of as many nets as decide the verdict on signals and on gradients, with both.

    At each look intervals are as wide as all looks together ask for, so that one may stop at any; and those at other
    ``networks``, so that one may pick any. A net that surely fails is not looked at any longer for what else it may do.
    """
    plan, so_far = Plan(task), None
    workers = count_threads(threads, task.device)
    for done, number in itertools.pairwise([0, *looks]):
        for result in growing(plan, plan.chunks(number, done), workers, before=so_far):
            progress(result, looks[-1])
        so_far = result
        signal, gradient = judge_each(result, tolerance, looks=networks * len(looks))
        if worse(signal, gradient).decided:
            break
    return result, signal, gradient


def simulate(task: Task, nets: int, threads: int | None) -> Result:
    """Return the result of as many nets."""
    plan = Plan(task)
    (last,) = deque(growing(plan, plan.chunks(nets), count_threads(threads, task.device)), maxlen=1)
    return last
