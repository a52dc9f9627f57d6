"""``stabsim warmup``: compiles ahead of use."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import click


@click.command()
def command() -> None:
    """Compile ahead of use.

    Everything that simulating needs, in both precisions; what other versions of the package compiled is removed.
    """
    from stabsim.kernels.compile import cache_directory

    start = time.monotonic()
    click.echo("compiling in both precisions: this usually takes about a minute", err=True)
    compile_all()
    removed = prune(cache_directory())
    click.echo(
        f"compiled in {time.monotonic() - start:.0f} s into {cache_directory()}; "
        f"{removed} folders of other versions removed"
    )


def compile_all() -> None:
    """Run a few nets of each activation, law and sampler in both precisions."""
    from stabsim.activations import ACTIVATIONS
    from stabsim.arguments import PRECISIONS
    from stabsim.initializers import LAWS, Initializer
    from stabsim.network import Network
    from stabsim.samplers import SAMPLERS
    from stabsim.simulation import simulate

    for precision in PRECISIONS:
        for activation in ACTIVATIONS:
            simulate(Network((2, 2), activation, "normal"), nets=1, precision=precision)
        for law in LAWS:
            weights = Initializer(law=law, bias_law="uniform")
            simulate(Network((2, 2), "linear", weights, bias_std=1.0), nets=1, precision=precision, sampler="dense")
        for sampler in SAMPLERS:
            weights = Initializer(law=sampler.laws[0])
            simulate(
                Network((2, 2), "linear", weights),
                nets=1,
                precision=precision,
                sampler=sampler.name,
                batch=sampler.samples.start,
            )


def prune(kept: Path) -> int:
    """Remove the package's cache folders beside the one of this version; return how many there were."""
    others = [
        path
        for path in kept.parent.glob("stabsim-*")
        if re.fullmatch(r"stabsim-[0-9a-f]{16}", path.name) and path != kept
    ]
    for path in others:
        shutil.rmtree(path, ignore_errors=True)
    return len(others)
