"""Targets: what runs leave on the disk, chunks, stores, verdicts, the ledger and what was measured."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np

from stabsim.arguments import make_task
from stabsim.chunk import StoreError, chunk_name, decode, encode
from stabsim.cli.text import rests_on
from stabsim.ledger import Entry, LedgerError, by_claim, read_ledger, read_verdicts, shipped, write_ledger
from stabsim.network import Network
from stabsim.outputs import read_measurements, save_verdicts
from stabsim.sealing import sealed_table
from stabsim.store import Store, task_key
from stabsim.study import Study, Verdict
from tests.fuzzing.archives import PLACED, Files, archive, lay, tamed
from tests.fuzzing.choices import Choices, content, text
from tests.fuzzing.harness import Target

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
    *STORE, ".lock", "task.json", f"{TASK_KEY}/{chunk_name(0, 128)}", f"{TASK_KEY}/.x.temporary",
    f"{KEY}/{chunk_name(0, 64)}",
    f"{TASK_KEY}/{chunk_name(0, 64)}.damaged", "other/000000000-000000001.npz", "readme.txt", f"{TASK_KEY}/inner/x.npz",
    f"{TASK_KEY}/999999999999999999999999-9999999999999999999999999.npz", f"{TASK_KEY[:-1]}g/task.json",
)  # fmt: skip


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
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "verdicts.json"
        save_verdicts(Study("tiny", "A tiny study", lambda _: [], lambda _: []), VERDICTS, "quick", 0, path)
        return path.read_bytes()


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
    given = content(c, MEASURED)
    return sealed_table(given) if c.chance(80) else content(c, [sealed_table(given)])


def use_measured(given: bytes, folder: Path) -> None:
    path = folder / "measured_quick.csv"
    path.write_bytes(given)
    table = read_measurements(path)
    assert len(table.columns)


TARGETS = {
    "chunk": Target(make_chunk, use_chunk, (ValueError,), r"^(damaged|holds|foreign|no |not )", share=20),
    "store": Target(make_store, use_store, (StoreError,), "overlap|cannot|in use|was whole", share=5, writes=True),
    "verdicts": Target(make_verdicts, use_verdicts, (LedgerError,), "verdicts.json", writes=True),
    "ledger": Target(make_ledger, use_ledger, (LedgerError,), "claims.csv", share=5, writes=True),
    "measured": Target(make_measured, use_measured, (StoreError,), "measured_quick.csv", share=5, writes=True),
}
