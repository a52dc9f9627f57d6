"""Collect: what the store of a study holds is read, what is missing is simulated and stored at once, all is merged.

Chunks are merged in the order of nets, so that their order of arrival changes no bit. One that comes early is not kept
in memory, which would grow with the nets of a run: it is read again when it is its turn.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stabsim.chunk import StoreError
from stabsim.engines import Engine, EngineError, Range, local
from stabsim.moments import Sums
from stabsim.result import Result
from stabsim.store import Store
from stabsim.study import Case, Collected
from stabsim.work import Chunk, Work

# Called after each chunk with (label, nets done, nets wanted, function that makes a result of those that are merged).
Report = Callable[[str, int, int, Callable[[], Result | None]], None]

Missing = dict[Chunk, tuple[int, ...]]  # each chunk that is not stored, with the places of its cases

NAMED = 3  # failed chunks, in an error


class Gathered:
    """What there is of a case, in a store."""

    def __init__(self, work: Work, store: Store) -> None:
        self.work = work
        self.nets = 0
        self._store = store
        self._merged: Sums | None = None
        self._awaited = deque(work.chunks)
        self._early: set[Chunk] = set()

    def add(self, chunk: Chunk, sums: Sums) -> None:
        """Add one chunk, which is stored."""
        self.nets += sums.nets
        if chunk != self._awaited[0]:
            self._early.add(chunk)
            return
        self._merge(sums)
        while self._awaited and self._awaited[0] in self._early:
            self._early.remove(self._awaited[0])
            self._merge(self._read_again(self._awaited[0]))

    def _merge(self, sums: Sums) -> None:
        self._merged = sums if self._merged is None else self._merged.merge(sums)
        self._awaited.popleft()

    def _read_again(self, chunk: Chunk) -> Sums:
        sums = chunk.read(self._store)
        if sums is None:
            raise StoreError(f"{chunk.path(self._store)} was whole, and is not any more: run the study again")
        return sums

    def result(self) -> Result | None:
        """Return the result of all chunks before the first that is missing; None if there is none."""
        return None if self._merged is None else Result(self.work.plan, self._merged)


class Gathering:
    """All cases of a study, and which of their chunks a store lacks; made by reading it."""

    def __init__(self, works: Iterable[Work], store: Store) -> None:
        self.store = store
        self.cases = [Gathered(work, store) for work in works]
        self.missing: Missing = {}
        self.chunks = tuple(dict.fromkeys(chunk for each in self.cases for chunk in each.work.chunks))
        for number, each in enumerate(self.cases):
            for chunk in each.work.chunks:
                if (sums := chunk.read(store)) is not None:
                    each.add(chunk, sums)
                else:
                    self.missing[chunk] = (*self.missing.get(chunk, ()), number)
        self.progress = Progress(len(self.chunks) - len(self.missing), len(self.chunks), len(store.damaged))

    def add(self, chunk: Chunk, sums: Sums, report: Report) -> None:
        """Store a chunk that was missing, and add it to its cases."""
        chunk.write(self.store, sums)
        for number in self.missing[chunk]:
            each = self.cases[number]
            each.add(chunk, sums)
            report(self.label(number), each.nets, each.work.case.nets, each.result)

    def label(self, number: int) -> str:
        """Return what a case is called, for people."""
        return f"case {number + 1} of {len(self.cases)} ({self.cases[number].work.case.label})"

    def collected(self) -> Collected:
        """Return the results of all cases.

        Raises
        ------
        StoreError
            If something is missing.
        """
        results = []
        for number, each in enumerate(self.cases):
            result = each.result()
            if result is None or result.nets != each.work.case.nets:
                raise StoreError(f"{self.store.directory} lacks nets of {self.label(number)}: run the study")
            results.append((each.work.case, result))
        return Collected(tuple(results))


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


def stored(chunks: Iterable[Chunk], store: Store) -> dict[Chunk, bool]:
    """Return of each chunk whether the store holds it whole, reading every one of them once."""
    return {chunk: chunk.read(store) is not None for chunk in dict.fromkeys(chunks)}


def progress(cases: Iterable[Case], store: Store) -> Progress:
    """Return how much of the cases is stored, reading every chunk; the same chunk of two cases counts once."""
    found = stored((chunk for case in cases for chunk in Work(case).chunks), store)
    return Progress(sum(found.values()), len(found), len(store.damaged))


def collect(cases: Iterable[Case], store: Store, threads: int, report: Report, engine: Engine = local) -> Collected:
    """Return the results of all cases, simulating what the store lacks: its lock must be held.

    Each chunk is stored as it arrives, and is in the results of every case that has it.

    Raises
    ------
    EngineError
        If the engine leaves a chunk out.
    """
    gathering = Gathering(map(Work, cases), store)
    simulate(gathering, list(gathering.missing), threads, report, engine)
    return gathering.collected()


def simulate(gathering: Gathering, chunks: list[Chunk], threads: int, report: Report, engine: Engine) -> None:
    """Simulate and store some of the chunks that are missing.

    Raises
    ------
    EngineError
        If the engine leaves a chunk out, or some have failed: the first of them are named, in the order of nets, and
        the others are stored.
    """
    plans = (gathering.cases[gathering.missing[chunk][0]].work.plan for chunk in chunks)
    ranges = [Range(plan, chunk.first, chunk.last) for plan, chunk in zip(plans, chunks, strict=True)]
    waiting, failed = set(range(len(chunks))), {}
    with contextlib.closing(engine(ranges, threads)) as arriving:
        for place, outcome in arriving:
            waiting.remove(place)
            chunk = chunks[place]
            if isinstance(outcome, EngineError):
                case = gathering.label(gathering.missing[chunk][0])
                failed[place] = f"nets {chunk.first} to {chunk.last - 1} of {case}: {outcome}"
            else:
                gathering.add(chunk, outcome, report)
    if failed:
        named = "; ".join(failed[place] for place in sorted(failed)[:NAMED])
        more = f"; and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
        raise EngineError(f"{len(failed)} of {len(chunks)} chunks failed: {named}{more}")
    if waiting:
        raise EngineError(f"the engine ended with {len(waiting)} of {len(chunks)} chunks left out")
