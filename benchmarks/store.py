"""What the store costs: the share of a run that writing chunks takes, of small chunks and of large ones.

    python benchmarks/store.py [--seconds 20] [--threads 1 2]

A run simulates, stores and merges the chunks of one case, which is repeated without storing. While a chunk is written,
the threads simulate the next one: what a run waits for the disk is no loss unless they wait, too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from stabsim.arguments import make_task
from stabsim.collect import collect
from stabsim.network import Network
from stabsim.plan import Plan
from stabsim.store import Store
from stabsim.study import Case
from stabsim.task import Task
from stabsim.work import Chunk

TASKS = {
    "width 4, depth 50, 2 quantities": make_task(
        Network((4,) * 51, "relu", "he_normal"), quantities=("activation_log10_norm", "activation_mean_square")
    ),
    "width 4, depth 50, all quantities": make_task(Network((4,) * 51, "relu", "he_normal")),
    "width 256, depth 50, all quantities": make_task(Network((256,) * 51, "relu", "he_normal"), sampler="dense"),
}


class Clock:
    """Seconds within a function: on the clock, and of the processor."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed."""

        def run(*arguments: Any) -> None:
            wall, processor = time.perf_counter(), time.thread_time()
            function(*arguments)
            self.wall += time.perf_counter() - wall
            self.processor += time.thread_time() - processor

        return run


def measured(task: Task, chunks: int, threads: int, write: Callable[..., Any]) -> tuple[float, float]:
    """Return the seconds of a run and those of the processor, where a chunk is written by a function."""
    case = Case(task, chunks * Plan(task).chunk_nets)
    with tempfile.TemporaryDirectory() as folder, Store(folder) as store, mock.patch.object(Chunk, "write", write):
        wall, processor = time.perf_counter(), time.process_time()
        collect([case], store, threads, lambda *_: None)
        return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run, about")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    store = Chunk.write
    print(f"{'case':36s} threads chunk/s  not stored/s  stored/s  writing: of the clock, of the processor")
    for name, task in TASKS.items():
        measured(task, 2, 1, store)
        for threads in options.threads:
            chunks = max(3, round(options.seconds * 3 / measured(task, 3, threads, store)[0]))
            without = measured(task, chunks, threads, lambda *_: None)
            clock = Clock()
            wall, processor = measured(task, chunks, threads, clock.timed(store))
            print(f"{name:36s} {threads:7d} {wall / chunks:7.3f} {without[0]:13.2f} {wall:9.2f} "
                  f"{clock.wall / wall:22.1%} {clock.processor / processor:17.1%}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
