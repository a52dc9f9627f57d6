"""Every block of the README and of docs/ is run, and the pages are built without a warning."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import stabsim
from stabsim.cli.group import VERBS
from tests.documents import CARDS, ELSEWHERE, ROOT, BlockError, blocks, run_page

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)]
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
SHOWN = [name for name, path in zip(NAMES, PAGES, strict=True) if "```" in path.read_text()]
TORCH = re.compile(r"^\s*(import|from) torch\b", re.MULTILINE)


def run_in(folder: Path, page: Path) -> subprocess.CompletedProcess[str]:
    """Run a page in a process of its own, warnings being errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.documents", str(page)],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_every_block_does_what_the_page_says(name: str, tmp_path: Path) -> None:
    if TORCH.search((ROOT / name).read_text()):
        pytest.importorskip("torch", reason="pip install 'stabsim[torch]'")
    done = run_in(tmp_path, ROOT / name)
    assert done.returncode == 0, done.stdout + done.stderr


MUTANTS = {
    "an error": "```python\n1 / 0\n```",
    "a wrong claim": "```python\nimport stabsim\nassert stabsim.theory.gain('relu') > 2\n```",
    "a warning": "```python\nimport warnings\nwarnings.warn('old')\n```",
    "another output": "```python\nprint('a ' + 'b')\n```\n\n```text\na c\n```",
    "an output of nothing": "```text\na\n```",
    "a wrong doctest": "```python\n>>> 1 + 1\n3\n```",
    "a failing command": "```sh\nfalse\n```",
    "a failing command before another": "```sh\nfalse\ntrue\n```",
    "an option that does not exist": "```sh\nstabsim list --colour\n```",
    "another output of a command": "```console\n$ echo a\nb\n```",
    "another exit status": "```sh\nstabsim list colours  # exit status 1\n```",
    "an extra that does not exist": "```sh\npip install 'stabsim[colours]'\n```",
    "a target that does not exist": "```sh\nmake colours\n```",
    "an unknown language": "```perl\ndie\n```",
    "no language": "```\nnothing\n```",
    "a block without an end": "```python\n1",
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_block_fails(mutant: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{MUTANTS[mutant]}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        with pytest.raises(BlockError, match=r"line \d"):
            run_page(page)


RIGHT = """# Page

```python
# studies/saved.py
value = 3
```

```python
import sys
sys.path.insert(0, "studies")
from saved import value
print(value, "and more that nobody can know")
```

```text
3 and more ... know
```

```python
>>> value + 1
4
```

```console
$ echo one \\
    two
one two
$ false
$ echo $?
1
$ false  # exit status 1
$ stabsim list engines
engines:
  local ...
```

```sh
# a comment
for i in 1 2; do
    echo $i
done
pip install '.[dask]' 'stabsim[data,docs]'
make figures
```
"""


def test_a_right_page_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(RIGHT)
    monkeypatch.chdir(tmp_path)
    run_page(page)


def test_what_runs_elsewhere_is_run_there() -> None:
    for name, (languages, test) in ELSEWHERE.items():
        assert {block.language for block in blocks((ROOT / name).read_text())} <= set(languages), name
        assert f'"docs" / "{Path(name).name}"' in (ROOT / test).read_text(), test
    wanting = [name for name in NAMES for block in blocks((ROOT / name).read_text()) if CARDS in block.text]
    assert wanting == ["docs/gpu.md"] and CARDS in (ROOT / "tests" / "test_cluster.py").read_text()


# --- the pages --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the pages."""
    for package in ("sphinx", "furo", "myst_parser"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"no {package}: pip install 'stabsim[docs]'")
    out = tmp_path_factory.mktemp("html")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(out)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


def test_the_pages_are_built_without_a_warning(built: Path) -> None:
    made = {str(path.relative_to(built).with_suffix("")) for path in built.rglob("*.html")}
    assert {str(path.relative_to(DOCS).with_suffix("")) for path in PAGES[1:]} <= made


def test_nothing_is_loaded_from_elsewhere(built: Path) -> None:
    loaded = re.compile(r"""<(?:script|img|iframe|link rel="(?:stylesheet|preload)")[^>]*(?:src|href)="(https?:)?//""")
    for path in built.rglob("*.html"):
        assert not loaded.search(path.read_text()), path
    for path in built.rglob("*.css"):
        assert not re.search(r"@import|url\(['\"]?(https?:)?//", path.read_text()), path


def test_all_that_is_public_is_on_a_page(built: Path) -> None:
    simulating = (built / "reference" / "simulation.html").read_text()
    for name in stabsim.__all__:
        if not name.startswith("_") and not importlib.util.find_spec(f"stabsim.{name}"):
            assert f'id="stabsim.{name}"' in simulating, name
    commands = (built / "reference" / "commands.html").read_text()
    assert all(f"<h2>stabsim {verb}" in commands for verb in VERBS)


def test_every_study_is_in_the_gallery(built: Path) -> None:
    gallery = (built / "gallery.html").read_text()
    assert all(f"<h2>{path.stem}<" in gallery for path in (ROOT / "studies").glob("[!_]*.py"))
