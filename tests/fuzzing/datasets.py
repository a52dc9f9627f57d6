"""Targets: the user's own data sets."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from stabsim.datasets import load
from stabsim.datasets.idx import published, read_idx
from stabsim.datasets.installed import DIGITS
from tests.fuzzing.archives import PLACED, Files, archive, lay
from tests.fuzzing.choices import Choices, content
from tests.fuzzing.harness import Target


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


TABLES = (
    b"length,width,species\n5.1,3.5,setosa\n6.2,2.9,virginica\n", b"a,label\n1,0\n2,1\n3,0\n",
    b"x,y,target\n1,2,3\n4,5,6\n",
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
    "npz": Target(make_npz, use_npz, (TypeError, ValueError), NAMES_FILE, share=5, writes=True),
    "csv": Target(make_csv, use_csv, (TypeError, ValueError), NAMES_FILE, writes=True),
    "idx": Target(make_idx, use_idx, (ValueError,), "images", writes=True),
    "mnist": Target(make_mnist, use_mnist, (ValueError,), "mnist|ubyte", share=5, writes=True),
}
