"""Target: command lines, in this process, in a folder with one tiny study that has been run."""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stabsim.activations import activation
from stabsim.cli.group import VERBS, _status
from stabsim.cli.list import KINDS
from stabsim.datasets import MNIST_DIRECTORY
from stabsim.engines import ENGINES
from stabsim.initializers import INITIALIZERS
from stabsim.ledger import statements
from stabsim.quantities import PLAIN, QUANTITIES
from tests.fuzzing.choices import Choices, text
from tests.fuzzing.harness import Target
from tests.fuzzing.specs import CELL_NAMES, CLIPPING_NAMES, NORMALIZATION_NAMES, SKIP_NAMES

STUDY = """
from stabsim.arguments import make_task
from stabsim.network import Network
from stabsim.study import Case, Study, Verdict


def cases(scale):
    for weights in ("he_normal", "glorot_normal"):
        task = make_task(Network((3, 3, 3), "relu", weights), quantities=("activation_mean_square",), sampler="dense")
        yield Case(task, {"quick": 4, "paper": 6}[scale], {"weights": weights})


def verdicts(collected):
    row = collected.table.iloc[-1]
    yield Verdict("B06", "holds", row.estimate, row.ci_low, row.ci_high, row.theory, "a mean square")


study = Study("tiny", "A tiny study", cases, lambda collected: [], claims=("B06",), verdicts=verdicts)
"""
BROKEN = 'study = Study("broken", "Nothing is imported here", 1 / 0)\n'

NUMBERS = ("1", "2", "3", "7", "0", "-1", "99999999999999999999", "1e3", "1.5", "nan", "inf", "x", "", "0x1", "٣")
FOLDERS = (".", "results", "nowhere", "studies", "studies/tiny.py", "new", "a b", "/dev/null", "/proc", "")
TABLES = ("table.csv", "nowhere/table.csv", "/dev/full", "/proc/x.csv", "studies", "")
OPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "simulate": {
        "--depth": NUMBERS, "--width": NUMBERS, "--widths": ("3,3", "3,4,2", "3", "3,,3", "3,0", "3;3"),
        "--activation": ("relu", "tanh", "linear", "rleu", "relu(slope=1)", "linear(alpha=nan)"),
        "--weights": (*INITIALIZERS, "normal(std=0.01)", "he_normal(fan=up)"), "--bias-std": NUMBERS,
        "--normalization": ("none", *NORMALIZATION_NAMES), "--skip": ("none", *SKIP_NAMES), "--cell": CELL_NAMES,
        "--nets": NUMBERS, "--batch": NUMBERS, "--inputs": ("digits", "mnist", "digit"), "--mnist-dir": FOLDERS,
        "--seed": NUMBERS, "--sampler": ("auto", "dense", "matrix_free", "dens"),
        "--precision": ("float32", "float16", "f"),
        "--loss-scale": ("1", "1024", "3", "0", "inf"), "--clipping": ("none", *CLIPPING_NAMES),
        "--quantities": (*tuple(PLAIN)[::6], "activation_mean,activation_variance", ",", "", tuple(QUANTITIES)[-1]),
        "--target-rel-error": ("0.5", "0", "1", "nan"), "--threads": NUMBERS, "--device": ("cpu", "gpu"),
        "--output": TABLES,
    },
    "run": {
        "--all": (), "--scale": ("quick", "paper", "big"), "--seed": NUMBERS, "--mnist-dir": FOLDERS, "--out": FOLDERS,
        "--engine": ("local", "locl", ""), "--scheduler": ("node1", "tcp://a:99999", ""),
        "--device": ("cpu", "gpu"), "--threads": NUMBERS, "--shard": ("1/2", "2/2", "3/2", "0/0", "1/x", "/"),
        "--dry-run": (),
    },
    "plot": {
        "--all": (), "--scale": ("quick", "paper"), "--seed": NUMBERS, "--device": ("cpu", "cuda"), "--out": FOLDERS,
        "--mnist-dir": FOLDERS,
    },
    "claims": {"--out": FOLDERS, "--untested": (), "--scale": ("quick", "paper", "x"), "--csv": TABLES},
    "status": {"--seed": NUMBERS, "--device": ("cpu", "cuda", "x"), "--out": FOLDERS},
    "merge": {"--out": FOLDERS},
    "verify": {"--out": FOLDERS, "--seed": NUMBERS, "--resimulate": ("0", "1", "2", "-1")},
    "list": {},
    "warmup": {},
    "report": {"--out": FOLDERS, "--output": ("page.html", "nowhere/page.html", "/proc/x.html", "studies", "")},
    "explore": {"--port": NUMBERS, "--no-browser": ()},
    "completion": {},
}  # fmt: skip
LAWS = (
    "--depth",
    "--width",
    "--widths",
    "--activation",
    "--weights",
    "--bias-std",
    "--normalization",
    "--skip",
    "--cell",
)
OPTIONS["diagnose"] = {
    **{name: OPTIONS["simulate"][name] for name in (*LAWS, "--nets", "--batch", "--inputs", "--seed", "--threads")},
    "--format": ("float32", "float16", "f"), "--tolerance": NUMBERS, "--json": (),
}  # fmt: skip
WORDS: dict[str, tuple[str, ...]] = {
    "run": ("tiny", "broken", "tinny", "tiny.py"), "plot": ("tiny", "broken"), "status": ("tiny", "broken", "x"),
    "claims": (*tuple(statements())[:4], "A", "Z", "B6"), "list": (*KINDS, "activation"), "simulate": ("relu",),
    "merge": FOLDERS, "verify": ("tiny",), "warmup": ("now",), "report": ("tiny", "broken", "gains", "x"),
    "explore": ("now",), "completion": ("bash", "zsh", "fish", "sh"), "diagnose": ("relu",),
}  # fmt: skip
NEEDED = (
    "--widths", "3,3", "--activation", "relu", "--weights", "he_normal", "--nets", "2", "--quantities",
    "activation_mean",
    "--threads", "1",
)  # fmt: skip
SMALL = (
    "--widths", "3,3", "--activation", "relu", "--weights", "he_normal", "--nets", "2", "--batch", "2", "--no-formats",
    "--no-repair", "--threads", "1",
)  # fmt: skip
EVERY_WORD = ("--help", "--version", "--", "-x", "--nets=3", "--seed=-1", *VERBS, *ENGINES, "--sampler=", "=", "-")


def make_command(c: Choices) -> list[str]:
    """Return a command line: a verb, then options and words, at times changed."""
    template()  # which may compile: that counts for no input
    verb = c.pick(VERBS)
    words = [verb] if c.chance(97) else [text(c, VERBS)]
    if verb == "simulate" and c.chance(80):
        words += NEEDED
    if verb == "diagnose":
        words += SMALL
    for _ in range(c.below(4)):
        if OPTIONS[verb] and c.chance(70):
            option = c.pick(tuple(OPTIONS[verb]))
            values = OPTIONS[verb][option]
            words.append(text(c, [option]) if c.chance(4) else option)
            if values and c.chance(97):
                words.append(text(c, values) if c.chance(40) else c.pick(values))
        else:
            words.append(text(c, WORDS[verb]) if c.chance(40) else c.pick(WORDS[verb]))
    if c.chance(10):
        words.insert(c.below(len(words) + 1), text(c, EVERY_WORD))
    return tamed(words)


def tamed(words: list[str]) -> list[str]:
    """Return a command line that a shell can give, writes nothing outside its folder, and takes milliseconds.

    Whole numbers keep two digits, or more than the number of nets or layers may have; activations keep their names,
    since each new parameter compiles; kernels are compiled by no verb, and no cluster and no server is started.
    """
    found = []
    for word in words:
        short = re.sub(r"[\d_]{3,10}", lambda digits: digits[0][:2], word.replace("\0", "").replace("..", "."))
        allowed = {*FOLDERS, *TABLES}
        found.append(short if short in allowed else re.sub(r"(^|=)/+", r"\1", short))
    with contextlib.suppress(TypeError, ValueError):
        for place, word in enumerate(found):
            name = word.removeprefix("--activation=")
            if "(" in name and (known := activation(name)).parameters:
                found[place] = word[: len(word) - len(name)] + known.name
    if {"warmup", "explore"} & set(found) or any(word.endswith("dask") for word in found):
        found.append("extra")
    return found


@functools.cache
def template() -> Path:
    """Return a folder in which the tiny study has been run."""
    folder = Path(tempfile.mkdtemp(prefix="stabsim_fuzzing_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "studies").mkdir()
    (folder / "studies" / "tiny.py").write_text(STUDY)
    (folder / "studies" / "broken.py").write_text(BROKEN)
    with inside(folder), captured():
        status = _status(["run", "tiny"], None)
    assert status == 0 and (folder / "results" / "tiny" / "verdicts.json").is_file()
    return folder


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Be in a folder whose studies are all there are, and forget what an option puts into the environment."""
    import stabsim.discovery

    before, told, package = Path.cwd(), os.environ.get(MNIST_DIRECTORY), stabsim.discovery._PACKAGE
    os.chdir(folder)
    stabsim.discovery._PACKAGE = folder / "package"
    try:
        yield
    finally:
        os.chdir(before)
        stabsim.discovery._PACKAGE = package
        os.environ.pop(MNIST_DIRECTORY, None)
        if told is not None:
            os.environ[MNIST_DIRECTORY] = told


@contextlib.contextmanager
def captured() -> Iterator[tuple[io.BytesIO, io.BytesIO]]:
    """Take what is printed, as a terminal in UTF-8 would: what it cannot hold is an error on stdout alone."""
    streams = io.BytesIO(), io.BytesIO()
    before = sys.stdout, sys.stderr
    sys.stdout = io.TextIOWrapper(streams[0], "utf-8", errors="strict", write_through=True)
    sys.stderr = io.TextIOWrapper(streams[1], "utf-8", errors="backslashreplace", write_through=True)
    texts = sys.stdout, sys.stderr
    try:
        yield streams
    finally:
        sys.stdout, sys.stderr = before
        for each in texts:
            each.detach()


class FailedError(Exception):
    """What a command line says where it fails."""


def use_command(words: list[str], folder: Path) -> None:
    """Run a command line; raise what it says where its exit status is not 0."""
    where = folder / "here"
    shutil.copytree(template(), where)
    with inside(where), captured() as (stdout, stderr):
        status = _status(words, None)
    out, said = stdout.getvalue().decode(), stderr.getvalue().decode()
    assert "Traceback" not in out + said
    assert status in (0, 1, 2), f"exit status {status}"
    lines = said.splitlines()
    assert all(line.startswith("stabsim") or "set aside" in line or "compiling, once" in line for line in lines), said[
        :300
    ]
    if status == 2:
        assert len(lines) == 1, f"{len(lines)} lines of bad usage"
    diagnosed = status == 1 and words[0] == "diagnose" and not lines  # a network that is not stable
    if status and not diagnosed:
        raise FailedError(lines[-1] if lines else "")


TARGETS = {
    "commands": Target(make_command, use_command, (FailedError,), r"^stabsim( \w+)?: \S", share=5, writes=True),
}
