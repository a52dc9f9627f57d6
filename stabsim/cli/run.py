"""``stabsim run``: simulates what is missing of studies, draws them and prints their verdicts."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stabsim.cli.group import interrupted
from stabsim.cli.selection import Chosen, for_each, naming, study_options
from stabsim.cli.text import echo_columns, echo_wrapped, rests_on
from stabsim.cli.usage import between, usage
from stabsim.engines import ENGINES, Engine, engine
from stabsim.threads import MOST_THREADS

if TYPE_CHECKING:
    from stabsim.collect import Progress
    from stabsim.study import Study, Verdict
    from stabsim.work import Shard


def by_name(_context: click.Context, _option: click.Parameter, name: str) -> Engine:
    """Return an engine."""
    with usage():
        return engine(name)


def shard_of(_context: click.Context, _option: click.Parameter, text: str | None) -> Shard | None:
    """Return a shard."""
    if text is None:
        return None
    from stabsim.work import Shard

    with usage():
        return Shard.of(text)


@click.command()
@study_options
@click.option(
    "--engine", callback=by_name, metavar="|".join(ENGINES), default="local", show_default=True, help="Where it is run."
)
@click.option(
    "--threads", type=int, callback=between(1, MOST_THREADS), metavar="N", help="One per processor unless given."
)
@click.option(
    "--shard",
    callback=shard_of,
    metavar="I/N",
    help="Simulate only part I of N, to be merged: draws and judges nothing.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be simulated, and simulate nothing.")
@click.pass_obj
def command(
    only: Study | None,
    studies: tuple[str, ...],
    everything: bool,
    scale: str,
    seed: int,
    out: Path,
    engine: Engine,
    threads: int | None,
    shard: Shard | None,
    dry_run: bool,
) -> int:
    """Simulate studies, draw figures, print verdicts.

    What results/ holds already is not simulated again, so the same command goes on after an interruption.
    """

    def do(chosen: Chosen) -> None:
        with naming(out):
            if dry_run:
                tell(chosen, out)
            else:
                run(chosen, out, engine, threads, shard)

    try:
        return for_each(studies, everything, scale, seed, only, do)
    except KeyboardInterrupt as stop:
        raise interrupted(stop, "; all chunks done so far are kept, and the same command goes on") from stop


def tell(chosen: Chosen, out: Path) -> None:
    """Print the cases of a study and what is missing of each."""
    from stabsim.collect import progress
    from stabsim.store import Store
    from stabsim.work import chunks_directory

    store = Store(chunks_directory(out, chosen.study.name))
    rows: list[tuple[object, ...]] = [("case", "nets", "chunks", "stored")]
    for case in chosen.cases:
        found = progress([case], store)
        rows.append((case.label, case.nets, found.chunks, found.stored))
    total = progress(chosen.cases, store)
    click.echo(f"{chosen.study.name}: {chosen.study.title}")
    echo_columns(rows, indent="  ")
    # Plans cut nets into chunks of about a second on one core, or less.
    click.echo(f"  {total.missing} of {total.chunks} chunks missing, each up to about a second of one core")


def run(chosen: Chosen, out: Path, engine: Engine, threads: int | None, shard: Shard | None) -> None:
    """Simulate, draw and judge one study, or simulate a shard of it, and print how it goes."""
    from stabsim.cli.progress import LiveProgress
    from stabsim.running import Listener, run_shard, run_study

    name = chosen.study.name
    listener = Listener(
        stored=functools.partial(print_stored, name), simulating=LiveProgress,
        measuring=lambda path: click.echo(f"{name}: measuring into {path}"),
        drawn=print_figures, judged=print_verdicts,
    )  # fmt: skip
    do = run_study if shard is None else functools.partial(run_shard, shard=shard)
    do(
        chosen.study, scale=chosen.scale, seed=chosen.seed, out=out, threads=threads, engine=engine, listener=listener,
        path=chosen.path,
    )  # fmt: skip


def print_stored(study: str, found: Progress, damaged: Iterable[tuple[Path, str]]) -> None:
    """Print which files are damaged and how much is missing."""
    from stabsim.cli.progress import say_if_compiling

    for path, problem in damaged:
        click.echo(f"{study}: {path} is set aside and made again ({problem})", err=True)
    if found.missing:
        click.echo(f"{study}: {found.missing} of {found.chunks} chunks to simulate")
        say_if_compiling()
    else:
        click.echo(f"{study}: all {found.chunks} chunks are stored, nothing is simulated")


def print_figures(files: Iterable[Path]) -> None:
    """Print a line for each figure."""
    for path in files:
        if path.suffix == ".png":
            click.echo(f"  {path}, .pdf, .svg and .csv")


def print_verdicts(verdicts: Iterable[Verdict]) -> None:
    """Print the verdicts with their notes."""
    for verdict in verdicts:
        click.echo(f"  {verdict.claim}  {verdict.verdict}: {rests_on(verdict)}")
        echo_wrapped(verdict.note, " " * 7)
