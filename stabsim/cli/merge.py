"""``stabsim merge``: puts the results of several folders together."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stabsim.cli.selection import naming, out_option
from stabsim.cli.text import counted, examples
from stabsim.cli.usage import usage

if TYPE_CHECKING:
    from stabsim.merging import Merged


@click.command(
    epilog=examples(
        "stabsim merge shards/1 shards/2 --out .",
    )
)
@click.argument(
    "sources",
    nargs=-1,
    required=True,
    metavar="SOURCE...",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@out_option
def command(sources: tuple[Path, ...], out: Path) -> int:
    """Put the results of several folders together in one, as shards of a study are.

    SOURCE is a folder that stabsim run --out has filled, wholly or partly. Chunks and measurements that --out lacks
    are copied, checked on the way; sources are only read, and nothing that is sound in --out is overwritten.

    Exit status 1 if something is left out, since it is damaged or differs from what is there: it is named.
    """
    from stabsim.chunk import StoreError
    from stabsim.merging import check_sources, merge_study, stored_studies

    with usage():
        check_sources(sources, out)
    status, into = 0, []
    studies = sorted({study for source in sources for study in stored_studies(source)})
    for study in studies:
        try:
            with naming(out):
                merged = merge_study(study, sources, out)
        except StoreError as error:
            click.echo(f"stabsim merge: {study}: {error}", err=True)
            status = 1
        else:
            report(study, merged)
            into.append(study)
            status |= bool(merged.left_out)
    if into:
        folder = f" --out {shlex.quote(str(out))}" if out != Path() else ""
        click.echo(
            "verdicts and figures are made anew, with the --scale, --seed and --device of the sources, by: "
            f"stabsim run {' '.join(into)}{folder}"
        )
    return status


def report(study: str, merged: Merged) -> None:
    """Print what was done with the files of a study, and name those that were left out."""
    for path, problem in merged.replaced:
        click.echo(f"stabsim merge: {study}: {path} is set aside ({problem})", err=True)
    for problem in merged.left_out:
        click.echo(f"stabsim merge: {study}: {problem}", err=True)
    left_out = f", {len(merged.left_out)} left out" if merged.left_out else ""
    click.echo(f"{study}: {counted(merged.copied, 'file')} copied, {merged.there} there already{left_out}")
