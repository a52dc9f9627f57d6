"""What the verbs on studies share: their options, and the studies that they name."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stabsim.cli import completing
from stabsim.cli.usage import between
from stabsim.devices import CPU, DEVICES, DeviceError

if TYPE_CHECKING:
    from stabsim.study import Case, Study

Function = Callable[..., Any]


class Folder(click.Path):
    """A folder; the empty name, which an unset variable of a shell may leave, is none."""

    def convert(self, value: Any, option: click.Parameter | None, context: click.Context | None) -> Any:
        """Return the path."""
        if value == "":
            self.fail("'' is the name of no folder", option, context)
        return super().convert(value, option, context)


out_option = click.option(
    "--out",
    type=Folder(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder that holds results/ and figures/; the current one unless given.",
)
existing_out_option = click.option(
    "--out",
    type=Folder(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Folder that holds results/; the current one unless given.",
)
seed_option = click.option(
    "--seed", type=int, callback=between(0, 2**64 - 1), metavar="S", default=0, help="Of the run; 0 unless given."
)

device_option = click.option(
    "--device", type=click.Choice(DEVICES), default=CPU, show_default=True, help="cuda: an NVIDIA GPU."
)


def _told_by_environment(_context: click.Context, _option: click.Parameter, folder: Path | None) -> None:
    """Put the folder where every process finds it."""
    if folder is not None:
        from stabsim.datasets import MNIST_DIRECTORY

        os.environ[MNIST_DIRECTORY] = str(folder.absolute())


mnist_dir_option = click.option(
    "--mnist-dir",
    type=Folder(exists=True, file_okay=False, path_type=Path),
    callback=_told_by_environment,
    expose_value=False,
    help="Folder of your own MNIST files, or Fashion-MNIST in a folder fashion_mnist there; or STABSIM_MNIST_DIR.",
)


def study_options(function: Function) -> Function:
    """Add STUDY, --all, --scale, --seed, --device, --mnist-dir and --out."""
    for option in (
        out_option,
        mnist_dir_option,
        device_option,
        seed_option,
        click.option(
            "--scale", type=click.Choice(["quick", "paper"]), default="quick", show_default=True, help="How many nets."
        ),
        click.option("--all", "everything", is_flag=True, help="Every study."),
        click.argument("studies", nargs=-1, metavar="[STUDY]...", shell_complete=completing.study),
    ):
        function = option(function)
    return function


@dataclass(frozen=True)
class Chosen:
    """A study with its file, and the cases that it has at a scale with a seed, on a device."""

    study: Study
    path: Path
    scale: str
    seed: int
    device: str

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """Return the cases of this run."""
        from stabsim.discovery import calling

        with calling("cases", self.path):
            return self.study.checked_cases(self.scale, self.seed, self.device)


def for_each(
    names: tuple[str, ...],
    everything: bool,
    scale: str,
    seed: int,
    device: str,
    only: Study | None,
    do: Callable[[Chosen], None],
) -> int:
    """Do something with each chosen study; return the exit status.

    A study that fails is named, and does not stop the others.

    Parameters
    ----------
    names, everything
        The studies that were named, and whether all were asked for.
    scale, seed, device
        Of the run.
    only : Study or None
        The study whose file is run as a script: then there is no other.
    do : callable
        Raises StoreError, StudyError, EngineError, DeviceError, MemoryError, OverflowError, TypeError or ValueError
        where it fails.
    """
    from stabsim.chunk import StoreError
    from stabsim.discovery import StudyError, load
    from stabsim.engines import EngineError

    failures = (StoreError, StudyError, EngineError, DeviceError, MemoryError, OverflowError, TypeError, ValueError)
    status = 0
    for name, path in _found(names, everything, only).items():
        try:
            do(Chosen(only or load(path), path, scale, seed, device))
        except failures as error:
            click.echo(f"stabsim: {name}: {' '.join(str(error).split()) or type(error).__name__}", err=True)
            status = 1
    return status


@contextlib.contextmanager
def naming(out: Path) -> Iterator[None]:
    """Say which --out was given when it cannot be used."""
    from stabsim.chunk import StoreError

    try:
        yield
    except StoreError as error:
        raise StoreError(f"--out={out}: {error}") from error


def _found(names: tuple[str, ...], everything: bool, only: Study | None) -> dict[str, Path]:
    from stabsim.discovery import directories, files
    from stabsim.names import unknown

    known = {only.name: Path(sys.argv[0])} if only is not None else files()
    if not known:
        raise click.UsageError(f"there are no studies in {' or '.join(map(str, directories()))}")
    if everything and names:
        raise click.UsageError(f"{' '.join(names)} and --all are both given: give one of them")
    if not everything and not names:
        raise click.UsageError(f"name studies, or give --all; there are {', '.join(known)}")
    for name in names:
        if name not in known:
            raise click.UsageError(str(unknown("study", name, known)))
        if names.count(name) > 1:
            raise click.UsageError(f"study {name!r} is given {names.count(name)} times: give it once")
    return {name: known[name] for name in names or known}
