"""Engines: whichever runs the chunks, and in whatever order they arrive, a study leaves the same bytes."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from pathlib import Path

import pytest

from stabsim.chunk import StoreError
from stabsim.collect import collect, progress
from stabsim.engines import ENGINES, Engine, EngineError, Range, engine, local
from stabsim.moments import Sums
from stabsim.names import unknown
from stabsim.result import Result
from stabsim.store import Store
from stabsim.study import Case
from tests.test_cli import Call, call
from tests.test_store import tree
from tests.test_study import quiet, study, task

__all__ = ["call"]  # a fixture

CASES = study([Case(task(), 9000, {"b": 1}), Case(task(batch=2), 5000, {"b": 2})]).checked_cases("quick")  # 3 and 2


def sums_of(range_: Range) -> Sums:
    (sums,) = range_.plan.run([(range_.first, range_.last)], 1)
    return sums


def backward(
    ranges: Sequence[Range], threads: int, pool: Callable[[], Executor] = ThreadPoolExecutor
) -> Generator[tuple[int, Sums]]:
    """Start with the last range, and yield whatever is done."""
    with pool() as workers:
        futures = {workers.submit(sums_of, ranges[place]): place for place in reversed(range(len(ranges)))}
        for future in as_completed(futures):
            yield futures[future], future.result()


def last_first(ranges: Sequence[Range], threads: int) -> Generator[tuple[int, Sums]]:
    """Yield in the order that is furthest from that of the nets."""
    for place in reversed(range(len(ranges))):
        yield place, sums_of(ranges[place])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole")
    with Store(directory) as store:
        collect(CASES, store, 1, quiet)
    return directory


SPAWN = functools.partial(ProcessPoolExecutor, 2, mp_context=multiprocessing.get_context("spawn"))
PROCESSES = functools.partial(backward, pool=SPAWN)


@pytest.mark.parametrize("other", [last_first, backward, PROCESSES], ids=["last first", "threads", "processes"])
def test_chunks_of_another_engine_are_the_same_in_any_order(other: Engine, tmp_path: Path, whole: Path) -> None:
    with Store(tmp_path) as store, Store(whole) as first:
        found = collect(CASES, store, 2, quiet, other)
        assert found.table.equals(collect(CASES, first, 1, quiet).table)
    assert tree(tmp_path) == tree(whole)


def test_a_study_run_by_another_engine_leaves_the_same_bytes(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("run", "tiny", "--out", "here")[0] == 0
    monkeypatch.setitem(ENGINES, "backward", backward)
    status, out, _ = call("run", "tiny", "--out", "there", "--engine", "backward")
    assert status == 0 and "8 of 8 chunks to simulate" in out
    for folder in ("results", "figures"):
        assert tree(Path("there") / folder) == tree(Path("here") / folder)


def test_an_engine_that_dies_loses_only_what_had_not_arrived(tmp_path: Path, whole: Path) -> None:
    def dying(ranges: Sequence[Range], threads: int) -> Generator[tuple[int, Sums]]:
        for done, (place, sums) in enumerate(last_first(ranges, threads)):
            if done == 2:
                raise OSError("the worker is gone")
            yield place, sums

    with Store(tmp_path) as store:
        with pytest.raises(OSError, match="the worker is gone"):
            collect(CASES, store, 1, quiet, dying)
        assert progress(CASES, store).stored == 2
        collect(CASES, store, 1, quiet, local)
    assert tree(tmp_path) == tree(whole)


def test_an_engine_that_leaves_chunks_out_is_refused(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def lazy(ranges: Sequence[Range], threads: int) -> Generator[tuple[int, Sums]]:
        yield from list(last_first(ranges[:3], threads))

    monkeypatch.setitem(ENGINES, "lazy", lazy)
    status, _, err = call("run", "tiny", "--engine", "lazy")
    assert (status, err) == (1, "stabsim: tiny: the engine ended with 5 of 8 chunks left out\n")
    assert "tiny   quick  3       8       0" in call("status")[1]


def test_progress_is_told_of_each_case(tmp_path: Path) -> None:
    told: list[tuple[str, int, int, int | None]] = []

    def note(label: str, done: int, wanted: int, current: Callable[[], Result | None]) -> None:
        found = current()
        told.append((label, done, wanted, None if found is None else found.nets))

    with Store(tmp_path) as store:
        collect(CASES, store, 1, note, last_first)
    two, one = "case 2 of 2 (2)", "case 1 of 2 (1)"
    assert told == [  # what comes before its turn is not in a result yet
        (two, 904, 5000, None),
        (two, 5000, 5000, 5000),
        (one, 808, 9000, None),
        (one, 4904, 9000, None),
        (one, 9000, 9000, 9000),
    ]


def test_a_chunk_that_is_damaged_before_its_turn_is_named(tmp_path: Path) -> None:
    def damaging(ranges: Sequence[Range], threads: int) -> Generator[tuple[int, Sums]]:
        for place, sums in last_first(ranges, threads):
            yield place, sums
            for path in tmp_path.glob("*/*.npz"):
                path.write_bytes(path.read_bytes()[:-1])

    with Store(tmp_path) as store, pytest.raises(StoreError, match=r"npz was whole, and is not any more: run the"):
        collect(CASES, store, 1, quiet, damaging)


def test_a_chunk_that_fails_is_named_and_the_others_are_stored(tmp_path: Path, whole: Path) -> None:
    def failing(ranges: Sequence[Range], threads: int) -> Generator[tuple[int, Sums | EngineError]]:
        for place, sums in last_first(ranges, threads):
            yield place, EngineError("its worker died") if place < 2 else sums

    named = (  # in the order of nets, though the last failed first
        r"^2 of 5 chunks failed: nets 0 to 4095 of case 1 of 2 \(1\): its worker died; "
        r"nets 4096 to 8191 of case 1 of 2 \(1\): its worker died$"
    )
    with Store(tmp_path) as store:
        with pytest.raises(EngineError, match=named):
            collect(CASES, store, 1, quiet, failing)
        assert progress(CASES, store).missing == 2
        collect(CASES, store, 1, quiet)
    assert tree(tmp_path) == tree(whole)


def test_an_unknown_engine_is_refused_with_the_nearest_first(call: Call) -> None:
    with pytest.raises(ValueError, match="unknown engine 'locale'; known, nearest first: local"):
        engine("locale")
    status, out, err = call("run", "tiny", "--engine", "locale")
    assert (status, out, err) == (2, "", f"stabsim run: {unknown('engine', 'locale', ENGINES)}\n")
