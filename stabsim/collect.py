"""Collect a study: what its store holds is read, what is missing is simulated and stored at once, all is merged.

The nets of a case are cut into the chunks of its plan. All chunks but a shorter last one are stored under a key
that does not name the number of nets, so that a run with more nets reads them. A shorter last chunk would overlap
the whole one that takes its place then, so it is stored under a key of its own, which names its range.

    results/<study>/chunks/<key>/...    the store
    results/<study>/measured_<scale>.csv  what depends on the machine, if the study measures that
    results/<study>/verdicts.json       of the last run
    figures/<study>[_<part>].png ...    likewise
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from stabsim.chunk import one_line, write_atomically
from stabsim.moments import Sums
from stabsim.plan import Plan
from stabsim.result import Result
from stabsim.store import Store, task_key
from stabsim.study import Case, Collected, Study, Verdict
from stabsim.versions import CHUNK_VERSION

# Called with (label, nets done, nets wanted, function that merges what there is) after each chunk.
Report = Callable[[str, int, int, Callable[[], Result]], None]


def chunks_directory(out: Path, study: str) -> Path:
    """Return where the chunks of a study are stored."""
    return out / "results" / study / "chunks"


class Part(NamedTuple):
    """A chunk of a case: nets ``first`` .. ``last - 1``, in the folder of the canonical JSON ``text``."""

    text: str
    first: int
    last: int

    @property
    def nets(self) -> int:
        """Return how many nets it holds."""
        return self.last - self.first


@dataclass(frozen=True)
class Work:
    """A case, and the parts that it is done in: the same wherever and whenever it is done."""

    case: Case

    @cached_property
    def plan(self) -> Plan:
        """Return how the task is run."""
        return Plan(self.case.task)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Return the chunks in their order."""
        # What the task leaves to the version of the package is named too: no version reads what another one cut.
        common = json.loads(self.case.task.key) | {
            "chunk_nets": self.plan.chunk_nets,
            "format": CHUNK_VERSION,
            "quantities": [quantity.name for quantity in self.case.task.table_quantities],
        }
        whole = _canonical(common)
        return tuple(
            Part(
                whole if last - first == self.plan.chunk_nets else _canonical(common | {"range": [first, last]}),
                first,
                last,
            )
            for first, last in self.plan.chunks(self.case.nets)
        )

    def read(self, store: Store) -> dict[Part, Sums]:
        """Return the parts that the store holds whole."""
        found = {part: store.read(task_key(part.text), part.first, part.last) for part in self.parts}
        return {part: Sums.from_arrays(arrays) for part, arrays in found.items() if arrays is not None}

    def merge(self, sums: dict[Part, Sums]) -> Result:
        """Merge parts in their order, in whichever order they were made."""
        return Result(self.plan, functools.reduce(Sums.merge, (sums[part] for part in self.parts if part in sums)))

    def complete(self, store: Store, threads: int, label: str, report: Report) -> Result:
        """Simulate and store the parts that the store lacks; return the result of all."""
        sums = self.read(store)
        missing = [part for part in self.parts if part not in sums]
        if missing:
            made = self.plan.run([(part.first, part.last) for part in missing], threads)
            with contextlib.closing(made):  # stops its threads
                for part, one in zip(missing, made, strict=True):
                    store.write(store.task(part.text), part.first, part.last, one.to_arrays())
                    sums[part] = one
                    report(label, sum(each.nets for each in sums), self.case.nets, lambda: self.merge(sums))
        return self.merge(sums)


def _canonical(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


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


def write_tasks(cases: Iterable[Case], store: Store) -> None:
    """Write every ``task.json`` of the cases that is missing or damaged; the lock must be held."""
    for text in sorted({part.text for case in cases for part in Work(case).parts}):
        store.task(text)


def progress(cases: Iterable[Case], store: Store) -> Progress:
    """Return how much of the cases is stored, reading every chunk; the same chunk of two cases counts once."""
    parts = {part for case in cases for part in Work(case).parts}
    stored = sum(store.read(task_key(part.text), part.first, part.last) is not None for part in parts)
    return Progress(stored, len(parts), len(store.damaged))


def collect(cases: Iterable[Case], scale: str, store: Store, threads: int, report: Report) -> Collected:
    """Return the results of all cases, simulating what the store lacks: its lock must be held."""
    cases = tuple(cases)
    results = []
    for number, case in enumerate(cases, start=1):
        label = f"case {number} of {len(cases)} ({case.label})"
        results.append((case, Work(case).complete(store, threads, label, report)))
    return Collected(scale, tuple(results))


def read(cases: Iterable[Case], scale: str, store: Store) -> Collected:
    """Return the results of all cases from a store that lacks nothing."""
    works = [Work(case) for case in cases]
    return Collected(scale, tuple((work.case, work.merge(work.read(store))) for work in works))


def measurements_file(study: Study, scale: str, out: Path) -> Path:
    """Return where what a study measures is kept."""
    return out / "results" / study.name / f"measured_{scale}.csv"


def with_measurements(study: Study, collected: Collected, path: Path) -> Collected:
    """Return what was collected together with what the study measures, taken now unless the file is there."""
    import pandas

    if study.measure is None:
        return collected
    if not path.exists():
        write_atomically(path, study.measure(collected.scale).to_csv(index=False).encode())
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


def _plain(value: Any) -> Any:
    """Return a NumPy number as Python's, and one that is not finite as None."""
    value = getattr(value, "item", lambda: value)()
    return None if isinstance(value, float) and not math.isfinite(value) else value
