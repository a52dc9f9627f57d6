"""``stabsim report``: one HTML page with the ledger of claims and every figure."""

from __future__ import annotations

from pathlib import Path

import click

from stabsim.cli import completing
from stabsim.cli.selection import existing_out_option
from stabsim.cli.text import counted, examples, spelled_bytes
from stabsim.cli.usage import usage


@click.command(
    epilog=examples(
        "stabsim report",
        "stabsim report gains mean_field --out paper --output gains.html",
    )
)
@click.argument("studies", nargs=-1, metavar="[STUDY]...", shell_complete=completing.study)
@existing_out_option
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page; report.html in the folder of --out unless given.",
)
def command(studies: tuple[str, ...], out: Path, output: Path | None) -> int:
    """Write one HTML page with claims and figures.

    The page opens from disk and needs no network: all claims with the verdicts of the runs in --out and of the ledger
    that comes with stabsim, and every figure in --out with its caption, parameters, versions and data. STUDY shows
    only studies of that name.

    Exit status 1 means that the page is written, but a file could not be used: each is named, on the page, too.
    """
    from stabsim.chunk import StoreError
    from stabsim.report import page_of, write_report

    try:
        with usage():
            found = write_report(out, output, studies)
    except StoreError as error:
        raise click.ClickException(str(error)) from error
    page = page_of(out, output)
    pictures = sum(len(study.pictures) for study in found.studies)
    if not (found.studies or found.problems):
        click.echo(
            f"stabsim report: {out} has no results and no figures: only the ledger of stabsim is shown", err=True
        )
    for problem in found.problems:
        click.echo(f"stabsim report: {problem}", err=True)
    told = f"{counted(len(found.claims), 'claim')} and {counted(pictures, 'figure')}"
    click.echo(f"{told} are in {page} ({spelled_bytes(page.stat().st_size)})")
    return 1 if found.problems else 0
