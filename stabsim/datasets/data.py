"""Samples as they are read, whatever from: what the readers return, and what is scaled, selected or split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class DataError(ValueError):
    """A named data set is not there, or not what it should be: in one line that says all, whoever asked for it."""


@dataclass(frozen=True, eq=False)
class Data:
    """Samples with their targets, not yet scaled: what `stabsim.datasets.load` returns, and `split` takes.

    Parameters
    ----------
    name : str
        What it is called.
    inputs : array of shape (samples, features)
        As read: bytes or float64.
    targets : array of shape (samples, outputs)
        One-hot rows where there are classes.
    classes : tuple of str
        What the columns of the targets are called; none where targets are numbers of their own.
    training : int, optional
        As many of the samples, the first, are the official training part and the rest the test part; no official split
        unless told.
    largest : float, optional
        The largest value that a feature of this kind can have, 255 for a byte.

    Raises
    ------
    ValueError
        If inputs and targets are no matrices of as many finite rows, or the classes are not those of one-hot targets.
    """

    name: str
    inputs: NDArray[Any] = field(repr=False)
    targets: Floats = field(repr=False)
    classes: tuple[str, ...] = ()
    training: int | None = None
    largest: float | None = None

    def __post_init__(self) -> None:
        for name, array in (("inputs", self.inputs), ("targets", self.targets)):
            if array.ndim != 2 or 0 in array.shape:
                raise ValueError(
                    f"{self.name}: {name} must be a matrix, at least one row and column, not {array.shape}"
                )
            if not np.isfinite(array).all():
                row = int(np.argmin(np.isfinite(array).all(axis=1)))
                raise ValueError(f"{self.name}: {name} must be finite, but {name}[{row}] is not")
        if len(self.inputs) != len(self.targets):
            raise ValueError(f"{self.name}: inputs has {len(self.inputs)} samples, its targets {len(self.targets)}")
        if self.classes and (len(self.classes) != self.targets.shape[1] or not is_one_hot(self.targets)):
            raise ValueError(f"{self.name}: targets must be one-hot rows of {len(self.classes)} classes")

    @property
    def labels(self) -> NDArray[np.int64]:
        """Return the class of each sample, as its column; 0 where there are no classes."""
        return self.targets.argmax(axis=1) if self.classes else np.zeros(len(self.targets), np.int64)


def one_hot(labels: NDArray[np.integer[Any]], classes: int) -> Floats:
    """Return rows with a 1 in the column of a label.

    Examples
    --------
    >>> one_hot(np.array([1, 0]), 3)
    array([[0., 1., 0.],
           [1., 0., 0.]])
    """
    return np.asarray(labels[:, np.newaxis] == np.arange(classes), np.float64)


def is_one_hot(targets: Floats) -> bool:
    """Return whether every row has one 1, and zeros else."""
    return bool(np.isin(targets, (0.0, 1.0)).all() and (targets.sum(axis=1) == 1.0).all())


def of_labels(labels: Sequence[str]) -> tuple[Floats, tuple[str, ...]]:
    """Return one-hot targets and the classes: sorted as numbers where all are, else as text.

    Examples
    --------
    >>> of_labels(["10", "9", "10"])[1]
    ('9', '10')
    """
    found = set(labels)
    try:
        classes = tuple(sorted(found, key=lambda label: (float(label), label)))
    except ValueError:
        classes = tuple(sorted(found))
    place = {label: column for column, label in enumerate(classes)}
    return one_hot(np.array([place[label] for label in labels]), len(classes)), classes
