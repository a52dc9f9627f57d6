"""``stabsim status``: how much of each study is stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stabsim.cli import completing
from stabsim.cli.selection import Chosen, device_option, existing_out_option, for_each, naming, seed_option
from stabsim.cli.text import echo_columns, examples

if TYPE_CHECKING:
    from stabsim.study import Study


@click.command(
    epilog=examples(
        "stabsim status",
        "stabsim status rank --out paper",
    )
)
@click.argument("studies", nargs=-1, metavar="[STUDY]...", shell_complete=completing.study)
@seed_option
@device_option
@existing_out_option
@click.pass_obj
def command(only: Study | None, studies: tuple[str, ...], seed: int, device: str, out: Path) -> int:
    """Say how much of each study is stored."""
    from stabsim.collect import progress
    from stabsim.store import Store
    from stabsim.study import SCALES
    from stabsim.work import chunks_directory

    rows: list[tuple[object, ...]] = [("study", "scale", "stored", "chunks", "damaged")]

    def do(chosen: Chosen) -> None:
        for scale in SCALES:
            store = Store(chunks_directory(out, chosen.study.name))
            with naming(out):
                found = progress(chosen.study.checked_cases(scale, seed, device), store)
            rows.append((chosen.study.name, scale, found.stored, found.chunks, found.damaged))

    status = for_each(studies, not studies, SCALES[0], seed, device, only, do)
    echo_columns(rows)
    return status
