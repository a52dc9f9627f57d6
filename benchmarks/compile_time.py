"""What compiling costs: seconds of one core, with an empty cache and from the cache, by kind of entry.

    python benchmarks/compile_time.py [--precision float32]

Each kind is compiled in the order in which a simulation asks for it, in one process of its own, in a folder that is
empty at first; then once more in a new process, which reads what the first has left.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

CHILD = "--child"


def measure(precision: str) -> None:
    """Compile everything in this process; print a line a kind: entries, seconds, the slowest entry and its seconds."""
    start = time.process_time()
    from stabsim.cli.warmup import entry_points

    kinds = entry_points(precision)
    print(f"import\t1\t{time.process_time() - start:.2f}\tstabsim\t0")
    for kind, entries in kinds.items():
        seconds = {}
        for name, compile_entry in entries.items():
            start = time.process_time()
            compile_entry()
            seconds[name] = time.process_time() - start
        slowest = max(seconds, key=lambda name: seconds[name])
        print(f"{kind}\t{len(entries)}\t{sum(seconds.values()):.2f}\t{slowest}\t{seconds[slowest]:.2f}")


def main() -> None:
    """Measure with an empty cache, then from it, and print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=("float32", "float64"), default="float32")
    parser.add_argument(CHILD, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure(options.precision)
        return
    print(f"{'':10s} {'kind':16s} {'entries':>7s} {'seconds':>8s}  slowest")
    with tempfile.TemporaryDirectory() as folder:
        for cache in ("empty", "filled"):
            command = [sys.executable, __file__, CHILD, "--precision", options.precision]
            environment = os.environ | {"NUMBA_CACHE_DIR": folder}
            told = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
            for line in told.splitlines():
                kind, entries, seconds, slowest, most = line.split("\t")
                print(f"{cache:10s} {kind:16s} {entries:>7s} {seconds:>8s}  {slowest} {most}")


if __name__ == "__main__":
    main()
