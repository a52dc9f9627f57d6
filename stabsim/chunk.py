"""The bytes of a chunk, and how a file gets onto the disk whole.

A chunk is an ``.npz`` that NumPy reads. The comment at the end of its zip archive is the SHA-256 of
everything before it, since the CRC of a zip member covers its data but not the headers around it
(measured on a small file: of 5,200 flipped bits, ``np.load`` sees 4,002). The same arrays give the
same bytes.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import operator
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.checks import brief, reason

TEMPORARY = ".temporary"
DAMAGED = ".damaged"

_NAME = re.compile(r"([0-9]{9,})-([0-9]{9,})\.npz")
_ARRAY = re.compile(r"[A-Za-z][\w.,=()+-]*", re.ASCII)
_DIGEST = 64  # hex digits of a SHA-256

_LOCAL = struct.Struct("<4s5H3L2H")  # a zip's header of a member, and the line of its directory
_CENTRAL = struct.Struct("<4s4B4H3L5H2L")
_ZIP64 = 45  # the version of the format with 64-bit sizes
_1980 = 33  # 1980-01-01
_SHORT, _IN_EXTRA = 2**31 - 1, 2**32 - 1  # larger sizes stand in the extra field, and this in their place

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
    body = _zip(
        {f"{name}.npy": _header(array.dtype.str, array.shape) + array.tobytes() for name, array in held.items()}
    )
    return body + hashlib.sha256(body).hexdigest().encode()


@functools.lru_cache(1024)
def _header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return what goes before the values in an ``.npy``: NumPy takes 10 µs to write it."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _zip(members: Mapping[str, bytes]) -> bytes:
    """Return a zip archive up to its comment, as ``zipfile`` writes it where members have 64-bit sizes.

    Of the 161 arrays of all quantities, a chunk takes 1.7 ms to encode; with ``zipfile``, 4.3 ms. 1024 nets of width 4
    and depth 50 take 75 ms.
    """
    parts: list[bytes] = []
    directory: list[bytes] = []
    offset = 0
    for name, data in members.items():
        spelled, size, crc = name.encode(), len(data), zlib.crc32(data)
        sizes = (size, size)
        local = _LOCAL.pack(b"PK\3\4", _ZIP64, 0, 0, 0, _1980, crc, _IN_EXTRA, _IN_EXTRA, len(spelled), 20)
        parts += [local, spelled, struct.pack("<HHQQ", 1, 16, *sizes), data]
        long = [*(sizes if size > _SHORT else ()), *((offset,) if offset > _SHORT else ())]
        extra = struct.pack(f"<HH{len(long)}Q", 1, 8 * len(long), *long) if long else b""
        if size > _SHORT:
            sizes = (_IN_EXTRA, _IN_EXTRA)
        place = _IN_EXTRA if offset > _SHORT else offset
        directory.append(
            _CENTRAL.pack(
                b"PK\1\2", _ZIP64, 3, _ZIP64, 0, 0, 0, 0, _1980, crc, *sizes, len(spelled), len(extra), 0, 0, 0,
                0o600 << 16, place,
            )
        )  # fmt: skip
        directory += [spelled, extra]
        offset += len(local) + len(spelled) + 20 + size
    length, count = sum(map(len, directory)), len(members)
    end = b""
    if count >= 0xFFFF or offset > _SHORT or length > _SHORT:
        end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, _ZIP64, _ZIP64, 0, 0, count, count, length, offset)
        end += struct.pack("<4sLQL", b"PK\6\7", 0, offset + length, 1)
    shown = min(count, 0xFFFF), min(count, 0xFFFF), min(length, _IN_EXTRA), min(offset, _IN_EXTRA)
    return b"".join([*parts, *directory, end, struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *shown, _DIGEST)])


def decode(data: bytes, key: str, first: int, last: int) -> Arrays:
    """Return the arrays of a chunk file; ValueError says what is wrong with one that is not whole or not this chunk."""
    body, digest = data[:-_DIGEST], data[-_DIGEST:]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError(f"damaged: the checksum does not match its {len(data)} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            arrays = {name.removesuffix(".npy"): _array(archive.read(name)) for name in archive.namelist()}
        held_key = arrays.pop("_key").tobytes().hex()
        held_range = tuple(arrays.pop("_range").tolist())
    except MemoryError:
        raise
    except Exception as error:  # of whatever kind: NumPy and zipfile raise a dozen
        raise ValueError(f"no chunk, though its checksum is right: {reason(error)}") from error
    if held_key != key:
        raise ValueError(f"holds task {brief(held_key)}, not {key}")
    if held_range != (first, last):
        raise ValueError(f"holds nets {brief(held_range)}, not {(first, last)}")
    return arrays


def _array(member: bytes) -> NDArray[Any]:
    """Return the array of an ``.npy``; ``numpy.load`` parses each header anew, into garbage that lives in cycles."""
    end = 10 + int.from_bytes(member[8:10], "little")
    dtype, shape = _parsed(member[:end])
    return np.frombuffer(member, dtype, offset=end).reshape(shape).copy()


@functools.lru_cache(1024)
def _parsed(header: bytes) -> tuple[np.dtype[Any], tuple[int, ...]]:
    stream = io.BytesIO(header[8:])
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    if not header.startswith(b"\x93NUMPY\1\0") or fortran_order:
        raise ValueError("damaged: an array is not as it is written")
    return dtype, shape


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


def set_aside(path: Path) -> None:
    """Rename a damaged file to ``*.damaged``, over none that is there."""
    target = path.with_name(path.name + DAMAGED)
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.{number}{DAMAGED}")
    with one_line(f"cannot set the damaged file {path} aside"):
        path.rename(target)
        fsync_directory(path.parent)


def make_folders(path: Path) -> None:
    """Make a folder and those above it, and wait until their names are on the disk."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        fsync_directory(folder.parent)


def fsync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: Path) -> bytes:
    """Return the bytes of a file; reading what is none, such as a pipe, might never end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "it is no file")
    return path.read_bytes()


def why(error: Exception) -> str:
    """Return what is wrong with a file, without its name and a number.

    >>> why(FileNotFoundError(2, "No such file or directory", "a.npz")), why(ValueError("damaged"))
    ('No such file or directory', 'damaged')
    """
    return str(getattr(error, "strerror", None) or error)


@contextlib.contextmanager
def one_line(what: str) -> Iterator[None]:
    """Turn the system's errors into a StoreError of one line: what could not be done, and why."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{what}: {why(error)}") from error
