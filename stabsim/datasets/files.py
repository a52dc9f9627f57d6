"""The user's own file: ``.npz`` with arrays, or ``.csv`` with a line of names and a sample a line."""

from __future__ import annotations

import csv
import math
import os
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from stabsim import checks
from stabsim.datasets.data import Data, Floats, is_one_hot, of_labels
from stabsim.names import unknown


def load(path: str | os.PathLike[str], *, label: str | None = None, target: str | None = None) -> Data:
    r"""Return the samples of a file, as they are; `split` scales and splits them.

    Parameters
    ----------
    path : path
        ``.npz``: arrays ``inputs`` (samples, features), and ``labels`` (samples), integers or text, or ``targets``
        (samples, outputs), numbers; nothing pickled. ``.csv``: first a line with the names of the columns, then a
        sample a line, of finite numbers but for the label; commas, UTF-8. All columns but that of label or target are
        inputs, and may be called neither "label" nor "target".
    label : str, optional
        Of a ``.csv``, the column of classes; "label" unless told, if there is one.
    target : str, optional
        Of a ``.csv``, the column of a number to be learned; "target" unless told, if there is one. One of both.

    Returns
    -------
    data : Data
        Classes are as they are spelled, so that 1 and 1.0 are two, and sorted, as numbers where all are. Targets whose
        rows are all one-hot have classes too, "0", "1", ...

    Raises
    ------
    TypeError, ValueError
        If the file cannot be read, or holds anything else: in one line with the file, and the line or place in it.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "flowers.csv")
    ...     _ = file.write_text("length,width,species\n5.1,3.5,setosa\n6.2,2.9,virginica\n")
    ...     data = load(file, label="species")
    >>> data.inputs.shape, data.classes, data.targets.tolist()
    ((2, 2), ('setosa', 'virginica'), [[1.0, 0.0], [0.0, 1.0]])
    """
    if not is_file_name(path):
        raise ValueError(f"path must end with .npz or .csv, not {checks.brief(os.fspath(path))}")
    file = Path(path)
    try:
        if file.suffix.lower() == ".csv":
            return _read_csv(file, label, target)
        if label is not None or target is not None:
            raise ValueError(f"label and target are columns of a .csv; {file} has arrays labels or targets")
        return _read_npz(file)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror or error}") from error


def is_file_name(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is of a kind that `load` reads."""
    return Path(checks.path("path", path)).suffix.lower() in {".npz", ".csv"}


def _read_npz(file: Path) -> Data:
    with file.open("rb") as opened:
        if not zipfile.is_zipfile(opened):
            raise ValueError(f"{file} is no .npz: it is empty, truncated or of another kind")
        opened.seek(0)
        arrays = _arrays(file, opened)
    for name in arrays:
        if name not in {"inputs", "labels", "targets"}:
            raise ValueError(f"{file}: {unknown('array', name, ('inputs', 'labels', 'targets'))}")
    if "inputs" not in arrays or len(arrays) != 2:
        raise ValueError(
            f"{file} must have arrays inputs and either labels or targets, not {_some(list(arrays)) or 'none'}"
        )
    return Data(str(file), _matrix(file, "inputs", arrays["inputs"]), *_targets(file, arrays))


def _arrays(file: Path, opened: IO[bytes]) -> dict[str, NDArray[Any]]:
    try:
        with warnings.catch_warnings(action="ignore"), np.load(opened, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except Exception as error:  # of whatever kind: NumPy and zipfile raise a dozen
        raise ValueError(f"{file} is no intact .npz of plain arrays: {checks.reason(error)}") from error


def _targets(file: Path, arrays: dict[str, NDArray[Any]]) -> tuple[Floats, tuple[str, ...]]:
    if "labels" in arrays:
        labels = arrays["labels"]
        if labels.ndim != 1 or labels.dtype.kind not in "iuU" or not len(labels):
            raise ValueError(
                f"{file}: labels must be integers or text, of shape (samples,), not {labels.dtype} {labels.shape}"
            )
        if labels.dtype.kind == "U" and not _is_unicode(labels):  # of which Python would make a broken str
            raise ValueError(f"{file}: labels must be text, but some of their characters are no Unicode")
        names = labels.astype(str).tolist()
        for place, name in enumerate(names):
            if _says_nothing(name):
                raise ValueError(f"{file}: labels must name classes, but labels[{place}] is {checks.brief(name)}")
        return of_labels(names)
    targets = _matrix(file, "targets", arrays["targets"])
    one_hot = targets.shape[1] > 1 and is_one_hot(targets)
    return targets, tuple(str(column) for column in range(targets.shape[1])) if one_hot else ()


def _matrix(file: Path, name: str, array: NDArray[Any]) -> Floats:
    columns = "features" if name == "inputs" else "outputs"
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f"{file}: {name} must have shape (samples, {columns}), at least one each, not {array.shape}")
    try:
        return checks.rows(name, array, f"(samples, {columns})", array.shape[1:])
    except (TypeError, ValueError) as error:
        raise type(error)(f"{file}: {error}") from error


def _read_csv(file: Path, label: str | None, target: str | None) -> Data:
    if label is not None and target is not None:
        raise ValueError(
            f"label={checks.brief(label)} and target={checks.brief(target)} are both given: give one of them"
        )
    with file.open(newline="", encoding="utf-8-sig") as text:
        lines = _lines(file, text)
        names = [name.strip() for name in next(lines, (1, []))[1]]
        place, numbers = _answer(file, names, label, target)
        answers, inputs = [], []
        for line, cells in lines:
            if len(cells) != len(names):
                raise ValueError(f"{file}, line {line}: {len(cells)} cells, where the first line names {len(names)}")
            answers.append(cells.pop(place).strip())
            if not numbers and _says_nothing(answers[-1]):
                column = checks.brief(names[place])
                raise ValueError(f"{file}, line {line}: {checks.brief(answers[-1])} in column {column} is no class")
            inputs.append(_numbers(file, line, names[:place] + names[place + 1 :], cells))
            if numbers:
                _numbers(file, line, names[place : place + 1], answers[-1:])
    if not inputs:
        raise ValueError(f"{file} has names of columns, but no samples")
    if numbers:
        return Data(str(file), np.array(inputs), np.array(answers, np.float64)[:, np.newaxis])
    return Data(str(file), np.array(inputs), *of_labels(answers))


def _lines(file: Path, text: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines that are not empty, each with its number."""
    reader = csv.reader(text, strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num}: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8: {error}") from error


def _answer(file: Path, names: list[str], label: str | None, target: str | None) -> tuple[int, bool]:
    """Return the place of the column to be learned, and whether it is a number."""
    if not names:
        raise ValueError(f"{file} is empty")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{file}: the first line names {checks.brief(twice[0])} twice")
    if label is None and target is None:
        there = [name for name in ("label", "target") if name in names]
        if len(there) != 1:
            raise ValueError(
                f"{file}: the first line must name one column label or target, or say which it is with label= or "
                f"target=, not {_some(names)}"
            )
        label, target = (there[0], None) if there == ["label"] else (None, there[0])
    chosen = target if label is None else label
    if chosen not in names:
        raise ValueError(f"{file}: {unknown('column', chosen, names)}")
    if len(names) == 1:
        raise ValueError(f"{file} has no column beside {checks.brief(chosen)}")
    if others := [name for name in ("label", "target") if name in names and name != chosen]:
        raise ValueError(
            f"{file}: column {others[0]!r} would be an input beside {checks.brief(chosen)}: leave it out, or name it "
            "otherwise"
        )
    return names.index(str(chosen)), label is None


def _numbers(file: Path, line: int, names: list[str], cells: list[str]) -> Floats:
    try:
        found = np.fromiter(map(float, cells), np.float64, len(cells))
        if np.isfinite(found).all() and "_" not in "".join(cells):
            return found
    except ValueError:
        pass
    name, cell = next((name, cell) for name, cell in zip(names, cells, strict=True) if not _is_number(cell))
    raise ValueError(
        f"{file}, line {line}: {checks.brief(cell.strip())} in column {checks.brief(name)} is no finite number"
    )


def _is_unicode(labels: NDArray[Any]) -> bool:
    """Return whether every character of an array of text is one."""
    native = np.frombuffer(labels.astype(labels.dtype.newbyteorder("=")).tobytes(), np.uint32)
    return not ((native > sys.maxunicode) | ((native >= 0xD800) & (native <= 0xDFFF))).any()


def _says_nothing(label: str) -> bool:
    """Return whether a label is none: empty, as missing numbers are written, or with a zero character."""
    return label.strip().lower() in {"", "nan"} or "\0" in label


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell)) and "_" not in cell  # Python's own spelling: 1_000
    except ValueError:
        return False


def _some(names: list[str]) -> str:
    return ", ".join(map(checks.named, names[:8])) + (", ..." if len(names) > 8 else "")
