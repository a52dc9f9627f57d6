"""Run a study: what its store holds is read, what is missing is simulated and stored at once, all is merged.

The nets of a case are cut into the chunks of its plan. All chunks but a shorter last one are stored under a key
that does not name the number of nets, so that a run with more nets reads them. A shorter last chunk would overlap
the whole one that takes its place then, so it is stored under a key of its own, which names its range.

    results/<study>/chunks/<key>/...    the store
    results/<study>/measured_<scale>.csv  what depends on the machine, if the study measures that;
                                          measured_<scale>_mnist.csv, of one on MNIST, on the user's own
    results/<study>/verdicts.json       of the last run
    figures/<study>[_<part>].png ...    likewise
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from stabsim.chunk import one_line, write_atomically
from stabsim.datasets import mnist_at_hand
from stabsim.discovery import calling
from stabsim.engines import Engine, EngineError, Range, local
from stabsim.moments import Sums
from stabsim.plan import Plan
from stabsim.result import Result
from stabsim.store import Store, task_key
from stabsim.study import Case, Collected, Study, Verdict
from stabsim.threads import count_threads
from stabsim.versions import CHUNK_VERSION

# Called with (label, nets done, nets wanted, function that merges what there is) after each chunk.
Report = Callable[[str, int, int, Callable[[], Result]], None]

Missing = dict["Chunk", list[int]]  # each chunk that is not stored, with the places of its cases


def chunks_directory(out: Path, study: str) -> Path:
    """Return where the chunks of a study are stored."""
    return out / "results" / study / "chunks"


class Chunk(NamedTuple):
    """Nets ``first`` .. ``last - 1`` of a case, stored in the folder of the canonical JSON ``text``."""

    text: str
    first: int
    last: int

    def read(self, store: Store) -> Sums | None:
        """Return the sums, if the store holds them whole."""
        arrays = store.read(task_key(self.text), self.first, self.last)
        return None if arrays is None else Sums.from_arrays(arrays)

    def write(self, store: Store, sums: Sums) -> None:
        """Store the sums; the lock must be held."""
        store.write(store.task(self.text), self.first, self.last, sums.to_arrays())


@dataclass(frozen=True)
class Work:
    """A case, and the chunks that it is done in: the same wherever and whenever it is done."""

    case: Case

    @cached_property
    def plan(self) -> Plan:
        """Return how the task is run."""
        return Plan(self.case.task)

    @cached_property
    def chunks(self) -> tuple[Chunk, ...]:
        """Return the chunks in their order."""
        # What the task leaves to the version of the package is named too: no version reads what another one cut.
        common = json.loads(self.case.task.identity) | {
            "chunk_nets": self.plan.chunk_nets,
            "format": CHUNK_VERSION,
            "quantities": [quantity.name for quantity in self.case.task.table_quantities],
        }
        whole = _canonical(common)
        return tuple(
            Chunk(
                whole if last - first == self.plan.chunk_nets else _canonical(common | {"range": [first, last]}),
                first,
                last,
            )
            for first, last in self.plan.chunks(self.case.nets)
        )


def _canonical(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


class Gathered:
    """What there is of a case: chunks are merged in their order, and those that come early wait for the ones before."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.nets = 0
        self._merged: Sums | None = None
        self._awaited = deque(self.work.chunks)
        self._early: dict[Chunk, Sums] = {}

    def add(self, chunk: Chunk, sums: Sums) -> None:
        """Add one chunk."""
        self.nets += sums.nets
        self._early[chunk] = sums
        while self._awaited and self._awaited[0] in self._early:
            following = self._early.pop(self._awaited.popleft())
            self._merged = following if self._merged is None else self._merged.merge(following)

    def result(self) -> Result:
        """Return the result of all that there is."""
        parts = [self._merged] if self._merged is not None else []
        parts += [self._early[chunk] for chunk in self._awaited if chunk in self._early]
        return Result(self.work.plan, functools.reduce(Sums.merge, parts))


@dataclass(frozen=True)
class Progress:
    """How much of a study is stored."""

    stored: int
    chunks: int
    damaged: int

    @property
    def missing(self) -> int:
        """Return how many chunks are to be simulated."""
        return self.chunks - self.stored


def write_tasks(works: Iterable[Work], store: Store) -> None:
    """Write every ``task.json`` of the cases that is missing or damaged; the lock must be held."""
    for text in sorted({chunk.text for work in works for chunk in work.chunks}):
        store.task(text)


def progress(cases: Iterable[Case], store: Store) -> Progress:
    """Return how much of the cases is stored, reading every chunk; the same chunk of two cases counts once."""
    chunks = {chunk for case in cases for chunk in Work(case).chunks}
    stored = sum(chunk.read(store) is not None for chunk in chunks)
    return Progress(stored, len(chunks), len(store.damaged))


def collect(cases: Iterable[Case], store: Store, threads: int, report: Report, engine: Engine = local) -> Collected:
    """Return the results of all cases, simulating what the store lacks: its lock must be held.

    Each chunk is stored as it arrives, and is in the results of every case that has it.

    Raises
    ------
    EngineError
        If the engine leaves a chunk out.
    """
    return _simulate(*_gather(map(Work, cases), store), store, threads, report, engine)


def read(cases: Iterable[Case], store: Store) -> Collected:
    """Return the results of all cases from a store that lacks nothing."""
    gathered, _ = _gather(map(Work, cases), store)
    return Collected(tuple((each.work.case, each.result()) for each in gathered))


def _gather(works: Iterable[Work], store: Store) -> tuple[list[Gathered], Missing]:
    """Read what is stored; return all cases, and what is missing."""
    gathered = [Gathered(work) for work in works]
    missing: Missing = {}
    for number, each in enumerate(gathered):
        for chunk in each.work.chunks:
            if (sums := chunk.read(store)) is not None:
                each.add(chunk, sums)
            else:
                missing.setdefault(chunk, []).append(number)
    return gathered, missing


def _simulate(
    gathered: list[Gathered], missing: Missing, store: Store, threads: int, report: Report, engine: Engine
) -> Collected:
    """Simulate and store what is missing; return the results."""
    ranges = [Range(gathered[owners[0]].work.plan, chunk.first, chunk.last) for chunk, owners in missing.items()]
    waiting = dict(enumerate(missing.items()))
    with contextlib.closing(engine(ranges, threads)) as arriving:
        for place, sums in arriving:
            chunk, owners = waiting.pop(place)
            chunk.write(store, sums)
            for number in owners:
                each, case = gathered[number], gathered[number].work.case
                each.add(chunk, sums)
                label = f"case {number + 1} of {len(gathered)} ({case.label})"
                report(label, each.nets, case.nets, each.result)
    if waiting:
        raise EngineError(f"the engine ended with {len(waiting)} of {len(missing)} chunks left out")
    return Collected(tuple((each.work.case, each.result()) for each in gathered))


def measurements_file(study: Study, scale: str, out: Path) -> Path:
    """Return where what a study measures is kept."""
    own = "_mnist" if study.on_mnist and mnist_at_hand() == "mnist" else ""
    return out / "results" / study.name / f"measured_{scale}{own}.csv"


def with_measurements(study: Study, collected: Collected, scale: str, path: Path) -> Collected:
    """Return what was collected together with what the study measures, taken now unless the file is there."""
    import pandas

    if study.measure is None:
        return collected
    if not path.exists():
        write_atomically(path, study.measure(scale).to_csv(index=False).encode())
    return replace(collected, measurements=pandas.read_csv(path))


def save_figures(study: Study, collected: Collected, directory: Path) -> list[Path]:
    """Draw a study; return the files, each whole, the same bytes for the same results."""
    from stabsim.figures import save, style

    with style():
        drawings = list(study.draw(collected))
        names = [f"{study.name}_{drawing.part}" if drawing.part else study.name for drawing in drawings]
        if len(set(names)) < len(names):
            raise ValueError(f"two figures of study {study.name!r} have the same part: {', '.join(names)}")
        with one_line(f"cannot write figures into {directory}"):
            files = [save(each.figure, name, directory, each.table) for each, name in zip(drawings, names, strict=True)]
    return [path for group in files for path in group]


def save_verdicts(study: Study, verdicts: Iterable[Verdict], scale: str, seed: int, path: Path) -> None:
    """Write the verdicts as JSON, numbers that are not finite as null."""
    rows = [{key: _plain(value) for key, value in asdict(verdict).items()} for verdict in verdicts]
    document = {"study": study.name, "title": study.title, "scale": scale, "seed": seed, "verdicts": rows}
    write_atomically(path, (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def _say_nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Listener:
    """Functions that `run_study` calls, in this order; those that are not given say nothing.

    Parameters
    ----------
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
        As many as there are processors, unless told.
    engine : callable
        Where it is run: see `stabsim.engines`.
    listener : Listener, optional
        Who is told what is done; nobody unless given.
    path : Path, optional
        The file of the study, which is then named, with the line, when one of its functions fails.

    Raises
    ------
    ValueError
        If the scale, the seed or ``threads`` is not allowed, or the study breaks its own declaration.
    StoreError
        If the disk is full or read-only, or the study is being run already; what is stored stays.
    EngineError
        If the engine leaves a chunk out.
    StudyError
        If one of the study's functions fails and ``path`` is given; without it, their error is raised as it is.

    Examples
    --------
    >>> import tempfile
    >>> from stabsim import Network
    >>> from stabsim.arguments import make_task
    >>> task = make_task(Network((8, 8, 8), "relu", "he_normal"), quantities=("activation_mean_square",))
    >>> study = Study("tiny", "A tiny study", cases=lambda scale: [Case(task, 100)], draw=lambda collected: [])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = run_study(study, out=Path(folder))
    >>> run.collected.table["nets"].tolist()
    [100, 100, 100]
    """
    listener, workers = listener or Listener(), count_threads(threads)

    def calls(function: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if path is None else calling(function, path)

    with calls("cases"):
        works = [Work(case) for case in study.checked_cases(scale, seed)]
    out = Path(out)
    with Store(chunks_directory(out, study.name)) as store:
        write_tasks(works, store)
        gathered, missing = _gather(works, store)
        chunks = len({chunk for each in gathered for chunk in each.work.chunks})
        listener.stored(Progress(chunks - len(missing), chunks, len(store.damaged)), store.damaged)
        with listener.simulating() as report:
            collected = _simulate(gathered, missing, store, workers, report, engine)
        measurements = measurements_file(study, scale, out)
        if study.measure is not None and not measurements.exists():
            listener.measuring(measurements)
        with calls("measure"):
            collected = with_measurements(study, collected, scale, measurements)
        try:
            with calls("draw"):
                figures = save_figures(study, collected, out / "figures")
            listener.drawn(figures)
        finally:  # a verdict needs no figure
            with calls("verdicts"):
                verdicts = study.checked_verdicts(collected)
            listener.judged(verdicts)
            save_verdicts(study, verdicts, scale, seed, out / "results" / study.name / "verdicts.json")
    return Run(collected, figures, verdicts)


def _plain(value: Any) -> Any:
    """Return a NumPy number as Python's, and one that is not finite as None."""
    value = getattr(value, "item", lambda: value)()
    return None if isinstance(value, float) and not math.isfinite(value) else value
