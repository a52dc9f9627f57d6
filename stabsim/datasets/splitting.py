"""A training and a test part of labeled data: the official ones, or drawn by a seed with every class in its share."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stabsim.checks import brief, number, whole_number
from stabsim.datasets.data import Data, Floats
from stabsim.datasets.files import is_file_name, load
from stabsim.datasets.registry import LABELED, Directory, read
from stabsim.datasets.scaling import SCALES, scaling
from stabsim.names import unknown

LARGEST_SEED = 2**64 - 1

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """A training and a test part.

    Parameters
    ----------
    train, test : tuple of two arrays
        Inputs (samples, features) and targets (samples, outputs), float64; no sample is in both.
    classes : tuple of str
        What the columns of one-hot targets are called; none where targets are numbers.
    told : str
        One line: which data, how many samples, how they were split and scaled.
    """

    train: tuple[Floats, Floats] = field(repr=False)
    test: tuple[Floats, Floats] = field(repr=False)
    classes: tuple[str, ...]
    told: str

    def __str__(self) -> str:
        """Return what is told."""
        return self.told


def split(
    source: str | os.PathLike[str] | Data,
    *,
    test: float | None = None,
    scale: str = "unit",
    seed: int = 0,
    directory: Directory = None,
    samples: int | None = None,
) -> Split:
    """Return a training and a test part of a data set.

    Parameters
    ----------
    source : str, path or Data
        A name ("digits", "mnist5k", "mnist", "fashion_mnist"), a path that ends with ``.npz`` or ``.csv``, or what
        `load` has returned.
    test : float, optional
        Share of the samples that are the test part, of each class the same to within one; 0.2 unless told. Not of
        "mnist" and "fashion_mnist", whose split is official.
    scale : str
        "unit": divided by the largest value (255 of MNIST, 16 of "digits"; of a file, the largest in the training
        part), so that 0 stays 0; "standard": each feature to mean 0 and variance 1 over the training part, those that
        are constant there to 0; "raw": as read.
    seed : int
        Which samples, and in which order; 0 unless told. The official parts have theirs, unless ``samples`` are told.
    directory : path, optional
        Of "mnist" and "fashion_mnist", where the files are; that of STABSIM_MNIST_DIR unless given.
    samples : int, optional
        As many samples in all, of each class and part in its share; all unless told.

    Returns
    -------
    split : Split
        The same bits for the same arguments. What is drawn is in an order drawn as well, not sorted by class.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, a part would be empty, a package is not installed, or a file is not what it
        should be.

    Examples
    --------
    >>> found = split("digits", scale="standard")
    >>> [part.shape for part in (*found.train, *found.test)]
    [(1438, 64), (1438, 10), (359, 64), (359, 10)]
    >>> print(found)
    digits: 1438 samples for training, 359 for testing (drawn with seed 0), 10 classes, 64 features (standard)
    """
    data = _data(source, directory)
    if not isinstance(scale, str) or scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    whole_number("seed", seed, 0, LARGEST_SEED)
    kept = len(data.inputs) if samples is None else whole_number("samples", samples, 2, len(data.inputs))
    drawn = data.training is None or kept < len(data.inputs)
    parts = _parts(data, test, kept, np.argsort(np.random.Philox(key=seed).random_raw(len(data.inputs)), kind="stable"))
    for part, found in zip(("training", "test"), parts, strict=True):
        if not len(found):
            raise ValueError(
                f"the {part} part of {kept} samples of {data.name} is empty: more samples, or another test="
            )
    scaled = scaling(scale, data, data.inputs[parts[0]])
    train, testing = ((scaled(data.inputs[part]), data.targets[part]) for part in parts)
    how = [*(["official split"] if data.training else []), *([f"drawn with seed {seed}"] if drawn else [])]
    told = (
        f"{data.name}: {len(parts[0])} samples for training, {len(parts[1])} for testing ({', '.join(how)}), "
        f"{len(data.classes) or 'no'} classes, {data.inputs.shape[1]} features ({scale})"
    )
    return Split(train, testing, data.classes, told)


def _data(source: object, directory: Directory) -> Data:
    if isinstance(source, str) and source in LABELED:
        return read(source, directory)
    if directory is not None:
        raise ValueError(f"directory={brief(directory)} is of mnist and fashion_mnist, not of {brief(source)}")
    if isinstance(source, Data):
        return source
    if isinstance(source, str | os.PathLike) and is_file_name(source):
        return load(source)
    if isinstance(source, str):
        raise ValueError(f"{unknown('data set', source, LABELED)}; or a path that ends with .npz or .csv")
    raise TypeError(f"source must be the name of a data set, a path or what load(...) returns, not {brief(source)}")


def _parts(data: Data, test: float | None, kept: int, order: Indices) -> tuple[Indices, Indices]:
    """Return which samples are for training, and which for testing."""
    if data.training is not None:
        if test is not None:
            raise ValueError(f"test={brief(test)}: {data.name} has an official test part, and takes no other")
        if kept == len(order):
            return np.arange(data.training), np.arange(data.training, kept)
        first = round(kept * data.training / len(order))
        return (
            _share(data, order[order < data.training], first)[0],
            _share(data, order[order >= data.training], kept - first)[0],
        )
    share = 0.2 if test is None else number("test", test, 0.0, 1.0, open_ends=True)
    testing, training = _share(data, _share(data, order, kept)[0], round(kept * share))
    return training, testing


def _share(data: Data, order: Indices, count: int) -> tuple[Indices, Indices]:
    """Return ``count`` of some samples, of each class in its share (by largest remainders), and the rest."""
    labels = data.labels[order]
    sizes = np.bincount(labels)
    exact = sizes * (count / len(order))
    quota = np.floor(exact).astype(np.int64)
    quota[np.argsort(quota - exact, kind="stable")[: count - quota.sum()]] += 1
    place = np.empty(len(order), np.int64)  # of a sample among those of its class
    place[np.argsort(labels, kind="stable")] = np.concatenate([np.arange(size) for size in sizes])
    taken = place < quota[labels]
    return order[taken], order[~taken]
