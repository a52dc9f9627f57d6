"""Kill a long study many times, each time at another moment, and go on: no chunk may be lost, none doubled.

    python -m tests.kills [--kills 200] [--chunks 600] [--fresh 10] [--seed 0]

Three ways take turns: after a random time; when the writing of a random chunk is at a random step (before its bytes
are on the disk, before it has its name, before the name is on the disk); and processes that are not forked, but start
from nothing. After every kill each file must be whole, each chunk that was reported as stored must be there with the
bytes that it had, and no net may be in two. At the end, results/ and figures/ have the bytes of a run that nobody
interrupted.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from stabsim.store import Store
from tests import forked

STUDY = '''
"""Chunks of some milliseconds, by the hundred."""

import pandas
from stabsim.arguments import make_task
from matplotlib.figure import Figure
from stabsim.network import Network
from stabsim.study import Case, Drawing, Study, Verdict

NORM = "activation_log10_norm"


def cases(scale):
    for weights, nets in (("he_normal", {nets}), ("glorot_normal", {nets} - 1000)):
        task = make_task(Network((4, 4, 4), "relu", weights), quantities=(NORM,))
        yield Case(task, nets, {{"weights": weights}})


def draw(collected):
    yield Drawing(Figure((1, 1)), collected.table)


def verdicts(collected):
    row = collected.table.iloc[-1]
    yield Verdict("X01", "holds", row.estimate, row.ci_low, row.ci_high, row.theory, "log10 norm")


study = Study(
    name="long", title="A long study", cases=cases, draw=draw, claims=("X01",), verdicts=verdicts,
    measure=lambda scale: pandas.DataFrame({{"checks": [1, 2]}}),
)
'''
CHUNK_NETS = 4096
STEPS = ("before its bytes are on the disk", "before it has its name", "before its name is on the disk", "after")


@dataclass
class Tally:
    """What was found; ``moments`` counts what the kills left or interrupted."""

    kills: int = 0
    chunks: int = 0
    lost: int = 0
    doubled: int = 0
    damaged: int = 0
    equal: bool = True
    tracebacks: int = 0
    moments: Counter[str] = field(default_factory=Counter)

    @property
    def sound(self) -> bool:
        """Return whether the promise is kept."""
        return self.equal and not (self.lost or self.doubled or self.damaged or self.tracebacks)


def prepare(folder: Path, chunks: int) -> Path:
    """Write the study into a folder."""
    (folder / "studies").mkdir(parents=True)
    (folder / "studies" / "long.py").write_text(STUDY.format(nets=CHUNK_NETS * (chunks // 2)))
    return folder


def die_at(step: int, chunk: int) -> None:
    """Let this process be killed at a step of writing its chunk-th file, counted from 0."""
    synced, replaced = os.fsync, os.replace
    calls = Counter[str]()

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):  # of the names in a folder
            if calls["replace"] > chunk and step == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            synced(descriptor)
            if calls["replace"] > chunk and step == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return
        if calls["fsync"] == chunk and step == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        calls["fsync"] += 1
        synced(descriptor)

    def replace(source: str, target: str) -> None:
        if calls["replace"] == chunk and step == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        calls["replace"] += 1
        replaced(source, target)

    mock.patch.multiple(os, fsync=fsync, replace=replace).start()


class Hunt:
    """A study that is killed and goes on, with what is known of it between."""

    def __init__(self, folder: Path, chunks: int, seed: int) -> None:
        self.folder = folder
        self.wanted = chunks
        self.tally = Tally()
        self.random = random.Random(seed)
        self.steps = 0
        self.stored: dict[Path, str] = {}  # the SHA-256 of each chunk that has been seen or reported

    @property
    def chunks(self) -> Path:
        """Return the folder of the store."""
        return self.folder / "results" / "long" / "chunks"

    def arguments(self) -> tuple[str, ...]:
        """Return a command line."""
        return "run", "long", "--threads", str(self.random.choice((1, 2)))

    def kill_at_a_time(self) -> bool:
        """Kill at a random time after a random number of chunks, or none; return whether it was still running."""
        command = forked.start(self.folder, *self.arguments())
        wanted = self.random.choice((0, 1, 1, 2))
        while len(command.stored) < wanted and command.listen(0.1):
            pass
        time.sleep(self.random.uniform(0.0, 0.01 if wanted else 0.5))  # a chunk takes about 0.005
        return self.end(command, "at a random time")

    def kill_at_a_step(self) -> bool:
        """Kill at a random step of writing one of the next files; return whether it came to that."""
        step, chunk = self.steps % len(STEPS), self.random.randrange(4)
        self.steps += 1
        command = forked.start(self.folder, *self.arguments(), fault=functools.partial(die_at, step, chunk))
        command.wait()
        return self.end(command, f"file {chunk + 1}: {STEPS[step]}")

    def kill_from_nothing(self) -> bool:
        """Kill a process that was not forked; return whether it was still running."""
        command = [sys.executable, "-m", "stabsim", *self.arguments()]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        output = subprocess.DEVNULL
        with subprocess.Popen(command, cwd=self.folder, env=environment, stdout=output, stderr=output) as process:
            time.sleep(self.random.uniform(0.2, 3.0))
            process.kill()
            process.wait()
        self.look([], "of a process from nothing")
        return process.returncode == -signal.SIGKILL

    def end(self, command: forked.Command, how: str) -> bool:
        """Kill what is running, and look at what it leaves."""
        command.process.kill()
        done = command.wait()
        assert done.status in (0, -signal.SIGKILL), done
        self.tally.tracebacks += "Traceback" in done.err
        self.look(command.stored, how)
        return done.status == -signal.SIGKILL

    def look(self, reported: list[str], how: str) -> None:
        """Count what is damaged, lost and doubled."""
        store, tally = Store(self.chunks), self.tally
        tally.damaged += sum(not sound for _, sound, _ in store.verify())
        found = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.chunks.glob("*/*.npz")}
        known = self.stored | {self.chunks / path: found.get(self.chunks / path, "") for path in reported}
        tally.lost += sum(found.get(path) != digest or not digest for path, digest in known.items())
        for key in {path.parent.name for path in found}:
            ranges = store.ranges(key)  # raises if two overlap
            tally.doubled += sum(one[1] > other[0] for one, other in itertools.pairwise(ranges))
        tally.moments[how.partition(": ")[2] or how] += 1
        left = len(list(self.folder.rglob("*.temporary")))
        tally.moments["left a file half written"] += left > 0
        new = len(found) - len(self.stored)
        tally.moments["stored nothing new" if new == 0 else "stored new chunks"] += 1
        tally.moments["with all chunks stored" if len(found) == self.wanted else "with chunks missing"] += 1
        self.stored = found


def hunt(folder: Path, kills: int, chunks: int, fresh: int, seed: int) -> Tally:
    """Return what a study left that was killed so many times."""
    whole = prepare(folder / "whole", chunks)
    assert forked.run(whole, "run", "long").status == 0
    hunt = Hunt(prepare(folder / "killed", chunks), chunks, seed)
    for attempt in itertools.count():
        if hunt.tally.kills >= kills:
            break
        if fresh and hunt.random.randrange(kills) < fresh:
            way = hunt.kill_from_nothing
        else:
            way = hunt.kill_at_a_step if attempt % 2 == 0 else hunt.kill_at_a_time
        hunt.tally.kills += way()
    assert forked.run(hunt.folder, "run", "long").status == 0
    hunt.look([], "at the end")
    hunt.tally.chunks = len(hunt.stored)
    hunt.tally.equal = all(tree(whole / each) == tree(hunt.folder / each) for each in ("results", "figures"))
    return hunt.tally


def tree(folder: Path) -> str:
    """Return the SHA-256 of all files with their names."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def main() -> int:
    """Print what was found; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--chunks", type=int, default=600)
    parser.add_argument("--fresh", type=int, default=10, help="of processes that are not forked, about")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = hunt(Path(folder), **vars(options))
    print(f"{tally.kills} kills, {tally.chunks} chunks: {tally.lost} lost, {tally.doubled} doubled, "
          f"{tally.damaged} damaged, {tally.tracebacks} tracebacks; the same bytes: {tally.equal}")  # fmt: skip
    for moment, count in sorted(tally.moments.items()):
        print(f"  {count:4d} {moment}")
    return not tally.sound


if __name__ == "__main__":
    sys.exit(main())
