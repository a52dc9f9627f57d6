"""What a run leaves beside chunks: what was measured, figures and verdicts.

    results/<study>/measured_<scale>.csv  what is no simulation, if the study measures that;
                                          measured_<scale>_mnist.csv, of one on MNIST, on the user's own
    results/<study>/verdicts.json         of the last run
    figures/<study>[_<part>].png ...      likewise

Each is a whole file or none.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stabsim.checks import brief, reason
from stabsim.chunk import StoreError, one_line, read_file, write_atomically
from stabsim.datasets import mnist_at_hand
from stabsim.devices import CPU
from stabsim.provenance import parameters, versions
from stabsim.sealing import sealed_document, sealed_table, unsealed_table
from stabsim.study import Case, Collected, Study, Verdict

if TYPE_CHECKING:
    import pandas


def measurements_file(study: Study, scale: str, out: Path) -> Path:
    """Return where what a study measures is kept."""
    own = "_mnist" if study.on_mnist and mnist_at_hand() == "mnist" else ""
    return out / "results" / study.name / f"measured_{scale}{own}.csv"


def measure(study: Study, scale: str, path: Path) -> None:
    """Take what a study measures, and write it."""
    import pandas

    assert study.measure is not None
    table = study.measure(scale)
    if not isinstance(table, pandas.DataFrame):
        raise TypeError(f"measure of study {study.name!r} must return a pandas.DataFrame, not {brief(table)}")
    write_atomically(path, sealed_table(table.to_csv(index=False).encode()))


def read_measurements(path: Path) -> pandas.DataFrame:
    """Return what was measured.

    Raises
    ------
    StoreError
        If the file is not as it was written.
    """
    import pandas

    with one_line(f"cannot read {path}"):
        data = read_file(path)
    try:
        return pandas.read_csv(io.BytesIO(unsealed_table(data)))
    except ValueError as problem:
        raise StoreError(f"{path}: {reason(problem)}: delete it to measure again") from problem


def save_figures(study: Study, collected: Collected, directory: Path, source: str = "") -> list[Path]:
    """Draw a study; return the files, each whole, the same bytes for the same results, with the command of the run."""
    from stabsim.figures import save, style

    with style():
        drawings = list(study.draw(collected))
        names = [f"{study.name}_{drawing.part}" if drawing.part else study.name for drawing in drawings]
        if len(set(names)) < len(names):
            raise ValueError(f"two figures of study {study.name!r} have the same part: {', '.join(names)}")
        with one_line(f"cannot write figures into {directory}"):
            files = [
                save(each.figure, name, directory, each.table, each.caption, source)
                for each, name in zip(drawings, names, strict=True)
            ]
    return [path for group in files for path in group]


def save_verdicts(
    study: Study,
    verdicts: Iterable[Verdict],
    scale: str,
    seed: int,
    path: Path,
    device: str = CPU,
    cases: Sequence[Case] = (),
) -> None:
    """Write the verdicts as JSON, numbers that are not finite as null, with the device of the run where it is a GPU.

    Where the cases are given, their parameters and the versions in use are written too.
    """
    rows = [{key: _plain(value) for key, value in asdict(verdict).items()} for verdict in verdicts]
    document: dict[str, Any] = {"study": study.name, "title": study.title, "scale": scale, "seed": seed}
    document["verdicts"] = rows
    if device != CPU:
        document["device"] = device
    if cases:
        document["parameters"] = parameters(cases)
        if study.on_mnist:
            document["parameters"]["data"] = mnist_at_hand()
        document["versions"] = versions()
    write_atomically(path, sealed_document(document))


def _plain(value: Any) -> Any:
    """Return a NumPy number as Python's, and one that is not finite as None."""
    value = getattr(value, "item", lambda: value)()
    return None if isinstance(value, float) and not math.isfinite(value) else value
