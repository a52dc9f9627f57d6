"""Faults: whatever befalls a run, one line says it or it is repaired; nothing is lost, nothing counted twice."""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import signal
import stat
import time
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from stabsim.chunk import encode
from stabsim.collect import collect
from stabsim.store import Store, task_key
from stabsim.study import Case
from stabsim.work import Work
from tests import faults, forked
from tests.kills import hunt, prepare, tree
from tests.test_cli import Call, call
from tests.test_study import quiet, task

__all__ = ["call"]  # a fixture

CHUNKS = 6
RUN = ("run", "long", "--threads", "1")
GOES_ON = "; all chunks done so far are kept, and the same command goes on"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that nothing befell."""
    folder = prepare(tmp_path_factory.mktemp("whole") / "run", CHUNKS)
    done = forked.run(folder, *RUN)
    assert (done.status, done.err) == (0, "")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the study."""
    return prepare(tmp_path / "run", CHUNKS)


def chunks(folder: Path) -> list[Path]:
    return sorted(folder.glob("**/chunks/*/*.npz"))


def completes(folder: Path, whole: Path, *options: str, out: str = ".") -> None:
    """Run again, and compare every byte."""
    done = forked.run(folder, *RUN, *options)
    assert done.status == 0, done
    for aside in (folder / out).rglob("*.damaged"):
        aside.rmdir() if aside.is_dir() else aside.unlink()
    for made in ("results", "figures"):
        assert tree(folder / out / made) == tree(whole / made)


# --- kills and signals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size",
    [
        {"kills": 8, "chunks": 20, "fresh": 0, "seed": 1},
        pytest.param({"kills": 200, "chunks": 600, "fresh": 10, "seed": 0}, marks=pytest.mark.slow),
    ],
    ids=["8", "200"],
)
def test_a_study_that_is_killed_again_and_again_loses_and_doubles_nothing(tmp_path: Path, size: dict[str, int]) -> None:
    tally = hunt(tmp_path, **size)
    assert tally.sound and (tally.kills, tally.chunks) == (size["kills"], size["chunks"]), tally
    assert tally.moments["left a file half written"], tally


@pytest.mark.parametrize(
    ("number", "where"),
    [
        (signal.SIGINT, "simulating"), (signal.SIGTERM, "simulating"), (signal.SIGHUP, "simulating"),
        (signal.SIGTERM, "measuring"), (signal.SIGINT, "drawing"), (signal.SIGTERM, "drawing"),
    ],
)  # fmt: skip
def test_a_signal_ends_a_run_in_one_line_and_it_goes_on(
    folder: Path, whole: Path, number: signal.Signals, where: str
) -> None:
    done = forked.run(folder, *RUN, fault=functools.partial(faults.signalled, where, number))
    by = "" if number == signal.SIGINT else f" by {number.name}"
    assert (done.status, done.err) == (128 + number, f"stabsim run: interrupted{by}{GOES_ON}\n")
    assert len(chunks(folder)) == (3 if where == "simulating" else CHUNKS)
    assert not list(folder.rglob("*.temporary"))
    completes(folder, whole)


ENSEMBLE = ("simulate", "--widths", "4,4,4", "--activation", "relu", "--weights", "he_normal", "--nets", "99999")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_simulate_in_one_line(folder: Path, number: signal.Signals) -> None:
    names = ("--quantities", "activation_log10_norm", "--output", "table.csv")
    fault = functools.partial(faults.signalled, "simulating an ensemble", number)
    done = forked.run(folder, *ENSEMBLE, *names, fault=fault)
    by = "" if number == signal.SIGINT else " by SIGTERM"
    assert done == forked.Done(128 + number, "", f"stabsim simulate: interrupted{by}\n")
    assert not (folder / "table.csv").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(folder: Path, whole: Path, number: signal.Signals) -> None:
    fault = functools.partial(faults.signalled, "simulating", number, again=True)
    done = forked.run(folder, *RUN, fault=fault)
    assert (done.status, done.err) == (128 + number, "stabsim: interrupted again, and stopped at once\n")
    completes(folder, whole)


def test_a_signal_that_is_ignored_stays_ignored(folder: Path) -> None:
    assert forked.run(folder, *RUN, fault=faults.hung_up_under_nohup).status == 0


def test_nobody_reads_what_is_printed(folder: Path) -> None:
    done = forked.run(folder, "list", "activations", fault=faults.closed_pipe)
    assert (done.status, done.err) == (1, "")


def test_signals_are_left_as_they_were(call: Call) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert call("list", "studies")[0] == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


# --- disk --------------------------------------------------------------------------------------------


def may_mount(folder: Path) -> None:
    """Skip where this process may not mount a disk of its own."""
    if forked.run(folder, "list", fault=functools.partial(faults.can_mount, str(folder))).status:
        pytest.skip("mounting in a namespace of one's own is refused here: unshare --map-root-user --mount says so")


def test_a_disk_that_is_full_at_each_file_in_turn(folder: Path, whole: Path) -> None:
    may_mount(folder)
    page, made = 4096, [path for path in whole.glob("[rf]*/**/*.*") if path.is_file() and path.name != ".lock"]
    made.sort(key=lambda path: path.stat().st_mtime_ns)
    needed = list(itertools.accumulate((-(-path.stat().st_size // page) * page for path in made), initial=page))
    sizes = [*needed[1:-1], 2 * needed[-1]]  # a page is the lock's: each size is one too few for one more file
    fault = functools.partial(faults.growing_disk, (*RUN, "--out", "disk"), sizes, str(folder / "grown"))
    done = forked.run(folder, "list", fault=fault)
    assert done.status == 0 and done.err.count("\n") == 2 * len(sizes) - 1, done.err
    problems = [line for line in done.err.splitlines() if line != "leftovers: 0"]
    assert len(problems) == len(sizes) - 1
    form = re.compile(r"stabsim: long: --out=disk: cannot write disk/(\S*): No space left on device")
    named = {match[1] for problem in problems if (match := form.fullmatch(problem))}
    assert all(form.fullmatch(problem) for problem in problems)
    for what in ("task.json", "-000004096.npz", "measured_quick.csv", "verdicts.json"):
        assert any(name.endswith(what) for name in named), (what, named)
    for each in ("results", "figures"):
        assert tree(folder / "grown" / each) == tree(whole / each)


@pytest.mark.parametrize(("most", "name"), [(300, "task.json"), (2000, ".npz")])
def test_a_file_that_may_not_grow(folder: Path, whole: Path, most: int, name: str) -> None:
    done = forked.run(folder, *RUN, fault=functools.partial(faults.file_size, most))
    assert done.status == 1 and done.err.startswith("stabsim: long: --out=.: ") and done.err.count("\n") == 1
    assert done.err.endswith(f"{name}: File too large\n") and not list(folder.rglob("*.temporary"))
    completes(folder, whole)


def test_a_disk_that_is_read_only(folder: Path) -> None:
    may_mount(folder)
    fault = functools.partial(faults.read_only_disk, str(folder / "studies"))
    done = forked.run(folder, *RUN, "--out", "studies", fault=fault)
    problem = "cannot open the study in studies/results/long/chunks: Read-only file system"
    assert (done.status, done.err) == (1, f"stabsim: long: --out=studies: {problem}\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user; permissions hold for us as it is")
def test_files_that_permissions_forbid(whole: Path) -> None:
    def problem() -> str:
        done = forked.run(whole, *RUN, fault=faults.unprivileged)
        assert done.status == 1 and done.err.count("\n") == 1
        return done.err

    for parent in whole.parents:
        if not (mode := parent.stat().st_mode) & stat.S_IXOTH:
            parent.chmod(mode | 0o055)
    assert "cannot open the study in results/long/chunks: Permission denied" in problem()
    for path in (whole / "results").rglob("*"):
        os.chown(path, faults.NOBODY, faults.NOBODY)
    chunk = chunks(whole)[0]
    chunk.chmod(0)
    assert f"cannot read {chunk.relative_to(whole)}: Permission denied" in problem()
    chunk.chmod(0o644)
    assert "cannot write figures/long.png: Permission denied" in problem()


def in_the_way(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("in the way")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda out: in_the_way(out / "results"), "cannot open the study in o/results/long/chunks: Not a directory"),
        (lambda out: in_the_way(out / "results/long"), "cannot open the study in o/results/long/chunks: Not a"),
        (lambda out: (out / "results").symlink_to("nowhere"), "cannot open the study in o/results/long/chunks: "),
        (lambda out: (out / "results/long/verdicts.json/x").mkdir(parents=True), "cannot write o/results/long/verdict"),
        (lambda out: (out / "results/long/measured_quick.csv").mkdir(parents=True), "cannot read o/results/long/meas"),
        (lambda out: (out / "figures/long.pdf").mkdir(parents=True), "cannot write o/figures/long.pdf: Is a directory"),
    ],
)  # fmt: skip
def test_what_is_in_the_way_is_named(folder: Path, make: Callable[[Path], None], problem: str) -> None:
    (folder / "o").mkdir()
    make(folder / "o")
    done = forked.run(folder, *RUN, "--out", "o")
    assert done.status == 1 and done.err.startswith(f"stabsim: long: --out=o: {problem}") and done.err.count("\n") == 1


def test_an_out_with_spaces_and_letters_of_all_kinds(folder: Path, whole: Path) -> None:
    completes(folder, whole, "--out", "my results – σ/第1", out="my results – σ/第1")


def test_results_that_are_removed_meanwhile(folder: Path, whole: Path) -> None:
    done = forked.run(folder, *RUN, fault=functools.partial(faults.removed, "results"))
    assert done.status == 1 and done.err.startswith("stabsim: long: --out=.: cannot write results/long/chunks/")
    assert done.err.count("\n") == 1
    completes(folder, whole)


# --- damage ------------------------------------------------------------------------------------------


def flipped(data: bytes) -> bytes:
    return data[:300] + bytes([data[300] ^ 16]) + data[301:]


def test_damage_of_every_kind_is_repaired_and_said(folder: Path, whole: Path) -> None:
    assert forked.run(folder, *RUN).status == 0
    found = chunks(folder)
    task, other = sorted(folder.rglob("task.json"))[:2]
    damages: dict[Path, Callable[[bytes], bytes]] = {
        found[0]: lambda data: data[:-1],
        found[1]: flipped,
        found[2]: lambda data: b"",
        found[3]: lambda data: found[4].read_bytes(),  # other nets of the same task
        task: lambda data: data[:-9],
        other: lambda data: b"",
    }
    for path, damage in damages.items():
        path.write_bytes(damage(path.read_bytes()))
    # What a version to come leaves lies in a folder of its own, and notes are nobody's business.
    text = json.dumps({"format": 99})
    newer = found[0].parent.parent / task_key(text)
    newer.mkdir()
    (newer / "task.json").write_text(text + "\n")
    (newer / "000000000-000000008.npz").write_bytes(b"a format to come")
    (newer / "notes.txt").write_text("mine")
    before = tree(newer)
    done = forked.run(folder, *RUN)
    assert done.status == 0 and "4 of 6 chunks to simulate" in done.out
    said = done.err.splitlines()
    assert len(said) == len(damages)
    for path in damages:
        assert any(f"long: {path.relative_to(folder)} is set aside and made again (" in line for line in said)
        assert path.with_name(path.name + ".damaged").exists()
    assert tree(newer) == before
    for path in (*newer.iterdir(), newer):
        path.rmdir() if path.is_dir() else path.unlink()
    completes(folder, whole)
    assert forked.run(folder, *RUN).err == ""


def test_chunks_that_overlap_are_named_and_folders_in_place_of_chunks_set_aside(folder: Path, whole: Path) -> None:
    assert forked.run(folder, *RUN).status == 0
    first, second = chunks(folder)[:2]
    second.unlink()
    overlapping = second.with_name("000004095-000008191.npz")
    overlapping.write_bytes(encode(second.parent.name, 4095, 8191, {}))
    done = forked.run(folder, *RUN)
    assert done.status == 1 and done.err.count("\n") == 1
    assert f"{first.name} and {overlapping.name} in results/long/chunks/{first.parent.name} overlap" in done.err
    overlapping.unlink()
    second.mkdir()
    completes(folder, whole)
    assert second.is_file()


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b'a,b\n"1,2\n3,4'])
def test_a_table_of_measurements_that_is_none_is_named(folder: Path, data: bytes) -> None:
    path = folder / "results" / "long" / "measured_quick.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    done = forked.run(folder, *RUN)
    assert done.status == 1 and done.err.count("\n") == 1
    assert done.err.startswith("stabsim: long: ") and done.err.endswith(": delete it to measure again\n")
    assert "results/long/measured_quick.csv: " in done.err


# --- others at the same time, clock, memory -----------------------------------------------------------


def test_ten_coordinators_started_together(folder: Path, whole: Path) -> None:
    signal_path = folder / "go"
    fault = functools.partial(faults.waits_for, str(signal_path), 0.2)
    folders = []
    for number in range(10):  # of each the output, but one study
        own = prepare(folder / f"{number}", CHUNKS)
        folders.append(own)
    commands = [forked.start(own, *RUN, "--out", "..", fault=fault) for own in folders]
    time.sleep(0.5)
    signal_path.touch()
    ended = [command.wait() for command in commands]
    won = [done for done in ended if done.status == 0]
    lost = [done for done in ended if done.status == 1]
    assert won and lost and len(won) + len(lost) == 10
    for done in lost:
        assert "is in use by process " in done.err and done.err.count("\n") == 1
    assert [done.err for done in won] == [""] * len(won)
    for made in ("results", "figures"):
        assert tree(folder / made) == tree(whole / made)


def test_a_clock_that_jumps_changes_nothing(folder: Path, whole: Path) -> None:
    done = forked.run(folder, *RUN, fault=faults.clock_jumps)
    lines = done.err.splitlines()
    assert done.status == 0 and len(lines) == CHUNKS, done
    shown = [int(line.partition(": ")[2].split()[0]) for line in lines]
    assert shown == [4096, 8192, 12288, 4096, 8192, 11288]
    for made in ("results", "figures"):
        assert tree(folder / made) == tree(whole / made)


@pytest.mark.parametrize("order", [list, reversed])
@pytest.mark.parametrize("stored", [False, True], ids=["nothing stored", "all but the first stored"])
def test_memory_does_not_grow_with_sums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: bool, order: Callable[[range], Iterable[int]]
) -> None:
    """A chunk takes what it is called by, 0.6 kB, and not what it holds, in whatever order chunks arrive."""
    tasks = task()
    (sums,) = Work(Case(tasks, 4096)).plan.run([(0, 4096)], 1)
    monkeypatch.setattr("os.fsync", lambda _: None)

    def peak(number: int) -> int:
        with Store(tmp_path / str(number)) as store:
            case = Case(tasks, 4096 * number)
            for chunk in Work(case).chunks[1:] if stored else ():
                chunk.write(store, sums)
            tracemalloc.start()
            try:
                collect([case], store, 1, quiet, lambda ranges, _: ((p, sums) for p in order(range(len(ranges)))))
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    peak(3)
    few, many = peak(100), min(peak(400), peak(401))  # Python's table of names, of 4 MB, may be moved once
    assert (many - few) / 300 < 1000 < sum(array.nbytes for array in sums.to_arrays().values()) / 2


def test_too_little_memory_is_one_line_and_keeps_what_is_stored(folder: Path) -> None:
    path = folder / "studies" / "long.py"
    task = "make_task(Network((9000,) * 3, 'relu', 'he_normal'), sampler='dense')"
    wide = f"    yield Case({task}, 1, {{'weights': 'wide'}})\n"
    path.write_text(path.read_text().replace("\n\ndef draw", f"{wide}\n\ndef draw", 1))
    done = forked.run(folder, *RUN, fault=functools.partial(faults.little_memory, 100_000_000))
    assert done.status == 1 and done.err.count("\n") == 1 and done.err.startswith("stabsim: long: "), done.err
    assert len(chunks(folder)) == CHUNKS


# --- studies that are wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "body", "problem"),
    [
        ("cases", "return 3", "TypeError"),
        ("cases", "return [1]", "1 is no Case"),
        ("cases", "raise BaseException('two\\nlines')", "BaseException: two lines"),
        ("cases", "raise SystemExit(0)", "SystemExit: 0"),
        ("cases", "yield from __import__('itertools').repeat(None)", "gives more than 100000"),
        ("cases", "yield Case(TASK, 1, {'a': float('nan')})", "tag 'a'=nan tells no rows apart"),
        ("draw", "return None", "TypeError"),
        ("draw", "return [7]", "AttributeError"),
        ("verdicts", "return [None]", "None is no Verdict"),
        ("verdicts", "raise MemoryError", "MemoryError"),
        ("measure", "return 'a table'", "must return a pandas.DataFrame, not 'a table'"),
        ("measure", "raise OSError(28, 'No space left on device')", "OSError: [Errno 28] No space left on device"),
    ],
)
def test_functions_that_fail_or_give_what_is_not_asked_for(call: Call, function: str, body: str, problem: str) -> None:
    text = f"""
from stabsim.arguments import make_task
from stabsim.network import Network
from stabsim.study import Case, Study
TASK = make_task(Network((4, 4, 4), "relu", "he_normal"), quantities=("activation_log10_norm",))
functions = dict(cases=lambda scale: [Case(TASK, 9)], draw=lambda collected: [])
def {function}(given):
    {body}
study = Study("wrong", "", claims=(), **functions | {{"{function}": {function}}})
"""
    Path("studies/wrong.py").write_text(text)
    status, _, err = call("run", "wrong")
    assert status == 1 and err.count("\n") == 1, err
    assert err.startswith(f"stabsim: wrong: {function} of studies/wrong.py: ") and problem in err
