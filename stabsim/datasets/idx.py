"""MNIST and Fashion-MNIST from the user's folder: the four IDX files as they are published, checked.

The format (Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits"): four bytes, 0, 0, the
type of the numbers (8: unsigned bytes) and how many sides the array has; each side as a big-endian 32-bit integer; the
numbers.
"""

from __future__ import annotations

import errno
import gzip
import math
import os
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from stabsim.datasets.data import Data, one_hot

Bytes = NDArray[np.uint8]

MNIST_DIRECTORY = "STABSIM_MNIST_DIR"  # the environment variable, which --mnist-dir sets: worker processes see it too

_CONTENT = {1: "labels", 3: "images"}  # by the number of sides
_PIECE = 1 << 20  # bytes read at once: a header's word for the size is not taken


def mnist_at_hand() -> str:
    """Return "mnist" where its folder is told (``--mnist-dir``, STABSIM_MNIST_DIR), else "mnist5k"."""
    return "mnist" if os.environ.get(MNIST_DIRECTORY) else "mnist5k"


def published(name: str, classes: tuple[str, ...], directory: str | os.PathLike[str] | None = None) -> Data:
    """Return the four files of a data set, the training part first.

    Parameters
    ----------
    name : str
        What errors call it; the folder in ``directory`` that is looked into first.
    classes : tuple of str
        What the labels 0, 1, ... mean.
    directory : path, optional
        Where the files lie, themselves or in a folder called ``name``; that of STABSIM_MNIST_DIR unless given.

    Raises
    ------
    ValueError
        If no folder is told, a file is not there, or is not what it should be.
    """
    folder = _folder(name, directory)
    (images, labels), (test_images, test_labels) = (
        _part(name, folder, part, len(classes)) for part in ("train", "t10k")
    )
    if len(labels) == 60_000 and (np.bincount(labels) == 6000).all() != (name == "fashion_mnist"):
        found = (
            "is Fashion-MNIST, as it seems: 6,000 of each label" if name == "mnist" else "has not 6,000 of each label"
        )
        raise ValueError(f"data set {name!r}: what lies in {folder} {found}; put each into a folder of its name there")
    inputs = np.concatenate((images, test_images)).reshape(len(images) + len(test_images), -1)
    targets = one_hot(np.concatenate((labels, test_labels)), len(classes))
    return Data(name, inputs, targets, classes, training=len(labels), largest=255.0)


def read_idx(path: Path, sides: int) -> Bytes:
    """Return the bytes of an IDX file, plain or, if its name ends with .gz, compressed.

    Parameters
    ----------
    path : Path
        The file.
    sides : int
        1 for labels, 3 for images.

    Raises
    ------
    ValueError
        If the file cannot be read, is damaged, has another header, or is shorter or longer than its header says.
    """
    try:
        with _opened(path) as file:
            shape = _shape(path, file.read(4 + 4 * sides), sides)
            return _bytes(path, file, math.prod(shape)).reshape(shape)
    except EOFError as error:
        raise ValueError(f"{path} is truncated: its gzip stream ends early") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is no intact gzip file: {error}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error


def _folder(name: str, directory: str | os.PathLike[str] | None) -> Path:
    told = os.environ.get(MNIST_DIRECTORY) if directory is None else directory
    if not told:
        raise ValueError(
            f"data set {name!r} is read from its four published IDX files: name their folder with directory=..., "
            f"--mnist-dir or {MNIST_DIRECTORY}"
        )
    folder = Path(told)
    if not os.path.isdir(folder):  # which says no of what the system refuses to look at, too
        raise ValueError(f"data set {name!r}: there is no folder {folder}")
    return folder / name if (folder / name).is_dir() else folder


def _part(name: str, folder: Path, part: str, classes: int) -> tuple[Bytes, Bytes]:
    """Return images and labels of a part, checked against each other."""
    images, labels = _file(name, folder, f"{part}-images", 3), _file(name, folder, f"{part}-labels", 1)
    pixels, found = read_idx(images, 3), read_idx(labels, 1)
    if pixels.shape[1:] != (28, 28):
        raise ValueError(f"{images} has images of {' x '.join(map(str, pixels.shape[1:]))} pixels, not 28 x 28")
    if len(pixels) != len(found):
        raise ValueError(f"{labels} has {len(found)} labels for the {len(pixels)} images of {images.name}")
    if (found >= classes).any():
        wrong = int(np.argmax(found >= classes))
        raise ValueError(f"{labels} must have labels from 0 to {classes - 1}, but label {wrong} is {found[wrong]}")
    return pixels, found


def _file(name: str, folder: Path, stem: str, sides: int) -> Path:
    """Return the first that is there of the names in use."""
    for ending in ("", ".gz"):
        for mark in "-.":
            path = folder / f"{stem}{mark}idx{sides}-ubyte{ending}"
            if os.path.exists(path):
                return path
    raise ValueError(
        f"data set {name!r} needs {stem}-idx{sides}-ubyte or {stem}-idx{sides}-ubyte.gz in {folder}: "
        "put the four files there as published"
    )


def _opened(path: Path) -> IO[bytes]:
    if path.is_fifo():
        raise OSError(errno.EINVAL, "it is a pipe, which may never end")
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _shape(path: Path, head: bytes, sides: int) -> tuple[int, ...]:
    if not head:
        raise ValueError(f"{path} is empty")
    wanted = bytes((0, 0, 8, sides))
    if head[:4] != wanted:
        hint = ": compressed, so its name must end with .gz" if head[:2] == b"\x1f\x8b" else ""
        raise ValueError(
            f"{path} must start with {wanted.hex(' ')}, as {_CONTENT[sides]} in unsigned bytes do, "
            f"not {head[:4].hex(' ')}{hint}"
        )
    if len(head) < 4 + 4 * sides:
        raise ValueError(f"{path} is truncated: {len(head)} bytes, fewer than the {4 + 4 * sides} of its header")
    shape = tuple(int(side) for side in np.frombuffer(head, ">u4", offset=4))
    if 0 in shape:
        raise ValueError(f"{path} has no {_CONTENT[sides]}: its header says {' x '.join(map(str, shape))}")
    return shape


def _bytes(path: Path, file: IO[bytes], size: int) -> Bytes:
    """Return what follows the header, which must be as long as that says."""
    found = bytearray()
    while len(found) <= size and (piece := file.read(_PIECE)):
        found += piece
    if len(found) < size:
        raise ValueError(f"{path} is truncated: {len(found)} of the {size} bytes that its header says")
    if len(found) > size:
        raise ValueError(f"{path} is too long: more than the {size} bytes that its header says")
    return np.frombuffer(found, np.uint8)
