"""Files of earlier versions are read: what is written today is held against what each version has written.

The fixtures in ``tests/data`` carry in their names the version of what they hold. When a version is raised,

    python -m tests.test_formats

writes those that have no file yet; commit them, and remove those of the version before unless they are still to be
read. A fixture whose version has not been raised is never written anew.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from stabsim import ledger
from stabsim.arguments import make_task
from stabsim.chunk import decode, encode, name_range
from stabsim.collect import Gathering, collect, progress
from stabsim.ledger import read_ledger, read_verdicts, write_ledger
from stabsim.moments import Sums
from stabsim.network import Network
from stabsim.outputs import save_verdicts
from stabsim.result import Result
from stabsim.sealing import sealed_document
from stabsim.store import Store, task_key
from stabsim.study import Case, Study, Verdict
from stabsim.versions import (
    CHUNK_VERSION,
    LEDGER_VERSION,
    RECORD_VERSION,
    STREAM_VERSION,
    TABLE_VERSION,
    VERDICTS_VERSION,
)
from stabsim.work import Work
from tests.test_store import tree

DATA = Path(__file__).parent / "data"
STORE = DATA / f"chunks_{STREAM_VERSION}_{RECORD_VERSION}_{CHUNK_VERSION}"
TABLE = DATA / f"table_{TABLE_VERSION}.csv"
VERDICTS = DATA / f"verdicts_{VERDICTS_VERSION}.json"
LEDGER = DATA / f"claims_{LEDGER_VERSION}.csv"

# A net this wide makes chunks of a few nets, so that even the samples of a whole one are small.
QUANTITIES = (
    "activation_variance",
    "activation_kurtosis",
    "activation_zero_fraction",
    "activation_gradient_log10_norm",
)
CASE = Case(
    make_task(
        Network((2**22, 2**22), "relu", "he_normal"), sampler="matrix_free", quantities=QUANTITIES,
        samples=("activation_log10_norm",), histograms={"activation": (0.0, 2.0, 4)},
    ),
    nets=100,
    tags={"weights": "he_normal"},
).seeded(0)  # fmt: skip

TYPES = {
    "quantity": "category", "layer": "int64", "estimate": "float64", "std_error": "float64", "ci_low": "float64",
    "ci_high": "float64", "theory": "float64", "infinite_width": "float64", "nets": "int64", "top_share": "float64",
}  # fmt: skip

TINY = Study("tiny", "A tiny study", lambda scale: [], lambda _: [])
FOUND = [
    Verdict("A17", "holds when the net is narrow", 0.875, 0.1 + 0.2, 1 - 1e-16, 0.88134765625, 'share "of" zeros, α'),
    Verdict("B06", "fails", -5e-324, math.nan, 1e300, note="two\nlines"),
]


def quiet(*_: object) -> None:
    """Report nothing."""


def result() -> Result:
    """Return what the stored chunks add up to."""
    ((_, found),) = Gathering([Work(CASE)], Store(STORE)).collected().results
    return found


# --- chunks ------------------------------------------------------------------------------------------


def test_stored_chunks_are_read_and_written_the_same() -> None:
    chunks = sorted(STORE.glob("*/*.npz"))
    ranges = [name_range(path.name) for path in chunks]
    assert len(chunks) == 2 and len({last - first for first, last in filter(None, ranges)}) == 2  # whole, and the rest
    for path, held in zip(chunks, ranges, strict=True):
        assert held is not None
        arrays = decode(path.read_bytes(), path.parent.name, *held)
        again = Sums.from_arrays(arrays).to_arrays()
        assert again.keys() == arrays.keys()
        assert encode(path.parent.name, *held, again) == path.read_bytes()
    assert [(sound, problem) for _, sound, problem in Store(STORE).verify()] == [(True, "")] * 4


def test_todays_case_asks_for_the_stored_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {task_key(chunk.text): chunk.text for chunk in Work(CASE).chunks} == Store(STORE).tasks()
    shutil.copytree(STORE, tmp_path / "chunks")
    before = tree(tmp_path / "chunks")
    monkeypatch.setattr("stabsim.plan.Plan.run", None)
    with Store(tmp_path / "chunks") as store:
        assert progress([CASE], store).missing == 0
        collect([CASE], store, 1, quiet)
    (tmp_path / "chunks" / ".lock").unlink()
    assert tree(tmp_path / "chunks") == before


@pytest.mark.parametrize("version", ["work.CHUNK_VERSION", "task.RECORD_VERSION", "task.STREAM_VERSION"])
def test_a_chunk_of_another_version_is_not_read(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"stabsim.{version}", 99)
    assert progress([CASE], Store(STORE)).stored == 0
    path = next(STORE.glob("*/*.npz"))
    first, last = name_range(path.name) or (0, 0)
    with pytest.raises(ValueError, match="holds task"):
        decode(path.read_bytes(), task_key(Work(CASE).chunks[0].text), first, last)


# --- the table ---------------------------------------------------------------------------------------


def assert_same_table(found: pandas.DataFrame, expected: pandas.DataFrame) -> None:
    """Compare to the last bit what is made by sums, to rounding what another processor's exp and log may round so."""
    assert {name: str(kind) for name, kind in found.dtypes.items()} == TYPES and list(found) == list(TYPES)
    assert list(expected) == list(TYPES)
    for name, kind in TYPES.items():
        exact = kind != "float64" or name == "estimate"
        one, other = (list(table[name]) for table in (found, expected))
        assert one == other if exact else np.allclose(one, other, rtol=1e-12, atol=0, equal_nan=True), name


def test_the_table_of_stored_sums_is_that_of_its_version(tmp_path: Path) -> None:
    expected = pandas.read_csv(TABLE)
    assert_same_table(result().table, expected)
    result().to_csv(tmp_path / "table.csv")
    assert_same_table(pandas.read_csv(tmp_path / "table.csv").astype({"quantity": "category"}), expected)
    assert (tmp_path / "table.csv").read_bytes().count(b"\n") == TABLE.read_bytes().count(b"\n")


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.rename(columns={"ci_low": "low"}),
        lambda table: table[[*table.columns[::-1]]],
        lambda table: table.drop(columns="top_share"),
        lambda table: table.assign(seed=0),
        lambda table: table.astype({"nets": "float64"}),
        lambda table: table.astype({"quantity": "object"}),
        lambda table: table.assign(estimate=table["estimate"] * (1 + 2e-16)),
        lambda table: table.assign(std_error=table["std_error"] * 1.000001),
        lambda table: table.assign(theory=math.nan),
    ],
)
def test_another_table_needs_another_version(change: Any) -> None:
    with pytest.raises(AssertionError):
        assert_same_table(change(result().table), pandas.read_csv(TABLE))


# --- verdicts and the ledger -------------------------------------------------------------------------


def test_verdicts_are_read_and_written_the_same(tmp_path: Path) -> None:
    path = tmp_path / "tiny" / "verdicts.json"
    path.parent.mkdir()
    save_verdicts(TINY, FOUND, "quick", 7, path)
    assert path.read_bytes() == sealed_document(json.loads(VERDICTS.read_text()))  # which was written before seals
    assert repr([entry.verdict for entry in read_verdicts(path)]) == repr(FOUND)
    shutil.copy(VERDICTS, path)
    assert repr([entry.verdict for entry in read_verdicts(path)]) == repr(FOUND)
    assert set(json.loads(VERDICTS.read_text())) == {"study", "title", "scale", "seed", "verdicts"}


def test_the_ledger_is_read_and_written_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pandas.read_csv(LEDGER)
    monkeypatch.setattr(ledger, "statements", lambda: dict(zip(rows["claim"], rows["statement"], strict=True)))
    entries = read_ledger(LEDGER)
    assert repr([entry.verdict for entry in entries]) == repr(FOUND)
    write_ledger(ledger.by_claim(entries), tmp_path / "claims.csv")
    assert (tmp_path / "claims.csv").read_bytes() == LEDGER.read_bytes()


def write() -> None:
    """Write the fixtures of versions that have none."""
    DATA.mkdir(exist_ok=True)
    if not STORE.exists():
        with Store(STORE) as store:
            collect([CASE], store, 1, quiet)
        (STORE / ".lock").unlink()
    if not TABLE.exists():
        result().to_csv(TABLE)
    if not VERDICTS.exists():
        save_verdicts(TINY, FOUND, "quick", 7, VERDICTS)
    if not LEDGER.exists():
        entries = {found.claim: [ledger.Entry("tiny", "quick", found)] for found in FOUND}
        write_ledger({claim: entries.get(claim, []) for claim in ("A03", *entries)}, LEDGER)


if __name__ == "__main__":
    write()
