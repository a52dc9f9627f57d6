"""Merge: the union of the results of several folders, file by file; nothing that is there is overwritten.

Chunks and measurements are copied whole, checked on the way. Verdicts and figures are not: a run makes them anew.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stabsim.chunk import StoreError, one_line, read_file, set_aside, why, write_atomically
from stabsim.sealing import unsealed_table
from stabsim.store import Store
from stabsim.work import chunks_directory, newer

MEASURED = "measured_*.csv"


@dataclass
class Merged:
    """What was done with the files of a study.

    Parameters
    ----------
    copied : int
        Files that were not there.
    there : int
        Files that were, with the same bytes.
    replaced : list of (Path, str)
        Files that were there, damaged, each with what was wrong: set aside, and copied if a source has them.
    left_out : list of str
        What was not merged, and why, in one line each.
    """

    copied: int = 0
    there: int = 0
    replaced: list[tuple[Path, str]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def stored_studies(folder: Path) -> list[str]:
    """Return the names of the studies that have chunks or measurements in an output folder."""
    found = [path for pattern in ("chunks", MEASURED) for path in folder.glob(f"results/*/{pattern}")]
    return sorted({path.parent.name for path in found})


def check_sources(sources: Sequence[Path], out: Path) -> None:
    """Raise ValueError for the first source that holds no results, is given twice, or lies in what is merged into."""
    seen = {(out / "results").resolve(): f"{out}, which is what is merged into"}
    for source in sources:
        if not stored_studies(source):
            raise ValueError(f"{source} holds no results/ of studies: name folders that stabsim run --out has filled")
        results = (source / "results").resolve()
        if results in seen:
            raise ValueError(f"source {source} is the same folder as {seen[results]}: leave it out")
        if inside := [other for other in seen if results in other.parents or other in results.parents]:
            raise ValueError(f"source {source} and {seen[inside[0]]} lie one within the results/ of the other")
        seen[results] = f"source {source}"


def merge_study(study: str, sources: Sequence[Path], out: Path) -> Merged:
    """Copy what a folder lacks of a study from others, which may be written meanwhile.

    Parameters
    ----------
    study : str
        Its name.
    sources : sequence of Path
        Output folders; they are only read.
    out : Path
        The output folder that is added to; made if it is not there.

    Returns
    -------
    Merged
        What differs from what is there, is damaged, overlaps or is of a newer version is left out, and named.

    Raises
    ------
    StoreError
        If the study is in use in ``out``, or the disk is full or read-only; what is merged stays.
    """
    merged = Merged()
    with Store(chunks_directory(out, study)) as target:
        for folder in sources:
            source = Store(chunks_directory(folder, study))
            for key in source.stored_keys():
                try:
                    ranges = source.ranges(key)  # before the task is looked for, which is written before any chunk
                    target.ranges(key)
                except StoreError as problem:
                    merged.left_out.append(str(problem))
                else:
                    _merge_task(key, ranges, source, target, merged)
            merged.left_out += [f"{path} is left out: {problem}" for path, problem in source.damaged]
            for path in sorted(source.directory.parent.glob(MEASURED)):
                _merge_measurements(path, target.directory.parent / path.name, merged)
        merged.replaced += target.damaged
    return merged


def _merge_task(key: str, ranges: Sequence[tuple[int, int]], source: Store, target: Store, merged: Merged) -> None:
    text = source.text(key)
    if text is None:
        if ranges:
            merged.left_out.append(f"{source.directory / key} is left out: its task.json is missing or damaged")
        return
    if newer(text):
        merged.left_out.append(f"{source.directory / key} is left out: a newer version of stabsim has written it")
        return
    target.task(text)
    for first, last in ranges:
        try:
            found = source.whole(key, first, last)
        except StoreError as problem:
            merged.left_out.append(str(problem))
            continue
        if found is None:  # named with all that are damaged
            continue
        try:
            copied = target.adopt(key, first, last, found[0])
        except ValueError as problem:
            merged.left_out.append(f"{source.path(key, first, last)} is left out: {problem}")
        else:
            merged.copied += copied
            merged.there += not copied


def _merge_measurements(source: Path, target: Path, merged: Merged) -> None:
    try:
        data = read_file(source)
        unsealed_table(data)
    except (OSError, ValueError) as problem:
        merged.left_out.append(f"{source} is left out: {why(problem)}")
        return
    if os.path.lexists(target):
        with one_line(f"cannot read {target}"):
            held = read_file(target)
        if held == data:
            merged.there += 1
            return
        try:
            unsealed_table(held)
        except ValueError as problem:
            set_aside(target)
            merged.replaced.append((target, str(problem)))
        else:
            merged.left_out.append(f"{source} is left out: {target} is there with other content, measured apart")
            return
    write_atomically(target, data)
    merged.copied += 1
