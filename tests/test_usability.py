"""What makes the command line easy to live with: completion, examples, figures, logs, odd homes and folders."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from PIL import Image

from stabsim import figures
from stabsim.activations import ACTIVATIONS
from stabsim.cli.completion import SHELLS
from stabsim.cli.group import VERBS, group
from stabsim.discovery import files
from stabsim.network import Network
from stabsim.simulation import simulate

ROOT = Path(__file__).parent.parent
NET = ("simulate", "--depth", "3", "--width", "8", "--activation", "relu", "--weights", "he_normal", "--nets", "20")


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def stabsim(*arguments: str, options: tuple[str, ...] = (), **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, "-m", "stabsim", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment(**more), check=False)


# --- completion --------------------------------------------------------------------------------------


def completed(line: str) -> list[str]:
    """Return what a shell offers where the Tab key is pressed at the end of a line."""
    words = shlex.split(line)[1:]
    begun = "" if line.endswith(" ") else words.pop()
    return [item.value for item in ShellComplete(group, {}, "stabsim", "").get_completions(words, begun)]


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("stabsim wa", {"warmup"}),
        ("stabsim run zero_f", {"zero_fractions"}),
        ("stabsim status ga", {"gains"}),
        ("stabsim claims B0", {f"B0{number}" for number in range(1, 10)}),
        ("stabsim simulate --activation ta", {"tanh"}),
        ("stabsim simulate --weights he_", {"he_normal", "he_uniform"}),
        ("stabsim simulate --precision float1", {"float16"}),
        ("stabsim diagnose --format float1", {"float16"}),
        ("stabsim simulate --quantities activation_mean,derivative_z", {"activation_mean,derivative_zero_fraction"}),
        ("stabsim simulate --loss", {"--loss-scale"}),
        ("stabsim run no_such_study", set()),
    ],
)
def test_names_are_completed(line: str, some: set[str]) -> None:
    found = set(completed(line))
    assert found == some if len(some) != 1 else some <= found


def test_every_registry_is_completed_in_full() -> None:
    assert completed("stabsim simulate --activation ") == list(ACTIVATIONS)
    assert completed("stabsim plot ") == list(files())


def test_a_shell_is_told_by_the_program_itself() -> None:
    done = stabsim(_STABSIM_COMPLETE="bash_complete", COMP_WORDS="stabsim run zero_f", COMP_CWORD="2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,zero_fractions\n", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_for_each_shell(shell: str) -> None:
    done = stabsim("completion", shell)
    assert done.returncode == 0 and f"_STABSIM_COMPLETE={shell}_complete" in done.stdout


def test_bash_takes_the_script() -> None:
    program = f'eval "$({shlex.quote(sys.executable)} -m stabsim completion bash)" && complete -p stabsim'
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, env=environment(), check=True)
    assert "_stabsim_completion stabsim" in done.stdout


# --- help --------------------------------------------------------------------------------------------


def examples(verb: str) -> list[str]:
    command = group.get_command(click.Context(group), verb)
    assert command is not None and command.epilog is not None, f"stabsim {verb} --help has no examples"
    lines = command.epilog.removeprefix("\b\nExamples:").replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip()]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "completion"])
def test_examples_of_help_are_taken_as_they_stand(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("paper", "shards/1", "shards/2"):
        (tmp_path / folder).mkdir(parents=True)
    for line in examples(verb):
        program, named, *arguments = shlex.split(line, comments=True)
        assert (program, named) == ("stabsim", verb)
        command = group.get_command(click.Context(group), verb)
        assert command is not None
        command.make_context(verb, arguments).close()  # parses, with every callback; raises where something is off


def test_a_wrong_example_would_be_seen() -> None:
    command = group.get_command(click.Context(group), "simulate")
    assert command is not None
    with pytest.raises(click.ClickException):
        command.make_context("simulate", shlex.split("--dept 3 --activation relu --weights he_normal --nets 1"))


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_80_columns(verb: str) -> None:
    command = group.get_command(click.Context(group), verb)
    assert command is not None
    context = click.Context(
        command, info_name=verb, parent=click.Context(group, info_name="stabsim"), max_content_width=80
    )
    assert max(map(len, command.get_help(context).splitlines())) <= 80


def test_help_shows_the_examples_unwrapped() -> None:
    shown = stabsim("simulate", "--help").stdout
    assert all(line in shown for line in ("Examples:\n", "  --weights glorot_normal --nets 1000 --figure tanh.png\n"))


# --- a figure of one's own network -------------------------------------------------------------------


def test_simulate_draws_a_figure(tmp_path: Path) -> None:
    for kind, start in (("png", b"\x89PNG"), ("PDF", b"%PDF")):
        path = tmp_path / f"mine.{kind}"
        done = stabsim(*NET, "--figure", str(path))
        assert (done.returncode, done.stderr) == (0, "") and f"the figure is in {path}" in done.stdout
        assert path.read_bytes().startswith(start)
    with Image.open(tmp_path / "mine.png") as image:
        assert image.size == (2025, 1500) and "20 nets of Network(widths=(8,) * 4" in image.info["Description"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--figure", "mine.jpg"), "--figure=mine.jpg must end with .png, .pdf, .svg"),
        (("--figure", "mine"), "--figure=mine must end with"),
        (("--figure", "no/mine.png"), "--figure=no/mine.png: there is no folder no"),
        (("--figure", "mine.png", "--quantities", "activation_mean"), "--figure draws activation_gradient_log10_norm"),
    ],
)
def test_a_figure_that_cannot_be_is_refused_before_anything_is_simulated(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = stabsim(*NET, *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1) and message in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_overview_draws_what_the_table_has() -> None:
    network = Network((8,) * 4, "relu", "he_normal")
    whole = simulate(network, nets=50).table
    part = whole[whole["quantity"] == "activation_log10_norm"]
    with figures.style():
        shown, partly = figures.overview(whole, "50 nets"), figures.overview(part)
        assert [figure.get_suptitle() for figure in (shown, partly)] == ["50 nets", ""]
        drawn = shown.axes[0].lines[0]
        assert drawn.get_ydata() == pytest.approx(part["estimate"].to_numpy())
        assert [len(axes.lines) > 0 for axes in shown.axes] == [True] * 4
        assert [bool(axes.lines) for axes in partly.axes] == [True, False, False, False]
        with pytest.raises(ValueError, match="none of the quantities that are drawn"):
            figures.overview(whole[whole["quantity"] == "activation_mean"])


def test_small_ranges_of_norms_have_plain_numbers_at_their_places() -> None:
    with figures.style():
        _, axes = figures.panels()
        for low, high in ((0.1, 0.9), (6.2, 7.0), (-7.5, -6.9)):
            axes[0, 0].set_ylim(low, high)
            figures.set_scale(axes[0, 0], "exponent")
            labels = [text.get_text() for text in axes[0, 0].get_yticklabels()]
            values = [eval(re.sub(r"\$(.*) \\cdot 10\^\{(.*)\}\$", r"\1 * 10.0 ** (\2)", label)) for label in labels]
            assert len(values) >= 2 and values == pytest.approx(
                [10**place for place in axes[0, 0].get_yticks()], rel=0.01
            )


# --- logs and terminals ------------------------------------------------------------------------------


def on_terminal(*arguments: str, **more: str) -> str:
    """Return what a command writes to a terminal."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "stabsim", *arguments], stdout=its, stderr=its, env=environment(**more)
    ):
        os.close(its)
        written = b""
        try:
            while piece := os.read(ours, 4096):
                written += piece
        except OSError:  # the other end was closed
            pass
    os.close(ours)
    return written.decode()


MANY = (*NET[:-1], "200000", "--quantities", "activation_mean_square")


def test_a_log_holds_lines_and_nothing_else() -> None:
    done = stabsim(*MANY)
    assert done.returncode == 0 and "\x1b" not in done.stdout + done.stderr and "\r" not in done.stdout + done.stderr


def test_a_terminal_that_replaces_nothing_is_written_to_like_a_log() -> None:
    assert "\x1b" not in on_terminal(*MANY, TERM="dumb")
    assert "\x1b" in on_terminal(*MANY, TERM="xterm")


# --- warnings, homes and folders ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [NET, ("list",), ("claims",), ("status", "gains"), ("run", "symmetry", "--dry-run"), ("--version",)]
)
def test_nothing_warns(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    more = ("--figure", "mine.png") if arguments == NET else ()
    done = stabsim(*arguments, *more, options=("-W", "error"))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_home_that_cannot_be_written_gets_a_temporary_cache_and_is_named(tmp_path: Path) -> None:
    program = (
        "import numpy; from stabsim.kernels import compile, laws; "
        "law = laws.law('constant', numpy.dtype('float32')); print(compile.cache_directory())"
    )
    home = "/proc/no_home"  # where nobody can make a folder, root neither
    given = environment(HOME=home, XDG_CACHE_HOME="", TMPDIR=str(tmp_path)) | {"NUMBA_CACHE_DIR": ""}
    command = [sys.executable, "-W", "error", "-c", program]
    found = [subprocess.run(command, env=given, capture_output=True, text=True, check=True) for _ in range(2)]
    kept = tmp_path / f"stabsim-{os.getuid()}"
    for done in found:
        assert done.stdout.startswith(str(kept)) and done.stderr.count("\n") == 1
        assert f"{home}/.cache/stabsim cannot be written" in done.stderr and str(kept) in done.stderr
    assert kept.stat().st_mode & 0o077 == 0 and list(kept.rglob("*.nbc"))


def test_a_temporary_cache_that_others_could_write_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stabsim.kernels import compile

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own = tmp_path / f"stabsim-{os.getuid()}"
    assert compile._temporary_folder() == own
    own.chmod(0o777)
    assert compile._temporary_folder() != own
    own.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    for target in ("elsewhere", "nowhere"):
        own.symlink_to(tmp_path / target)
        assert compile._temporary_folder() != own
        own.unlink()
    own.touch()
    assert compile._temporary_folder() != own


def test_folders_with_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my results, 2nd try"
    folder.mkdir()
    monkeypatch.chdir(folder)
    done = stabsim(*NET, "--output", "a table.csv", "--figure", "a figure.png")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == ["a figure.png", "a table.csv"]
