"""``stabsim plot``: draws what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stabsim.cli.run import print_figures
from stabsim.cli.selection import Chosen, for_each, naming, study_options

if TYPE_CHECKING:
    from stabsim.study import Study


@click.command()
@study_options
@click.pass_obj
def command(only: Study | None, studies: tuple[str, ...], everything: bool, scale: str, seed: int, out: Path) -> int:
    """Draw figures from stored results, simulating nothing.

    All studies unless some are named.
    """

    def do(chosen: Chosen) -> None:
        with naming(out):
            files = plot(chosen, out)
        print_figures(files)

    return for_each(studies, everything or not studies, scale, seed, only, do)


def plot(chosen: Chosen, out: Path) -> list[Path]:
    """Draw one study."""
    from stabsim.collect import chunks_directory, measurements_file, progress, read, save_figures, with_measurements
    from stabsim.discovery import StudyError, calling
    from stabsim.store import Store

    name = chosen.study.name
    store = Store(chunks_directory(out, name))
    found = progress(chosen.cases, store)
    seed, folder = f" --seed {chosen.seed}" if chosen.seed else "", f" --out {out}" if out != Path() else ""
    again = f"stabsim run {name} --scale {chosen.scale}{seed}{folder}"
    if found.missing:
        raise StudyError(f"{found.missing} of {found.chunks} chunks are missing or damaged: {again}")
    path = measurements_file(chosen.study, chosen.scale, out)
    if chosen.study.measure is not None and not path.exists():
        raise StudyError(f"{path} is missing: {again} measures it")
    collected = with_measurements(chosen.study, read(chosen.cases, store), chosen.scale, path)
    with calling("draw", chosen.path):
        return save_figures(chosen.study, collected, out / "figures")
