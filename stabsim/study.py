"""A study: the cases that it simulates, the figures that it draws and the claims that it puts to the test.

A study is one file ``studies/NAME.py`` that ends with, ``run_script`` being of ``stabsim.cli``::

    study = Study(name="NAME", title="...", claims=("B06",), cases=cases, draw=draw, verdicts=verdicts)

    if __name__ == "__main__":
        run_script(study)
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeVar

from stabsim.checks import brief, text, whole_number
from stabsim.cuda import ensemble
from stabsim.devices import CPU, DEVICES
from stabsim.names import check_known, unknown
from stabsim.task import LARGEST_NET, LARGEST_SEED, Task

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from stabsim.result import Result

SCALES = ("quick", "paper")
MOST = 100_000  # cases or verdicts; more are taken for a generator that does not end

Tag = str | int | float
Item = TypeVar("Item")

_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
_VERDICT = re.compile(r"holds|fails|holds when \S.*")


@dataclass(frozen=True)
class Case:
    """What is simulated (``task``), for how many nets, and how its rows are told apart (``tags``).

    Parameters
    ----------
    task : Task
        From ``make_task``. Its seed is replaced by one that follows from the run's seed and the task itself; tasks
        that differ in nothing but their own seed get different ones. Its device is replaced by the run's.
    nets : int
        How many nets.
    tags : mapping of str to str, int or float
        Leading columns of the case's rows in the table, the same names in all cases of a study.

    Examples
    --------
    >>> from stabsim import Network
    >>> from stabsim.arguments import make_task
    >>> case = Case(make_task(Network((8, 8), "relu", "he_normal")), nets=64, tags={"weights": "he_normal"})
    >>> case.seeded(1).task.seed == case.seeded(1).task.seed != case.seeded(2).task.seed
    True
    """

    task: Task
    nets: int
    tags: Mapping[str, Tag] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.task, Task):
            raise TypeError(f"task must be a Task from make_task(...), not {brief(self.task)}")
        whole_number("nets", self.nets, 1, LARGEST_NET)
        if not isinstance(self.tags, Mapping):
            raise TypeError(f"tags must map names to values, not {brief(self.tags)}")
        for name, value in self.tags.items():
            text("tags: a name", name)
            if isinstance(value, str):
                text(f"tag {brief(name)}", value)
            elif not isinstance(value, int | float) or _beyond_floats(value):
                raise TypeError(f"tag {brief(name)}={brief(value)} must be a str, an int or a float")
            if value != value:
                raise ValueError(f"tag {brief(name)}=nan tells no rows apart: it is not equal to itself")

    @property
    def label(self) -> str:
        """Return the tags' values, for people."""
        return " ".join(str(value) for value in self.tags.values())

    def seeded(self, seed: int) -> Case:
        """Return the case with the seed that it has in a run: SHA-256 of the run's seed and the task's key.

        The key is that on the CPU: the nets are the same wherever they are simulated.
        """
        identity = replace(self.task, device=CPU).identity
        digest = hashlib.sha256(f"{seed}\n{identity}".encode()).digest()
        return replace(self, task=replace(self.task, seed=int.from_bytes(digest[:8], "big")))

    def placed(self, device: str) -> Case:
        """Return the case on a device, or on the CPU where the device does not run its task."""
        refused = device != CPU and ensemble.refuses(self.task)
        return replace(self, task=replace(self.task, device=CPU if refused else device))


@dataclass(frozen=True)
class Verdict:
    """What a study found out about a claim, with the number that it rests on.

    Parameters
    ----------
    claim : str
        Its id.
    verdict : str
        "holds", "holds when <condition>" or "fails".
    estimate, ci_low, ci_high : float
        The number that decides, with its 95% interval.
    theory : float, optional
        What it is expected to be; NaN where nothing says so.
    note : str
        What the number is, and what is true instead where the claim fails.
    """

    claim: str
    verdict: str
    estimate: float
    ci_low: float
    ci_high: float
    theory: float = math.nan
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("claim", "verdict", "note"):
            text(name, getattr(self, name))
        if not _VERDICT.fullmatch(self.verdict):
            raise ValueError(f"verdict must be 'holds', 'holds when ...' or 'fails', not {brief(self.verdict)}")
        for name in ("estimate", "ci_low", "ci_high", "theory"):
            value = getattr(self, name)
            if isinstance(value, bool | Fraction) or not isinstance(value, Real) or _beyond_floats(value):
                raise TypeError(f"{name} of a verdict must be a number, not {brief(value)}")


@dataclass(frozen=True)
class Drawing:
    """A figure and the rows that it was drawn from; saved as <study> or, with a part, <study>_<part>.

    The caption says what is drawn, panel by panel, as below a figure in a paper; it is kept inside the files.
    """

    figure: Figure
    table: pandas.DataFrame
    part: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Collected:
    """Every case of a study with its result, in the order of the cases, and what was measured."""

    results: tuple[tuple[Case, Result], ...]
    measurements: pandas.DataFrame | None = None

    @property
    def measured(self) -> pandas.DataFrame:
        """Return what ``Study.measure`` returned.

        Raises
        ------
        ValueError
            If nothing was measured.
        """
        if self.measurements is None:
            raise ValueError("nothing was measured")
        return self.measurements

    @cached_property
    def table(self) -> pandas.DataFrame:
        """Return the tables of all results below each other, the tags in front: see ``Result.table``."""
        import pandas

        frames = []
        for case, result in self.results:
            frame = result.table.astype({"quantity": str})
            for place, (name, value) in enumerate(case.tags.items()):
                frame.insert(place, name, value)
            frames.append(frame)
        return pandas.concat(frames, ignore_index=True).astype({"quantity": "category"})


def _no_verdicts(_: Collected) -> list[Verdict]:
    return []


@dataclass(frozen=True)
class Study:
    """What a file in ``studies/`` declares.

    Parameters
    ----------
    name : str
        The name of its file.
    title : str
        One line.
    cases : callable
        From "quick" or "paper" to the cases.
    draw : callable
        From what was collected to the figures; called inside ``stabsim.figures.style()``.
    claims : sequence of str
        Ids of the claims that it tests.
    verdicts : callable
        From what was collected to the verdicts, at least one a claim, each computed from estimates.
    measure : callable, optional
        From "quick" or "paper" to a table of what is no simulation: times of this machine, counts of checks, trained
        nets. It is made once for each scale, and kept beside the chunks until its file is deleted.
    on_mnist : bool
        Whether that trains on `stabsim.datasets.mnist_at_hand`: where it is the user's own MNIST, it is kept apart.

    Raises
    ------
    TypeError, ValueError
        If the name is no file name in small letters.
    """

    name: str
    title: str
    cases: Callable[[str], Iterable[Case]]
    draw: Callable[[Collected], Iterable[Drawing]]
    claims: Sequence[str] = ()
    verdicts: Callable[[Collected], Iterable[Verdict]] = _no_verdicts
    measure: Callable[[str], pandas.DataFrame] | None = None
    on_mnist: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(f"name of a study must be up to 100 small letters, digits and _, not {brief(self.name)}")
        text("title", self.title)
        if isinstance(self.claims, str):
            raise TypeError(
                f"claims={brief(self.claims)}: a sequence of ids is wanted, such as ({brief(self.claims)},)"
            )
        if not isinstance(self.claims, Sequence) or not all(isinstance(claim, str) for claim in self.claims):
            raise TypeError(f"claims must be a sequence of ids, not {brief(self.claims)}")
        for name in ("cases", "draw", "verdicts", *(["measure"] if self.measure is not None else [])):
            if not callable(getattr(self, name)):
                raise TypeError(f"{name} of study {self.name!r} must be callable, not {brief(getattr(self, name))}")

    def checked_cases(self, scale: str, seed: int = 0, device: str = CPU) -> tuple[Case, ...]:
        """Return the cases of a run with their seeds, each on the device or, where that does not run it, on the CPU.

        Raises
        ------
        ValueError
            If the scale or the device is unknown, there is no case, or the rows of two cases could not be told apart.
        """
        check_known("scale", scale, SCALES)
        check_known("device", device, DEVICES)
        whole_number("seed", seed, 0, LARGEST_SEED)
        cases = self._each("cases", self.cases(scale), Case)
        if not cases:
            raise ValueError(f"study {self.name!r} has no cases at scale {scale!r}")
        names, seen = list(cases[0].tags), set()
        for case in cases:
            tags = tuple(case.tags.items())
            if list(case.tags) != names:
                given = f"{brief(names)} and {brief(list(case.tags))}"
                raise ValueError(f"cases of study {self.name!r} must have the same tags, not {given}")
            if tags in seen:
                raise ValueError(f"two cases of study {self.name!r} have the tags {brief(dict(case.tags))}")
            seen.add(tags)
        return tuple(case.seeded(seed).placed(device) for case in cases)

    def checked_verdicts(self, collected: Collected) -> list[Verdict]:
        """Return the verdicts in the order of the claims.

        Raises
        ------
        ValueError
            If a verdict is about another claim, or a claim has none.
        """
        verdicts = self._each("verdicts", self.verdicts(collected), Verdict)
        for verdict in verdicts:
            if verdict.claim not in self.claims:
                raise unknown(f"claim of study {self.name!r}", verdict.claim, self.claims)
        if missing := [claim for claim in self.claims if claim not in {verdict.claim for verdict in verdicts}]:
            raise ValueError(f"study {self.name!r} has no verdict on {', '.join(missing)}")
        return sorted(verdicts, key=lambda verdict: list(self.claims).index(verdict.claim))

    def _each(self, function: str, found: Any, kind: type[Item]) -> tuple[Item, ...]:
        """Return what a function of the study gives, each of which must be of one kind."""
        if not isinstance(found, Iterable):
            raise TypeError(f"{function} of study {self.name!r} must give each {kind.__name__}, not {brief(found)}")
        each = tuple(itertools.islice(found, MOST + 1))
        if len(each) > MOST:
            raise ValueError(f"{function} of study {self.name!r} gives more than {MOST}")
        for one in each:
            if not isinstance(one, kind):
                raise TypeError(f"{function} of study {self.name!r}: {brief(one)} is no {kind.__name__}")
        return each


def _beyond_floats(value: Any) -> bool:
    try:
        float(value)
    except OverflowError:
        return True
    return False
