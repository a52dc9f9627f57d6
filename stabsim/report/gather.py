"""Files of an output folder as plain values: studies with runs and figures, the ledger, and what could not be used."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stabsim.chunk import why
from stabsim.ledger import Entry, Judged, LedgerError, read_judged, shipped, statements
from stabsim.names import unknown
from stabsim.report.pictures import KINDS, Picture, picture

RUN, SHIPPED = "run", "shipped"  # where a verdict comes from: the folder, or the ledger that comes with stabsim


@dataclass(frozen=True)
class Found:
    """A verdict with its origin."""

    origin: str
    entry: Entry


@dataclass(frozen=True)
class Shown:
    """A study, with its last run in the folder, if any, and its figures there; the name "" has those of no study."""

    name: str
    run: Judged | None
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """Return the title that the run has left, or nothing."""
        title = self.run.document.get("title") if self.run else None
        return title if isinstance(title, str) else ""


@dataclass(frozen=True)
class Gathered:
    """All that the page shows.

    Parameters
    ----------
    studies : tuple of Shown
        By name; those of the ledger that comes with stabsim only where the folder has something of them.
    claims : mapping of str to sequence of Found
        Verdicts on each claim, in the order of the statements.
    chosen : tuple of str
        The studies that were asked for; none where all were.
    problems : tuple of str
        What could not be used, and why, a line each.
    """

    studies: tuple[Shown, ...]
    claims: Mapping[str, Sequence[Found]]
    chosen: tuple[str, ...]
    problems: tuple[str, ...]


def gather(out: Path, chosen: Sequence[str] = ()) -> Gathered:
    """Read an output folder; raise ValueError for a study that neither it nor the shipped ledger knows."""
    problems: list[str] = []
    ledger = _shipped(problems)
    results = _results(out, problems)
    figures = _figures(out / "figures", problems)
    names = {*results, *(entry.study for entry in ledger)}
    owned = _owned(out / "figures", figures, names)
    known = names | {study for study in owned if study}
    for name in chosen:
        if name not in known:
            raise unknown("study", name, sorted(known))
    studies = [
        _shown(out, name, results, owned.get(name, ()), problems)
        for name in sorted({*results, *owned}, key=lambda name: (not name, name))
        if not chosen or name in chosen
    ]
    found = [Found(RUN, entry) for study in studies if study.run for entry in _entries(study.run)]
    found += [Found(SHIPPED, entry) for entry in ledger if not chosen or entry.study in chosen]
    return Gathered(tuple(studies), _by_claim(found, all_claims=not chosen), tuple(chosen), tuple(problems))


def _shipped(problems: list[str]) -> list[Entry]:
    try:
        return [entry for entries in shipped().values() for entry in entries]
    except LedgerError as error:
        problems.append(str(error))
        return []


def _results(out: Path, problems: list[str]) -> dict[str, Path]:
    """Return the folder of every study that has results."""
    try:
        folders = [path for path in (out / "results").iterdir() if path.is_dir() and not path.name.startswith(".")]
    except FileNotFoundError:
        return {}
    except OSError as error:
        problems.append(f"{out / 'results'} cannot be read: {why(error)}")
        return {}
    return {path.name: path for path in sorted(folders)}


def _figures(folder: Path, problems: list[str]) -> list[str]:
    """Return the names of the figures in a folder, without the ends of their files."""
    try:
        paths = [path for path in folder.iterdir() if path.suffix[1:] in KINDS and not path.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(f"{folder} cannot be read: {why(error)}")
        return []
    return sorted({path.stem for path in paths})


def _owned(folder: Path, figures: Iterable[str], names: Iterable[str]) -> dict[str, list[Picture]]:
    """Return the figures of each study: of that which its file names, else of that with the longest owners name."""
    owned: dict[str, list[Picture]] = {}
    for name in figures:
        found = picture(folder, name)
        owners = [study for study in names if name == study or name.startswith(f"{study}_")]
        study = found.made["study"] if found.made else max(owners, key=len, default="")
        owned.setdefault(study, []).append(found)
    return owned


def _shown(
    out: Path, name: str, results: Mapping[str, Path], pictures: Sequence[Picture], problems: list[str]
) -> Shown:
    run, notes, untold = None, [problem for each in pictures for problem in each.problems], []
    if name in results:
        path = results[name] / "verdicts.json"
        try:
            if os.path.lexists(path):
                run = read_judged(path)
            else:
                untold.append(f"there are no verdicts yet: stabsim run {name} writes them")
        except LedgerError as error:
            notes.append(str(error))
    problems.extend(notes)
    untold += [f"the figure {each.name} is of another run: {told}" for each in pictures if (told := _other(each, run))]
    return Shown(name, run, tuple(pictures), (*notes, *untold))


def _other(shown: Picture, run: Judged | None) -> str:
    """Return what is told of the run that drew a figure, where that is not the one that judged."""
    if not shown.made or not run:
        return ""
    document = run.document
    judged = {"scale": run.scale, "seed": str(document.get("seed", 0)), "device": document.get("device", "cpu")}
    told = {name: shown.made[name] for name in judged}
    return "" if told == judged else f"scale {told['scale']}, seed {told['seed']}, device {told['device']}"


def _entries(run: Judged) -> list[Entry]:
    """Return the verdicts of a run on claims that have statements."""
    return [Entry(run.study, run.scale, verdict) for verdict in run.verdicts if verdict.claim in statements()]


def _by_claim(found: Iterable[Found], all_claims: bool) -> dict[str, list[Found]]:
    """Sort verdicts by claim, then by study, those of the folder first; leave claims without any out unless told."""
    claims: dict[str, list[Found]] = {claim: [] for claim in statements()}
    for each in sorted(found, key=lambda each: (each.entry.study, each.origin)):
        claims[each.entry.verdict.claim].append(each)
    return {claim: entries for claim, entries in claims.items() if entries or all_claims}
