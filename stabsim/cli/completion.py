"""``stabsim completion``: what a shell needs to complete commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from stabsim.cli.text import examples

SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command(
    epilog=examples(
        'eval "$(stabsim completion bash)"  # in ~/.bashrc',
        'eval "$(stabsim completion zsh)"   # in ~/.zshrc',
        "stabsim completion fish > ~/.config/fish/completions/stabsim.fish",
    )
)
@click.argument("shell", type=click.Choice(list(SHELLS)))
def command(shell: str) -> None:
    """Print the script that lets a shell complete commands, options and names.

    With the Tab key: studies, claims, activations, initializers, quantities, ...
    """
    from stabsim.cli.group import group

    click.echo(SHELLS[shell](group, {}, "stabsim", "_STABSIM_COMPLETE").source())
