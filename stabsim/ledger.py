"""The ledger of claims: every statement of ``data/statements.csv`` with the verdicts that studies have reached on it.

Verdicts come from ``results/<study>/verdicts.json`` of runs, or from ``data/claims.csv``, the committed ledger of
paper-scale runs. A file that is damaged, or of another version, is refused in one line.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from stabsim.checks import brief
from stabsim.chunk import read_file
from stabsim.names import check_known, unknown
from stabsim.sealing import check_document
from stabsim.study import SCALES, Verdict

if TYPE_CHECKING:
    from pandas import DataFrame

NOT_TESTED = "not tested yet"
COLUMNS = ("claim", "statement", "study", "scale", "verdict", "estimate", "ci_low", "ci_high", "theory", "note")

_PACKAGE = Path(__file__).resolve().parent
_FIELDS = tuple(field.name for field in dataclasses.fields(Verdict))
_NUMBERS = ("estimate", "ci_low", "ci_high", "theory")


class LedgerError(RuntimeError):
    """A file of verdicts is missing or cannot be used: which and why, in one line."""


@dataclass(frozen=True)
class Entry:
    """A verdict with its origin.

    Parameters
    ----------
    study : str
        The study that reached it.
    scale : str
        "quick" or "paper".
    verdict : Verdict
        On a claim that has a statement.

    Raises
    ------
    ValueError
        If the scale or the claim is unknown.

    Examples
    --------
    >>> Entry("chains", "paper", Verdict("B1", "holds", 1.0, 0.9, 1.1))
    Traceback (most recent call last):
    ValueError: unknown claim 'B1'; known, nearest first: B01, B10, B11, ...
    """

    study: str
    scale: str
    verdict: Verdict

    def __post_init__(self) -> None:
        check_known("scale", self.scale, SCALES)
        check_claims([self.verdict.claim])


class Judged(NamedTuple):
    """The verdicts of the last run of a study, and all else that it left in the same file, which nobody has checked."""

    study: str
    scale: str
    verdicts: tuple[Verdict, ...]
    document: Mapping[str, Any]


# The entries on each claim, in the order of the statements; a claim without any is not tested yet.
Ledger = Mapping[str, Sequence[Entry]]


@functools.cache
def statements() -> Mapping[str, str]:
    """Return the statement of every claim by its id.

    Examples
    --------
    >>> statements()["E01"]
    'Scalar weights 0.2 and 5: 0.2^30 is about 1e-21, 5^30 about 9e20.'
    """
    with open(_data("statements.csv"), encoding="utf-8", newline="") as stream:
        return MappingProxyType({row["id"]: row["statement"] for row in csv.DictReader(stream, strict=True)})


def check_claims(claims: Iterable[str]) -> None:
    """Raise ValueError for the first id that no statement has.

    Examples
    --------
    >>> check_claims(["A17", "B06"])
    """
    for claim in claims:
        if claim not in statements():
            raise unknown("claim", claim, statements())


def shipped() -> Ledger:
    """Return the committed ledger, of paper-scale runs.

    Raises
    ------
    LedgerError
        If this version has none, or it is damaged.
    """
    path = _data("claims.csv")
    if not path.exists():
        raise LedgerError(f"there is no {path}: this version comes without a ledger of its own")
    return by_claim(read_ledger(path))


def of_runs(out: Path) -> Ledger:
    """Return the ledger of the last run of every study in an output folder.

    Raises
    ------
    LedgerError
        If there is no run with verdicts, or a file of verdicts is damaged or of another version.
    """
    paths = sorted(out.glob("results/*/verdicts.json"))
    if not paths:
        raise LedgerError(f"there is no {out / 'results' / '*' / 'verdicts.json'}: stabsim run writes them")
    return by_claim(entry for path in paths for entry in read_verdicts(path))


def by_claim(entries: Iterable[Entry]) -> Ledger:
    """Sort entries by claim, then by study."""
    found: dict[str, list[Entry]] = {claim: [] for claim in statements()}
    for entry in sorted(entries, key=lambda entry: entry.study):
        found[entry.verdict.claim].append(entry)
    return found


def table(ledger: Ledger) -> DataFrame:
    """Return a ledger as a table with ``COLUMNS``: a row for each verdict, and one for each claim that has none.

    Examples
    --------
    >>> found = table(by_claim([Entry("chains", "paper", Verdict("B01", "holds", 17.6, 17.6, 17.6))]))
    >>> found[["claim", "study", "verdict", "estimate"]].iloc[22:25]
       claim   study         verdict  estimate
    22   A23          not tested yet       NaN
    23   B01  chains           holds      17.6
    24   B02          not tested yet       NaN
    """
    import pandas

    rows = [row for claim, entries in ledger.items() for row in _rows(claim, entries)]
    return pandas.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(_NUMBERS, float))


def write_ledger(ledger: Ledger, path: Path) -> None:
    """Write a ledger's table as CSV, the same bytes for the same ledger; `read_ledger` reads every number exactly."""
    table(ledger).to_csv(path, index=False, lineterminator="\n")


def read_ledger(path: Path) -> list[Entry]:
    """Return the entries of a file of `write_ledger`.

    Raises
    ------
    LedgerError
        If it is missing, damaged or of another version.
    """
    entries = []
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"its columns must be {', '.join(COLUMNS)}")
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"{len(COLUMNS)} fields are wanted")
            if row["verdict"] != NOT_TESTED:
                values: dict[str, Any] = {name: row[name] for name in _FIELDS}
                values |= {name: float(row[name] or math.nan) for name in _NUMBERS}
                entries.append(Entry(row["study"], row["scale"], Verdict(**values)))
    except (ValueError, csv.Error) as error:
        raise LedgerError(f"{path} cannot be used: line {reader.line_num}: {error}") from error
    return entries


def read_verdicts(path: Path) -> list[Entry]:
    """Return the entries of a file of `stabsim.outputs.save_verdicts`, ``.../<study>/verdicts.json``.

    Raises
    ------
    LedgerError
        If it is damaged or of another version, or a claim has no statement.
    """
    judged = read_judged(path)
    try:
        check_claims(verdict.claim for verdict in judged.verdicts)
    except ValueError as error:
        raise LedgerError(f"{path} cannot be used: {error}; a claim is a line of data/statements.csv") from error
    return [Entry(judged.study, judged.scale, verdict) for verdict in judged.verdicts]


def read_judged(path: Path) -> Judged:
    """Return what a file of `stabsim.outputs.save_verdicts` holds, whether or not its claims have statements.

    Raises
    ------
    LedgerError
        If it is damaged or of another version.
    """
    try:
        text = _text(path)
        document = json.loads(text, parse_int=_whole)
        study, scale, verdicts = _values(document, ("study", "scale", "verdicts"))
        if study != path.parent.name:
            raise ValueError(f"it is of study {brief(study)}")
        check_known("scale", scale, SCALES)
        if not isinstance(verdicts, list):
            raise ValueError("its verdicts are no list")
        found = tuple(map(_verdict, verdicts))
        if "sha256" in document:  # earlier versions wrote none
            check_document(text.encode())
    except (ValueError, RecursionError) as error:
        raise LedgerError(f"{path} cannot be used: {error}; stabsim run {path.parent.name} writes it anew") from error
    return Judged(study, scale, found, document)


def _whole(digits: str) -> int | float:
    """Return a whole number, or the nearest float where it has more digits than a seed: Python refuses endless ones."""
    return int(digits) if len(digits) <= 20 else float(digits)


def _rows(claim: str, entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    start = {"claim": claim, "statement": statements()[claim]}
    for entry in entries:
        yield start | {"study": entry.study, "scale": entry.scale} | dataclasses.asdict(entry.verdict)
    if not entries:
        texts = {"study": "", "scale": "", "verdict": NOT_TESTED, "note": ""}
        yield start | texts | dict.fromkeys(_NUMBERS, math.nan)


def _verdict(row: Any) -> Verdict:
    """Return a verdict as it was before it was written as JSON, except that no number is infinite."""
    values = dict(zip(_FIELDS, _values(row, _FIELDS), strict=True))
    for name, value in values.items():
        if name in _NUMBERS:
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"{name} must be a number or null, not {brief(value)}")
            values[name] = math.nan if value is None else float(value)
        elif not isinstance(value, str):
            raise ValueError(f"{name} must be a text, not {brief(value)}")
    return Verdict(**values)


def _values(document: Any, names: Sequence[str]) -> list[Any]:
    """Return the values of a JSON object in the order of the names."""
    if not isinstance(document, dict):
        raise ValueError(f"an object with {', '.join(names)} is wanted, not {brief(document)}")
    if missing := [name for name in names if name not in document]:
        raise ValueError(f"{', '.join(missing)} is missing")
    return [document[name] for name in names]


def _text(path: Path) -> str:
    try:
        return read_file(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _data(name: str) -> Path:
    """Return a file of ``data`` of the package (in a checkout: beside it)."""
    inside = _PACKAGE / "data"
    return (inside if inside.is_dir() else _PACKAGE.parent / "data") / name
