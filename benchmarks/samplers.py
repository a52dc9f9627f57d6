"""Which sampler is the faster, and does ``sampler="auto"`` know? Both are timed over a grid of nets on one core.

    python benchmarks/samplers.py [--seconds 0.05] [--out figures] [--fit]

Writes ``benchmark_samplers.csv`` and a figure. ``--fit`` prints prices for ``stabsim/samplers/`` as fitted to this run.
"""

from __future__ import annotations

import argparse
import itertools
import pprint
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from contestants import QUANTITIES

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.network import Network
from stabsim.plan import Plan, Team
from stabsim.samplers import choose, sampler_of
from stabsim.task import Task

if TYPE_CHECKING:
    from pandas import DataFrame

LAWS = {"he_normal": "gaussian", "orthogonal": "orthogonal"}
WIDTHS = (32, 64, 128, 256, 512, 1024, 2048)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
DEPTH = 4
FUNNEL = (1.0, 0.25, 1.0, 2.0, 0.5)  # widths of every second net, times its width


def grid() -> Iterator[tuple[dict[str, Any], Task]]:
    """Yield nets of equal and of unequal widths, with few and with all quantities, in both precisions."""
    options = itertools.product(LAWS, ("float32", "float64"), ("few", "all"), WIDTHS, BATCHES)
    for number, (weights, precision, quantities, width, batch) in enumerate(options):
        widths = [width] * (DEPTH + 1) if number % 2 else [max(1, int(width * share)) for share in FUNNEL]
        activation = ("relu", "tanh")[number % 3 == 0]
        task = make_task(
            Network(widths, activation, weights), batch=batch, precision=precision, sampler="dense",
            quantities=QUANTITIES if quantities == "few" else None,
        )  # fmt: skip
        tags = {"law": LAWS[weights], "precision": precision, "quantities": quantities, "width": width, "batch": batch}
        yield tags | {"widths": "equal" if number % 2 else "unequal", "activation": activation}, task


def measure(task: Task, seconds: float) -> float:
    """Return the nanoseconds of one net on one core: the least of several times."""
    plan = Plan(task)
    with Team(plan, 1) as team:
        buffers = team.buffers.get()
        nets, best, elapsed = 1, float("inf"), 0.0
        while elapsed < 5 * seconds:
            record = np.empty((nets, *plan.blank.shape))
            start = time.thread_time()
            plan.simulate(0, buffers, record)
            passed = time.thread_time() - start
            if passed < seconds / 4:
                nets *= 2
            else:
                best = min(best, passed / nets)
                elapsed += passed
    return best * 1e9


def run(seconds: float) -> tuple[DataFrame, dict[str, dict[str, list[tuple[dict[str, float], float]]]]]:
    """Return a row a net with both times, and what each kind of sampler took for which terms."""
    import pandas

    rows = []
    seen: dict[str, dict[str, list[tuple[dict[str, float], float]]]] = {}
    for tags, dense in grid():
        if dense.network.weights.law == "orthogonal" and max(dense.network.widths) > 1024:
            continue  # forming W takes seconds a layer
        tasks = {sampler: replace(dense, sampler=sampler) for sampler in ("dense", "matrix_free")}
        times = {sampler: measure(task, seconds) for sampler, task in tasks.items()}
        for sampler, task in tasks.items():
            used = sampler_of(task)
            measured = (used.all_terms(task), times[sampler])
            seen.setdefault(used.kind(task), {}).setdefault(task.precision, []).append(measured)
        chosen = choose(dense)
        better = min(times, key=lambda sampler: times[sampler])
        rows.append(
            tags | times | {f"{name}_predicted": sampler_of(task).nanoseconds(task) for name, task in tasks.items()}
            | {"chosen": chosen, "better": better, "loss": times[chosen] / times[better]}
        )  # fmt: skip
        row = rows[-1]
        print(
            f"{row['law']:10s} {row['precision']} {row['quantities']:3s} {row['activation']} {row['widths']:7s} "
            f"width {row['width']:4d} batch {row['batch']:3d}: dense {times['dense'] / 1e3:10.1f} us, matrix-free "
            f"{times['matrix_free'] / 1e3:10.1f} us, auto {chosen}{'' if chosen == better else ' WRONG'}",
            flush=True,
        )
    return pandas.DataFrame(rows), seen


def fit(seen: dict[str, dict[str, list[tuple[dict[str, float], float]]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the prices, none negative, with the least relative errors."""
    from scipy.optimize import nnls

    prices: dict[str, dict[str, dict[str, float]]] = {}
    for name, by_precision in seen.items():
        for precision, pairs in by_precision.items():
            columns = sorted({term for counted, _ in pairs for term in counted})
            relative = [[counted.get(term, 0.0) / elapsed for term in columns] for counted, elapsed in pairs]
            found, _ = nnls(np.array(relative), np.ones(len(pairs)))
            rounded = {term: float(f"{price:.3g}") for term, price in zip(columns, found, strict=True)}
            prices.setdefault(name, {})[precision] = rounded
    return prices


def draw(table: DataFrame, directory: Path) -> None:
    """Draw the ratio of the two times against the batch, with what was predicted of it."""
    with figures.style():
        figure, axes = figures.panels(rows=1, columns=2, width=figures.PAGE, height=2.6)
        for panel, law in zip(axes.flat, ("gaussian", "orthogonal"), strict=True):
            part = table[(table["law"] == law) & (table["precision"] == "float32") & (table["quantities"] == "few")]
            for index, (width, rows) in enumerate(part[part["width"].isin((32, 128, 512, 2048))].groupby("width")):
                looks = figures.line(index)
                panel.plot(rows["batch"], rows["dense"] / rows["matrix_free"], label=f"width {width}", **looks)
                predicted = rows["dense_predicted"] / rows["matrix_free_predicted"]
                panel.plot(rows["batch"], predicted, color=looks["color"], linestyle=":", linewidth=0.8)
            panel.axhline(1.0, color="0.6", linewidth=0.6)
            panel.set(xscale="log", yscale="log", xlabel="batch", ylabel="time dense / time matrix-free", title=law)
            panel.legend(fontsize=6)
        figures.panel_labels(axes.flat)
        figures.save(figure, "benchmark_samplers", directory, table)


def main() -> None:
    """Measure, print, and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=float, default=0.05, help="a fifth of the time of one measurement (default 0.05)"
    )
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the figure (default figures)")
    parser.add_argument("--fit", action="store_true", help="print prices fitted to this run")
    options = parser.parse_args()
    table, seen = run(options.seconds)
    right = (table["chosen"] == table["better"]).mean()
    worst = table["loss"].max()
    print(f"auto is right for {right:.1%} of {len(table)} nets; its worst choice takes {worst:.2f} times the better")
    if options.fit:
        pprint.pprint(fit(seen), sort_dicts=False, width=110)
    draw(table, options.out)


if __name__ == "__main__":
    main()
