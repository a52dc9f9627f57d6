"""Peak memory and time of `stabsim run` on one case of many nets: it grows with the tables, not with the nets.

    python benchmarks/memory.py [--nets 10000000] [--width 4] [--depth 50] [--threads 2] [--out FOLDER]

Runs again what is stored, too: its chunks are read, and none is simulated.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUDY = """
from matplotlib.figure import Figure

from stabsim.arguments import make_task
from stabsim.network import Network
from stabsim.study import Case, Drawing, Study


def cases(scale):
    network = Network(({width},) * ({depth} + 1), "relu", "he_normal")
    yield Case(make_task(network, quantities=("activation_log10_norm", "activation_mean_square")), {nets})


study = Study("many", "Many nets", cases, lambda collected: [Drawing(Figure((1, 1)), collected.table)])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", type=int, default=10_000_000)
    parser.add_argument("--width", type=int, default=4)
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="kept; otherwise a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.out or Path(temporary)).absolute()
        (folder / "studies").mkdir(parents=True, exist_ok=True)
        (folder / "studies" / "many.py").write_text(STUDY.format(**vars(options)))
        for what in ("simulated", "read again"):
            seconds, megabytes = measured(folder, options.threads)
            files = sum(1 for _ in folder.glob("results/many/chunks/*/*.npz"))
            print(f"{options.nets:,} nets in {files:,} chunks, {what}: {megabytes:.0f} MB, {seconds:.0f} s", flush=True)


def measured(folder: Path, threads: int) -> tuple[float, float]:
    """Return seconds and peak MB of a run."""
    command = [sys.executable, "-m", "stabsim", "run", "many", "--threads", str(threads)]
    path = os.pathsep.join([str(Path(__file__).resolve().parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the run ended with status {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - start, usage.ru_maxrss / 1e3


if __name__ == "__main__":
    main()
