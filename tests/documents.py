"""Runs what a page of documentation shows: ``python -m tests.documents PAGE`` in the current folder, block by block.

Blocks of a page run in order, those of Python in one namespace. What is in them decides what is done:

- ``python``: run; with prompts (>>>) as a doctest; with a first line ``# studies/NAME.py``, saved under that name;
- ``text``: what the Python block before it has printed, where ... stands for anything;
- ``sh``, ``bash``: each command runs; ``console``: the same after ``$``, and what is shown below has to be printed;
- ``pip install`` and ``make`` are not run: extras and targets have to exist. ``stabsim explore`` has to name a page.

A command that fails says so beside it (``# exit status 1``), or the next one shows ``$?``. A language that is not known
here is an error, so no block escapes.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import itertools
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

RUN = ("python", "text", "console", "sh", "bash")
BUILT = ("{toctree}", "{eval-rst}")  # by Sphinx

# What others run: the test that does, by page and languages.
ELSEWHERE = {
    "docs/cluster.md": (("bash", "slurm", "python", "yaml"), "tests/test_cluster.py"),
    "docs/architecture.md": (("mermaid",), "tests/test_architecture.py"),
}
# On a machine without a GPU, and in the time of a test: what is put in the place of what a page says.
STAND_INS = {
    "docs/gpu.md": {
        'device="cuda"': 'device="cpu"',
        "--device cuda": "--device cpu",
        "100_000": "1_000",
        "100000": "1000",
        "--scale paper": "--scale paper --dry-run",
    }
}
CARDS = "CUDA_VISIBLE_DEVICES"  # a block with it wants several: tests/test_cluster.py runs it
LOOSELY = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MARK = "tests.documents: status"
PATIENCE = 60.0  # seconds for a page of `stabsim explore` to be there


class BlockError(Exception):
    """A block that does not do what the page says."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of the page where the text begins."""

    language: str
    text: str
    line: int


def blocks(page: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page.

    >>> [(block.language, block.text, block.line) for block in blocks("a\\n```sh\\nls\\n```\\n")]
    [('sh', 'ls\\n', 3)]
    """
    opened, language, first, indent = "", "", 0, 0
    kept: list[str] = []
    for number, line in enumerate(page.splitlines(), 1):
        fence = re.fullmatch(r"( *)(`{3,}|~{3,}) *([^`]*)", line)
        if not opened and fence:
            indent, opened, language, first, kept = len(fence[1]), fence[2], fence[3].strip(), number + 1, []
        elif opened and fence and fence[2].startswith(opened) and not fence[3]:
            yield Block(language, "".join(f"{each}\n" for each in kept), first)
            opened = ""
        elif opened:
            kept.append(line[indent:] if not line[:indent].strip() else line)
    if opened:
        raise BlockError(f"line {first - 1}: the block has no end")


def to_run(path: Path) -> list[Block]:
    """Return the blocks of a page that are run here, as they are run.

    Raises
    ------
    BlockError
        If a block is in a language that nothing is known to run or build.
    """
    name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
    others, _ = ELSEWHERE.get(name, ((), ""))
    found = []
    for block in blocks(path.read_text()):
        language = block.language.split()[0] if block.language else ""
        if language in others or language in BUILT or CARDS in block.text:
            continue
        if language not in RUN:
            raise BlockError(f"line {block.line - 1}: nothing runs the language {block.language!r}")
        text = block.text
        for said, instead in STAND_INS.get(name, {}).items():
            text = text.replace(said, instead)
        found.append(replace(block, language=language, text=text))
    return found


def run_page(path: Path) -> None:
    """Run the blocks of a page in the current folder; say which one fails."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = None
    with environment() as variables:
        for block in to_run(path):
            try:
                if block.language == "python":
                    printed = run_python(block, namespace)
                elif block.language == "text":
                    compare(printed, block.text)
                else:
                    run_shell(block, variables)
            except Exception as error:
                told = str(error) if isinstance(error, BlockError) else f"{type(error).__name__}: {error}"
                raise BlockError(f"{path.name}, line {block.line}, {block.language}: {told}") from error


def run_python(block: Block, namespace: dict[str, Any]) -> str | None:
    """Run a block, or save it where it says the name of a file; return what it printed, or nothing of a doctest."""
    if name := re.match(r"# ([\w/]+\.py)\n", block.text):
        saved = Path(name[1])
        saved.parent.mkdir(parents=True, exist_ok=True)
        saved.write_text(block.text)
        return None
    if ">>>" in block.text:
        run_doctest(block, namespace)
        return None
    source = Path(f"line_{block.line}.py")
    source.write_text("\n" * (block.line - 1) + block.text)  # where tracebacks look for lines
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(source.read_text(), str(source), "exec"), namespace)
    return out.getvalue()


def run_doctest(block: Block, namespace: dict[str, Any]) -> None:
    """Run a block with prompts."""
    examples = doctest.DocTestParser().get_doctest(block.text, namespace, "block", None, block.line)
    examples.globs = namespace
    told = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=LOOSELY)
    if runner.run(examples, out=told.write, clear_globs=False).failed:
        raise BlockError(told.getvalue())


def compare(printed: str | None, shown: str) -> None:
    """Hold what was printed to what is shown, loosely."""
    if printed is None:
        raise BlockError("no block with an output is before it")
    if not doctest.OutputChecker().check_output(shown, printed, LOOSELY):
        raise BlockError(f"printed was:\n{printed}\nand shown is:\n{shown}")


# --- commands ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def environment() -> Iterator[dict[str, str]]:
    """Give the variables of a shell in which ``stabsim`` and ``python`` are those of this process, warnings errors."""
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in (("stabsim", "-m stabsim"), ("python", "")):
            script = Path(folder) / name
            script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
            script.chmod(stat.S_IRWXU)
        paths = {"PATH": os.pathsep.join([folder, os.environ["PATH"]]), "PYTHONPATH": str(ROOT)}
        yield {**os.environ, **paths, "PYTHONWARNINGS": "error", "BROWSER": "true", "COLUMNS": "100"}


def run_shell(block: Block, variables: Mapping[str, str]) -> None:
    """Run the commands of a block, one after the other in one shell, and hold what they print to what is shown."""
    pairs = list(commands(block))
    if servers := [command for command, _ in pairs if command.startswith("stabsim explore")]:
        for command in servers:
            serve(command, variables)
    checked = [(command, shown) for command, shown in pairs if command not in servers and not known(command)]
    script = "\n".join(f"{command}\nkept=$?; echo; echo '{MARK}' $kept; (exit $kept)" for command, _ in checked)
    done = subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True, check=False)
    printed = re.split(rf"\n{MARK} (\d+)\n", done.stdout)
    for place, (command, shown) in enumerate(checked):
        out, status = printed[2 * place], int(printed[2 * place + 1])
        following = checked[place + 1][0] if place + 1 < len(checked) else ""
        said = re.search(r"# exit status (\d+)", command)
        if "$?" not in following and status != (int(said[1]) if said else 0):
            raise BlockError(f"exit status {status}: {command}\n{out}{done.stderr}")
        if shown and not any(doctest.OutputChecker().check_output(shown, x, LOOSELY) for x in (out, done.stderr)):
            raise BlockError(f"{command}\nprinted was:\n{out}{done.stderr}\nand shown is:\n{shown}")


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Yield each command of a block with the output that is shown, if any.

    >>> list(commands(Block("console", "$ echo a \\\\\\n    b\\na b\\n$ true\\n", 1)))
    [('echo a \\\\\\n    b', 'a b\\n'), ('true', '')]
    """
    lines = iter(block.text.splitlines())
    if block.language != "console":
        for line in lines:
            if line.strip() and not line.startswith("#"):
                yield whole(line, lines), ""
        return
    kept, shown = "", ""
    for line in lines:
        if line.startswith("$ "):
            if kept:
                yield kept, shown
            kept, shown = whole(line[2:], lines), ""
        elif not kept:
            raise BlockError("a console begins with a command, after $")
        else:
            shown += f"{line}\n"
    if kept:
        yield kept, shown


def whole(line: str, following: Iterator[str]) -> str:
    """Return a command with the lines that belong to it: a line ends with a backslash, or within quotes or a loop."""
    for more in itertools.chain([""], following):
        line = f"{line}\n{more}" if more else line
        complete = subprocess.run(["bash", "-n", "-c", line], capture_output=True, check=False).returncode == 0
        if complete and not line.endswith("\\"):
            return line
    raise BlockError(f"a command without an end: {line}")


def known(command: str) -> bool:
    """Return whether a command only has to be possible: it installs, or makes.

    Raises
    ------
    BlockError
        If it names an extra or a target that does not exist.
    """
    words = shlex.split(command, comments=True)
    if words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for word in words[2:]:
            if named := re.fullmatch(r"(?:stabsim|\.)\[([\w,]+)\]", word):
                if unknown := set(named[1].split(",")) - set(extras):
                    raise BlockError(f"{command}: no extra is named {', '.join(sorted(unknown))}")
            elif word not in ("stabsim", ".", "dask-jobqueue"):
                raise BlockError(f"{command}: what is {word}?")
        return True
    if words[:1] == ["make"]:
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        if missing := [word for word in words[1:] if "=" not in word and word not in targets]:
            raise BlockError(f"{command}: the Makefile has no target {', '.join(missing)}")
        return True
    return words[:2] == ["git", "clone"]


def serve(command: str, variables: Mapping[str, str]) -> None:
    """Start what serves a page, at any port unless it says which, wait until it says where, and end it."""
    command = command.replace("stabsim explore", "stabsim explore --port 0", 1)
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(process.pid, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        assert process.stdout is not None
        told = ""
        for line in process.stdout:
            told += line
            if re.search(r"http://(127\.0\.0\.1|localhost):\d+", line):
                return
        raise BlockError(f"{command}\nnames no page:\n{told}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    import matplotlib

    matplotlib.use("Agg")
    try:
        run_page(Path(sys.argv[1]).resolve())
    except BlockError as error:
        sys.exit(str(error))
