"""Merging: the union of what several folders hold, in any order; what does not fit is named, and nothing is lost."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stabsim.chunk import Arrays, encode
from stabsim.merging import merge_study
from stabsim.sealing import sealed_table
from stabsim.store import Store, task_key
from stabsim.work import chunks_directory
from tests.test_cli import Call, call
from tests.test_store import KEY, TEXT, tree

__all__ = ["call"]  # a fixture


def arrays(number: int) -> Arrays:
    return {"sum": np.arange(3.0) + number, "nets": np.array(4)}


def fill(out: Path, chunks: Iterable[int], study: str = "tiny", text: str = TEXT) -> Path:
    """Store chunks of 4 nets in an output folder, as a run does; return the folder of their task."""
    with Store(chunks_directory(out, study)) as store:
        key = store.task(text)
        for number in chunks:
            store.write(key, 4 * number, 4 * number + 4, arrays(number))
    return store.directory / key


def measured(out: Path, text: bytes = b"seconds\n0.1\n", study: str = "tiny") -> Path:
    path = out / "results" / study / "measured_quick.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sealed_table(text))
    return path


def problems(*sources: Path, out: Path) -> list[str]:
    """Merge, and return what was left out; the sources must stay as they are."""
    before = [tree(source) for source in sources]
    found = merge_study("tiny", sources, out).left_out
    assert [tree(source) for source in sources] == before and all("\n" not in problem for problem in found)
    return found


# --- the same bytes ------------------------------------------------------------------------------------


@given(
    dealt=st.lists(st.sets(st.integers(0, 6)), min_size=1, max_size=4),
    measuring=st.sets(st.integers(0, 3)),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=12)
def test_any_shards_merge_to_the_same_bytes_in_any_order(
    dealt: list[set[int]], measuring: set[int], order: object
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, target, other = (Path(folder) / name for name in ("whole", "target", "other"))
        sources = [Path(folder) / str(place) for place in range(len(dealt))]
        for place, (source, chunks) in enumerate(zip(sources, dealt, strict=True)):
            fill(source, chunks)
            if place in measuring:
                measured(source)
                measured(whole)
        fill(whole, set().union(*dealt))
        assert problems(*sources, out=target) == []
        assert tree(target) == tree(whole)
        order.shuffle(sources)  # type: ignore[attr-defined]
        for source in [*sources, *sources]:
            assert problems(source, out=other) == []
        assert problems(*sources, out=target) == []
        assert tree(other) == tree(whole) == tree(target)


# --- what does not fit ---------------------------------------------------------------------------------


def test_other_content_is_named_and_nothing_is_overwritten(tmp_path: Path) -> None:
    one, other, out = tmp_path / "one", tmp_path / "other", tmp_path / "out"
    fill(out, [0])
    fill(one, [0, 1])
    (fill(other, [2]) / "000000000-000000004.npz").write_bytes(encode(KEY, 0, 4, arrays(99)))
    (found,) = problems(one, other, out=out)
    name = f"results/tiny/chunks/{KEY}/000000000-000000004.npz"
    assert found == (
        f"{other}/{name} is left out: {out}/{name} is there with other content: the same task gave two different sums"
    )
    fill(tmp_path / "whole", [0, 1, 2])
    assert tree(out) == tree(tmp_path / "whole")


def test_what_is_damaged_in_a_source_is_named_and_left_out(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    chunk = fill(source, [0, 1, 2]) / "000000004-000000008.npz"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    table = measured(source)
    table.write_bytes(table.read_bytes().replace(b"0.1", b"0.2"))
    lost = fill(source, [0], text='{"another":1}') / "task.json"
    lost.write_text("{}\n")
    found = problems(source, out=out)
    assert [problem.partition(" is left out: ")[0] for problem in found] == [str(lost.parent), str(chunk), str(table)]
    assert "its task.json is missing or damaged" in found[0] and "damaged: the checksum" in found[1]
    fill(tmp_path / "whole", [0, 2])
    assert tree(out) == tree(tmp_path / "whole")


def test_what_is_damaged_in_the_target_is_set_aside_and_replaced(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    fill(source, [0, 1])
    table, chunk = measured(source), fill(out, [0]) / "000000000-000000004.npz"
    whole = tree(source)
    mine = measured(out)
    mine.write_bytes(b"seconds\n0.3\n")
    for path in (chunk, chunk.parent / "task.json"):
        path.write_bytes(b"rubbish")
    merged = merge_study("tiny", [source], out)
    assert [path for path, _ in merged.replaced] == [mine, chunk.parent / "task.json", chunk]
    assert (merged.left_out, merged.copied, mine.read_bytes()) == ([], 3, table.read_bytes())
    aside = sorted(out.rglob("*.damaged"))
    assert len(aside) == 3 and aside[-1].read_bytes() == b"seconds\n0.3\n"
    for path in aside:
        path.unlink()
    assert tree(out) == whole


def test_overlapping_ranges_are_named(tmp_path: Path) -> None:
    one, other, out = tmp_path / "one", tmp_path / "other", tmp_path / "out"
    fill(one, [0, 1])
    fill(one, [5], text='{"another":1}')
    (fill(other, [3]) / "000000002-000000006.npz").write_bytes(encode(KEY, 2, 6, arrays(9)))
    (found,) = problems(one, other, out=out)
    assert f"{other}/results/tiny/chunks/{KEY}/000000002-000000006.npz is left out: range [2, 6) overlaps" in found
    assert Store(chunks_directory(out, "tiny")).ranges(KEY) == [(0, 4), (4, 8), (12, 16)]

    (one / f"results/tiny/chunks/{KEY}/000000002-000000006.npz").write_bytes(encode(KEY, 2, 6, arrays(9)))
    (found,) = problems(one, out=tmp_path / "new")
    assert "overlap: their nets would be counted twice" in found
    assert list(Store(chunks_directory(tmp_path / "new", "tiny")).tasks().values()) == ['{"another":1}']

    folder = fill(tmp_path / "mine", [0])
    (folder / "000000002-000000006.npz").write_bytes(encode(KEY, 2, 6, arrays(9)))
    (found,) = problems(other, one, out=tmp_path / "mine")[:1]
    assert found.startswith("000000000-000000004.npz and 000000002-000000006.npz in ") and str(folder) in found
    assert Store(chunks_directory(tmp_path / "mine", "tiny")).ranges(task_key('{"another":1}')) == [(20, 24)]


def test_a_table_measured_apart_is_a_conflict(tmp_path: Path) -> None:
    source, out = measured(tmp_path / "source"), measured(tmp_path / "out", b"seconds\n0.2\n")
    before = tree(tmp_path / "out")
    assert problems(tmp_path / "source", out=tmp_path / "out") == [
        f"{source} is left out: {out} is there with other content, measured apart"
    ]
    shutil.rmtree(tmp_path / "out" / "results" / "tiny" / "chunks")
    assert tree(tmp_path / "out") == before


def test_chunks_of_a_newer_version_are_left_out(tmp_path: Path) -> None:
    text = '{"format":99,"record":3,"stream":1}'
    folder = fill(tmp_path / "source", [0], text=text)
    assert problems(tmp_path / "source", out=tmp_path / "out") == [
        f"{folder} is left out: a newer version of stabsim has written it"
    ]
    assert Store(chunks_directory(tmp_path / "out", "tiny")).tasks() == {} and task_key(text) == folder.name


def test_a_source_that_is_being_written_is_merged_as_far_as_it_is(tmp_path: Path) -> None:
    fill(tmp_path / "source", [0])
    with Store(chunks_directory(tmp_path / "source", "tiny")) as store:
        folder = store.directory / KEY
        (folder / ".000000004-000000008.npz.temporary").write_bytes(b"half a chunk")
        (store.directory / task_key('{"another":1}')).mkdir()  # its task.json is on the way
        assert problems(tmp_path / "source", out=tmp_path / "out") == []
    fill(tmp_path / "whole", [0])
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


# --- the command ---------------------------------------------------------------------------------------


def test_a_study_that_is_in_use_does_not_stop_the_others(call: Call, tmp_path: Path) -> None:
    for study in ("another", "tiny"):
        fill(tmp_path / "source", [0, 1], study)
    with Store(chunks_directory(tmp_path, "another")):
        status, out, err = call("merge", "source")
    assert status == 1 and "tiny: 2 files copied" in out and err.count("\n") == 1
    assert err.startswith("stabsim merge: another: --out=.: results/another/chunks is in use by process ")
    status, out, err = call("merge", "source")
    assert (status, err) == (0, "") and "another: 2 files copied" in out and "tiny: 0 files copied, 2 there" in out
    assert out.endswith(", by: stabsim run another tiny\n")


def test_what_is_left_out_is_named_and_status_1(call: Call, tmp_path: Path) -> None:
    folder = fill(tmp_path / "source", [0, 1])
    chunk = folder / "000000000-000000004.npz"
    chunk.write_bytes(b"rubbish")
    mine = fill(tmp_path, [1]) / "000000004-000000008.npz"
    mine.write_bytes(b"rubbish")
    status, out, err = call("merge", "source")
    assert status == 1 and out.startswith("tiny: 1 file copied, 0 there already, 1 left out\nverdicts and figures")
    one, other = err.splitlines()
    assert one.startswith(f"stabsim merge: tiny: {mine.relative_to(tmp_path)} is set aside (damaged: ")
    assert other.startswith(f"stabsim merge: tiny: {chunk.relative_to(tmp_path)} is left out: damaged: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'SOURCE...'"),
        (["nowhere"], "Directory 'nowhere' does not exist"),
        (["studies/tiny.py"], "Directory 'studies/tiny.py' is a file"),
        (["studies"], "studies holds no results/ of studies: name folders that stabsim run --out has filled"),
        (["source", "source/"], "source source is the same folder as source source: leave it out"),
        (["source", "again"], "source again is the same folder as source source: leave it out"),
        (["source", "--out", "source"], "source source is the same folder as source, which is what is merged into"),
        (["source", "--out", "source/results/tiny"], "lie one within the results/ of the other"),
        (["source", "--out", "studies/tiny.py"], "'studies/tiny.py' is a file"),
        (["source", "--target", "x"], "unknown option '--target'; known, nearest first: --out"),
    ],
)
def test_sources_that_make_no_sense_are_refused_in_one_line(
    call: Call, tmp_path: Path, arguments: list[str], message: str
) -> None:
    fill(tmp_path / "source", [0])
    (tmp_path / "again").symlink_to("source")
    before = tree(tmp_path)
    status, out, err = call("merge", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1) and message in err and err.startswith("stabsim merge: ")
    assert tree(tmp_path) == before
