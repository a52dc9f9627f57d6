"""Chunks on disk: the sums of a range of nets, atomic, checked and resumable.

    <directory>/<key>/task.json                    what the chunks beside it are sums of
    <directory>/<key>/000000000-000001024.npz      arrays of nets 0 .. 1023

A key is the SHA-256 of the task's canonical JSON, so a chunk is found by what it is, never by when it
was made. A file appears under its name only when it is complete and on the disk, and holds its own
checksum, task and range.
"""

from __future__ import annotations

import bisect
import fcntl
import functools
import hashlib
import itertools
import json
import os
import re
import socket
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from stabsim.checks import named
from stabsim.chunk import (
    DAMAGED,
    TEMPORARY,
    Arrays,
    StoreError,
    chunk_name,
    decode,
    encode,
    fsync_directory,
    make_folders,
    name_range,
    one_line,
    read_file,
    set_aside,
    why,
    write_atomically,
)

_KEY = re.compile(r"[0-9a-f]{32}")  # 128 bits of the SHA-256


class Store:
    """The chunks of one study: anyone may read; writing needs the lock that ``with Store(...)`` takes.

    Parameters
    ----------
    directory : str or path
        The folder of the study; made when the lock is taken.

    The lock is an ``flock``, which the system drops when its process ends, however it ends.
    ``damaged`` lists (path, problem) of every file that ``read`` found damaged: with the lock held it
    has been renamed to ``*.damaged``, and the caller computes the chunk again.

    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder, Store(folder) as store:
    ...     key = store.task('{"network":"an example"}')
    ...     store.write(key, 0, 64, {"sum": np.arange(3.0)})
    ...     store.ranges(key), store.read(key, 0, 64)
    ([(0, 64)], {'sum': array([0., 1., 2.])})
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self.damaged: list[tuple[Path, str]] = []
        self._lock: int | None = None
        self._ranges: dict[str, list[tuple[int, int]]] = {}  # by key, sorted, while nobody else may write

    def __enter__(self) -> Self:
        with one_line(f"cannot open the study in {self.directory}"):
            make_folders(self.directory)
            self._lock = _acquire(self.directory / ".lock")
            _LOCKED.add(self)
            try:
                for leftover in self.directory.rglob(f".*{TEMPORARY}"):
                    leftover.unlink()
            except BaseException:
                self._close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._lock is not None:
                os.ftruncate(self._lock, 0)
        finally:
            self._close()

    def _close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None
        self._ranges.clear()

    def task(self, text: str) -> str:
        """Return the key of a task, and write its canonical JSON to ``task.json`` if that is not there.

        Parameters
        ----------
        text : str
            Canonical JSON of all that affects the sums: network, options, versions.
        """
        key = task_key(text)
        path = self.directory / key / "task.json"
        self._need_lock()
        if path.exists() and (problem := _task_problem(path)):
            self._set_aside(path, problem)
        if not path.exists():
            with one_line(f"cannot write {path}"):
                path.parent.mkdir(exist_ok=True)
                fsync_directory(self.directory)
            write_atomically(path, text.encode() + b"\n")
        return key

    def tasks(self) -> dict[str, str]:
        """Return {key: canonical JSON} of every task that has a readable ``task.json``, sorted by key."""
        return {key: text for key in self.stored_keys() if (text := self.text(key)) is not None}

    def text(self, key: str) -> str | None:
        """Return the canonical JSON of a task, or None if there is no ``task.json`` or it is damaged."""
        path = self._folder(key) / "task.json"
        return None if _task_problem(path) else path.read_text()[:-1]

    def stored_keys(self) -> list[str]:
        """Return the key of every folder, sorted."""
        folders = self.directory.iterdir() if self.directory.is_dir() else ()
        return sorted(path.name for path in folders if _KEY.fullmatch(path.name))

    def ranges(self, key: str) -> list[tuple[int, int]]:
        """Return the ranges [first, last) of a task's chunks, sorted; raise StoreError if two overlap."""
        folder = self._folder(key)
        found = sorted(held for path in folder.glob("*.npz") if (held := name_range(path.name)))
        for one, other in itertools.pairwise(found):
            if other[0] < one[1]:
                names = f"{chunk_name(*one)} and {chunk_name(*other)}"
                raise StoreError(f"{names} in {folder} overlap: their nets would be counted twice, so remove one")
        return found

    def read(self, key: str, first: int, last: int) -> Arrays | None:
        """Return the arrays of chunk [first, last), or None if it is absent or damaged (see ``damaged``)."""
        found = self.whole(key, first, last)
        return None if found is None else found[1]

    def whole(self, key: str, first: int, last: int) -> tuple[bytes, Arrays] | None:
        """Return the bytes of chunk [first, last) beside its arrays, or None as ``read`` does."""
        path = self.path(key, first, last)
        if not os.path.lexists(path):
            return None
        if not path.is_file():
            self._set_aside(path, "it is no file")
            return None
        try:
            with one_line(f"cannot read {path}"):
                data = path.read_bytes()
            return data, decode(data, key, first, last)
        except ValueError as problem:
            self._set_aside(path, str(problem))
            return None

    def write(self, key: str, first: int, last: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write chunk [first, last) of a task whole or not at all; writing it again changes no byte.

        Parameters
        ----------
        key : str
            From ``task``.
        first, last : int
            Numbers of the first net and of the one after the last, 0 <= first < last.
        arrays : mapping of str to array
            Name -> array of booleans, integers or floats of any shape.

        Raises
        ------
        ValueError
            The range overlaps another chunk, or the chunk is there with other content.
        StoreError
            The lock is not held, or the disk is full or read-only; nothing is lost.
        """
        self.adopt(key, first, last, encode(key, first, last, arrays))

    def adopt(self, key: str, first: int, last: int, data: bytes) -> bool:
        """Write what another store has of chunk [first, last), as ``write`` does; return whether it was absent."""
        self._need_lock()
        path = self.path(key, first, last)
        if not (path.parent / "task.json").exists():
            raise ValueError(f"key={key!r} has no task in {self.directory}: call task(text) first")
        if key not in self._ranges:
            self._ranges[key] = self.ranges(key)
        ranges = self._ranges[key]
        place = bisect.bisect_left(ranges, (first, last))
        for other_first, other_last in ranges[max(place - 1, 0) : place + 1]:
            if (other_first, other_last) != (first, last) and other_first < last and first < other_last:
                raise ValueError(f"range [{first}, {last}) overlaps [{other_first}, {other_last}) in {path.parent}")
        held = self.whole(key, first, last)
        if held is None:
            write_atomically(path, data)
            if (first, last) not in ranges[place : place + 1]:  # as one that was damaged is
                ranges.insert(place, (first, last))
        elif held[0] != data:
            raise ValueError(f"{path} is there with other content: the same task gave two different sums")
        return held is None

    def verify(self) -> Iterator[tuple[Path, bool, str]]:
        """Yield (path, ok, problem) of every file, read in full; files set aside or half written are left out."""
        return ((path, not problem, problem) for path, problem in self._problems())

    def _problems(self) -> Iterator[tuple[Path, str]]:
        for path in sorted(self.directory.rglob("*")):
            if path.name == ".lock" or path.suffix in (TEMPORARY, DAMAGED):
                continue
            if path.is_dir() and not path.is_symlink():
                if path.parent != self.directory or not _KEY.fullmatch(path.name):
                    yield path, "not a folder of this store"
            elif path.name == "task.json":
                yield path, _task_problem(path)
            else:
                yield path, _chunk_problem(path, path.parent.parent == self.directory)
        for key in self.stored_keys():
            task = self.directory / key / "task.json"
            try:
                if self.ranges(key) and not os.path.lexists(task):
                    yield task, "missing: it says what the chunks beside it are sums of"
            except StoreError as problem:
                yield task.parent, str(problem)

    def path(self, key: str, first: int, last: int) -> Path:
        """Return where chunk [first, last) is, or would be."""
        return self._folder(key) / chunk_name(first, last)

    def _folder(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"key={key!r} is not a task's key: 32 hexadecimal digits, as task() returns them")
        return self.directory / key

    def _need_lock(self) -> None:
        if self._lock is None:
            raise StoreError(f"{self.directory} is open for reading only: write inside `with Store(...) as store:`")

    def _set_aside(self, path: Path, problem: str) -> None:
        self.damaged.append((path, problem))
        if self._lock is not None:
            set_aside(path)


@functools.lru_cache(256)  # it is asked for at each chunk
def task_key(text: str) -> str:
    """Return the key of a task: the first 32 hex digits of the SHA-256 of its canonical JSON.

    >>> task_key('{"depth":2,"width":3}')
    '797be6f9a3292a07105a04cf03629b07'
    """
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"text={text!r} is not JSON: {error}") from None
    if "\n" in text:
        raise ValueError(f"text={text!r} is not canonical JSON: it holds a line break")
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _task_problem(path: Path) -> str:
    try:
        data = read_file(path)
    except OSError as error:
        return f"cannot be read: {why(error)}"
    if hashlib.sha256(data[:-1]).hexdigest()[:32] == path.parent.name and data[-1:] == b"\n":
        return _no_json(data)
    return f"damaged: its SHA-256 is not {named(path.parent.name)}"


def _no_json(data: bytes) -> str:
    if not data.isascii():
        return "no task: canonical JSON is ASCII"
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return "no task: it is no JSON"
    return ""


def _chunk_problem(path: Path, in_place: bool) -> str:
    held = name_range(path.name)
    if held is None or not in_place or not _KEY.fullmatch(path.parent.name):
        return "not a file of this store"
    try:
        decode(read_file(path), path.parent.name, *held)
    except (ValueError, OSError) as problem:
        return why(problem)
    return ""


def _acquire(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    except BlockingIOError:
        holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
        os.close(descriptor)
        raise StoreError(f"{path.parent} is in use by {holder}: wait for it, or stop it") from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


# A forked child inherits the lock's descriptor, and would keep the study locked after its parent was killed.
_LOCKED: weakref.WeakSet[Store] = weakref.WeakSet()


def _close_all() -> None:
    for store in list(_LOCKED):
        store._close()


os.register_at_fork(after_in_child=_close_all)
