"""``stabsim warmup``: compiles ahead of use."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

import click

from stabsim.cli.text import examples

COMPILED = ("float32", "float64")  # precisions of kernels; numbers of narrow formats are held as float32
STUDIED = {  # samplers that studies need, for their cases and to trace nets
    "float32": (
        "dense_sampler", "structured_dense_sampler", "matrix_free_sampler", "matrix_free_batch_sampler",
        "structured_matrix_free_sampler", "matrix_free_jacobian_sampler", "rounded_sampler",
        "rnn_sampler", "lstm_sampler", "gru_sampler",
    ),
    "float64": ("dense_sampler", "jacobian_sampler"),
}  # fmt: skip


@click.command(
    epilog=examples(
        "stabsim warmup",
    )
)
def command() -> None:
    """Compile ahead of use.

    Everything that simulating, training and landscapes need, in the precisions that they have; what other versions of
    the package compiled is removed.
    """
    from stabsim.kernels.compile import cache_directory

    start = time.monotonic()
    click.echo("compiling in both precisions: this takes several minutes", err=True)
    compile_all()
    removed = prune(cache_directory())
    click.echo(
        f"compiled in {time.monotonic() - start:.0f} s into {cache_directory()}; "
        f"{removed} folders of other versions removed"
    )


def compile_all(samplers: Mapping[str, Collection[str]] | None = None) -> None:
    """Compile both precisions, each in a process of its own: Numba compiles one function at a time.

    They take about as long as each other, and what kernels of one precision share is compiled once.

    Parameters
    ----------
    samplers : mapping of str to names, optional
        Those that are wanted of each precision, such as `STUDIED`; all unless given.
    """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    wanted = [None if samplers is None else samplers[precision] for precision in COMPILED]
    with ProcessPoolExecutor(len(COMPILED), get_context("spawn")) as pool:
        for _ in pool.map(compile_precision, COMPILED, wanted):
            pass


def compile_precision(precision: str, samplers: Collection[str] | None = None) -> None:
    """Compile everything that is computed in a precision, of the samplers those that are wanted."""
    for kind, entries in entry_points(precision).items():
        for name, compile_entry in entries.items():
            if kind != "sampler" or samplers is None or name in samplers:
                compile_entry()


def entry_points(precision: str) -> dict[str, dict[str, Callable[[], object]]]:
    """Return, by kind and name, what compiles each entry of the registries that a kernel calls, and each kernel."""
    import numpy as np

    from stabsim.activations import ACTIVATIONS
    from stabsim.activations.compiled import block
    from stabsim.initializers import LAWS
    from stabsim.kernels import (
        hessian,
        hessian_vector,
        inertia,
        laws,
        losses,
        matrix_index,
        optimizers,
        passages,
        positive_definite,
        sums,
        surface,
        trainer,
    )
    from stabsim.losses import LOSSES
    from stabsim.own_statistics import compiled
    from stabsim.samplers import SAMPLERS

    dtype = np.dtype(precision)
    doubles: dict[str, dict[str, Callable[[], object]]] = {  # which are in float64 only
        "loss": {name: partial(losses.compiled, loss.function) for name, loss in LOSSES.items()},
        "second derivative": {name: partial(block, make(), dtype, 1) for name, make in ACTIVATIONS.items()},
        "surface": {"surface": surface.evaluator, "outputs": surface.responder},
        "curvature": {
            "hessian": hessian.hessian,
            "hessian_vector": hessian_vector.products,
            "eigenvalues": inertia.solver,
        },
        "random matrices": {"growth": positive_definite.grow, "index": matrix_index.count_index},
        "passages": {"runs": passages.runner} | {name: partial(passages.profile, name) for name in passages.PROFILES},
    }
    return {
        "law of weights": {law: partial(laws.law, law, dtype) for law in LAWS},
        "activation": {name: partial(block, make(), dtype) for name, make in ACTIVATIONS.items()},
        "no statistics": {"no statistics": partial(compiled, (), dtype)},
        "sampler": {
            each.kernel.__name__: partial(each.kernel, dtype) for each in SAMPLERS if precision in each.precisions
        },
        "optimizer": {rule: partial(optimizers.loop, rule, dtype) for rule in optimizers.RULES},
        "trainer": {"trainer": partial(trainer.trainer, dtype)},
        "sums over nets": {"sums": sums.sum_record, "logarithms": sums.log2_mean_squares},
        **(doubles if precision == "float64" else {}),
    }


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
