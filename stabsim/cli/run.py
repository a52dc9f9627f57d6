"""``stabsim run``: simulates what is missing of studies, draws them and prints their verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stabsim.cli.group import INTERRUPTED
from stabsim.cli.selection import Chosen, for_each, naming, study_options
from stabsim.cli.text import echo_columns, echo_wrapped, rests_on
from stabsim.cli.usage import between, usage
from stabsim.engines import ENGINES, Engine, engine
from stabsim.threads import MOST_THREADS

if TYPE_CHECKING:
    from stabsim.study import Collected, Study


def by_name(_context: click.Context, _option: click.Parameter, name: str) -> Engine:
    """Return an engine."""
    with usage():
        return engine(name)


@click.command()
@study_options
@click.option(
    "--engine", callback=by_name, metavar="|".join(ENGINES), default="local", show_default=True, help="Where it is run."
)
@click.option(
    "--threads", type=int, callback=between(1, MOST_THREADS), metavar="N", help="One per processor unless given."
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
                run(chosen, out, engine, threads)

    try:
        return for_each(studies, everything, scale, seed, only, do)
    except KeyboardInterrupt:
        click.echo("stabsim run: interrupted; all chunks done so far are kept, and the same command goes on", err=True)
        return INTERRUPTED


def tell(chosen: Chosen, out: Path) -> None:
    """Print the cases of a study and what is missing of each."""
    from stabsim.collect import chunks_directory, progress
    from stabsim.store import Store

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


def run(chosen: Chosen, out: Path, engine: Engine, threads: int | None) -> None:
    """Simulate, draw and judge one study."""
    from stabsim.cli.progress import LiveProgress, say_if_compiling
    from stabsim.collect import chunks_directory, collect, progress, write_tasks
    from stabsim.store import Store
    from stabsim.threads import count_threads

    study = chosen.study
    with Store(chunks_directory(out, study.name)) as store:
        write_tasks(chosen.cases, store)
        found = progress(chosen.cases, store)
        for path, problem in store.damaged:
            click.echo(f"{study.name}: {path} is set aside and made again ({problem})", err=True)
        if found.missing:
            click.echo(f"{study.name}: {found.missing} of {found.chunks} chunks to simulate")
            say_if_compiling()
        else:
            click.echo(f"{study.name}: all {found.chunks} chunks are stored, nothing is simulated")
        with LiveProgress() as show:
            collected = collect(chosen.cases, store, count_threads(threads), show, engine)
        collected = measured(chosen, collected, out)
        try:
            draw(chosen, collected, out)
        finally:  # a verdict needs no figure
            judge(chosen, collected, out)


def measured(chosen: Chosen, collected: Collected, out: Path) -> Collected:
    """Add what the study measures of this machine, and say so if it is measured now."""
    from stabsim.collect import measurements_file, with_measurements
    from stabsim.discovery import calling

    path = measurements_file(chosen.study, chosen.scale, out)
    if chosen.study.measure is not None and not path.exists():
        click.echo(f"{chosen.study.name}: measuring this machine into {path}")
    with calling("measure", chosen.path):
        return with_measurements(chosen.study, collected, chosen.scale, path)


def draw(chosen: Chosen, collected: Collected, out: Path) -> None:
    """Save the figures and print their names."""
    from stabsim.collect import save_figures
    from stabsim.discovery import calling

    with calling("draw", chosen.path):
        files = save_figures(chosen.study, collected, out / "figures")
    print_figures(files)


def judge(chosen: Chosen, collected: Collected, out: Path) -> None:
    """Print the verdicts and save them."""
    from stabsim.collect import save_verdicts
    from stabsim.discovery import calling

    study = chosen.study
    with calling("verdicts", chosen.path):
        verdicts = study.checked_verdicts(collected)
    for verdict in verdicts:
        click.echo(f"  {verdict.claim}  {verdict.verdict}: {rests_on(verdict)}")
        echo_wrapped(verdict.note, " " * 7)
    save_verdicts(study, verdicts, chosen.scale, chosen.seed, out / "results" / study.name / "verdicts.json")


def print_figures(files: list[Path]) -> None:
    """Print a line for each figure."""
    for path in files:
        if path.suffix == ".png":
            click.echo(f"  {path}, .pdf, .svg and .csv")
