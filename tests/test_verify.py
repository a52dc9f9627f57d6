"""Verifying: no stored byte changes unnoticed, and what is simulated again is the same."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest

from stabsim.chunk import StoreError, decode, encode, name_range
from stabsim.cli.progress import Counter
from stabsim.outputs import measure, read_measurements
from stabsim.sealing import check_document, sealed_document, sealed_table, unsealed_table
from stabsim.store import Store
from stabsim.verifying import difference
from tests.test_cli import Call, call
from tests.test_merge import fill, measured
from tests.test_shards import MEASURING
from tests.test_store import tree
from tests.test_study import study

__all__ = ["call"]  # a fixture

# --- seals ---------------------------------------------------------------------------------------------

TABLE = sealed_table(b"what,seconds\na # b,0.1\n")
DOCUMENT = sealed_document({"study": "tiny", "verdicts": [{"estimate": 5e-324, "note": "\u03b1", "theory": None}]})


def changes(data: bytes) -> list[bytes]:
    """Return the data with each bit flipped, and cut off at each length."""
    flipped = [bytearray(data) for _ in range(8 * len(data))]
    for bit, each in enumerate(flipped):
        each[bit // 8] ^= 1 << (bit % 8)
    return [*map(bytes, flipped), *(data[:length] for length in range(len(data))), data + b"\n"]


@pytest.mark.parametrize(("check", "data"), [(unsealed_table, TABLE), (check_document, DOCUMENT)])
def test_every_flipped_bit_and_every_cut_is_found(check: Callable[[bytes], object], data: bytes) -> None:
    check(data)
    for changed in changes(data):
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            check(changed)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"[" * 100_000, b'{"sha256": 1e999}', b'{"sha256": "\\ud800"}'])
def test_a_document_of_nothing_like_it_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        check_document(data)


def test_what_is_measured_is_read_back_and_refused_without_its_seal(tmp_path: Path) -> None:
    path = tmp_path / "measured_quick.csv"
    table = pandas.DataFrame({"what": ["a # b", "# sha256 0"], "seconds": [0.1, 0.2]})
    measure(replace(study(), measure=lambda scale: table), "quick", path)
    assert read_measurements(path).equals(table)
    whole = path.read_bytes()
    assert pandas.read_csv(path, skipfooter=1, engine="python").equals(table)
    earlier = (
        r"measured_quick\.csv: damaged, or of an earlier version: its last line is not '# sha256 \.\.\.': delete it"
    )
    for data, message in (
        (whole.replace(b"0.1", b"0.3"), r"measured_quick\.csv: damaged or edited: .*: delete it to measure again$"),
        (unsealed_table(whole), earlier),
        (b"", earlier),
    ):
        path.write_bytes(data)
        with pytest.raises(StoreError, match=message):
            read_measurements(path)
    path.unlink()
    with pytest.raises(StoreError, match=r"cannot read .*measured_quick\.csv: No such file"):
        read_measurements(path)


def test_a_damaged_table_stops_a_run_and_is_named(call: Call) -> None:
    Path("studies/timed.py").write_text(MEASURING)
    measured(Path(), study="timed").write_text("what,seconds\na,0.5\n")
    status, _, err = call("run", "timed")
    assert status == 1 and err.count("\n") == 1
    assert "timed: --out=.: results/timed/measured_quick.csv: damaged, or of an earlier version: " in err
    status, _, err = call("plot", "timed")
    assert status == 1 and err.endswith(": delete it to measure again\n")
    Path("results/timed/measured_quick.csv").unlink()
    assert call("run", "timed")[0] == 0 and call("verify")[0] == 0


# --- the command ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the results of the study of `call` are kept, once they are made."""
    return tmp_path_factory.mktemp("whole") / "results"


@pytest.fixture
def stored(call: Call, results: Path) -> Call:
    """Run the command line as `call` does, where a study has been run."""
    if results.exists():
        shutil.copytree(results, "results")
    else:
        assert call("run", "tiny")[0] == 0
        shutil.copytree("results", results)
    return call


def change(path: Path, factor: float) -> None:
    """Write a chunk anew with other sums, whole and sealed."""
    held = name_range(path.name)
    assert held is not None
    arrays = decode(path.read_bytes(), path.parent.name, *held)
    mean = arrays["group.activation_log10_norm.mean"]
    arrays["group.activation_log10_norm.mean"] = np.where(mean == mean.max(), factor * mean, mean)
    path.write_bytes(encode(path.parent.name, *held, arrays))


def test_chunks_are_simulated_again_to_the_same_bytes(stored: Call) -> None:
    before = tree(Path("results"))
    assert stored("verify") == (0, "13 files, all sound; 1 chunk simulated again, to the same bytes\n", "")
    assert stored("verify", "--resimulate", "99")[1].endswith("; 8 chunks simulated again, to the same bytes\n")
    assert stored("verify", "--resimulate", "0") == (0, "13 files, all sound\n", "")
    assert tree(Path("results")) == before


def test_a_chunk_that_comes_out_otherwise_is_named_with_how_far(stored: Call) -> None:
    path = sorted(Path("results").rglob("*.npz"))[3]
    change(path, 1 + 1e-12)
    assert stored("verify", "--resimulate", "0") == (0, "13 files, all sound\n", "")
    status, out, err = stored("verify", "--resimulate", "8")
    assert (status, out) == (1, f"{path}: simulated again, its numbers differ by up to 1.0e-12 (relative)\n")
    assert err.startswith("stabsim verify: 1 of 8 chunks simulated again differ: another processor or other versions")
    assert err.count("\n") == 1


def test_chunks_of_no_known_case_are_checked_and_counted(stored: Call) -> None:
    note = "{} of {} chunks belong to no case of the studies here at seed {}: checked, not simulated again\n"
    assert stored("verify", "--seed", "5") == (0, note.format(8, 8, 5) + "13 files, all sound\n", "")
    shutil.copytree("results/tiny", "results/elsewhere")
    last = "26 files, all sound; 1 chunk simulated again, to the same bytes\n"
    assert stored("verify") == (0, note.format(8, 16, 0) + last, "")


def test_other_chunks_are_drawn_each_time(stored: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr("stabsim.verifying.simulate_again", lambda path, *_: drawn.append(path))
    for _ in range(20):
        assert stored("verify")[0] == 0
    assert len(drawn) == 20 and len(set(drawn)) > 1  # once in 8^19 runs they are the same


def test_every_file_that_is_bad_is_named(stored: Call) -> None:
    fill(Path(), [0], "another")
    names = ("results/another/chunks", "results/tiny/verdicts.json", "results/tiny/measured_paper.csv")
    chunk, verdicts, table = next(Path(names[0]).rglob("*.npz")), Path(names[1]), Path(names[2])
    chunk.write_bytes(chunk.read_bytes()[:-1])
    verdicts.write_text(verdicts.read_text().replace("A tiny", "A tidy"))
    table.write_text("seconds\n0.1\n")
    status, out, err = stored("verify", "--resimulate", "0")
    assert [line.partition(": ")[0] for line in out.splitlines()] == list(map(str, (chunk, table, verdicts)))
    assert status == 1 and err.startswith("stabsim verify: 3 of 16 files are bad: the next run makes chunks, ")
    assert stored("run", "tiny")[0] == 0 and stored("run", "tiny")[0] == 0
    assert str(verdicts) not in stored("verify", "--resimulate", "0")[1]


def test_a_newer_version_is_no_damage_and_what_is_set_aside_is_counted(stored: Call) -> None:
    folder = fill(Path(), [0], text='{"format":99}')
    (folder / "000000000-000000004.npz").write_bytes(b"laid out otherwise")
    (folder.parent / "000000004-000000008.npz.damaged").write_bytes(b"rubbish")
    status, out, err = stored("verify", "--resimulate", "0")
    assert (status, err) == (0, "") and out.splitlines() == [
        f"1 folder of chunks of a newer version of stabsim, not checked: {folder}",
        "1 file set aside (*.damaged), which may be deleted",
        "13 files, all sound",
    ]


def test_a_study_that_fails_is_named_and_its_files_are_checked(stored: Call) -> None:
    Path("studies/tiny.py").write_text("import nothing_such")
    status, out, err = stored("verify")
    assert status == 1 and err.startswith("stabsim: tiny: studies/tiny.py: line 1: ModuleNotFoundError")
    assert out.endswith("13 files, all sound\n") and err.count("\n") == 1


@pytest.mark.parametrize("number", ["-1", "1000001", "many"])
def test_a_number_of_chunks_that_makes_no_sense_is_refused(call: Call, number: str) -> None:
    status, out, err = call("verify", "--resimulate", number)
    assert (status, out, err.count("\n")) == (2, "", 1) and number in err


def test_what_differs_is_said() -> None:
    held = {"mean": np.array([1.0, np.nan, 0.0]), "nets": np.array(3)}
    assert "by up to 0.0e+00" in difference(held, held)
    assert "by up to inf" in difference(held, held | {"mean": np.array([1.0, 1.0, 0.0])})
    assert "by up to 1.0e+00" in difference(held, held | {"mean": np.array([1.0, np.nan, 1e-300])})
    assert "by up to 2.5e-01" in difference(held, held | {"nets": np.array(4)})
    assert "it has other arrays: mean" in difference(held, held | {"mean": np.zeros(2)})
    assert "it has other arrays: nets" in difference(held, {"mean": held["mean"]})


def test_a_terminal_is_told_how_many_files_are_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Counter("file") as tell:
        tell()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Counter("file") as tell:
        tell()
        tell.shown -= 2
        tell()
        tell()
    assert capsys.readouterr().err == "\r2 files ...\r\033[K"


def test_verifying_reads_one_file_after_the_other(tmp_path: Path) -> None:
    fill(tmp_path, range(3))
    read = Store(tmp_path / "results" / "tiny" / "chunks").verify()
    next(read)
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(b"rubbish")
    assert [ok for _, ok, _ in read].count(False) >= 2
