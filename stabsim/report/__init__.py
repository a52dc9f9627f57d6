"""The report: one HTML page with the ledger of claims and every figure, which opens from disk and needs no network."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from stabsim.chunk import make_folders, one_line, write_atomically
from stabsim.report.gather import Gathered, gather

__all__ = ["Gathered", "gather", "page_of", "write_report"]


def page_of(out: Path, output: str | os.PathLike[str] | None) -> Path:
    """Return where the report of a folder goes."""
    return out / "report.html" if output is None else Path(output)


def write_report(
    out: str | os.PathLike[str] = ".", output: str | os.PathLike[str] | None = None, studies: Iterable[str] = ()
) -> Gathered:
    """Write the report of an output folder, as ``stabsim report`` does; the same files give the same bytes.

    Parameters
    ----------
    out : str or path
        Folder that holds results/ and figures/; the current one unless given.
    output : str or path, optional
        The page; ``report.html`` in ``out`` unless given.
    studies : iterable of str
        Names of the studies that are shown; all unless given.

    Returns
    -------
    Gathered
        What the page shows; ``problems`` says, a line each, which files could not be used.

    Raises
    ------
    ValueError
        If a study is neither in the folder nor in the ledger that comes with stabsim, or ``output`` names no file.
    StoreError
        If the page cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = write_report(folder)
    ...     page = (Path(folder) / "report.html").read_text(encoding="utf-8")
    >>> len(found.studies), page.startswith("<!doctype html>")
    (0, True)
    """
    from stabsim.report.page import render

    out = Path(out)
    page = page_of(out, output)
    if not page.name:
        raise ValueError(f"output={os.fspath(output or '')!r} is the name of no file")
    found = gather(out, tuple(studies))
    with one_line(f"cannot write {page}"):
        make_folders(page.parent)
    write_atomically(page, render(found).encode(errors="replace"))  # names of files may be no text
    return found
