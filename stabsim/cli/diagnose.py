"""``stabsim diagnose``: whether a network can be trained as it starts, and what would repair it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from stabsim.cli import completing
from stabsim.cli.network_options import network_options, take_network
from stabsim.cli.text import examples
from stabsim.cli.usage import usage

if TYPE_CHECKING:
    from stabsim.diagnosis import Diagnosis


@click.command(
    epilog=examples(
        "stabsim diagnose --depth 50 --width 256 --activation tanh \\",
        "  --weights glorot_uniform",
        "stabsim diagnose --depth 50 --width 256 --activation sigmoid \\",
        "  --weights lecun_normal --format float16",
        "stabsim diagnose --widths 64,128,128,10 --activation relu \\",
        "  --weights he_normal --inputs digits --json",
        "stabsim diagnose --depth 100 --width 128 --activation tanh \\",
        "  --weights orthogonal --cell rnn",
    )
)
@network_options
@click.option("--batch", type=int, help="Samples that go through each net together; 16 unless given.")
@click.option(
    "--nets", type=int, default=1024, show_default=True, help="The most of its nets to draw until it is decided."
)
@click.option(
    "--format",
    shell_complete=completing.precision,
    default="float32",
    show_default=True,
    help="The verdict in float64, float16, bfloat16, float8_e5m2, ...",
)
@click.option(
    "--tolerance", type=float, default=1000.0, show_default=True, help="By how many times sizes may change with depth."
)
@click.option("--formats/--no-formats", default=True, help="Look for the layers at which number formats fail.")
@click.option(
    "--repair/--no-repair",
    default=True,
    help="Look for what repairs a network that is not stable; up to 512 nets each.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document in place of the report.")
def command(
    as_json: bool,
    **options: Any,
) -> int:
    """Say whether a network is stable as it starts, where number formats fail, and what repairs it.

    Exit status: 0, stable; 1, not stable, or not decided by so many nets; 2, bad usage.
    """
    from stabsim.cli.compiling import listen
    from stabsim.cli.progress import LiveProgress
    from stabsim.diagnosis import diagnose

    network, parameters = take_network(options)
    listen()
    with usage(parameters), LiveProgress() as show:
        found = diagnose(
            network,
            progress=lambda what, so_far, most: show(what, so_far.nets, most, lambda: so_far),
            **options,
        )
    report(found, as_json=as_json)
    return 0 if found.stable else 1


def report(found: Diagnosis, *, as_json: bool) -> None:
    """Print a diagnosis."""
    click.echo(found.to_json() if as_json else repr(found))
