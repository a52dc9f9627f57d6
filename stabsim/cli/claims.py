"""``stabsim claims``: the ledger of claims, with the verdict of every study that tests them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stabsim.cli import completing
from stabsim.cli.text import counted, echo_wrapped, examples, rests_on
from stabsim.cli.usage import usage

if TYPE_CHECKING:
    from stabsim.ledger import Entry, Ledger

INDENT = " " * 5
KINDS = ("holds", "holds when", "fails")


@click.command(
    epilog=examples(
        "stabsim claims",
        "stabsim claims A17 B",
        "stabsim claims --out . --csv mine.csv",
    )
)
@click.argument("claims", nargs=-1, metavar="[CLAIM]...", shell_complete=completing.claim)
@click.option(
    "--out",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder whose results/ is shown instead of the ledger that comes with stabsim.",
)
@click.option("--untested", is_flag=True, help="Only claims that no verdict is on.")
@click.option("--scale", type=click.Choice(["quick", "paper"]), help="Refuse verdicts of the other scale.")
@click.option("--csv", type=click.Path(dir_okay=False, path_type=Path), help="Write the table as CSV, too.")
def command(claims: tuple[str, ...], out: Path | None, untested: bool, scale: str | None, csv: Path | None) -> None:
    """Print claims with their verdicts.

    Verdicts are those of the ledger that comes with stabsim, of paper-scale runs; with --out, those of the last run of
    each study in that folder. CLAIM is an id such as A17 or a letter for all that begin with it; all unless given.
    Behind each verdict: study, scale, estimate with its 95% interval, theory; below the claim: what the number is.

    A claim that fails is a result: exit status 1 means that a file of verdicts cannot be used, and names it.
    """
    from stabsim.ledger import LedgerError, of_runs, shipped, write_ledger

    chosen = choose(claims)
    try:
        ledger = shipped() if out is None else of_runs(out)
        if scale is not None:
            check_scale(ledger, scale)
    except LedgerError as error:
        raise click.ClickException(str(error)) from error
    ledger = {claim: ledger[claim] for claim in chosen if not (untested and ledger[claim])}
    report(ledger)
    if csv is not None:
        try:
            write_ledger(ledger, csv)
        except OSError as error:
            raise click.ClickException(f"--csv={csv} cannot be written: {error.strerror or error}") from error
        click.echo(f"the table is in {csv}")


def choose(names: tuple[str, ...]) -> list[str]:
    """Return the ids that were named, or whose letter was, in the order of the ledger."""
    from stabsim.ledger import statements
    from stabsim.names import unknown

    known = [*statements(), *dict.fromkeys(claim[0] for claim in statements())]
    with usage():
        for name in names:
            if name not in known:
                raise unknown("claim", name, known)
    return [claim for claim in statements() if not names or claim in names or claim[0] in names]


def check_scale(ledger: Ledger, scale: str) -> None:
    """Refuse verdicts of another scale, so that no table mixes them."""
    from stabsim.ledger import LedgerError

    others = sorted({entry.study for entries in ledger.values() for entry in entries if entry.scale != scale})
    if others:
        raise LedgerError(f"not of scale {scale}: {', '.join(others)}; stabsim run NAME --scale {scale} makes them so")


def report(ledger: Ledger) -> None:
    """Print claims, and how many verdicts of each kind there are."""
    from stabsim.ledger import NOT_TESTED

    entries = [entry for found in ledger.values() for entry in found]
    width = max((len(entry.study) for entry in entries), default=0)
    for claim, found in ledger.items():
        echo_claim(claim, found, width)
    kinds = Counter(entry.verdict.verdict if entry.verdict.verdict in KINDS else KINDS[1] for entry in entries)
    told = ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS)
    untested = sum(not found for found in ledger.values())
    click.echo(f"{counted(len(ledger), 'claim')}, {counted(len(entries), 'verdict')}: {told}; {untested} {NOT_TESTED}")


def echo_claim(claim: str, entries: Sequence[Entry], width: int) -> None:
    """Print a claim's id with its verdicts and, below, its statement and what each study says of its number."""
    from stabsim.ledger import NOT_TESTED, statements

    first, *others = [line for entry in entries for line in verdict_lines(entry, width)] or [NOT_TESTED]
    echo_wrapped(first, f"{claim}  ")
    for line in others:
        echo_wrapped(line, INDENT)
    echo_wrapped(statements()[claim], INDENT)
    for entry in entries:
        if entry.verdict.note:
            echo_wrapped(f"{entry.study}: {entry.verdict.note}", INDENT + "  ")


def verdict_lines(entry: Entry, width: int) -> list[str]:
    """Return a verdict with its origin and its numbers in columns; a verdict with a condition has its own line."""
    found = entry.verdict
    origin = f"{entry.study:{width}}  {entry.scale}  {rests_on(found)}"
    if found.verdict in KINDS:
        return [f"{found.verdict:5}  {origin}"]
    return [found.verdict, f"{'':5}  {origin}"]
