"""``stabsim plot``: draws what is stored."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stabsim.cli.run import print_figures
from stabsim.cli.selection import Chosen, for_each, naming, study_options
from stabsim.cli.text import examples

if TYPE_CHECKING:
    from stabsim.study import Study


@click.command(
    epilog=examples(
        "stabsim plot",
        "stabsim plot zero_fractions --out paper --scale paper",
    )
)
@study_options
@click.pass_obj
def command(
    only: Study | None, studies: tuple[str, ...], everything: bool, scale: str, seed: int, device: str, out: Path
) -> int:
    """Draw figures from stored results, simulating nothing.

    All studies unless some are named.
    """

    def do(chosen: Chosen) -> None:
        with naming(out):
            files = plot(chosen, out)
        print_figures(files)

    return for_each(studies, everything or not studies, scale, seed, device, only, do)


def plot(chosen: Chosen, out: Path) -> list[Path]:
    """Draw one study."""
    from stabsim.collect import Gathering
    from stabsim.discovery import StudyError, calling
    from stabsim.outputs import measurements_file, read_measurements, save_figures
    from stabsim.provenance import command as command_of
    from stabsim.store import Store
    from stabsim.work import Work, chunks_directory

    name = chosen.study.name
    gathering = Gathering(map(Work, chosen.cases), Store(chunks_directory(out, name)))
    found = gathering.progress
    run = command_of(name, chosen.scale, chosen.seed, chosen.device)
    again = f"{run} --out {shlex.quote(str(out))}" if out != Path() else run
    if found.missing:
        raise StudyError(f"{found.missing} of {found.chunks} chunks are missing or damaged: {again}")
    collected = gathering.collected()
    if chosen.study.measure is not None:
        path = measurements_file(chosen.study, chosen.scale, out)
        if not path.exists():
            raise StudyError(f"{path} is missing: {again} measures it")
        collected = replace(collected, measurements=read_measurements(path))
    with calling("draw", chosen.path):
        return save_figures(chosen.study, collected, out / "figures", run)
