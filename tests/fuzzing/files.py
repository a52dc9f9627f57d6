"""Targets: what is read from the disk, chunks, stores, verdicts, the ledger, what was measured, and data sets."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from stabsim.arguments import make_task
from stabsim.chunk import StoreError, chunk_name, decode, encode
from stabsim.cli.text import rests_on
from stabsim.datasets import load
from stabsim.datasets.idx import published, read_idx
from stabsim.datasets.installed import DIGITS
from stabsim.ledger import Entry, LedgerError, by_claim, read_ledger, read_verdicts, shipped, write_ledger
from stabsim.network import Network
from stabsim.outputs import read_measurements, save_verdicts
from stabsim.store import Store, task_key
from stabsim.study import Study, Verdict
from tests.fuzzing.choices import Choices, content, text
from tests.fuzzing.harness import Target

Files = dict[str, bytes]

# --- archives of arrays --------------------------------------------------------------------------------

ARRAYS = (
    np.arange(6.0).reshape(2, 3), np.array([0, 1]), np.array(["a", "b"]), np.ones((2, 2), np.float32), np.array(3),
    np.zeros((0, 3)), np.array([True, False]), np.array([1j]), np.array(["2020"], "M8[D]"), np.array([b"x", b"y"]),
    np.array([(1, 2.0)], [("a", int), ("b", float)]), np.array([2**63], np.uint64), np.ones((2, 3), np.float16),
    np.full((2, 3), np.nan), np.ones((2, 3), ">f8"), np.asfortranarray(np.ones((3, 2))), np.ones((2, 3), np.longdouble),
    np.array([None, {}], object), np.array(["\U0010ffff", "nan"]), np.full((2, 3), 1e4000, np.longdouble),
)  # fmt: skip
HEADERS = (
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }", b"{'descr': '<f8', 'fortran_order': False, 'shape': (10**9,)}",
    b"{'descr': '<f8', 'fortran_order': True, 'shape': (1000000000000,), }", b"{'descr': '|V0', 'fortran_order': False, 'shape': (9,)}",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }", b"{'descr': ('<f8', (1000, 1000, 1000)), 'fortran_order': False, "
    b"'shape': (1,), }", b"{'descr': '<U999999999', 'fortran_order': False, 'shape': (1,), }", b"(" * 3000, b"[" * 90, b"{'a': 'b'",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (2L, 3L), }", b"{'descr': [('', '<f8')], 'fortran_order': 0, 'shape': 3}",
)  # fmt: skip


@functools.cache
def member(place: int) -> bytes:
    """Return the bytes of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, ARRAYS[place], allow_pickle=True)
    return buffer.getvalue()


FITTING = {"inputs": 0, "labels": 1, "targets": 3}  # places of arrays that make a data set


def npy(c: Choices, name: str) -> bytes:
    """Return the bytes of an .npy file, whole or not."""
    fits = name in FITTING and c.chance(60)
    found = member(FITTING[name] if fits else c.below(len(ARRAYS)))
    if fits and c.chance(70):
        return found
    if c.chance(20):
        header = content(c, HEADERS, 2)
        return b"\x93NUMPY\x01\x00" + len(header[:65535]).to_bytes(2, "little") + header[:65535] + found[-48:]
    return content(c, [found], 2) if c.chance(40) else found


def archive(c: Choices, names: tuple[str, ...], comment: bytes = b"") -> bytes:
    """Return a zip archive of arrays, whose own checksums are right."""
    buffer = io.BytesIO()
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with zipfile.ZipFile(buffer, "w", c.pick(methods) if c.chance(10) else zipfile.ZIP_STORED) as file:
        used = set()
        for name in names:
            if c.chance(90):
                given = text(c, names).replace("\udc80", "") if c.chance(5) else name
                ending = ".npy" if c.chance(97) else ""
                if given + ending not in used and len(given) < 1000:
                    used.add(given + ending)
                    file.writestr(zipfile.ZipInfo(given + ending), npy(c, name))
        file.comment = comment
    return buffer.getvalue()


def make_npz(c: Choices) -> bytes:
    whole = archive(c, ("inputs", "labels" if c.chance(50) else "targets"))
    return content(c, [whole], 3) if c.chance(30) else whole


def use_npz(given: bytes, folder: Path) -> None:
    path = folder / "data.npz"
    path.write_bytes(given)
    used_data(load(path))


def used_data(data: Any) -> None:
    assert np.isfinite(data.inputs).all() and len(data.inputs) == len(data.targets) == len(data.labels)
    repr(data).encode()


# --- chunks --------------------------------------------------------------------------------------------

KEY = "0123456789abcdef" * 2
CHUNK = encode(KEY, 0, 64, {"sum": np.arange(4.0), "nets": np.array(64), "group.a.count": np.ones((2, 2), np.int64)})
OTHERS = (encode(KEY, 64, 128, {"sum": np.ones(3)}), encode("f" * 32, 0, 64, {}), b"", CHUNK + CHUNK)


def signed(body: bytes) -> bytes:
    """Return bytes with the checksum at their end that chunks have."""
    return body + hashlib.sha256(body).hexdigest().encode()


def make_chunk(c: Choices) -> bytes:
    kind = c.below(3)
    if kind == 0:
        return content(c, (CHUNK, *OTHERS))
    if kind == 1:
        return signed(content(c, (CHUNK[:-64], OTHERS[0][:-64])))
    return signed(archive(c, ("_key", "_range", "sum", "nets"), b"-" * 64)[:-64])


def use_chunk(given: bytes, _: Path) -> None:
    assert all(isinstance(array, np.ndarray) for array in decode(given, KEY, 0, 64).values())


# --- stores --------------------------------------------------------------------------------------------

TASK = make_task(Network((3, 3), "relu", "he_normal")).identity
TASK_KEY = task_key(TASK)
STORED = encode(TASK_KEY, 0, 64, {"sum": np.arange(4.0)})
STORE = {
    f"{TASK_KEY}/task.json": TASK.encode() + b"\n", f"{TASK_KEY}/{chunk_name(0, 64)}": STORED,
    f"{TASK_KEY}/{chunk_name(64, 128)}": encode(TASK_KEY, 64, 128, {}),
}  # fmt: skip
STORE_NAMES = (
    *STORE, ".lock", "task.json", f"{TASK_KEY}/{chunk_name(0, 128)}", f"{TASK_KEY}/.x.temporary", f"{KEY}/{chunk_name(0, 64)}",
    f"{TASK_KEY}/{chunk_name(0, 64)}.damaged", "other/000000000-000000001.npz", "readme.txt", f"{TASK_KEY}/inner/x.npz",
    f"{TASK_KEY}/999999999999999999999999-9999999999999999999999999.npz", f"{TASK_KEY[:-1]}g/task.json",
)  # fmt: skip
PLACED = ("file", "folder", "link", "loop", "pipe", "nothing")


def make_store(c: Choices) -> tuple[Files, list[tuple[str, str]], int]:
    """Return files, what else lies there under which name, and what is done."""
    files = {name: content(c, (held,)) if c.chance(15) else held for name, held in STORE.items() if c.chance(85)}
    if c.chance(20):  # a text whose folder is named after its checksum, and is no task
        held = content(c, (TASK.encode(), b"[" * 5000, b"\xff"))
        files[f"{hashlib.sha256(held).hexdigest()[:32]}/task.json"] = held + b"\n"
    for _ in range(c.below(3)):
        files[tamed(text(c, STORE_NAMES))] = content(c, (STORED, CHUNK, TASK.encode(), b""))
    others = [(tamed(text(c, STORE_NAMES)), c.pick(PLACED)) for _ in range(c.below(3))]
    return files, others, c.below(4)


def tamed(name: str) -> str:
    """Return a relative path that stays inside its folder, and that a file system takes."""
    parts = [part.replace("\0", "")[:60] for part in name.replace("\0", "").split("/")]
    return "/".join(part for part in parts[:4] if part not in ("", ".", "..")) or "x"


def lay(files: Files, others: list[tuple[str, str]], folder: Path) -> None:
    """Write files, as far as their names do not exclude each other."""
    for name, held in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(held)
        except OSError:  # a file is where a folder should be
            continue
    for name, kind in others:
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                path.unlink()
            if kind == "folder":
                path.mkdir()
            elif kind == "pipe":
                os.mkfifo(path)
            elif kind in ("link", "loop", "nothing"):
                path.symlink_to({"link": folder, "loop": path, "nothing": folder / "nothing"}[kind])
        except OSError:
            continue


def use_store(given: tuple[Files, list[tuple[str, str]], int], folder: Path) -> None:
    files, others, done = given
    lay(files, others, folder)
    store = Store(folder)
    if done == 0:
        for path, sound, problem in store.verify():
            assert sound == (not problem) and len(problem.splitlines()) <= 1 and path.name
    elif done == 1:
        store.tasks()
        store.ranges(TASK_KEY)
    elif done == 2:
        for first, last in ((0, 64), (64, 128)):
            store.read(TASK_KEY, first, last)
    else:
        with store:
            key = store.task(TASK)
            assert key == TASK_KEY
            for first, last in store.ranges(key):
                store.read(key, first, last)
    assert all(len(problem.splitlines()) == 1 for _, problem in store.damaged)


# --- verdicts, the ledger, measurements ----------------------------------------------------------------

VERDICTS = (
    Verdict("B06", "holds", 1.0, 0.9, 1.1, theory=1.0, note="a note, of words"),
    Verdict("A17", "holds when it rains", 0.5, 0.25, 0.75),
)


@functools.cache
def verdicts_file() -> bytes:
    """Return what a run leaves."""
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"stabsim_fuzzing_{os.getpid()}.json"
    save_verdicts(Study("tiny", "A tiny study", list, list), VERDICTS, "quick", 0, path)
    found = path.read_bytes()
    path.unlink()
    return found


def make_verdicts(c: Choices) -> bytes:
    """Return JSON of verdicts, changed as bytes or as a document."""
    if c.chance(50):
        return content(c, [verdicts_file()])
    document = json.loads(verdicts_file())
    for _ in range(1 + c.below(3)):
        holder = c.pick([document, *(row for row in document["verdicts"] if isinstance(row, dict))])
        key = c.pick([*holder, "new"])
        if c.chance(20):
            holder.pop(key, None)
        elif key != "verdicts" or c.chance(30):
            holder[key] = c.pick(
                (None, "", "\ud800", 1, 1e400, 10**400, [], {}, [1], [[]], True, "quick", "a\nb", "x" * 5000)
            )
        if not isinstance(document.get("verdicts"), list):
            break
    return json.dumps(document).encode()


def use_verdicts(given: bytes, folder: Path) -> None:
    path = folder / "tiny" / "verdicts.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(given)
    used_entries(read_verdicts(path), folder)


def used_entries(entries: list[Entry], folder: Path) -> None:
    """Do what is done with entries: they are printed, and written as a table."""
    for entry in entries:
        verdict = entry.verdict
        f"{entry.study} {entry.scale} {verdict.verdict} {rests_on(verdict)} {verdict.note}".encode()
    if len(entries) == 1:  # the table takes a few milliseconds
        write_ledger({claim: found for claim, found in by_claim(entries).items() if found}, folder / "table.csv")


@functools.cache
def ledger_files() -> tuple[bytes, ...]:
    """Return the committed ledger, its first lines, and lines of a small one."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        small = {"B06": [Entry("tiny", "quick", VERDICTS[0])], "E01": []}
        write_ledger(small, Path(folder) / "small.csv")
        write_ledger(dict(list(shipped().items())[:3]), Path(folder) / "some.csv")
        return tuple((Path(folder) / f"{name}.csv").read_bytes() for name in ("small", "some"))


def make_ledger(c: Choices) -> bytes:
    return content(c, ledger_files())


def use_ledger(given: bytes, folder: Path) -> None:
    path = folder / "claims.csv"
    path.write_bytes(given)
    used_entries(read_ledger(path), folder)


MEASURED = (b"width,seconds\n64,0.5\n128,1.25\n", b'part,line,x\n"a, b",sgd,nan\nc,,1e9\n', b"a\n1\n")


def make_measured(c: Choices) -> bytes:
    return content(c, MEASURED)


def use_measured(given: bytes, folder: Path) -> None:
    path = folder / "measured_quick.csv"
    path.write_bytes(given)
    table = read_measurements(path)
    assert len(table.columns)


# --- data sets -----------------------------------------------------------------------------------------

TABLES = (
    b"length,width,species\n5.1,3.5,setosa\n6.2,2.9,virginica\n", b"a,label\n1,0\n2,1\n3,0\n", b"x,y,target\n1,2,3\n4,5,6\n",
    b'\xef\xbb\xbfa,"label"\r\n1,"x, y"\r\n', b"label\n1\n",
)  # fmt: skip


def make_csv(c: Choices) -> tuple[bytes, str | None, str | None]:
    return (
        content(c, TABLES),
        c.pick((None, None, None, "species", "label", "x")),
        c.pick((None, None, None, None, "target")),
    )


def use_csv(given: tuple[bytes, str | None, str | None], folder: Path) -> None:
    held, label, target = given
    path = folder / "data.csv"
    path.write_bytes(held)
    used_data(load(path, label=label, target=target))


def idx(array: np.ndarray[Any, Any]) -> bytes:
    """Return the bytes of an IDX file."""
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


IMAGES, LABELS = idx(np.arange(3 * 784).reshape(3, 28, 28) % 256), idx(np.array([0, 1, 9]))
BOMB = idx(np.zeros((1, 1, 1)))[:4] + b"\xff" * 12  # says that 2^96 bytes follow
IDX = (IMAGES, LABELS, idx(np.ones((2, 3, 4))), BOMB, b"")


def make_idx(c: Choices) -> tuple[bytes, bool, int]:
    held = content(c, IDX)
    packed = c.chance(40)
    if packed and c.chance(70):
        held = content(c, [gzip.compress(held, 1, mtime=0)], 2)
    return held, packed, c.pick((1, 3))


def use_idx(given: tuple[bytes, bool, int], folder: Path) -> None:
    held, packed, sides = given
    path = folder / ("images.gz" if packed else "images")
    path.write_bytes(held)
    assert read_idx(path, sides).ndim == sides


MNIST = {
    "train-images-idx3-ubyte": IMAGES, "train-labels-idx1-ubyte": LABELS, "t10k-images-idx3-ubyte": IMAGES,
    "t10k-labels-idx1-ubyte": LABELS,
}  # fmt: skip


def make_mnist(c: Choices) -> tuple[Files, list[tuple[str, str]]]:
    files = {}
    for name, held in MNIST.items():
        found = content(c, (held,)) if c.chance(20) else held
        ending = ".gz" if c.chance(20) else ""
        if c.chance(95):
            files[name + ending] = gzip.compress(found, 1, mtime=0) if ending and c.chance(80) else found
    others = [(c.pick((*MNIST, "mnist", "train.1-images-idx3-ubyte")), c.pick(PLACED)) for _ in range(c.below(2))]
    return files, others


def use_mnist(given: tuple[Files, list[tuple[str, str]]], folder: Path) -> None:
    lay(*given, folder)
    used_data(published("mnist", DIGITS, folder))


NAMES_FILE = r"data\.(npz|csv)|^(label|target)"
TARGETS = {
    "chunk": Target(make_chunk, use_chunk, (ValueError,), r"^(damaged|holds|foreign|no |not )", share=20),
    "store": Target(make_store, use_store, (StoreError,), "overlap|cannot|in use|was whole", share=5, writes=True),
    "verdicts": Target(make_verdicts, use_verdicts, (LedgerError,), "verdicts.json", writes=True),
    "ledger": Target(make_ledger, use_ledger, (LedgerError,), "claims.csv", share=5, writes=True),
    "measured": Target(make_measured, use_measured, (ValueError,), "measured_quick.csv", share=5, writes=True),
    "npz": Target(make_npz, use_npz, (TypeError, ValueError), NAMES_FILE, share=5, writes=True),
    "csv": Target(make_csv, use_csv, (TypeError, ValueError), NAMES_FILE, writes=True),
    "idx": Target(make_idx, use_idx, (ValueError,), "images", writes=True),
    "mnist": Target(make_mnist, use_mnist, (ValueError,), "mnist|ubyte", share=5, writes=True),
}
