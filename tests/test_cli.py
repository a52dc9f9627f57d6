"""The command line: what it prints, what it leaves behind, how it exits."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numba
import numpy as np
import pandas
import pytest
from numba.core import event

from stabsim import study as declarations
from stabsim.activations import ACTIVATIONS
from stabsim.cli import compiling, main
from stabsim.cli.group import VERBS
from stabsim.cli.list import KINDS
from stabsim.cli.progress import LiveProgress
from stabsim.cli.warmup import prune
from stabsim.network import Network
from stabsim.quantities import PLAIN, QUANTITIES
from stabsim.simulation import simulate
from stabsim.store import Store
from tests.test_store import tree

STUDY = '''
"""Eight chunks of a tenth of a second."""

from stabsim.cli import run_script
from stabsim.figures import against_depth, panels
from stabsim.network import Network
from stabsim.study import Case, Drawing, Study, Verdict
from stabsim.arguments import make_task

NORM = "activation_log10_norm"


def cases(scale):
    for weights in ("he_normal", "glorot_normal"):
        task = make_task(Network((30,) * 21, "relu", weights), quantities=(NORM,), sampler="dense")
        yield Case(task, {"quick": 8000, "paper": 10_000}[scale], {"weights": weights})


def draw(collected):
    figure, axes = panels()
    against_depth(axes[0, 0], collected.table, by="weights", ylabel=NORM)
    yield Drawing(figure, collected.table)


def verdicts(collected):
    row = collected.table.query("layer == 20 and weights == 'he_normal'").iloc[0]
    found = "holds" if row.ci_low < 1 else "fails"
    yield Verdict("X01", found, row.estimate, row.ci_low, row.ci_high, row.theory, "log10 norm")


study = Study(name="tiny", title="A tiny study", cases=cases, draw=draw, claims=("X01",), verdicts=verdicts)

if __name__ == "__main__":
    run_script(study)
'''

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line in an empty folder with one study; return exit status, output and errors."""
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "tiny.py").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stabsim.discovery._PACKAGE", tmp_path / "package")

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    return run


def start(
    *arguments: str, stdout: int | IO[str] = subprocess.PIPE, stderr: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    # What runs in the background of a shell script ignores Ctrl-C, and so does what it starts.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heed}; from stabsim.cli import main; main()", *arguments]
    path = os.pathsep.join([str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(command, stdout=stdout, stderr=stderr, text=True, env={**os.environ, "PYTHONPATH": path})


# --- help and bad usage ------------------------------------------------------------------------------


def test_help_imports_nothing_that_is_slow() -> None:
    program = """
import sys
from stabsim.cli.group import VERBS, group
for verb in VERBS:
    group.main([verb, "--help"], standalone_mode=False)
group.main(["--help"], standalone_mode=False)
group.main(["--version"], standalone_mode=False)
print({"numpy", "numba", "pandas", "scipy", "matplotlib", "seaborn", "rich"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_help_and_version(call: Call) -> None:
    status, out, _ = call()
    assert status == 0 and all(f"\n  {verb} " in out for verb in VERBS)
    assert call("--help") == (0, out, "")
    version, formats = call("--version")[1].splitlines()
    assert version.startswith("stabsim 0.") and formats.startswith("stream 1, record 3, chunk 1, table 1, ")
    assert f"[{'|'.join(declarations.SCALES)}]" in call("run", "--help")[1]


NET = ("--activation", "relu", "--weights", "he_normal", "--nets", "4")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "unknown command 'rnu'; known, nearest first: run"),
        (["run", "--sale", "quick"], "unknown option '--sale'; known, nearest first: --scale"),
        (["run"], "name studies, or give --all; there are tiny"),
        (["run", "tiny", "--all"], "stabsim run: tiny and --all are both given"),
        (["run", "tiny", "tiny"], "study 'tiny' is given 2 times"),
        (["run", "--scale"], "stabsim run: Option '--scale' requires an argument"),
        (["verify", "--out", "nowhere"], "'--out': Directory 'nowhere' does not exist"),
        (["status", "--out", "nowhere"], "'--out': Directory 'nowhere' does not exist"),
        (["run", "tinny"], "unknown study 'tinny'; known, nearest first: tiny"),
        (["run", "tiny", "--scale", "huge"], "'huge' is not one of 'quick', 'paper'"),
        (["run", "tiny", "--seed", "-1"], "--seed must be an integer from 0 to 18446744073709551615, not -1"),
        (["run", "tiny", "--threads", "0"], "--threads must be an integer from 1 to 1024, not 0"),
        (["status", "tinny"], "unknown study 'tinny'; known, nearest first: tiny"),
        (["list", "relu"], "'relu' is not one of 'activations'"),
        (["simulate", "--depth", "3"], "option --activation is missing: such as"),
        (["simulate", *NET], "give either --depth and --width, or --widths"),
        (["simulate", "--depth", "3", *NET], "--width is missing"),
        (["simulate", "--depth", "0", "--width", "3", *NET], "depth must be an integer from 1 to 1000000, not 0"),
        (["simulate", "--depth", "99999999999", "--width", "3", *NET], "to 1000000, not 99999999999"),
        (["simulate", "--widths", "3,3", *NET, "--activation", "leaky_relu(slope=1e300)"],
         "and --bias-std=0.0, with up to 3 units a layer, led to numbers beyond"),
        (["simulate", "--widths", "3,3", *NET, "--quantities", ""], "'' is not a list of names such as"),
        (["simulate", "--widths", "3,3", *NET, "--output", ""], "--output='' must be the name of a file"),
        (["simulate", "--widths", "3,3", *NET, "--output", "/proc/x.csv"], "--output=/proc/x.csv cannot be written"),
        (["simulate", "--widths", "3,3", *NET, "--output", "studies"], "'studies' is a directory"),
        (["simulate", "--depth", "3", "--width", "3", "--widths", "3,3", *NET], "give either"),
        (["simulate", "--widths", "3,x", *NET], "'3,x' is not a list of whole numbers"),
        (["simulate", "--widths", "3,0", *NET], "widths must be integers >= 1, not 0"),
        (["simulate", "--widths", "3,3", *NET, "--activation", "rleu"], "unknown activation 'rleu'; known, nearest"),
        (["simulate", "--widths", "3,3", *NET, "--nets", "0"], "nets must be an integer from 1"),
        (["simulate", "--widths", "3,3", *NET, "--nets", "many"], "'many' is not a valid integer"),
        (["simulate", "--widths", "3,3", *NET, "--bias-std", "nan"], "bias_std must be a finite number >= 0, not nan"),
        (["simulate", "--widths", "3,3", *NET, "--sampler", "dens"], "unknown sampler 'dens'; known, nearest"),
        (["simulate", "--widths", "3,3", *NET, "--inputs", "digits"], "inputs must have shape"),
        (["simulate", "--widths", "3,3", *NET, "--threads", "0"], "threads must be an integer from 1 to 1024, not 0"),
        (["simulate", "--widths", "3,3", *NET, "--quantities", "norm"], "unknown quantity 'norm'"),
        (["simulate", "--widths", "3,3", *NET, "--output", "no/such/x.csv"], "there is no folder no/such"),
        (["simulate", "--widths", "3,3", *NET, "--target-rel-error", "1"], "be a finite number > 0 and < 1, not 1.0"),
        (["simulate", "--widths", "3,3", *NET, "--target-rel-error", "0.1"], "name quantities without preactivation_m"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_line_and_status_2(call: Call, arguments: list[str], message: str) -> None:
    status, out, err = call(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err and err.startswith("stabsim")


def test_what_is_given_is_repeated_in_a_short_line(call: Call) -> None:
    status, out, err = call("simulate", *NET, "--widths", "3,3", "x" * 50_000)
    assert (status, out, err.count("\n")) == (2, "", 1) and len(err) < 1000
    status, out, err = call("run", "x" * 50_000)
    assert (status, out, err.count("\n")) == (2, "", 1) and len(err) < 1000


def test_a_folder_of_two_lines_is_told_in_one(call: Call) -> None:
    status, _, err = call("plot", "tiny", "--out", "a\rb\nc")
    assert status == 1 and len(err.splitlines()) == 1 and "--out 'a b c'" in err


def test_a_file_whose_name_is_no_text_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "tiny" / "chunks"
    folder.mkdir(parents=True)
    (folder / os.fsdecode(b"\xff\xfe")).touch()
    with start("verify", "--out", str(tmp_path)) as process:
        out, err = process.communicate()
    assert process.returncode == 1 and r"\udcff\udcfe': not a file of this store" in out
    assert err.startswith("stabsim verify: 1 of 1 file is bad: the next run makes chunks, tasks and verdicts again; ")


# --- simulate, list ----------------------------------------------------------------------------------


def test_simulate_prints_a_table_and_writes_another(call: Call) -> None:
    arguments = ("simulate", "--depth", "5", "--width", "8", *NET, "--nets", "100", "--batch", "2", "--seed", "3")
    status, out, _ = call(*arguments, "--output", "table.csv")
    assert status == 0 and "batch 2, seed 3" in out and "table.csv" in out
    rows = [line.split() for line in out.splitlines() if line.startswith("  ")]
    assert rows[0] == ["quantity", "layer", "estimate", "interval", "theory"]
    assert {row[0] for row in rows[1:]} == {name for name, entry in PLAIN.items() if not entry.on_request}
    layers = {row[0]: row[1] for row in rows}
    assert layers["activation_mean"] == "5" and layers["activation_gradient_mean"] == "0"

    direct = simulate(Network((8,) * 6, "relu", "he_normal"), nets=100, batch=2, seed=3).table
    written = pandas.read_csv("table.csv", engine="python")
    assert written.astype({"quantity": str}).equals(direct.astype({"quantity": str}))


def test_simulate_rounds_to_a_format_and_clips(call: Call) -> None:
    net = ("--depth", "5", "--width", "8", *NET, "--nets", "20")
    status, out, err = call("simulate", *net, "--precision", "float16", "--loss-scale", "1024")
    assert (status, err) == (0, "") and "activation_gradient_underflow_fraction" in out
    status, out, err = call("simulate", *net, "--clipping", "value(bound=0.5)")
    assert (status, err) == (0, "") and "clipped_gradient_cosine" in out
    status, out, err = call("simulate", *net, "--precision", "float16", "--sampler", "matrix_free")
    assert (status, out) == (2, "") and "sampler='matrix_free' does not run nets with precision='float16'" in err
    status, out, err = call("simulate", *net, "--precision", "float16", "--loss-scale", "1000")
    assert (status, out) == (2, "") and "loss_scale must be a power of two, not 1000.0" in err


@pytest.mark.parametrize("option", ["--normalization", "--skip", "--clipping"])
def test_none_is_as_if_nothing_were_given(call: Call, option: str) -> None:
    net = ("simulate", "--widths", "3,3", *NET, "--nets", "2")
    assert call(*net, option, "None") == call(*net, option, "none") == call(*net)
    status, out, err = call(*net, option, "nothing")
    assert (status, out) == (2, "") and f"unknown {option[2:]} 'nothing'" in err and "None" not in err


def test_python_m_stabsim_is_the_command_line() -> None:
    found = subprocess.run([sys.executable, "-m", "stabsim", "--version"], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("stabsim")


def test_a_table_that_cannot_be_written_is_one_line(call: Call) -> None:
    status, out, err = call("simulate", "--widths", "3,3", *NET, "--nets", "1", "--output", "/dev/full")
    assert status == 1 and out.startswith("1 net of ")
    assert err == "stabsim simulate: --output=/dev/full cannot be written: No space left on device\n"


def test_a_warning_of_a_simulation_is_one_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stabsim.result.Result.overflowed", lambda _: ["left the range"], raising=False)
    status, out, err = call("simulate", "--widths", "3,3", *NET)
    assert (status, err) == (0, "stabsim simulate: left the range\n") and "4 nets of" in out


def test_too_little_memory_is_one_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("stabsim.simulation.simulate", fail)
    status, _, err = call("simulate", "--widths", "3,3", *NET)
    assert (status, err) == (1, "stabsim simulate: not enough memory\n")


def test_an_output_that_is_full_is_one_line() -> None:
    with open("/dev/full", "w") as full, start("list", "datasets", stdout=full) as process:
        _, err = process.communicate()
    assert (process.returncode, err) == (1, "stabsim list: [Errno 28] No space left on device\n")


def test_simulate_says_where_few_nets_own_the_mean(call: Call) -> None:
    arguments = ("--depth", "60", "--width", "3", *NET, "--nets", "300", "--quantities", "activation_mean_square")
    assert "which has not converged: activation_mean_square: layers" in call("simulate", *arguments)[1]


def test_simulate_stops_at_a_target_or_says_that_it_did_not(call: Call) -> None:
    arguments = ("simulate", *NET, "--nets", "3000", "--quantities", "activation_mean_square", "--target-rel-error")
    status, out, err = call(*arguments, "0.3", "--depth", "3", "--width", "20")
    assert (status, err) == (0, "") and out.endswith(
        "all intervals are within 0.3 of their estimates, at every layer\n"
    )
    status, out, err = call(*arguments, "0.3", "--depth", "40", "--width", "10")
    assert status == 0 and "within" not in out and "which has not converged: activation_mean_square: layers" in out
    assert err.startswith("stabsim simulate: target_rel_error=0.3 is not reached by 3000 nets; furthest from it is ")
    assert err.count("\n") == 1 and "few nets own the mean" in err


def test_compiling_is_told_once_where_it_takes_a_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    teller = compiling.Teller()
    for patience, told in ((60.0, 0), (0.0, 1), (0.0, 0)):
        monkeypatch.setattr(compiling, "PATIENCE", patience)
        teller.on_start(None)
        if teller.timer is not None and not patience:
            teller.timer.join(30)
        teller.on_end(None)
        assert capsys.readouterr().err.count("compiling, once for each kind of net") == told


def test_numba_tells_when_it_compiles() -> None:
    teller = compiling.Teller()
    event.register("numba:compile", teller)
    try:
        numba.njit(lambda x: x + 1)(1.5)
    finally:
        event.unregister("numba:compile", teller)
    assert teller.open == 0 and teller.timer is not None and not teller.told


@pytest.mark.parametrize("seconds", [0.0, 0.7, 2.1])
def test_a_signal_ends_compiling_in_one_line(seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    process = start("simulate", "--widths", "3,3", *NET)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("compiling, once for each kind of net")
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=60)[1]
    assert (process.returncode, err) == (143, "stabsim simulate: interrupted by SIGTERM\n")


def said_when_stopped_in_a_call(definition: str) -> str:
    """Return what a program says whose ``call()`` sends it SIGTERM."""
    program = f"""
import ctypes, os, signal, sys, time, types
from stabsim.cli.group import Stopped, _heeding_signals

{definition}
try:
    with _heeding_signals():
        call()
        time.sleep(30)
except Stopped as stop:
    sys.exit(f"stopped by {{stop.number}}")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=25)
    return done.stderr


def test_a_signal_waits_until_llvm_is_left() -> None:
    said = said_when_stopped_in_a_call("""
def call():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.1)
    sys.stderr.write("left, ")

call = types.FunctionType(call.__code__, {**globals(), "__name__": "llvmlite.binding.ffi"})
""")
    assert said == f"left, stopped by {signal.SIGTERM}\n"


def test_a_signal_that_a_callback_swallows_is_raised_all_the_same() -> None:
    said = said_when_stopped_in_a_call("call = ctypes.CFUNCTYPE(None)(lambda: os.kill(os.getpid(), signal.SIGTERM))")
    assert said == f"stopped by {signal.SIGTERM}\n"


def test_list_names_everything(call: Call) -> None:
    status, out, _ = call("list")
    assert status == 0 and all(f"{kind}:\n" in out for kind in KINDS)
    assert all(any(line.startswith(f"  {name}") for line in out.splitlines()) for name in (*ACTIVATIONS, *QUANTITIES))
    assert call("list", "studies") == (0, "studies:\n  tiny  A tiny study [X01]\n", "")
    assert "digits_raw" in call("list", "datasets")[1]


# --- run ---------------------------------------------------------------------------------------------


def test_run_simulates_once_and_leaves_the_same_bytes(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "8 of 8 chunks missing, each up to about a second of one core\n" in call("run", "tiny", "--dry-run")[1]
    assert not Path("results").exists()
    status, out, _ = call("run", "tiny", "--threads", "1")
    assert status == 0 and "8 of 8 chunks to simulate" in out and "X01  holds: 0.3" in out
    assert {path.name for path in Path("figures").iterdir()} == {
        f"tiny.{kind}" for kind in ("png", "pdf", "svg", "csv")
    }
    assert (Path("results") / "tiny" / "verdicts.json").exists()
    before = tree(Path("results")), tree(Path("figures"))

    monkeypatch.setattr("stabsim.plan.Plan.run", None)
    status, out, _ = call("run", "--all")
    assert status == 0 and "all 8 chunks are stored, nothing is simulated" in out
    for path in Path("figures").iterdir():
        path.unlink()
    assert call("plot") == (0, "  figures/tiny.png, .pdf, .svg and .csv\n", "")
    assert (tree(Path("results")), tree(Path("figures"))) == before
    assert call("status")[1].splitlines()[1:] == [
        "tiny   quick  8       8       0",
        "tiny   paper  6       10      0",
    ]
    assert call("verify", "--resimulate", "0") == (0, "13 files, all sound\n", "")


def test_what_is_missing_or_damaged_is_named(call: Call, tmp_path: Path) -> None:
    status, _, err = call("plot", "tiny", "--seed", "3")
    assert (status, err) == (
        1,
        "stabsim: tiny: 8 of 8 chunks are missing or damaged: stabsim run tiny --scale quick --seed 3\n",
    )
    out = tmp_path / "elsewhere"
    assert call("run", "tiny", "--out", str(out))[0] == 0
    chunk = next(out.rglob("*.npz"))
    chunk.write_bytes(chunk.read_bytes()[1:])
    status, printed, err = call("verify", "--out", str(out))
    assert status == 1 and str(chunk) in printed and "1 of 13 files is bad" in err
    assert "tiny   quick  7       8       1" in call("status", "--out", str(out))[1]
    status, printed, err = call("run", "tiny", "--out", str(out))
    assert status == 0 and "1 of 8 chunks to simulate" in printed and "is set aside and made again (damaged: " in err
    assert call("verify", "--out", str(out))[0] == 0


def test_a_study_that_fails_is_named_and_does_not_stop_the_others(call: Call) -> None:
    Path("studies/another.py").write_text(
        STUDY.replace('"tiny"', '"another"').replace("yield Verdict", "yield 1 / 0; Verdict")
    )
    Path("studies/broken.py").write_text("import nothing_such")
    status, out, err = call("run", "--all")
    assert status == 1 and "tiny.png" in out and "X01  holds: 0.3" in out
    first, second = err.splitlines()[-2:]
    assert first.startswith("stabsim: another: verdicts of studies/another.py: line ") and "ZeroDivisionError" in first
    assert second.startswith("stabsim: broken: studies/broken.py: line 1: ModuleNotFoundError")
    assert "cannot be loaded" in call("list", "studies")[1]


def test_a_task_that_is_damaged_or_missing_is_written_again(call: Call) -> None:
    assert call("run", "tiny")[0] == 0
    before = tree(Path("results"))
    damaged, missing = sorted(Path("results").rglob("task.json"))[:2]
    damaged.write_text("{}\n")
    missing.unlink()
    status, out, _ = call("verify")
    assert status == 1 and f"{damaged}: damaged" in out and f"{missing}: missing" in out
    status, out, err = call("run", "tiny")
    assert status == 0 and "nothing is simulated" in out and f"{damaged} is set aside and made again (damaged" in err
    damaged.with_name("task.json.damaged").unlink()
    assert tree(Path("results")) == before


def test_verdicts_are_printed_where_no_figure_can_be_saved(call: Call) -> None:
    Path("figures").write_text("in the way")
    status, out, err = call("run", "tiny")
    assert status == 1 and "X01  holds: 0.3" in out
    assert err == "stabsim: tiny: --out=.: cannot write figures into figures: File exists\n"
    assert call("plot", "tiny") == (1, "", err)


def test_an_out_that_is_not_writable_is_named(call: Call) -> None:
    status, _, err = call("run", "tiny", "--out", "/proc/nothing")
    assert status == 1 and err.startswith("stabsim: tiny: --out=/proc/nothing: cannot open the study in ")


def test_a_study_in_use_is_refused(call: Call) -> None:
    with Store("results/tiny/chunks"):
        status, _, err = call("run", "tiny")
    assert status == 1 and "is in use by process" in err and err.count("\n") == 1


def test_a_file_of_a_study_is_a_program(call: Call) -> None:
    assert call("run", "tiny")[0] == 0
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "studies/tiny.py", "--scale", "quick"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert "all 8 chunks are stored, nothing is simulated" in done.stdout


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_and_resumed_gives_the_same_bytes(call: Call, tmp_path: Path, how: signal.Signals) -> None:
    assert call("run", "tiny", "--out", "whole")[0] == 0  # compiles, too, so that what follows starts at once
    process = start("run", "tiny", "--out", "pieces", "--threads", "1")
    while len(list(Path("pieces").rglob("*.npz"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert err.splitlines() == [
            "stabsim run: interrupted; all chunks done so far are kept, and the same command goes on"
        ]
    assert 2 <= len(list(Path("pieces").rglob("*.npz"))) < 8
    assert call("run", "tiny", "--out", "pieces")[0] == 0
    for folder in ("results", "figures"):
        assert tree(Path("pieces") / folder) == tree(Path("whole") / folder)


# --- progress ----------------------------------------------------------------------------------------


def test_progress_is_a_line_a_minute_away_from_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    result = simulate(Network((5, 6, 7), "relu", "he_normal"), nets=10, batch=2)
    with LiveProgress() as show:
        show("case", 5, 10, lambda: pytest.fail("an estimate is made only when it is shown"))
        show.shown -= 60
        show("case", 10, 10, lambda: result)
        show("case", 10, 10, lambda: pytest.fail("a minute has not passed"))
    found = result.estimates("activation_gradient_log10_norm")
    numbers = found.estimate[0], found.ci_low[0], found.ci_high[0]
    shown = "activation_gradient_log10_norm at layer 0: {:.4g} [{:.4g}, {:.4g}]".format(*numbers)
    assert capsys.readouterr().err == f"case: 10 of 10 nets; {shown}\n"


def test_progress_on_a_terminal_shows_nets_and_an_estimate(call: Call) -> None:
    import pty

    assert call("run", "tiny")[0] == 0
    ours, theirs = pty.openpty()
    with start("run", "tiny", "--seed", "1", "--threads", "1", stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while part := os.read(ours, 10_000):
                shown += part
    assert process.returncode == 0
    assert "case 2 of 2 (glorot_normal)" in shown.decode() and "/8000" in shown.decode()
    assert "activation_log10_norm at layer 20: " in shown.decode()


# --- warmup ------------------------------------------------------------------------------------------


def test_caches_of_other_versions_are_removed(tmp_path: Path) -> None:
    names = [f"stabsim-{digit * 16}" for digit in "0ab"]
    for name in (*names, "stabsim-notes", "another"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    assert prune(tmp_path / names[0]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", names[0], "stabsim-notes"]


@pytest.mark.slow
def test_warmup_leaves_nothing_to_compile(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent.parent)}

    def stabsim(*arguments: str) -> set[Path]:
        program = "from stabsim.cli import main; main()"
        subprocess.run([sys.executable, "-c", program, *arguments], env=environment, check=True)
        return set(tmp_path.rglob("*.nb*"))

    compiled = stabsim("warmup")
    for precision in ("float32", "float64", "float16"):
        net = ("--widths", "4,5,6", "--activation", "tanh", "--weights", "orthogonal", "--nets", "3", "--batch", "2")
        assert stabsim("simulate", *net, "--bias-std", "1", "--precision", precision) == compiled
    assert np.all([path.stat().st_size > 0 for path in compiled])


@pytest.mark.parametrize("verb", [("run", "tiny"), ("plot", "tiny"), ("merge", "."), ("verify",), ("status",)])
def test_an_empty_name_is_no_folder(call: Call, verb: tuple[str, ...]) -> None:
    status, out, err = call(*verb, "--out", "")
    assert (status, out, err.count("\n")) == (2, "", 1) and "'' is the name of no folder" in err
    assert not Path("results").exists()
