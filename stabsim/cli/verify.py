"""``stabsim verify``: reads every stored file in full."""

from __future__ import annotations

from pathlib import Path

import click

from stabsim.cli.selection import existing_out_option
from stabsim.cli.text import counted


@click.command()
@existing_out_option
def command(out: Path) -> None:
    """Check every stored file.

    Exit status 1 if one is damaged or does not belong there: it is named.
    """
    from stabsim.store import Store

    checked, bad = 0, 0
    for directory in sorted(out.glob("results/*/chunks")):
        for path, sound, problem in Store(directory).verify():
            checked += 1
            if not sound:
                bad += 1
                click.echo(f"{path}: {problem}")
    if bad:
        raise click.ClickException(f"{bad} of {checked} files are bad: remove them, or run the study again")
    click.echo(f"{counted(checked, 'file')}, all sound")
