"""``diagnose``: a network in, a verdict with its number out, where formats fail, and a repair that was simulated."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

from numpy.typing import NDArray

from stabsim import theory
from stabsim.arguments import PRECISIONS, make_task
from stabsim.checks import brief, number, whole_number
from stabsim.devices import CPU
from stabsim.diagnosis.deciding import Progress, decide, looks_of, simulate, task_of
from stabsim.diagnosis.diagnosis import Diagnosis
from stabsim.diagnosis.formats import NETS as FORMAT_NETS
from stabsim.diagnosis.formats import QUANTITIES, FormatLimit, limits
from stabsim.diagnosis.judging import STABLE, TOLERANCE, UNDECIDED, Judgment, worse
from stabsim.diagnosis.repairing import Repair, candidates
from stabsim.names import check_known
from stabsim.network import Network
from stabsim.result import Result
from stabsim.task import LARGEST_NET, LARGEST_SEED, Task
from stabsim.theory.mean_field import FixedPoint
from stabsim.threads import count_threads

BATCH = 16
FIRST, MOST = 128, 1024  # nets at the first look and the last
FIRST_OF_REPAIR, MOST_OF_REPAIR = 16, 512  # of each
MOST_REPAIRS = 24  # that are tried


def diagnose(
    network: Network,
    *,
    batch: int | None = None,
    nets: int = MOST,
    seed: int = 0,
    inputs: str | NDArray[Any] | None = None,
    format: str = "float32",
    tolerance: float = TOLERANCE,
    formats: bool = True,
    repair: bool = True,
    threads: int | None = None,
    device: str = CPU,
    progress: Progress | None = None,
) -> Diagnosis:
    """Say whether a network can be trained as it starts: what becomes of signals and gradients, and what repairs it.

    Parameters
    ----------
    network : Network
        The law of one net.
    batch : int, optional
        Samples that go through each net together: 16 unless told, or as many as ``inputs`` has, if these are fewer.
        Units are dead if they are so for all of them.
    nets : int
        The most nets that are drawn of the network: from 128 on twice as many at each look, until the verdict is
        decided. Of each of up to 24 repairs 16 to 512 are drawn, whatever this is.
    seed : int
        From 0 to 2**64 - 1. The same arguments give the same diagnosis. Each repair that is tried has a seed of its
        own, one higher than the one before.
    inputs : None, str or array (samples, widths[0])
        As in `stabsim.simulate`: standard normal unless told.
    format : str
        "float32" or "float64", or a number format that is simulated: "float16", "bfloat16", "float8_e5m2" or
        "float8_e4m3". The verdict, and repairs, are then of nets whose every operation is rounded to it.
    tolerance : float
        How many times larger or smaller a typical unit's signal or gradient may be, at any layer, than where it comes
        in; see `stabsim.diagnosis.judge`, which has the definitions and their reasons.
    formats : bool
        Whether the first layer at which each number format fails is looked for.
    repair : bool
        Whether a repair is looked for if the network is surely not stable.
    threads : int, optional
        As many as there are processors, unless told. Of device "cpu" only.
    device : str
        "cpu", or "cuda" for what a GPU runs (``docs/gpu.md``). Simulated formats run on the processor.
    progress : callable, optional
        Called with what is simulated, in words, the result so far and the most nets that it may take.

    Returns
    -------
    Diagnosis

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed: its name, its value and what is allowed.
    MemoryError, stabsim.devices.DeviceError
        As `stabsim.simulate` does.

    Examples
    --------
    >>> network = Network((64,) * 31, "tanh", "lecun_normal(gain=0.5)")
    >>> found = diagnose(network, seed=1, formats=False)
    >>> found.verdict.kind, found.repair.change, found.repair.verdict.kind
    ('vanishing', "weights='lecun_normal'", 'stable')
    """
    seed = whole_number("seed", seed, 0, LARGEST_SEED)
    nets = whole_number("nets", nets, 2, LARGEST_NET)
    tolerance = number("tolerance", tolerance, 1.0, open_ends=True)
    count_threads(threads, device)
    check_known("format", format, PRECISIONS)
    for name, value in (("formats", formats), ("repair", repair)):
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, not {brief(value)}")
    if progress is not None and not callable(progress):
        raise TypeError(
            f"progress must be None or a function of what, a Result and the most nets, not {brief(progress)}"
        )
    if batch is None:
        batch = _batch(inputs)
    options: dict[str, Any] = {"batch": batch, "seed": seed, "inputs": inputs, "precision": format, "device": device}
    task = task_of(network, **options)

    def show(what: str) -> Any:
        return lambda result, most: None if progress is None else progress(what, result, most)

    result, signal, gradient = decide(task, tolerance, looks_of(FIRST, nets), threads=threads, progress=show("network"))
    found = tuple(_formats(result, threads, show, options)) if formats else ()
    verdict = worse(signal, gradient)
    surely_fails = verdict.kind not in (STABLE, UNDECIDED)
    tried = tuple(_repairs(task, verdict, tolerance, threads, show, options)) if repair and surely_fails else ()
    return Diagnosis(network, result, tolerance, signal, gradient, _mean_field(network), found, tried)


def _batch(inputs: Any) -> int:
    """Return how many samples go through a net unless told: no more than there are."""
    if inputs is None or isinstance(inputs, str):
        return BATCH
    try:
        return min(BATCH, max(len(inputs), 1))
    except TypeError:  # of what has no samples, which is refused later
        return BATCH


def _formats(result: Result, threads: int | None, show: Any, options: dict[str, Any]) -> Iterator[FormatLimit]:
    """Yield where formats fail: by simulation, unless the network has what no net in a format can have."""
    plain = not (result.task.features - {"number_format"})
    base = result
    if result.task.number_format is not None:  # what float32 holds is predicted from numbers that it holds
        task = task_of(result.network, **{**options, "precision": "float32"})
        base = simulate(task, FORMAT_NETS, threads)

    def in_format(name: str) -> Result:
        given = {**options, "precision": name, "device": CPU}
        found = simulate(make_task(result.network, quantities=QUANTITIES, **given), FORMAT_NETS, threads)
        show(name)(found, FORMAT_NETS)
        return found

    yield from limits(base, in_format if plain else None)


def _repairs(
    task: Task, verdict: Judgment, tolerance: float, threads: int | None, show: Any, options: dict[str, Any]
) -> Iterator[Repair]:
    """Yield the changes that are tried, the last of which repairs the network, if any does.

    All their verdicts hold together, so that none is called stable by being one of many.
    """
    proposed = list(islice(candidates(task.network, verdict), MOST_REPAIRS))
    looks = looks_of(FIRST_OF_REPAIR, MOST_OF_REPAIR)
    for place, candidate in enumerate(proposed):
        seed = (task.seed + 1 + place) % (LARGEST_SEED + 1)
        with contextlib.suppress(ValueError):  # of a change that a format or a device does not run
            changed = task_of(candidate.network, told=(), **{**options, "seed": seed})
            result, signal, gradient = decide(
                changed, tolerance, looks, networks=len(proposed), threads=threads, progress=show(candidate.change)
            )
            found = Repair(candidate.change, candidate.network, signal, gradient, seed, result.nets)
            yield found
            if found.holds:
                return


def _mean_field(network: Network) -> FixedPoint | None:
    """Return where wide layers of the network end up, if it is plain and all its hidden layers have one law."""
    if network.structures or network.weights.law in ("constant", "identity"):
        return None
    hidden = list(zip(network.fans, network.weight_stds, strict=True))[1:-1] or [
        (network.fans[0], network.weight_stds[0])
    ]
    with contextlib.suppress(ValueError, OverflowError):
        biases = (network.weights.bias_std(fans[0], network.bias_std) for fans, _ in hidden)
        variances = {(fans[0] * std**2, bias**2) for (fans, std), bias in zip(hidden, biases, strict=True)}
        if len(variances) != 1:
            return None
        return theory.fixed_point(network.activation, *variances.pop())
    return None
