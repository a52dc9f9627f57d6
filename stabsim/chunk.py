"""The bytes of a chunk, and how a file gets onto the disk whole.

A chunk is an ``.npz`` that NumPy reads. The comment at the end of its zip archive is the SHA-256 of
everything before it, since the CRC of a zip member covers its data but not the headers around it
(measured on a small file: of 5,200 flipped bits, ``np.load`` sees 4,002). The same arrays give the
same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import operator
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.checks import brief, reason

TEMPORARY = ".temporary"

_NAME = re.compile(r"([0-9]{9,})-([0-9]{9,})\.npz")
_ARRAY = re.compile(r"[A-Za-z][\w.,=()+-]*", re.ASCII)
_DIGEST = 64  # hex digits of a SHA-256

Arrays = dict[str, NDArray[Any]]


class StoreError(RuntimeError):
    """The directory cannot be used as asked: locked, unwritable, full, or with overlapping chunks."""


def encode(key: str, first: int, last: int, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the bytes of a chunk file: arrays in order of name, little-endian, in C order, without dates."""
    held: Arrays = {"_key": np.frombuffer(bytes.fromhex(key), np.uint8), "_range": np.array([first, last], np.int64)}
    for name in sorted(arrays):
        if not _ARRAY.fullmatch(name) or name.endswith(".npy"):
            raise ValueError(f"name={name!r} of an array is not allowed: letters, digits and _.,=()+-, a letter first")
        array = np.asarray(arrays[name], order="C")
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise TypeError(
                f"array {name!r} has dtype {array.dtype}: booleans, integers and floats to 64 bits are allowed"
            )
        held[name] = array.astype(array.dtype.newbyteorder("<"), copy=False)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in held.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # its date is 1980-01-01
            member.create_system = 3  # the same bytes on every system
            with archive.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)
        archive.comment = b"-" * _DIGEST
    body = buffer.getvalue()[:-_DIGEST]
    return body + hashlib.sha256(body).hexdigest().encode()


def decode(data: bytes, key: str, first: int, last: int) -> Arrays:
    """Return the arrays of a chunk file; ValueError says what is wrong with one that is not whole or not this chunk."""
    body, digest = data[:-_DIGEST], data[-_DIGEST:]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError(f"damaged: the checksum does not match its {len(data)} bytes")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays: Arrays = {name: archive[name] for name in archive.files}
        held_key = arrays.pop("_key").tobytes().hex()
        held_range = tuple(arrays.pop("_range").tolist())
    except Exception as error:  # of whatever kind: NumPy and zipfile raise a dozen
        raise ValueError(f"no chunk, though its checksum is right: {reason(error)}") from error
    if held_key != key:
        raise ValueError(f"holds task {brief(held_key)}, not {key}")
    if held_range != (first, last):
        raise ValueError(f"holds nets {brief(held_range)}, not {(first, last)}")
    return arrays


def chunk_name(first: int, last: int) -> str:
    """Return the name of the file that holds nets [first, last)."""
    first, last = operator.index(first), operator.index(last)
    if not 0 <= first < last:
        raise ValueError(f"range [{first}, {last}) of nets is not allowed: 0 <= first < last")
    return f"{first:09d}-{last:09d}.npz"


def name_range(name: str) -> tuple[int, int] | None:
    """Return (first, last) of the name of a chunk file, or None if it is not one."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    return (first, last) if first < last and chunk_name(first, last) == name else None


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that its name always stands for all the old bytes or all the new ones."""
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    with one_line(f"cannot write {path}"):
        try:
            with open(temporary, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_directory(path.parent)


def fsync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def one_line(what: str) -> Iterator[None]:
    """Turn the system's errors into a StoreError of one line: what could not be done, and why."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror or error}") from error
