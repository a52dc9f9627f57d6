"""Fuzzing: random inputs to all that takes input from people or from the disk; none may end in a traceback or a hang.

python benchmarks/fuzz.py --inputs 1000000 --seed 0

Counts by target and outcome go to OUT/fuzz.csv, with a figure of them. An input that fails goes to OUT/failures (the
first few of a kind), as the choices that made it, which --replay FILE makes again. Engine ``mutation`` takes choices
from a seed, ``hypothesis`` from Hypothesis, and ``atheris``, where that is installed, from what reaches new code.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if "atheris" in sys.argv:  # before anything is imported that is to be followed; compiled code cannot be
    import atheris

    compiled = ["stabsim.kernels", "stabsim.activations", "stabsim.own_functions", "stabsim.own_statistics"]
    finder = atheris.instrument_imports(include=["stabsim"], exclude=compiled)
else:
    finder = contextlib.nullcontext()
with finder:
    from tests.fuzzing import OUTCOMES, TARGETS, Choices, Outcome, attempt, guarded

if TYPE_CHECKING:
    import pandas

ENGINES = ("mutation", "hypothesis", "atheris")
KEPT = 3  # failures of a kind
TICK = 10.0  # seconds between lines of progress
STUCK = 300.0  # seconds without a tick: what cannot be interrupted

Try = Callable[[Choices], Outcome]


class Session:
    """One target: what has become of its inputs so far."""

    def __init__(self, name: str, engine: str, seed: int, out: Path) -> None:
        self.name, self.engine, self.seed, self.out = name, engine, seed, out
        self.counts = dict.fromkeys(OUTCOMES, 0)
        self.kinds: Counter[str] = Counter()
        self.start = self.told = time.monotonic()
        self.seconds = 0.0

    @property
    def tried(self) -> int:
        """Return how many inputs have been tried."""
        return sum(self.counts.values())

    def attempt(self, choices: Choices, folder: Path) -> Outcome:
        """Try the input that choices make; count it, and keep it if it fails."""
        target = TARGETS[self.name]
        value = target.make(choices)
        outcome = attempt(target, value, folder)
        self.counts[outcome.kind] += 1
        if outcome.kind == "failed":
            self.keep(choices, value, outcome)
        if target.writes:
            empty(folder)
        self.seconds = time.monotonic() - self.start
        if time.monotonic() - self.told > TICK:
            self.told = time.monotonic()
            faulthandler.dump_traceback_later(STUCK, exit=True)
            print(f"{self.name}: {self.tried} inputs, {self.counts['failed']} failed", file=sys.stderr, flush=True)
        return outcome

    def keep(self, choices: Choices, value: Any, outcome: Outcome) -> None:
        """Write what makes the input again, and show it."""
        lines = [line.strip() for line in outcome.trace.splitlines() if line.strip().startswith("File")]
        kind = f"{lines[-1] if lines else ''} {outcome.problem[:40]}"
        self.kinds[kind] += 1
        if self.kinds[kind] > KEPT:
            return
        folder = self.out / "failures"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}_{self.engine}_{self.seed}_{self.tried}.json"
        document = {
            "target": self.name, "engine": self.engine, "seed": self.seed, "number": self.tried - 1,
            "input": shown(value), "problem": outcome.problem, "trace": outcome.trace, "choices": choices.taken,
        }  # fmt: skip
        path.write_text(json.dumps(document, indent=1))
        print(f"{self.name}: {outcome.problem}\n  {shown(value)[:300]}\n  {path}", flush=True)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row of the table for each outcome."""
        told = {"engine": self.engine, "seed": self.seed, "target": self.name, "seconds": round(self.seconds, 1)}
        return [told | {"outcome": outcome, "inputs": number} for outcome, number in self.counts.items()]


def shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # of an int that Python does not spell
        return f"{type(value).__name__}: {error}"


def empty(folder: Path) -> None:
    """Remove everything in a folder."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Be where a command line that writes beside its folder does no harm, with guards; give a folder for inputs."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="stabsim_fuzz_") as place, guarded():
        folder = Path(place) / "inputs"
        folder.mkdir()
        os.chdir(folder)
        faulthandler.dump_traceback_later(STUCK, exit=True)
        try:
            yield folder
        finally:
            faulthandler.cancel_dump_traceback_later()
            os.chdir(before)


def mutate(session: Session, inputs: int, seconds: float, folder: Path) -> None:
    """Try inputs of a seed."""
    for number in range(inputs):
        session.attempt(Choices.seeded(f"{session.name} {session.seed} {number}"), folder)
        if time.monotonic() - session.start > seconds:
            break


def explore(session: Session, inputs: int, seconds: float, folder: Path) -> None:
    """Try inputs that Hypothesis makes."""
    import hypothesis
    from hypothesis import strategies as st

    below = [st.integers(0, count - 1) for count in range(1, 257)]

    @hypothesis.seed(session.seed)
    @hypothesis.settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.data())
    def one(data: st.DataObject) -> None:
        if time.monotonic() - session.start < seconds:
            draw = data.draw
            session.attempt(
                Choices(lambda count: draw(below[count - 1] if count <= 256 else st.integers(0, count - 1))), folder
            )

    one()


def cover(session: Session, inputs: int, seconds: float, folder: Path) -> None:
    """Try inputs that atheris makes; it does not return, so that what is found is written before the end."""

    def one(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        session.attempt(Choices(lambda count: provider.ConsumeIntInRange(0, count - 1)), folder)
        if session.tried >= inputs or time.monotonic() - session.start > seconds:
            finish([session], session.out)
            sys.stdout.flush()
            os._exit(bool(session.counts["failed"]))

    atheris.Setup(
        [sys.argv[0], f"-seed={session.seed + 1}", "-max_len=4096", "-timeout=300", "-rss_limit_mb=4096"], one
    )
    atheris.Fuzz()


def finish(sessions: list[Session], out: Path) -> None:
    """Write the table, draw it and print it."""
    import pandas

    table = pandas.DataFrame([row for session in sessions for row in session.rows()])
    out.mkdir(parents=True, exist_ok=True)
    draw(table, out)
    counts = table.pivot_table(index="target", columns="outcome", values="inputs", sort=False)[list(OUTCOMES)].astype(
        int
    )
    print(counts.to_string())
    total = counts.sum()
    print(f"{total.sum()} inputs: {total.valid} valid, {total.refused} refused in one line, {total.failed} failed")


def draw(table: pandas.DataFrame, out: Path) -> None:
    """Draw how many inputs of each target had which outcome, told apart by marker and gray."""
    from stabsim import figures

    marks = {"valid": ("o", "black"), "refused": ("s", "white"), "failed": ("X", "red")}
    names = list(dict.fromkeys(table["target"]))
    with figures.style():
        figure, panels = figures.panels(height=0.2 * len(names) + 1.4)
        axes = panels[0, 0]
        for outcome, (marker, face) in marks.items():
            rows = table[(table["outcome"] == outcome) & (table["inputs"] > 0)]
            places = [names.index(name) for name in rows["target"]]
            axes.plot(rows["inputs"], places, marker, mfc=face, mec="black", ls="none", label=outcome)
        axes.set(xscale="log", xlabel="inputs", yticks=range(len(names)), yticklabels=names)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=True)
        total, failed = table["inputs"].sum(), table.loc[table["outcome"] == "failed", "inputs"].sum()
        axes.set_title(f"{total:,} inputs, {failed:,} failed")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
        figures.save(figure, "fuzz", out, table)


def replay(path: Path) -> bool:
    """Try the input of a file again, and print what becomes of it; return whether it fails."""
    document = json.loads(path.read_text())
    target = TARGETS[document["target"]]
    with scratch() as folder:
        outcome = attempt(target, target.make(Choices.again(document["choices"])), folder)
    print(f"{outcome.kind} {outcome.problem}\n{outcome.trace}", end="")
    return outcome.kind == "failed"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all targets together (default 1000000)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="at most, of all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=TARGETS, action="append", help="only these targets")
    parser.add_argument("--engine", choices=ENGINES, default="mutation", help="whence choices come")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of table, figure and failures")
    parser.add_argument("--replay", type=Path, help="a file of failures: try that input again, and nothing else")
    options = parser.parse_args()
    if options.replay is not None:
        return int(replay(options.replay))
    run = {"mutation": mutate, "hypothesis": explore, "atheris": cover}[options.engine]
    names = options.target or list(TARGETS)
    shares = {name: TARGETS[name].share / sum(TARGETS[each].share for each in names) for name in names}
    sessions = []
    for name, share in shares.items():
        sessions.append(Session(name, options.engine, options.seed, options.out.absolute()))
        with scratch() as folder:
            run(sessions[-1], max(round(options.inputs * share), 1), options.seconds * share, folder)
    finish(sessions, options.out)
    return int(any(session.counts["failed"] for session in sessions))


if __name__ == "__main__":
    sys.exit(main())
