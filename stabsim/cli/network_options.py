"""What the verbs on one network share: the options that make it, and those of how it is simulated."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from stabsim.cli import completing
from stabsim.cli.selection import device_option, mnist_dir_option
from stabsim.cli.usage import usage

if TYPE_CHECKING:
    from stabsim.network import Network

Function = Callable[..., Any]


def whole_numbers(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """Read whole numbers with commas between them."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of whole numbers such as 784,512,10") from None


def unless_none(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    """Take the word none as nothing given."""
    return None if text is None or text.strip().lower() == "none" else text


OPTIONS = (
    click.option("--depth", type=int, help="Layers; with --width."),
    click.option("--width", type=int, help="Units of every layer, the input too."),
    click.option("--widths", callback=whole_numbers, metavar="N,N,...", help="Units of each layer, input first."),
    click.option(
        "--activation",
        required=True,
        shell_complete=completing.activation,
        help="Such as tanh or 'leaky_relu(slope=0.2)'; see stabsim list.",
    ),
    click.option(
        "--weights",
        required=True,
        shell_complete=completing.weights,
        help="Such as glorot_normal or 'normal(std=0.01)'; see stabsim list.",
    ),
    click.option("--bias-std", type=float, default=0.0, show_default=True, help="Standard deviation of the biases."),
    click.option(
        "--normalization",
        callback=unless_none,
        shell_complete=completing.normalization,
        help="batch, layer or rms, such as 'batch(epsilon=0)'.",
    ),
    click.option(
        "--skip",
        callback=unless_none,
        help="Residual connections: skip, or such as 'skip(branch=0.1, layers=2, activation=between)'.",
    ),
    click.option(
        "--cell",
        default="feedforward",
        shell_complete=completing.cell,
        show_default=True,
        help="rnn, gru, or such as 'lstm(forget_bias=1)'.",
    ),
    click.option(
        "--inputs",
        shell_complete=completing.dataset,
        help="A data set; standard normal inputs unless given. See stabsim list datasets.",
    ),
    mnist_dir_option,
    click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same bits."),
    device_option,
    click.option("--threads", type=int, help="One per processor unless given; a GPU has its own."),
)


def network_options(function: Function) -> Function:
    """Add what makes a network, from --depth to --cell, and --inputs, --mnist-dir, --seed, --device and --threads."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function


def take_network(options: dict[str, Any]) -> tuple[Network, str]:
    """Take the options that make a network out of all; return it, and what to reduce where numbers overflow."""
    from stabsim.network import Network

    widths = chosen_widths(options.pop("depth"), options.pop("width"), options.pop("widths"))
    names = ("activation", "weights", "bias_std", "normalization", "skip", "cell")
    given = {name: options.pop(name) for name in names}
    laws = f"--activation={given['activation']!r}, --weights={given['weights']!r} and --bias-std={given['bias_std']}"
    parameters = f"{laws}, with up to {max(widths)} units a layer,"
    with usage(parameters):
        return Network(widths, **given), parameters


def chosen_widths(depth: int | None, width: int | None, widths: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the widths from either way to give them."""
    from stabsim.checks import whole_number
    from stabsim.network import DEEPEST

    if (widths is None) == (depth is None and width is None):
        raise click.UsageError("give either --depth and --width, or --widths")
    if widths is not None:
        return widths
    if depth is None or width is None:
        raise click.UsageError(f"--{'width' if depth is not None else 'depth'} is missing: give both, or --widths")
    with usage():
        return (width,) * (whole_number("depth", depth, 1, DEEPEST) + 1)
