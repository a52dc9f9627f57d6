"""``stabsim list``: what there is to choose from."""

from __future__ import annotations

from collections.abc import Callable

import click

from stabsim.cli.text import echo_columns, examples

Rows = list[tuple[str, str]]


def activations() -> Rows:
    """List activations with their default parameters and sources."""
    from stabsim.activations import ACTIVATIONS

    made = [factory() for factory in ACTIVATIONS.values()]
    return [(str(activation), activation.source) for activation in made]


def initializers() -> Rows:
    """List initializers with their sources, and other names."""
    from stabsim.initializers import ALIASES, INITIALIZERS

    return [(name, entry.source) for name, entry in INITIALIZERS.items()] + [
        (alias, f"the same as {name}") for alias, name in ALIASES.items()
    ]


def optimizers() -> Rows:
    """List optimizers with their default parameters and sources, and presets."""
    from stabsim.training.optimizers import OPTIMIZERS, optimizer
    from stabsim.training.presets import PRESETS

    return [(str(optimizer(name)), entry.source) for name, entry in OPTIMIZERS.items()] + [
        (preset, f"the same as {spec}") for preset, spec in PRESETS.items()
    ]


def schedules() -> Rows:
    """List learning-rate schedules with their default parameters and sources."""
    from stabsim.training.schedules import SCHEDULES, schedule

    return [(str(schedule(name)), entry.source) for name, entry in SCHEDULES.items()]


def losses() -> Rows:
    """List losses with what their targets must be, and their sources."""
    from stabsim.losses import LOSSES

    return [(name, f"targets {loss.targets}; {loss.source}") for name, loss in LOSSES.items()]


def quantities() -> Rows:
    """List quantities with their meanings."""
    from stabsim.quantities import QUANTITIES

    asked = {True: " (only if named)", False: ""}
    return [(name, quantity.meaning + asked[quantity.on_request]) for name, quantity in QUANTITIES.items()]


def training() -> Rows:
    """List what is recorded of training beside quantities of signals, with its meanings."""
    from stabsim.training.recorded import MEANINGS

    return list(MEANINGS.items())


def samplers() -> Rows:
    """List samplers: those of one name share out the batches."""
    from stabsim.samplers import SAMPLERS

    return [(sampler.name, sampler.meaning) for sampler in SAMPLERS]


def engines() -> Rows:
    """List engines."""
    from stabsim.engines import ENGINES

    return [(name, (engine.__doc__ or "").splitlines()[0]) for name, engine in ENGINES.items()]


def datasets() -> Rows:
    """List data sets."""
    from stabsim.datasets import DATASETS

    return [(name, source.meaning) for name, source in DATASETS.items()]


def studies() -> Rows:
    """List studies with their claims; one that cannot be loaded is named with the reason."""
    from stabsim.discovery import StudyError, files, load

    rows = []
    for name, path in files().items():
        try:
            study = load(path)
        except StudyError as error:
            rows.append((name, f"cannot be loaded: {error}"))
        else:
            claims = f" [{', '.join(study.claims)}]" if study.claims else ""
            rows.append((name, study.title + claims))
    return rows


KINDS: dict[str, Callable[[], Rows]] = {
    "activations": activations,
    "initializers": initializers,
    "losses": losses,
    "optimizers": optimizers,
    "schedules": schedules,
    "quantities": quantities,
    "training": training,
    "samplers": samplers,
    "studies": studies,
    "engines": engines,
    "datasets": datasets,
}


@click.command(
    epilog=examples(
        "stabsim list",
        "stabsim list activations initializers",
    )
)
@click.argument("kinds", nargs=-1, metavar="[KIND]...", type=click.Choice(list(KINDS)))
def command(kinds: tuple[str, ...]) -> None:
    """List what there is to choose from.

    KIND is activations, initializers, losses, optimizers, schedules, quantities, training, samplers, studies,
    engines or datasets; all unless given.
    """
    for kind in kinds or KINDS:
        click.echo(f"{kind}:")
        echo_columns(KINDS[kind]() or [("none", "")], indent="  ")
