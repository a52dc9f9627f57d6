"""Files for other targets: archives of arrays, and whatever may lie in a folder."""

from __future__ import annotations

import functools
import io
import os
import zipfile
from pathlib import Path

import numpy as np

from tests.fuzzing.choices import Choices, content, text

Files = dict[str, bytes]
PLACED = ("file", "folder", "link", "loop", "pipe", "nothing")

ARRAYS = (
    np.arange(6.0).reshape(2, 3), np.array([0, 1]), np.array(["a", "b"]), np.ones((2, 2), np.float32), np.array(3),
    np.zeros((0, 3)), np.array([True, False]), np.array([1j]), np.array(["2020"], "M8[D]"), np.array([b"x", b"y"]),
    np.array([(1, 2.0)], [("a", int), ("b", float)]), np.array([2**63], np.uint64), np.ones((2, 3), np.float16),
    np.full((2, 3), np.nan), np.ones((2, 3), ">f8"), np.asfortranarray(np.ones((3, 2))), np.ones((2, 3), np.longdouble),
    np.array([None, {}], object), np.array(["\U0010ffff", "nan"]), np.full((2, 3), 1e4000, np.longdouble),
)  # fmt: skip
DESCRIBED = (
    ("'<f8'", "(2, 3)"), ("'<f8'", "(10**9,)"), ("'<f8'", "(1000000000000,)"), ("'|V0'", "(9,)"), ("'<f8'", "(-1,)"),
    ("('<f8', (1000, 1000, 1000))", "(1,)"), ("'<U999999999'", "(1,)"), ("'<f8'", "(2L, 3L)"), ("[('', '<f8')]", "3"),
)  # fmt: skip
HEADERS = (
    *(f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode() for kind, shape in DESCRIBED),
    b"(" * 3000, b"[" * 90, b"{'a': 'b'",
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
