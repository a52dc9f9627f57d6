"""Verify: every stored byte is checked against its checksum, and chunks are simulated again to be compared."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stabsim.chunk import DAMAGED, TEMPORARY, Arrays, decode, encode, one_line, read_file, why
from stabsim.devices import DEVICES
from stabsim.merging import MEASURED
from stabsim.sealing import check_document, unsealed_table
from stabsim.store import Store, task_key
from stabsim.study import SCALES, Study
from stabsim.work import Chunk, Work, newer


@dataclass
class Checked:
    """What is stored of a study, in ``results/<study>/``.

    Parameters
    ----------
    sound : set of Path
        Files that are as they were written.
    bad : list of (Path, str)
        Files that are not, or do not belong there, and why.
    newer : list of Path
        Folders of chunks of a newer version of stabsim, which alone can check them.
    aside : int
        Files that a run has set aside.
    """

    sound: set[Path] = field(default_factory=set)
    bad: list[tuple[Path, str]] = field(default_factory=list)
    newer: list[Path] = field(default_factory=list)
    aside: int = 0

    @property
    def files(self) -> int:
        """Return how many were checked."""
        return len(self.sound) + len(self.bad)

    @property
    def chunks(self) -> set[Path]:
        """Return the sound chunks."""
        return {path for path in self.sound if path.suffix == ".npz"}

    def add(self, path: Path, problem: str) -> None:
        """Add a file that was read."""
        if problem:
            self.bad.append((path, problem))
        else:
            self.sound.add(path)


def check(folder: Path, tell: Callable[[], None] = lambda: None) -> Checked:
    """Read every file of a study in full, one at a time.

    Parameters
    ----------
    folder : Path
        ``results/<study>``.
    tell : callable
        Called after each file.
    """
    store, found = Store(folder / "chunks"), Checked()
    found.newer = [store.directory / key for key, text in store.tasks().items() if newer(text)]
    for path, _, problem in store.verify():
        tell()
        if path not in found.newer and path.parent not in found.newer:
            found.add(path, problem)
    for path in sorted(folder.iterdir()):
        if path.match(MEASURED):
            found.add(path, _problem(path, unsealed_table))
        elif path.name == "verdicts.json":
            found.add(path, _problem(path, check_document))
        elif path.name != "chunks" and path.suffix not in (TEMPORARY, DAMAGED):
            found.add(path, "not a file of a study")
    found.aside = sum(1 for _ in folder.rglob(f"*{DAMAGED}"))
    return found


def known_chunks(study: Study, seed: int, store: Store, sound: Collection[Path]) -> dict[Path, tuple[Chunk, Work]]:
    """Return those of some files that are chunks of a study's cases, each with the work that it is of.

    Cases are of any scale and device.
    """
    found = {}
    for scale in SCALES:
        cases = study.checked_cases(scale, seed)
        for work in (Work(case.placed(device)) for case in cases for device in DEVICES):
            for chunk in work.chunks:
                path = chunk.path(store)
                if path in sound:
                    found[path] = chunk, work
    return found


def simulate_again(path: Path, chunk: Chunk, work: Work, threads: int) -> str:
    """Return how a chunk that is simulated again differs from the file that is stored: not at all, if empty.

    It is simulated on the device that has made it: DeviceError says that this is not here.
    """
    key = task_key(chunk.text)
    with one_line(f"cannot read {path}"):
        held = read_file(path)
    (sums,) = work.plan.run([(chunk.first, chunk.last)], threads)
    made = encode(key, chunk.first, chunk.last, sums.to_arrays())
    if made == held:
        return ""
    return difference(*(decode(data, key, chunk.first, chunk.last) for data in (held, made)))


def difference(held: Arrays, made: Arrays) -> str:
    """Say how far the arrays of two chunks are apart.

    >>> difference({"mean": np.array([1.0, 4.0])}, {"mean": np.array([1.0, 5.0])})
    'simulated again, its numbers differ by up to 2.0e-01 (relative)'
    """
    shapes = [{name: (array.shape, array.dtype) for name, array in arrays.items()} for arrays in (held, made)]
    if shapes[0] != shapes[1]:
        names = {name for name, shape in shapes[0].items() ^ shapes[1].items()}
        return f"simulated again, it has other arrays: {', '.join(sorted(names))}"
    largest = max(_relative(held[name].astype(float), made[name].astype(float)) for name in held)
    return f"simulated again, its numbers differ by up to {largest:.1e} (relative)"


def _relative(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the largest relative difference, 0 where both are equal or NaN; infinite where one alone is not finite."""
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    one, other = one[~same], other[~same]
    if not one.size:
        return 0.0
    with np.errstate(invalid="ignore"):
        apart = np.abs(one - other) / np.maximum(np.abs(one), np.abs(other))
    return float(np.where(np.isnan(apart), np.inf, apart).max())


def _problem(path: Path, check_bytes: Callable[[bytes], object]) -> str:
    try:
        check_bytes(read_file(path))
    except (OSError, ValueError) as problem:
        return why(problem)
    return ""
