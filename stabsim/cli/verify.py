"""``stabsim verify``: reads every stored file in full, and simulates some chunks again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stabsim.cli.selection import Chosen, existing_out_option, for_each, seed_option
from stabsim.cli.text import counted, examples
from stabsim.cli.usage import between
from stabsim.devices import CPU, DeviceError

if TYPE_CHECKING:
    from stabsim.verifying import Checked

MOST = 1_000_000  # chunks of a study that are simulated again


@click.command(
    epilog=examples(
        "stabsim verify",
        "stabsim verify --out paper --resimulate 5",
    )
)
@click.option(
    "--resimulate",
    type=int,
    callback=between(0, MOST),
    metavar="K",
    default=1,
    help="Chunks of each study, drawn at random, that are simulated again: 1 unless given, 0 for none.",
)
@seed_option
@existing_out_option
def command(resimulate: int, seed: int, out: Path) -> int:
    """Check every stored file, and simulate some chunks again.

    Exit status 1 if a file is damaged or does not belong there, or a chunk comes out otherwise: it is named.
    Chunks that are simulated again are of studies that stabsim list knows, of both scales and one --seed; each where it
    was made: those of a GPU are named, and not simulated again, where there is none.
    """
    from stabsim.cli.progress import Counter
    from stabsim.verifying import check

    with Counter("file") as tell:
        found = {folder.name: check(folder, tell) for folder in sorted(out.glob("results/*/"))}
    for path, problem in (each for checked in found.values() for each in checked.bad):
        click.echo(f"{path if path.name.isprintable() else repr(str(path))}: {problem}")
    again = simulate(found, resimulate, seed, out)
    for line in notes(found, again, seed):
        click.echo(line)
    files, bad = (sum(counts) for counts in zip((0, 0), *((c.files, len(c.bad)) for c in found.values()), strict=True))
    failures = []
    if bad:
        share = f"{bad} of {counted(files, 'file')} {'is' if bad == 1 else 'are'} bad"
        failures.append(f"{share}: the next run makes chunks, tasks and verdicts again; remove what else is named")
    if again.differing:
        failures.append(
            f"{again.differing} of {counted(again.done, 'chunk')} simulated again differ: another processor or other "
            "versions of NumPy and SciPy round otherwise"
        )
    if failures:
        raise click.ClickException("; ".join(failures))
    simulated = f"; {counted(again.done, 'chunk')} simulated again, to the same bytes" if again.done else ""
    click.echo(f"{counted(files, 'file')}, all sound{simulated}")
    return again.status


@dataclass
class Again:
    """What simulating chunks again has found: how many were wanted of each study, are known, simulated, and differ."""

    wanted: int
    known: int = 0
    done: int = 0
    differing: int = 0
    status: int = 0


def simulate(found: Mapping[str, Checked], number: int, seed: int, out: Path) -> Again:
    """Simulate so many chunks of each study again, other ones in each call, and name those that differ."""
    from random import SystemRandom

    from stabsim.cli.compiling import listen
    from stabsim.discovery import calling, files
    from stabsim.store import Store
    from stabsim.study import SCALES
    from stabsim.threads import count_threads
    from stabsim.verifying import known_chunks, simulate_again
    from stabsim.work import chunks_directory

    again = Again(number)

    def do(chosen: Chosen) -> None:
        name = chosen.study.name
        with calling("cases", chosen.path):
            known = known_chunks(chosen.study, seed, Store(chunks_directory(out, name)), found[name].chunks)
        again.known += len(known)
        done, absent = again.done, set[str]()
        for path in SystemRandom().sample(sorted(known), len(known)):
            chunk, work = known[path]
            if again.done == done + number or work.case.task.device in absent:
                continue
            listen()
            try:
                problem = simulate_again(path, chunk, work, count_threads(None))
            except DeviceError as error:
                absent.add(work.case.task.device)
                click.echo(f"{name}: chunks of a GPU are checked, not simulated again: {error}")
                continue
            again.done += 1
            if problem:
                again.differing += 1
                click.echo(f"{path}: {problem}")

    names = tuple(name for name, checked in found.items() if number and checked.chunks and name in files())
    if names:
        again.status = for_each(names, False, SCALES[0], seed, CPU, None, do)
    return again


def notes(found: Mapping[str, Checked], again: Again, seed: int) -> Iterator[str]:
    """Yield what else there is to say, a line each."""
    chunks = sum(len(checked.chunks) for checked in found.values())
    if again.wanted and again.known < chunks:
        others = f"{chunks - again.known} of {counted(chunks, 'chunk')}"
        yield f"{others} belong to no case of the studies here at seed {seed}: checked, not simulated again"
    newer = [folder for checked in found.values() for folder in checked.newer]
    if newer:
        yield f"{counted(len(newer), 'folder')} of chunks of a newer version of stabsim, not checked: {newer[0]}"
    if aside := sum(checked.aside for checked in found.values()):
        yield f"{counted(aside, 'file')} set aside (*.damaged), which may be deleted"
