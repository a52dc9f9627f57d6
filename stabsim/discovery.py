"""Where studies are found: files in ./studies, and those that come with the package."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from stabsim.chunk import StoreError
from stabsim.datasets import DataError
from stabsim.study import Study

_PACKAGE = Path(__file__).resolve().parent


class StudyError(RuntimeError):
    """The file of a study, or one of its functions, failed: where and why, in one line."""


def directories() -> tuple[Path, Path]:
    """Return ``studies`` of the package (in a checkout: beside it) and, which goes before, of the current directory."""
    places = (_PACKAGE / "studies", _PACKAGE.parent / "studies")
    return next((place for place in places if place.is_dir()), places[0]), Path("studies")


def files() -> dict[str, Path]:
    """Return the file of every study by name, sorted; names that begin with _ are no studies."""
    found = {path.stem: path for place in directories() for path in place.glob("[!_]*.py")}
    return dict(sorted(found.items()))


def load(path: Path) -> Study:
    """Import a file by its path and return its study.

    Raises
    ------
    StudyError
        If it cannot be imported, or declares no study of its name.
    """
    name = f"stabsim_study_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, asyncio.CancelledError
        raise StudyError(f"{path}: {describe(error, path)}") from error
    if not hasattr(module, "study"):
        raise StudyError(f"{path}: it declares no study: write study = Study(...)")
    study = module.study
    if not isinstance(study, Study):
        raise StudyError(f"{path}: study must be a stabsim.study.Study, not {' '.join(repr(study).split())}")
    if study.name != path.stem:
        raise StudyError(f"{path}: its study is named {study.name!r}, and must be named {path.stem!r} like the file")
    return study


def describe(error: BaseException, path: Path) -> str:
    """Return an error as one line, with the last line of the file that led to it."""
    if isinstance(error, SyntaxError):
        return f"{f'line {error.lineno}: ' if error.lineno else ''}SyntaxError: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {' '.join(str(error).split())}"


@contextlib.contextmanager
def calling(function: str, path: Path) -> Iterator[None]:
    """Turn any error of a study's function into a StudyError; what is wrong with disk or data stays what it is."""
    try:
        yield
    except (StoreError, DataError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit, asyncio.CancelledError
        raise StudyError(f"{function} of {path}: {describe(error, path)}") from error
