"""``stabsim simulate``: one ensemble, its estimates on the screen or in a file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stabsim.cli import completing
from stabsim.cli.network_options import network_options, take_network, unless_none
from stabsim.cli.text import counted, echo_columns, examples, interval, number
from stabsim.cli.usage import usage

if TYPE_CHECKING:
    from stabsim.result import Result
    from stabsim.task import Task

FIGURES = (".png", ".pdf", ".svg")


def words(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    """Read words with commas between them."""
    if text is None:
        return None
    found = tuple(word.strip() for word in text.split(","))
    if not all(found):
        raise click.BadParameter(f"{text!r} is not a list of names such as activation_mean,activation_variance")
    return found


def writable(_context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """Refuse, before anything is simulated, a file that cannot be written."""
    if path is None:
        return None
    name = option.opts[0]
    if not path.name:
        raise click.UsageError(f"{name}='' must be the name of a file")
    if not path.absolute().parent.is_dir():
        raise click.UsageError(f"{name}={path}: there is no folder {path.parent}")
    if not path.exists():
        try:
            path.touch()
            path.unlink()
        except OSError as error:
            raise click.UsageError(f"{name}={path} cannot be written: {error.strerror or error}") from error
    return path


def drawable(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """Refuse, before anything is simulated, a file that no figure can be written to."""
    if path is not None and path.suffix.lower() not in FIGURES:
        raise click.UsageError(f"{option.opts[0]}={path} must end with {', '.join(FIGURES)}")
    return writable(context, option, path)


@click.command(
    epilog=examples(
        "stabsim simulate --depth 50 --width 256 --activation tanh \\",
        "  --weights glorot_normal --nets 1000 --figure tanh.png",
        "stabsim simulate --widths 784,512,512,10 --activation relu \\",
        "  --weights he_normal --nets 500 --inputs mnist5k --batch 32 --output a.csv",
        "stabsim simulate --depth 100 --width 64 --activation tanh \\",
        "  --weights glorot_normal --nets 100 --cell 'lstm(forget_bias=1)'",
    )
)
@network_options
@click.option("--nets", type=int, required=True, help="How many nets to draw.")
@click.option("--batch", type=int, default=1, show_default=True, help="Samples that go through each net together.")
@click.option(
    "--sampler",
    shell_complete=completing.sampler,
    default="auto",
    show_default=True,
    help="How nets are drawn; auto: the cheaper way. See stabsim list.",
)
@click.option(
    "--precision",
    shell_complete=completing.precision,
    default="float32",
    show_default=True,
    help="Or float64, or a format to simulate: float16, ...",
)
@click.option("--loss-scale", type=float, default=1.0, show_default=True, help="Of a simulated format: a power of 2.")
@click.option(
    "--clipping",
    shell_complete=completing.clipping,
    callback=unless_none,
    help="Of gradients by the weights, such as 'value(bound=1)'; norm, global_norm, adaptive.",
)
@click.option(
    "--quantities",
    shell_complete=completing.quantities,
    callback=words,
    metavar="NAME,...",
    help="All but ranks and singular values unless given: see stabsim list.",
)
@click.option(
    "--target-rel-error",
    type=float,
    help="Stop where all intervals are this narrow relative to their estimates; --nets is then the most.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=writable,
    help="CSV file for the whole table.",
)
@click.option(
    "--figure",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=drawable,
    help="PNG, PDF or SVG file: signals, gradients and shares of zeros against depth.",
)
def command(
    nets: int,
    device: str,
    threads: int | None,
    target_rel_error: float | None,
    output: Path | None,
    figure: Path | None,
    **options: Any,
) -> None:
    """Simulate one ensemble and print estimates with 95% intervals."""
    from stabsim.arguments import make_task
    from stabsim.checks import whole_number
    from stabsim.cli.compiling import listen
    from stabsim.cli.progress import LiveProgress
    from stabsim.simulation import simulate
    from stabsim.target import check_target
    from stabsim.task import LARGEST_NET
    from stabsim.threads import count_threads

    network, parameters = take_network(options)
    with usage(parameters):
        task = make_task(network, device=device, **options)
        if target_rel_error is not None:
            check_target(target_rel_error, task)
        whole_number("nets", nets, 1, LARGEST_NET)
        count_threads(threads, device)
        if figure is not None:
            check_drawn(task)
    listen()
    label = f"{network.activation}, {network.weights}"
    caught = warnings.catch_warnings(record=True, action="always", category=RuntimeWarning)
    with usage(parameters), caught as remarks, LiveProgress() as show:
        result = simulate(
            network, nets=nets, device=device, threads=threads, target_rel_error=target_rel_error, **options,
            progress=lambda so_far, wanted: show(label, so_far.nets, wanted, lambda: so_far),
        )  # fmt: skip
        result.table  # noqa: B018 - computed here, where what theory cannot do is bad usage
    for remark in remarks or ():
        click.echo(f"stabsim simulate: {remark.message}", err=True)
    report(result)
    if output is not None:
        write(result, output)
    if figure is not None:
        draw(result, figure)


def write(result: Result, output: Path) -> None:
    """Write the whole table."""
    try:
        result.to_csv(output)
    except OSError as error:
        raise click.ClickException(f"--output={output} cannot be written: {error.strerror or error}") from error
    click.echo(f"the table of all layers is in {output}")


def check_drawn(task: Task) -> None:
    """Refuse, before anything is simulated, a figure of quantities that none of its panels has."""
    from stabsim.figures.one_ensemble import DRAWN

    if not DRAWN & {quantity.name for quantity in task.table_quantities}:
        raise ValueError(f"--figure draws {', '.join(sorted(DRAWN))}: --quantities must have one of them")


def draw(result: Result, path: Path) -> None:
    """Draw the ensemble."""
    from stabsim import figures
    from stabsim.chunk import StoreError

    ensemble = f"{counted(result.nets, 'net')} of {result.network!r}, batch {result.task.batch}."
    caption = " ".join((ensemble, figures.BANDS, figures.THEORY, figures.LIMIT))
    try:
        with figures.style():
            figures.save_file(figures.overview(result.table, ensemble), path, caption)
    except StoreError as error:
        raise click.ClickException(f"--figure: {error}") from error
    click.echo(f"the figure is in {path}")


def report(result: Result) -> None:
    """Print each quantity at the layer where signals have come through the whole net."""
    from stabsim.quantities import QUANTITIES

    click.echo(
        f"{counted(result.nets, 'net')} of {result.network!r}, batch {result.task.batch}, seed {result.task.seed}"
    )
    click.echo("forward quantities at the last layer, backward ones at the first, with 95% intervals:")
    rows: list[tuple[str, ...]] = [("quantity", "layer", "estimate", "interval", "theory")]
    for name, group in result.table.groupby("quantity", observed=True, sort=False):
        row = group.iloc[0 if QUANTITIES[str(name)].backward else -1]
        span = interval(row["ci_low"], row["ci_high"])
        rows.append((str(name), str(row["layer"]), number(row["estimate"]), span, number(row["theory"])))
    echo_columns(rows, indent="  ")
    for line in result.unconverged():
        click.echo(f"few nets own the mean, which has not converged: {line}")
    if result.reached_target:
        click.echo(f"all intervals are within {result.target_rel_error} of their estimates, at every layer")
