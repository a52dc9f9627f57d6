"""``stabsim run``: simulates what is missing of studies, draws them and prints their verdicts."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stabsim.cli.group import interrupted
from stabsim.cli.selection import Chosen, for_each, naming, study_options
from stabsim.cli.text import counted, echo_columns, echo_wrapped, examples, rests_on, spelled_bytes, spelled_seconds
from stabsim.cli.usage import between, usage
from stabsim.devices import CPU
from stabsim.engines import ENGINES, Engine, engine
from stabsim.threads import MOST_THREADS

if TYPE_CHECKING:
    from stabsim.collect import Progress
    from stabsim.costs import Cost
    from stabsim.study import Case, Study, Verdict
    from stabsim.work import Chunk, Shard


def by_name(context: click.Context, _option: click.Parameter, name: str) -> Engine:
    """Return an engine."""
    with usage():
        return engine(name, context.params["scheduler"])


def shard_of(_context: click.Context, _option: click.Parameter, text: str | None) -> Shard | None:
    """Return a shard."""
    if text is None:
        return None
    from stabsim.work import Shard

    with usage():
        return Shard.of(text)


@click.command(
    epilog=examples(
        "stabsim run zero_fractions",
        "stabsim run --all --scale paper --out paper",
        "stabsim run gains --scale paper --dry-run --threads 8",
        "stabsim run rank --shard 2/8 --out shards/2",
    )
)
@study_options
@click.option(
    "--engine", callback=by_name, metavar="|".join(ENGINES), default="local", show_default=True, help="Where it is run."
)
@click.option(
    "--scheduler",
    is_eager=True,
    metavar="ADDRESS",
    help="Of --engine dask: a cluster that runs, such as tcp://node1:8786.",
)
@click.option(
    "--threads",
    type=int,
    callback=between(1, MOST_THREADS),
    metavar="N",
    help="One per processor unless given; a GPU has its own.",
)
@click.option(
    "--shard",
    callback=shard_of,
    metavar="I/N",
    help="Simulate only part I of N, to be merged: draws and judges nothing.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be simulated, and what it costs a core of an AMD EPYC.")
@click.pass_obj
def command(
    only: Study | None,
    studies: tuple[str, ...],
    everything: bool,
    scale: str,
    seed: int,
    device: str,
    out: Path,
    engine: Engine,
    scheduler: str | None,
    threads: int | None,
    shard: Shard | None,
    dry_run: bool,
) -> int:
    """Simulate studies, draw figures, print verdicts.

    What results/ holds already is not simulated again, so the same command goes on after an interruption.
    """
    if scheduler is not None and threads is not None:
        raise click.UsageError("--threads and --scheduler are both given: a cluster has the workers that it has")

    def do(chosen: Chosen) -> None:
        with naming(out):
            if dry_run:
                tell(chosen, out, threads, shard)
            else:
                run(chosen, out, engine, threads, shard)

    try:
        status = for_each(studies, everything, scale, seed, device, only, do)
    except KeyboardInterrupt as stop:
        raise interrupted(stop, "; all chunks done so far are kept, and the same command goes on") from stop
    if shard is not None and not status and not dry_run:
        click.echo(
            f"shard {shard} is done; stabsim merge FOLDER ... puts the folders of all {shard.shards} together, and "
            "stabsim run without --shard then draws and judges"
        )
    return status


def tell(chosen: Chosen, out: Path, threads: int | None, shard: Shard | None) -> None:
    """Print the cases of a study, or those of a shard, what is missing of each, and what that costs."""
    from stabsim.collect import stored
    from stabsim.costs import Cost, predict
    from stabsim.outputs import measurements_file
    from stabsim.store import Store
    from stabsim.work import Work, chunks_directory

    works = [Work(case) for case in chosen.cases]
    chunks = dict.fromkeys(chunk for work in works for chunk in work.chunks)
    mine = list(chunks) if shard is None else shard.deal(chunks)
    there = stored(mine, Store(chunks_directory(out, chosen.study.name)))
    rows: list[tuple[object, ...]] = [("case", "nets", "chunks", "stored", "core time", "size")]
    total = Cost()
    seen: dict[Chunk, bool] = {}  # a chunk of two cases is simulated once; whether that is on a GPU
    for work in works:
        if not (own := [chunk for chunk in work.chunks if chunk in there]):
            continue
        missing = [chunk for chunk in own if not there[chunk]]
        cost = predict(work, missing)
        total += predict(work, [chunk for chunk in missing if chunk not in seen])
        on_gpu = work.case.task.device != CPU
        seen |= dict.fromkeys(missing, on_gpu)
        amounts = ("on a GPU" if on_gpu else spelled_seconds(cost.seconds), spelled_bytes(cost.bytes))
        rows.append((work.case.label, work.case.nets, len(own), len(own) - len(missing), *amounts))
    click.echo(f"{chosen.study.name}: {chosen.study.title}{f', shard {shard}' if shard else ''}")
    echo_columns(rows, indent="  ")
    print_placed(" ", chosen.device, chosen.cases)
    tell_total(total, f"{len(seen)} of {len(mine)}", sum(seen.values()), threads)
    if chosen.study.measure is not None and (shard is None or shard.has(chosen.study.name)):
        measured = measurements_file(chosen.study, chosen.scale, out).exists()
        told = "there" if measured else "missing, and not predicted"
        click.echo(f"  what the study measures beside simulating is {told}")


def tell_total(total: Cost, missing: str, on_gpu: int, threads: int | None) -> None:
    """Print what a study costs."""
    # Plans cut nets into chunks of about a second on one core, or less.
    click.echo(f"  {missing} chunks missing, each up to about a second of one core{' or GPU' if on_gpu else ''}")
    if on_gpu:
        click.echo(f"  {on_gpu} of them for a GPU, whose time is not predicted")
    for_cores = bool(total.seconds > 0) or not on_gpu
    core = f"{spelled_seconds(total.seconds)} of one core of an AMD EPYC, " * for_cores
    click.echo(f"  about {core}{spelled_bytes(total.bytes)} of files")
    if threads is not None and for_cores:
        click.echo(f"  about {spelled_seconds(total.seconds / threads)} on {counted(threads, 'thread')}, a core each")


def run(chosen: Chosen, out: Path, engine: Engine, threads: int | None, shard: Shard | None) -> None:
    """Simulate, draw and judge one study, or simulate a shard of it, and print how it goes."""
    from stabsim.cli.progress import LiveProgress
    from stabsim.running import Listener, run_shard, run_study

    name = chosen.study.name if shard is None else f"{chosen.study.name}, shard {shard}"
    listener = Listener(
        placed=functools.partial(print_placed, f"{name}:", chosen.device),
        stored=functools.partial(print_stored, name), simulating=LiveProgress,
        measuring=lambda path: click.echo(f"{name}: measuring into {path}"),
        drawn=print_figures, judged=print_verdicts,
    )  # fmt: skip
    do = run_study if shard is None else functools.partial(run_shard, shard=shard)
    do(
        chosen.study, scale=chosen.scale, seed=chosen.seed, out=out, threads=threads, device=chosen.device,
        engine=engine, listener=listener, path=chosen.path,
    )  # fmt: skip


def print_placed(start: str, device: str, cases: Sequence[Case]) -> None:
    """Print how many cases are left to the CPU, if any, and why: of several reasons, one."""
    from stabsim.cuda import ensemble

    left = [case for case in cases if case.task.device != device]
    if left:
        told = f"{len(left)} of {counted(len(cases), 'case')} {'is' if len(left) == 1 else 'are'} for the CPU"
        more = ", for one" if len({ensemble.refuses(case.task) for case in left}) > 1 else ""
        click.echo(f"{start} {told}: {ensemble.refuses(left[0].task)}{more}")


def print_stored(study: str, found: Progress, damaged: Iterable[tuple[Path, str]]) -> None:
    """Print which files are damaged and how much is missing."""
    from stabsim.cli.compiling import listen

    for path, problem in damaged:
        click.echo(f"{study}: {path} is set aside and made again ({problem})", err=True)
    if found.missing:
        click.echo(f"{study}: {found.missing} of {found.chunks} chunks to simulate")
        listen()
    elif not found.chunks:
        click.echo(f"{study}: it has none of the chunks")
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
