"""State -> what is drawn: results that grow from a few nets to all, theory beside them, and shares over gains."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.arguments import make_task
from stabsim.devices import CPU
from stabsim.diagnosis import deciding
from stabsim.explorer.state import MAPPED, State
from stabsim.initializers import initializer
from stabsim.network import Network
from stabsim.plan import Plan
from stabsim.quantities import QUANTITIES
from stabsim.result import Result, growing
from stabsim.simulation import simulate
from stabsim.task import Task
from stabsim.theory.infinite_width import WideLimit
from stabsim.theory.residual_laws import laws_of
from stabsim.threads import count_threads

Floats = NDArray[np.float64]
Stop = Callable[[], bool]
Laws = dict[str, tuple[Floats, Floats]]  # exact, and of infinite width, by quantity

PROMPT = 0.25  # seconds of one core: what takes more is drawn with fewer nets first
FIRST_LOOK = 0.06  # seconds of one core that these take
LONGEST, LONGEST_NET = 60.0, 2.0  # seconds of one core: of all nets, and of one, which cannot be interrupted
OCTAVES, STEPS = 2, 17  # gains of the heat map: so many, to so many octaves below and above
NETS_A_GAIN = 16
LONGEST_MAP = 2.0  # seconds of one core: what takes more has fewer nets a gain
ENDS = ("estimate", "ci_low", "ci_high", "theory", "infinite_width")  # what is drawn of a quantity


@dataclass(frozen=True)
class Panel:
    """What is drawn in one figure, against the layer.

    Parameters
    ----------
    name, title, axis : str
        In the page, above the figure, and beside it.
    lines : dict of str
        What each quantity is called there.
    scale : str
        "exponent", values that are log10 already; "log", whose log10 is drawn; "share", from 0 to 1; "cosine".
    """

    name: str
    title: str
    axis: str
    lines: dict[str, str]
    scale: str


PANELS = (
    Panel("signals", "Signals", "log₁₀ of the norm |z|", {"activation_log10_norm": "|z|"}, "exponent"),
    Panel("gradients", "Gradients", "log₁₀ of the norm |dz|", {"activation_gradient_log10_norm": "|dz|"}, "exponent"),
    Panel("squares", "Mean squares", "log₁₀ of the mean square", {
        "preactivation_mean_square": "pre-activations s", "activation_mean_square": "signals z = f(s)",
        "derivative_mean_square": "f'(s)",
    }, "log"),
    Panel("zeros", "Zeros and saturation", "share of units", {
        "activation_zero_fraction": "f = 0", "derivative_zero_fraction": "f' = 0",
        "derivative_saturated_fraction": "|f'| < 0.01",
    }, "share"),
    Panel("dead", "Dead samples", "share of samples", {
        "derivative_dead_sample_fraction": "f' = 0 in all units of the layer",
        "preactivation_gradient_dead_sample_fraction": "no gradient arrives",
    }, "share"),
    Panel("correlation", "Two inputs", "cosine of their signals", {"activation_correlation": "correlation"}, "cosine"),
)  # fmt: skip
DRAWN = tuple(name for panel in PANELS for name in panel.lines)


def task_of(state: State, quantities: tuple[str, ...] = DRAWN, *, judged: bool = False) -> Task:
    """Return the task of a state, which is asked for those of the quantities that exist for it, and those of verdicts.

    Raises
    ------
    TypeError, ValueError
        If no sampler runs it.

    Examples
    --------
    >>> [quantity.tensor for quantity in task_of(State(batch=2), ("activation_correlation",)).quantities]
    ['activation']
    """
    return deciding.task_of(
        state.network, quantities, judged=judged, batch=state.batch, seed=state.seed, sampler=state.sampler,
        precision=state.precision,
    )  # fmt: skip


def missing(state: State, names: tuple[str, ...]) -> str:
    """Return why none of the quantities exists for a state, in words; nothing if one does."""
    task = task_of(state)
    reasons = [QUANTITIES[name].missing(task.batch, task.arguments) for name in names]
    return reasons[0] if all(reasons) else ""


def check_cost(plan: Plan, nets: int) -> float:
    """Return about how many seconds of one core the nets take.

    Raises
    ------
    ValueError
        If that is longer than anyone would wait for at a slider.
    """
    one = plan.sampler.nanoseconds(plan.task) / 1e9
    if one > LONGEST_NET:
        raise ValueError(
            f"one of these nets takes about {one:.1f} s of a core, more than {LONGEST_NET:g} s: "
            f"reduce depth, width or batch, or use stabsim simulate"
        )
    if one * nets > LONGEST:
        raise ValueError(
            f"nets={nets} would take about {one * nets:.0f} s of a core, more than {LONGEST:g} s: up to "
            f"{max(int(LONGEST / one), 1)} such nets can be drawn here, or more by stabsim simulate"
        )
    return one * nets


def draw(state: State, stop: Stop = lambda: False, threads: int | None = None) -> Iterator[Result]:
    """Yield results of more and more nets: of a few first where all take long; the last is that of `simulate`.

    Parameters
    ----------
    state : State
        What is drawn.
    stop : callable
        Asked between chunks; once it says True, no more results come.
    threads : int, optional
        As many as there are processors, unless told.

    Raises
    ------
    TypeError, ValueError, MemoryError
        If it is not allowed, or takes too long or too much memory.
    """
    plan = Plan(task_of(state, judged=True))
    seconds = check_cost(plan, state.nets)
    used = count_threads(threads, CPU)
    if seconds > PROMPT:
        few = min(max(2, int(state.nets * FIRST_LOOK / seconds)), plan.chunk_nets)
        yield from growing(plan, [(0, few)], used)
    if not stop():
        with contextlib.closing(growing(plan, plan.chunks(state.nets), used)) as results:
            for result in results:
                yield result
                if stop():
                    return


def theory(state: State) -> Laws:
    """Return the exact law and the limit of infinite width of every quantity that is drawn, as the table has them."""
    return _theory(state.network, state.batch, state.precision)


@functools.lru_cache(maxsize=64)
def _theory(network: Network, batch: int, precision: str) -> Laws:
    task = make_task(network, batch=batch, precision=precision)
    if network.cell.recurrent:
        nothing = np.full(len(network.widths), np.nan)
        return dict.fromkeys(DRAWN, (nothing, nothing))
    exact, limit = laws_of(task), WideLimit(task)
    return {name: (exact.predict(name), limit.predict(name)) for name in DRAWN}


def columns(result: Result, laws: Laws | None = None) -> dict[str, Floats]:
    """Return "layer", and of every quantity that is drawn its `ENDS`, such as "activation_log10_norm ci_low".

    All are (depth + 1,); NaN where there is none. Of the two kinds of theory, the exact one where it is known.
    """
    nothing = np.full(len(result.network.widths), np.nan)
    there = {quantity.name for quantity in result.task.table_quantities}
    found = {"layer": np.arange(len(nothing), dtype=np.float64)}
    for name in DRAWN:
        estimate = result.estimates(name) if name in there else None
        exact, limit = (laws or {}).get(name, (nothing, nothing)) if estimate else (nothing, nothing)
        parts = (nothing,) * 3 if estimate is None else (estimate.estimate, estimate.ci_low, estimate.ci_high)
        parts = (*parts, exact, np.where(np.isfinite(exact), np.nan, limit))
        outside = nothing[: QUANTITIES[name].first_layer]
        found |= {
            f"{name} {end}": np.concatenate([outside, part[len(outside) :]])
            for end, part in zip(ENDS, parts, strict=True)
        }
    return found


def readings(result: Result, found: dict[str, Floats]) -> list[dict[str, Any]]:
    """Return a row for each quantity, at the layer where signals or gradients have come through the whole net."""
    there = {quantity.name: quantity for quantity in result.task.table_quantities}
    rows = []
    for name in DRAWN:
        if quantity := there.get(name):
            layer = quantity.first_layer if quantity.backward else result.network.depth
            values = {end: float(found[f"{name} {end}"][layer]) for end in ENDS}
            rows.append({"quantity": name, "layer": layer, **values})
    return rows


def gains(state: State) -> Floats:
    """Return the gains of the heat map, about the initializer's own, or about another one that the gain is near.

    They stay the same while the gain moves by less than two octaves, so that nothing is simulated again.

    Examples
    --------
    >>> gains(State(weights="glorot_normal", gain=1.7))[[0, 8, 16]]
    array([0.25, 1.  , 4.  ])
    >>> bool(gains(State(weights="glorot_normal", gain=30.0))[0] < 30 < gains(State(gain=30.0))[16])
    True
    """
    own = abs(initializer(state.weights).gain) or 1.0
    wanted = own if state.gain is None else state.gain
    middle = own * 2.0 ** (2 * OCTAVES * round(math.log2(wanted / own) / (2 * OCTAVES)))
    return np.asarray(middle * np.exp2(np.linspace(-OCTAVES, OCTAVES, STEPS)))


def shares(state: State, stop: Stop = lambda: False) -> tuple[Floats, Floats] | None:
    """Return gains, and a share at every layer for each of them, (gains, depth + 1); None once ``stop`` says True.

    Raises
    ------
    TypeError, ValueError
        If the share does not exist for such nets, or one net for each gain takes too long.
    """
    if words := missing(state, (state.share,)):
        known = [name for name in MAPPED if not missing(state, (name,))]
        raise ValueError(f"{state.share} {words}; {', '.join(known)} can be shown")
    at = gains(state)
    if initializer(state.weights).law in ("constant", "identity"):
        raise ValueError(f"weights={state.weights!r} are not random: there is no gain to vary")
    plan = Plan(task_of(state, (state.share,)))
    one = check_cost(plan, 1)
    if one * len(at) > LONGEST:
        raise ValueError(f"{len(at)} of these nets take about {one * len(at):.0f} s of a core, more than {LONGEST:g} s")
    nets = int(min(max(LONGEST_MAP / (one * len(at)), 1), NETS_A_GAIN, plan.chunk_nets))

    def at_gain(gain: float) -> Floats:
        if stop():
            return np.empty(0)
        found = _share(replace(state, gain=float(gain), nets=nets))
        return np.concatenate([[np.nan], found[1:]])

    with ThreadPoolExecutor(count_threads(None, CPU), thread_name_prefix="stabsim-map") as pool:
        rows = list(pool.map(at_gain, at))
    return None if stop() or not all(map(len, rows)) else (at, np.array(rows))


@functools.lru_cache(maxsize=2048)
def _share(state: State) -> Floats:
    result = simulate(
        state.network, nets=state.nets, batch=state.batch, seed=state.seed, sampler=state.sampler,
        precision=state.precision, threads=1, quantities=(state.share,),
    )  # fmt: skip
    return result.estimates(state.share).estimate
