"""The tests of ``simulated_*.py``: in Numba's simulator, which is asked for before Numba is imported.

There, the CPU's functions that kernels call are compiled in each process anew, so files share processes: those that
run nets, and those that look at parts.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("simulated_*.py"))
OF_NETS = [file for file in FILES if "make_task" in file.read_text()]
GROUPS = {"nets": OF_NETS, "parts": [file for file in FILES if file not in OF_NETS]}
LIMIT = 1500  # seconds, on a busy machine; on a GPU, where every kernel is compiled and assembled
TAIL = 6000  # characters of what it prints that are shown

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")


def run_tests(files: Sequence[Path], *, simulated: bool, chosen: str = "not slow") -> subprocess.CompletedProcess[str]:
    """Run files of tests, in the simulator or on a GPU; NumPy warns there where numbers of a device overflow."""
    command = [
        sys.executable, "-W", "ignore::RuntimeWarning", "-m", "pytest", "-q", "--color=no",
        "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=", "-o", "filterwarnings=",
        "-o", "python_files=simulated_*.py", "--timeout", str(LIMIT), "-m", chosen, f"--rootdir={HERE.parents[1]}",
        *map(str, files),
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["NUMBA_ENABLE_CUDASIM"] = str(int(simulated))
    return subprocess.run(command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True, check=False)


def assert_passed(run: subprocess.CompletedProcess[str]) -> None:
    whole = run.returncode == 0 and re.search(r"\b[1-9]\d* passed", run.stdout) and "skipped" not in run.stdout
    assert whole, (run.stdout + run.stderr)[-TAIL:]


@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize("group", GROUPS)
def test_simulated(group: str) -> None:
    assert_passed(run_tests(GROUPS[group], simulated=True))


@pytest.mark.slow
@pytest.mark.timeout(LIMIT)
def test_more_cases_simulated() -> None:
    """Of other pairs of an activation and a precision: each compiles anew what takes them."""
    assert_passed(run_tests(OF_NETS, simulated=True, chosen="slow"))


@pytest.mark.parametrize("body", ["assert False", "import pytest; pytest.skip('here')"])
def test_what_fails_or_runs_no_test_is_seen(body: str, tmp_path: Path) -> None:
    """The twin of the test above."""
    file = tmp_path / "simulated_wrong.py"
    file.write_text(f"def test_wrong():\n    {body}\n")
    with pytest.raises(AssertionError):
        assert_passed(run_tests([file], simulated=True))
