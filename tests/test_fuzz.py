"""Whatever people type or a disk holds: a valid object, or one line that says what is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzzing import OUTCOMES, TARGETS, Choices, Target, attempt, guarded

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import fuzz

INPUTS = {"commands": 50, "store": 100, "network": 150, "task": 150, "npz": 150}  # fewer of what takes longer
FUZZ = Path(__file__).resolve().parent.parent / "benchmarks" / "fuzz.py"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "inputs"
    place.mkdir()
    with guarded():
        yield place


def target(use: Callable[[str], object], refusals: tuple[type[Exception], ...] = (ValueError,)) -> Target:
    return Target(lambda c: "input", lambda value, _: use(value), refusals, "argument")


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder)
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_is_valid_or_refused_in_one_line(name: str, folder: Path) -> None:
    fuzzed, counts = TARGETS[name], dict.fromkeys(OUTCOMES, 0)
    for number in range(INPUTS.get(name, 300)):
        choices = Choices.seeded(f"test {name} {number}")
        outcome = attempt(fuzzed, fuzzed.make(choices), emptied(folder) if fuzzed.writes else folder)
        assert outcome.kind != "failed", f"{choices.taken}\n{outcome.problem}\n{outcome.trace}"
        counts[outcome.kind] += 1
    assert counts["valid"] and counts["refused"]


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["names", "objects", "network_json", "chunk"]), st.data())
def test_hypothesis_makes_inputs_of_the_same_targets(folder: Path, name: str, data: st.DataObject) -> None:
    choices = Choices(lambda count: data.draw(st.integers(0, count - 1)))
    outcome = attempt(TARGETS[name], TARGETS[name].make(choices), folder)
    assert outcome.kind != "failed", f"{outcome.problem}\n{outcome.trace}"


def refuse(message: str) -> Callable[[str], None]:
    def use(_: str) -> None:
        raise ValueError(message)

    return use


def allocate(_: str) -> None:
    np.ones(2**31)


def spin(_: str) -> None:
    while True:
        pass


@pytest.mark.parametrize(
    ("use", "problem"),
    [
        (lambda value: value.missing, "AttributeError: 'str' object has no attribute 'missing'"),
        (lambda _: dict[str, int]()["key"], "KeyError: 'key'"),
        (lambda _: warnings.warn("a warning", stacklevel=2), "UserWarning: a warning"),
        (refuse("argument\nof two lines"), "ValueError of 2 lines"),
        (refuse(""), "ValueError of 0 lines"),
        (refuse("argument " + "x" * 2000), "ValueError of 2009 characters"),
        (refuse("something is wrong"), "ValueError that names no argument or file"),
        (allocate, "MemoryError"),
        (spin, "more than 0.2 s"),
        (lambda _: time.sleep(60), "more than 0.2 s"),
    ],
)
def test_what_is_neither_is_caught(use: Callable[[str], object], problem: str, folder: Path) -> None:
    outcome = attempt(target(use), "input", folder, seconds=0.2)
    assert outcome.kind == "failed" and problem in outcome.problem and "Traceback" in outcome.trace


def test_what_is_allowed_is_told_apart(folder: Path) -> None:
    assert attempt(target(str.upper), "input", folder).kind == "valid"
    assert attempt(target(refuse("argument must be a number, not 'x'")), "input", folder).kind == "refused"
    other = target(refuse("argument must be a number"), (TypeError,))
    assert attempt(other, "input", folder).problem == "ValueError: argument must be a number"


def test_choices_make_the_same_input_again() -> None:
    for name, fuzzed in TARGETS.items():
        seeded = Choices.seeded(f"again {name}")
        made, again = fuzzed.make(seeded), fuzzed.make(Choices.again(seeded.taken))
        assert repr(made) == repr(again), name
        fuzzed.make(Choices.again([]))  # the plainest


def test_a_failure_is_kept_and_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = Target(lambda c: c.below(10), lambda value, _: [0][value + 1], (), "")
    monkeypatch.setitem(TARGETS, "planted", planted)
    session = fuzz.Session("planted", "mutation", 0, tmp_path)
    with fuzz.scratch() as place:
        fuzz.mutate(session, 20, 60.0, place)
    assert session.counts == {"valid": 0, "refused": 0, "failed": 20}
    kept = sorted((tmp_path / "failures").iterdir())
    assert len(kept) == fuzz.KEPT and all(fuzz.replay(path) for path in kept)


@pytest.mark.slow
def test_the_benchmark_counts_and_draws(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(FUZZ),
        "--inputs",
        "40",
        "--target",
        "names",
        "--target",
        "csv",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "40 inputs: " in done.stdout and done.stdout.endswith(" 0 failed\n")
    assert {path.name for path in tmp_path.iterdir()} >= {"fuzz.csv", "fuzz.png"}
    rows = (tmp_path / "fuzz.csv").read_text().splitlines()
    assert rows[0] == "engine,seed,target,seconds,outcome,inputs" and len(rows) == 1 + 2 * len(OUTCOMES)
