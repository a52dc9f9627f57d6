"""The store: whole chunks or none, the same bytes, damage found, one coordinator."""

from __future__ import annotations

import hashlib
import io
import multiprocessing.pool
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stabsim import chunk
from stabsim.chunk import Arrays, StoreError, decode, encode
from stabsim.store import Store, task_key

TEXT = '{"format":1,"network":"an example"}'
KEY = task_key(TEXT)
ARRAYS: Arrays = {"mean": np.linspace(0.0, 1.0, 7), "count": np.arange(5), "samples": np.ones((3, 2), np.float32)}

array_strategy = hnp.arrays(
    dtype=st.sampled_from([np.float64, np.int64, np.float32]),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
name_strategy = st.from_regex(r"[a-z][a-z0-9_]{0,12}(\(slope=0\.[0-9]\))?", fullmatch=True)


def tree(directory: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        digest.update(path.relative_to(directory).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and one[name].tobytes() == other[name].tobytes()
        for name in one
    )


# --- content -----------------------------------------------------------------------------------------


@given(arrays=st.dictionaries(name_strategy, array_strategy, max_size=4), first=st.integers(0, 10**12))
@settings(max_examples=60, deadline=None)
def test_round_trip(arrays: Arrays, first: int) -> None:
    data = encode(KEY, first, first + 5, arrays)
    assert data == encode(KEY, first, first + 5, dict(reversed(arrays.items())))
    assert same(decode(data, KEY, first, first + 5), arrays)


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            member = zipfile.ZipInfo(name)  # its date is 1980-01-01
            member.create_system = 3
            with archive.open(member, "w", force_zip64=True) as stream:
                stream.write(data)
        archive.comment = b"-" * 64
    return buffer.getvalue()[:-64]


@pytest.mark.parametrize("short", [2**31 - 1, 10_000, 100])
def test_archives_are_those_of_zipfile(short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where sizes and places take 64 bits, which is from ``short`` bytes on."""
    monkeypatch.setattr("zipfile.ZIP64_LIMIT", short)
    monkeypatch.setattr(chunk, "_SHORT", short)
    members = {f"{number}.npy": bytes([number % 256]) * (37 * number) for number in range(60)}
    assert chunk._zip(members) == zipped(members)
    assert chunk._zip({}) == zipped({})


def test_an_archive_of_many_arrays_is_that_of_zipfile() -> None:
    members = dict.fromkeys(map(str, range(70_000)), b"")
    assert chunk._zip(members) == zipped(members)


def test_store_round_trip_and_byte_order(tmp_path: Path) -> None:
    big_endian: Arrays = {
        "a": np.arange(4.0).astype(">f8"),
        "b": np.asfortranarray(np.ones((2, 3))),
        "c": np.array(2.0, np.float32),
    }
    little: Arrays = {"a": np.arange(4.0), "b": np.ones((2, 3)), "c": np.array(2.0, np.float32)}
    with Store(tmp_path) as store:
        assert store.task(TEXT) == KEY
        store.write(KEY, 0, 4, big_endian)
        found = store.read(KEY, 0, 4)
        assert found is not None and same(found, little)
        assert store.read(KEY, 4, 8) is None and store.damaged == []
        assert store.tasks() == {KEY: TEXT}
    assert encode(KEY, 0, 4, big_endian) == encode(KEY, 0, 4, little)


def test_numpy_reads_a_chunk(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.task(TEXT)
        store.write(KEY, 0, 4, ARRAYS)
    with np.load(tmp_path / KEY / "000000000-000000004.npz", allow_pickle=False) as archive:
        assert np.array_equal(archive["mean"], ARRAYS["mean"])


def test_bytes_do_not_depend_on_time_zone_clock_or_process(tmp_path: Path) -> None:
    script = f"""
        import hashlib, time
        time.time = lambda: 2e9; time.localtime = lambda *a: (2033, 5, 18, 3, 33, 20, 2, 138, 0)
        import numpy as np
        from stabsim.chunk import encode
        arrays = {{"mean": np.linspace(0.0, 1.0, 7), "count": np.arange(5), "samples": np.ones((3, 2), np.float32)}}
        print(hashlib.sha256(encode("{KEY}", 0, 4, arrays)).hexdigest())
    """
    expected = hashlib.sha256(encode(KEY, 0, 4, ARRAYS)).hexdigest()
    for hash_seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo")):
        assert run(script, PYTHONHASHSEED=hash_seed, TZ=zone) == expected


@pytest.mark.parametrize(
    ("arrays", "error"),
    [
        ({"a": np.array([None])}, TypeError),
        ({"a": np.array(["text"])}, TypeError),
        ({"a": np.array([1j])}, TypeError),
        ({"a": np.zeros(2, np.longdouble)}, TypeError),
        ({"_key": np.zeros(2)}, ValueError),
        ({"../a": np.zeros(2)}, ValueError),
        ({"a.npy": np.zeros(2)}, ValueError),
    ],
)
def test_refuses_what_it_cannot_keep(arrays: Arrays, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"'(a|_key|\.\./a|a\.npy)'"):
        encode(KEY, 0, 4, arrays)


@pytest.mark.parametrize(("first", "last"), [(-1, 4), (4, 4), (5, 4)])
def test_refuses_bad_ranges(tmp_path: Path, first: int, last: int) -> None:
    with Store(tmp_path) as store, pytest.raises(ValueError, match="0 <= first < last"):
        store.read(store.task(TEXT), first, last)


def test_refuses_bad_keys_and_tasks(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        with pytest.raises(ValueError, match="32 hexadecimal digits"):
            store.ranges("../elsewhere")
        with pytest.raises(ValueError, match="call task"):
            store.write(KEY, 0, 4, ARRAYS)
        with pytest.raises(ValueError, match="not JSON"):
            store.task("depth=3")
    with pytest.raises(StoreError, match="open for reading only"):
        Store(tmp_path).task(TEXT)


# --- ranges ------------------------------------------------------------------------------------------


def test_overlapping_ranges_are_refused(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.task(TEXT)
        store.write(KEY, 8, 16, ARRAYS)
        store.write(KEY, 0, 8, ARRAYS)
        for first, last in ((0, 4), (7, 9), (8, 12), (0, 16), (15, 99)):
            with pytest.raises(ValueError, match="overlaps"):
                store.write(KEY, first, last, ARRAYS)
        store.write(KEY, 16, 17, ARRAYS)
        assert store.ranges(KEY) == [(0, 8), (8, 16), (16, 17)]
        (tmp_path / KEY / "000000004-000000012.npz").write_bytes(encode(KEY, 4, 12, ARRAYS))
        with pytest.raises(StoreError, match="counted twice"):
            store.ranges(KEY)
        assert any("counted twice" in problem for _, ok, problem in store.verify() if not ok)


def test_writing_again_changes_nothing_and_other_content_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.task(TEXT)
        store.write(KEY, 0, 4, ARRAYS)
        before = (tmp_path / KEY / "000000000-000000004.npz").stat()
        store.write(KEY, 0, 4, ARRAYS)
        assert (tmp_path / KEY / "000000000-000000004.npz").stat().st_ino == before.st_ino
        with pytest.raises(ValueError, match="two different sums"):
            store.write(KEY, 0, 4, {"mean": np.zeros(7)})


# --- damage ------------------------------------------------------------------------------------------


def test_every_flipped_bit_is_found() -> None:
    data = encode(KEY, 0, 4, {"mean": np.linspace(0.0, 1.0, 3)})
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(ValueError, match="damaged"):
            decode(bytes(flipped), KEY, 0, 4)


@pytest.mark.parametrize(
    "members",
    [{}, {"_key.npy": b""}, {"_key.npy": b"\x93NUMPY\2\0" + b" " * 200}, {"_range.npy": encode(KEY, 0, 4, ARRAYS)}],
)
def test_what_has_a_checksum_and_is_no_chunk_is_damaged(members: dict[str, bytes]) -> None:
    body = zipped(members)
    for data in (body, b"no archive" + body[:-9]):
        with pytest.raises(ValueError, match=r"\S"):
            decode(data + hashlib.sha256(data).hexdigest().encode(), KEY, 0, 4)


def test_too_little_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    with Store(tmp_path) as store:
        store.task(TEXT)
        store.write(KEY, 0, 4, ARRAYS)
        with monkeypatch.context() as patch:
            patch.setattr("stabsim.chunk._array", full)
            with pytest.raises(MemoryError):
                store.read(KEY, 0, 4)
        assert store.damaged == [] and store.read(KEY, 0, 4) is not None


def test_truncation_is_found_and_set_aside_and_repaired(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.task(TEXT)
        store.write(KEY, 0, 4, ARRAYS)
        path = tmp_path / KEY / "000000000-000000004.npz"
        whole, lengths = path.read_bytes(), range(0, len(path.read_bytes()), 64)
        for length in lengths:
            path.write_bytes(whole[:length])
            assert not all(ok for _, ok, _ in store.verify())
            assert store.read(KEY, 0, 4) is None
            assert store.ranges(KEY) == []
            store.write(KEY, 0, 4, ARRAYS)
            assert path.read_bytes() == whole
        kept = sorted(file.stat().st_size for file in path.parent.glob("*.damaged"))
        assert kept == list(lengths), "a damaged file was overwritten"
        assert [(file, "damaged" in problem) for file, problem in store.damaged] == [(path, True)] * len(lengths)
        assert all(ok for _, ok, _ in store.verify())


def test_writing_over_a_damaged_chunk_sets_it_aside(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.task(TEXT)
        path = tmp_path / KEY / "000000000-000000004.npz"
        path.write_bytes(b"rubbish")
        store.write(KEY, 0, 4, ARRAYS)
        assert store.read(KEY, 0, 4) is not None
        assert path.with_name(path.name + ".damaged").read_bytes() == b"rubbish"


def test_chunks_of_another_task_or_range_are_found(tmp_path: Path) -> None:
    other = task_key('{"network":"another"}')
    with Store(tmp_path) as store:
        store.task(TEXT)
        for data, what in ((encode(other, 0, 4, ARRAYS), "holds task"), (encode(KEY, 4, 8, ARRAYS), "holds nets")):
            path = tmp_path / KEY / "000000000-000000004.npz"
            path.write_bytes(data)
            assert [what in problem for file, ok, problem in store.verify() if not ok] == [True]
            assert store.read(KEY, 0, 4) is None and what in store.damaged[-1][1]


def test_a_reader_without_the_lock_moves_nothing(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.task(TEXT)
    path = tmp_path / KEY / "000000000-000000004.npz"
    path.write_bytes(b"rubbish")
    reader = Store(tmp_path)
    assert reader.read(KEY, 0, 4) is None and len(reader.damaged) == 1
    assert path.read_bytes() == b"rubbish"


def test_damaged_task_and_foreign_files_are_found(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        path = tmp_path / store.task(TEXT) / "task.json"
        path.write_text(TEXT.replace("an", "no") + "\n")
        (tmp_path / "notes.txt").write_text("mine")
        (tmp_path / KEY / "0-4.npz").write_bytes(encode(KEY, 0, 4, ARRAYS))
        (tmp_path / KEY / "000000008-000000004.npz").write_bytes(encode(KEY, 8, 4, ARRAYS))
        assert [ok for _, ok, _ in store.verify()] == [False] * 4
        assert store.ranges(KEY) == [] and store.tasks() == {}
        store.task(TEXT)
        assert path.read_text() == TEXT + "\n" and path.with_name("task.json.damaged").exists()


def test_a_missing_or_unreadable_task_beside_chunks_is_found(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        path = tmp_path / store.task(TEXT) / "task.json"
        store.write(KEY, 0, 4, ARRAYS)
        path.unlink()
        assert [file for file, ok, _ in store.verify() if not ok] == [path]
        path.mkdir()
        assert [file for file, ok, _ in store.verify() if not ok] == [path]
        store.task(TEXT)
        assert path.read_text() == TEXT + "\n"


# --- interruption ------------------------------------------------------------------------------------


def signed(body: bytes) -> bytes:
    return body + hashlib.sha256(body).hexdigest().encode()


@pytest.mark.parametrize("arrays", [{}, {"_key": np.arange(4)}, {"_key": np.arange(4), "_range": np.array(3)}])
def test_a_signed_file_that_is_no_chunk_is_refused_in_one_line(arrays: Arrays) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, **arrays)
    whole = buffer.getvalue()
    for body in (whole, whole[:-1], b"", b"PK\x03\x04", whole.replace(b"'descr'", b"((((((("), whole * 2):
        with pytest.raises(ValueError, match="no chunk, though its checksum is right") as caught:
            decode(signed(body), "0" * 32, 0, 64)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_pipe_in_place_of_a_file_is_never_read(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        key = store.task("{}")
        os.mkfifo(tmp_path / key / "000000000-000000064.npz")
        assert store.read(key, 0, 64) is None and store.damaged[0][1] == "it is no file"
    (tmp_path / key / "task.json").unlink()
    os.mkfifo(tmp_path / key / "task.json")
    found = list(Store(tmp_path).verify())
    assert [(sound, "it is no file" in problem) for _, sound, problem in found] == [(False, True)]
    assert Store(tmp_path).tasks() == {}


def test_a_task_that_is_no_ascii_is_found(tmp_path: Path) -> None:
    folder = tmp_path / hashlib.sha256(b"\xff").hexdigest()[:32]
    folder.mkdir()
    (folder / "task.json").write_bytes(b"\xff\n")
    assert Store(tmp_path).tasks() == {}
    (tmp_path / "a\nb").mkdir()
    (tmp_path / "a\nb" / "task.json").touch()
    assert all("\n" not in problem for _, _, problem in Store(tmp_path).verify())
    assert "no task: canonical JSON is ASCII" in {problem for _, _, problem in Store(tmp_path).verify()}


def run(script: str, *arguments: str, **environment: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.stdout.strip()


WRITER = f"""
    import os, signal, sys
    import numpy as np
    from stabsim.store import Store

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    directory, chunks, fatal, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    if fatal:
        original, calls = getattr(os, fatal), [0]
        def counted(*arguments):
            calls[0] += 1
            if calls[0] == count:
                die()
            return original(*arguments)
        setattr(os, fatal, counted)
    print("start", flush=True)
    with Store(directory) as store:
        key = store.task('{TEXT}')
        for first in range(0, chunks):
            if store.read(key, first, first + 1) is None:
                store.write(key, first, first + 1, {{"sums": np.random.default_rng(first).standard_normal(30_000)}})
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("uninterrupted")
    run(WRITER, str(directory), "4", "", "0")
    return tree(directory)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_killed_at_each_step_then_resumed(tmp_path: Path, uninterrupted: str, call: str, count: int) -> None:
    run(WRITER, str(tmp_path), "4", call, str(count))
    assert tree(tmp_path) != uninterrupted
    assert all(ok for _, ok, _ in Store(tmp_path).verify())
    run(WRITER, str(tmp_path), "4", "", "0")
    assert tree(tmp_path) == uninterrupted


def test_killed_at_any_moment_then_resumed(tmp_path: Path) -> None:
    chunks, delays = "300", random.Random(0)
    run(WRITER, str(tmp_path / "whole"), chunks, "", "0")
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(killed), chunks, "", "0"]
    for _ in range(8):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(delays.uniform(0.0, 0.04))
            writer.kill()
        assert all(ok for _, ok, _ in Store(killed).verify())
    run(WRITER, str(killed), chunks, "", "0")
    assert tree(killed) == tree(tmp_path / "whole")


def test_leftover_temporary_files_are_removed(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.task(TEXT)
    leftover = tmp_path / KEY / ".000000000-000000004.npz.temporary"
    leftover.write_bytes(b"half a chunk")
    assert all(ok for _, ok, _ in Store(tmp_path).verify())
    with Store(tmp_path):
        assert not leftover.exists()


def test_a_lock_is_released_where_leftovers_cannot_be_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".folder.temporary"
    leftover.mkdir()
    with pytest.raises(StoreError, match="Is a directory"):
        Store(tmp_path).__enter__()
    leftover.rmdir()
    with Store(tmp_path):
        pass


# --- lock and disk -----------------------------------------------------------------------------------

HOLDER = """
    import sys, time
    from stabsim.store import Store
    with Store(sys.argv[1]):
        print("held", flush=True)
        time.sleep(60)
"""


def test_one_coordinator_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreError, match=rf"in use by process {holder.pid} on {os.uname().nodename}") as caught:
            Store(tmp_path).__enter__()
        assert "\n" not in str(caught.value)
        holder.kill()
    with Store(tmp_path), pytest.raises(StoreError, match=f"process {os.getpid()} "):
        Store(tmp_path).__enter__()
    assert (tmp_path / ".lock").read_bytes() == b""


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    script = """
        import os, signal, sys, time
        from stabsim.store import Store
        with Store(sys.argv[1]):
            child = os.fork()
            if child == 0:
                os.close(1); os.close(2)
                time.sleep(60)
                os._exit(0)
            print(child, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    child = int(run(script, str(tmp_path)))
    try:
        time.sleep(0.2)
        with Store(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_two_processes_contend_and_one_wins(tmp_path: Path) -> None:
    script = """
        import sys, time
        from stabsim.chunk import StoreError
        from stabsim.store import Store
        time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
        try:
            with Store(sys.argv[1]):
                time.sleep(1.0)
            print("won")
        except StoreError:
            print("lost")
    """
    with multiprocessing.pool.ThreadPool(3) as pool:
        start = str(time.time() + 1.0)
        outcomes = pool.starmap(run, [(script, str(tmp_path), start)] * 3)
    assert sorted(outcomes) == ["lost", "lost", "won"]


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    script = f"""
        import resource, sys
        import numpy as np
        from stabsim.chunk import StoreError
        from stabsim.store import Store
        with Store(sys.argv[1]) as store:
            key = store.task('{TEXT}')
            store.write(key, 0, 1, {{"sums": np.zeros(100)}})
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
            try:
                store.write(key, 1, 2, {{"sums": np.zeros(100_000)}})
            except StoreError as error:
                print(error)
    """
    message = run(script, str(tmp_path))
    assert message.startswith("cannot write ") and message.endswith("File too large") and "\n" not in message
    assert Store(tmp_path).ranges(KEY) == [(0, 1)] and all(ok for _, ok, _ in Store(tmp_path).verify())
    assert not list(tmp_path.rglob("*.temporary"))


def test_a_directory_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot open the study in .*file: File exists"):
        Store(tmp_path / "file").__enter__()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        Store(tmp_path).__enter__()
