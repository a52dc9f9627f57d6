"""Draw nets until a verdict is decided: twice as many at each look, up to a limit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stabsim.arguments import make_task
from stabsim.diagnosis.criteria import quantities
from stabsim.diagnosis.judging import Judgment, judge_each, worse
from stabsim.network import Network
from stabsim.plan import Plan
from stabsim.quantities import QUANTITIES
from stabsim.result import Result
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


def task_of(network: Network, told: Iterable[str] = TOLD, **options: Any) -> Task:
    """Return the task of a network with the quantities of verdicts, and those told that exist for it."""
    bare = make_task(network, **options)
    names = [*quantities(bare), *(name for name in told if not QUANTITIES[name].missing(bare.batch, bare.features))]
    return make_task(network, quantities=names, **options)


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
    plan, result, done = Plan(task), None, 0
    workers = count_threads(threads, task.device)
    for number in looks:
        for sums in _more(plan, done, number, workers):
            result = Result(plan, sums if result is None else result.sums.merge(sums))
            progress(result, looks[-1])
        done = number
        assert result is not None
        signal, gradient = judge_each(result, tolerance, looks=networks * len(looks))
        if worse(signal, gradient).decided:
            break
    assert result is not None
    return result, signal, gradient


def _more(plan: Plan, done: int, number: int, threads: int) -> Any:
    """Yield the sums of further nets, in chunks."""
    step = plan.chunk_nets
    chunks = [(first, min(first + step, number)) for first in range(done, number, step)]
    with contextlib.closing(plan.run(chunks, threads)) as found:
        yield from found


def simulate(task: Task, nets: int, threads: int | None) -> Result:
    """Return the result of as many nets."""
    plan, result = Plan(task), None
    for sums in _more(plan, 0, nets, count_threads(threads, task.device)):
        result = Result(plan, sums if result is None else result.sums.merge(sums))
    assert result is not None
    return result
