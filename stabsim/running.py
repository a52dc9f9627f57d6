"""Run a study: what is missing is simulated and stored, then it is measured, drawn and judged."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stabsim.collect import Gathering, Progress, Report, simulate, write_tasks
from stabsim.devices import CPU
from stabsim.discovery import calling
from stabsim.engines import Engine, local
from stabsim.outputs import measure, measurements_file, read_measurements, save_figures, save_verdicts
from stabsim.provenance import command
from stabsim.store import Store
from stabsim.study import Case, Collected, Study, Verdict
from stabsim.threads import count_threads
from stabsim.work import Chunk, Shard, Work, chunks_directory

if TYPE_CHECKING:
    import pandas


def _say_nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Listener:
    """Functions that `run_study` calls, in this order; those that are not given say nothing.

    Parameters
    ----------
    placed : callable
        From the cases, each with the device that it is run on.
    stored : callable
        From what is stored, and the (path, problem) of each file that is set aside and made again.
    simulating : callable
        To a report of the chunks that are simulated, which is open as long as they are.
    measuring : callable
        From the file of what is measured of this machine, if it is measured now.
    drawn : callable
        From the files of the figures.
    judged : callable
        From the verdicts, before they are saved.
    """

    placed: Callable[[Sequence[Case]], None] = _say_nothing
    stored: Callable[[Progress, Sequence[tuple[Path, str]]], None] = _say_nothing
    simulating: Callable[[], contextlib.AbstractContextManager[Report]] = lambda: contextlib.nullcontext(_say_nothing)
    measuring: Callable[[Path], None] = _say_nothing
    drawn: Callable[[Sequence[Path]], None] = _say_nothing
    judged: Callable[[Sequence[Verdict]], None] = _say_nothing


class Run(NamedTuple):
    """What a run of a study leaves: results, files of figures and verdicts."""

    collected: Collected
    figures: list[Path]
    verdicts: list[Verdict]


def run_study(
    study: Study,
    scale: str = "quick",
    seed: int = 0,
    *,
    out: str | os.PathLike[str] = ".",
    threads: int | None = None,
    device: str = CPU,
    engine: Engine = local,
    listener: Listener | None = None,
    path: Path | None = None,
) -> Run:
    """Simulate what is missing of a study, measure, draw and judge, as ``stabsim run`` does.

    Parameters
    ----------
    study : Study
        Its functions are called.
    scale : str
        "quick" or "paper".
    seed : int
        Of the run.
    out : str or path
        Folder that holds results/ and figures/; the current one unless given.
    threads : int, optional
        As many as there are processors, unless told: of the cases on the CPU.
    device : str
        "cpu", or "cuda": a GPU for the cases that it runs, and the CPU for the others. Chunks that a GPU has made are
        stored apart from those of the CPU.
    engine : callable
        Where it is run: see `stabsim.engines`.
    listener : Listener, optional
        Who is told what is done; nobody unless given.
    path : Path, optional
        The file of the study, which is then named, with the line, when one of its functions fails.

    Raises
    ------
    ValueError
        If the scale, the seed, ``threads`` or the device is not allowed, or the study breaks its own declaration.
    StoreError
        If the disk is full or read-only, or the study is being run already; what is stored stays.
    EngineError
        If the engine leaves a chunk out.
    DeviceError
        If there is no GPU that can be used; where an engine runs chunks elsewhere, that is an EngineError.
    StudyError
        If one of the study's functions fails and ``path`` is given; without it, their error is raised as it is.

    Examples
    --------
    >>> import tempfile
    >>> from stabsim import Network
    >>> from stabsim.arguments import make_task
    >>> from stabsim.study import Case
    >>> task = make_task(Network((8, 8, 8), "relu", "he_normal"), quantities=("activation_mean_square",))
    >>> study = Study("tiny", "A tiny study", cases=lambda scale: [Case(task, 100)], draw=lambda collected: [])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = run_study(study, out=Path(folder))
    >>> run.collected.table["nets"].tolist()
    [100, 100, 100]
    """
    out, listener = Path(out), listener or Listener()
    with _opened(study, scale, seed, device, out, listener, path) as gathering:
        _simulate(gathering, gathering.chunks, threads, engine, listener)
        collected = replace(gathering.collected(), measurements=_measure(study, scale, out, listener, path))
        figures, failure = [], None
        try:
            with _calls("draw", path):
                figures = save_figures(study, collected, out / "figures", command(study.name, scale, seed, device))
            listener.drawn(figures)
        except Exception as error:  # a verdict needs no figure
            failure = error
        with _calls("verdicts", path):
            verdicts = study.checked_verdicts(collected)
        listener.judged(verdicts)
        cases = [case for case, _ in collected.results]
        save_verdicts(study, verdicts, scale, seed, out / "results" / study.name / "verdicts.json", device, cases)
    if failure is not None:
        raise failure
    return Run(collected, figures, verdicts)


def run_shard(
    study: Study,
    shard: Shard,
    scale: str = "quick",
    seed: int = 0,
    *,
    out: str | os.PathLike[str] = ".",
    threads: int | None = None,
    device: str = CPU,
    engine: Engine = local,
    listener: Listener | None = None,
    path: Path | None = None,
) -> None:
    """Simulate what is missing of a shard of a study, as ``stabsim run --shard`` does; nothing is drawn or judged.

    Chunks are dealt out in their order, the same whatever is stored. What the study measures is one piece, which the
    shard measures that its name falls to. ``stabsim merge`` puts the shards together.

    Parameters
    ----------
    study, scale, seed, out, threads, device, engine, listener, path
        As `run_study` takes them.
    shard : Shard
        Which one.

    Raises
    ------
    ValueError, StoreError, EngineError, DeviceError, StudyError
        As `run_study` does.
    """
    out, listener = Path(out), listener or Listener()
    with _opened(study, scale, seed, device, out, listener, path) as gathering:
        _simulate(gathering, shard.deal(gathering.chunks), threads, engine, listener)
        if shard.has(study.name):
            _measure(study, scale, out, listener, path)


@contextlib.contextmanager
def _opened(
    study: Study, scale: str, seed: int, device: str, out: Path, listener: Listener, path: Path | None
) -> Iterator[Gathering]:
    """Lock the store of a study, and read it."""
    with _calls("cases", path):
        cases = study.checked_cases(scale, seed, device)
    listener.placed(cases)
    works = list(map(Work, cases))
    with Store(chunks_directory(out, study.name)) as store:
        write_tasks(works, store)
        yield Gathering(works, store)


def _simulate(
    gathering: Gathering, chunks: Sequence[Chunk], threads: int | None, engine: Engine, listener: Listener
) -> None:
    """Simulate those of some chunks that are missing."""
    missing = [chunk for chunk in chunks if chunk in gathering.missing]
    damaged = gathering.store.damaged
    listener.stored(Progress(len(chunks) - len(missing), len(chunks), len(damaged)), damaged)
    with listener.simulating() as report:
        simulate(gathering, missing, count_threads(threads), report, engine)


def _measure(study: Study, scale: str, out: Path, listener: Listener, path: Path | None) -> pandas.DataFrame | None:
    """Return what the study measures, if it does: now, unless it has been measured."""
    if study.measure is None:
        return None
    file = measurements_file(study, scale, out)
    if not file.exists():
        listener.measuring(file)
        with _calls("measure", path):
            measure(study, scale, file)
    return read_measurements(file)


def _calls(function: str, path: Path | None) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if path is None else calling(function, path)
