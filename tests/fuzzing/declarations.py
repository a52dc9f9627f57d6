"""Target: what studies declare, cases, verdicts, studies and shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stabsim.arguments import make_task
from stabsim.cli.text import rests_on
from stabsim.outputs import save_verdicts
from stabsim.study import Case, Collected, Study, Verdict
from stabsim.work import Shard
from tests.fuzzing.choices import ODD, Choices, odd, text
from tests.fuzzing.harness import Target
from tests.fuzzing.specs import ERRORS, NAMES, NETWORKS, NUMBERS, Arguments, arguments_of

TASKS = tuple(make_task(network, quantities=NAMES[:1]) for network in NETWORKS[:2])
TAGS: tuple[dict[Any, Any], ...] = (
    {},
    {"weights": "he_normal"},
    {"width": 3},
    {"gain": 0.5},
    {"a": "b", "c": 1},
    {1: "x"},
    {"a": None},
    {"a\nb": "c\nd"},
)
VERDICT: dict[str, tuple[Any, ...]] = {
    "claim": ("B06", "A17", "B1", ""), "verdict": ("holds", "fails", "holds when it rains", "hold", "holds when "),
    "estimate": NUMBERS, "ci_low": NUMBERS, "ci_high": NUMBERS, "theory": NUMBERS, "note": ("", "a note", "two\nlines"),
}  # fmt: skip
STUDY: dict[str, tuple[Any, ...]] = {
    "name": ("tiny", "a_b", "A", "", "x/y", "a\n"), "title": ("A tiny study", ""), "cases": (None,), "draw": (list,),
    "claims": ((), ("B06",), ("B06", "A17"), "B06"),
}  # fmt: skip
DECLARED = ("case", "verdict", "study", "verdicts", "shard")
STUDY_SUBJECTS = (
    r"^(task|nets|tags?|verdicts?|claims?|name of a study|title|scale|seed|cases?|draw|measure|study|unknown|shard|"
    r"estimate|ci_low|ci_high|theory|note|two cases|on_mnist|no verdict|a case|each)"
)


def make_case(c: Choices) -> Arguments:
    return arguments_of(c, {"task": TASKS, "nets": (1, 64, 2**32, 2**33), "tags": TAGS}, 2)


def make_declaration(c: Choices) -> tuple[str, Any]:
    kind = c.pick(DECLARED)
    if kind == "case":
        return kind, make_case(c)
    if kind == "verdict":
        return kind, arguments_of(c, VERDICT, 5)
    if kind == "shard":
        return kind, odd(c) if c.chance(20) else text(c, ("1/2", "3/3", "10/1000"))
    study = arguments_of(c, STUDY, 4)
    if kind == "verdicts":
        return kind, (study, [odd(c) if c.chance(10) else arguments_of(c, VERDICT, 5) for _ in range(c.below(3))])
    cases = odd(c) if c.chance(10) else [odd(c) if c.chance(5) else make_case(c) for _ in range(c.below(4))]
    return kind, (study, cases, c.pick(("quick", "paper", *ODD)), c.pick((0, 1, *ODD)))


def use_declaration(given: tuple[str, Any], folder: Path) -> None:
    kind, value = given
    if kind == "case":
        case = Case(**value)
        assert case.seeded(1).task.seed != case.seeded(2).task.seed
        case.label.encode()
    elif kind == "verdict":
        use_verdicts(Study("tiny", "", lambda _: [], lambda _: []), [Verdict(**value)], folder)
    elif kind == "shard":
        shard = Shard.of(value)
        assert not shard.deal(()) and shard.has("tiny") in (True, False)
    elif kind == "verdicts":
        study, verdicts = value
        found = [Verdict(**each) if isinstance(each, dict) and "claim" in each else each for each in verdicts]
        declared = Study(**study, verdicts=lambda _: found)
        use_verdicts(declared, declared.checked_verdicts(Collected(())), folder)
    else:
        study, cases, scale, seed = value
        made = cases
        if isinstance(cases, list):
            made = [Case(**each) if isinstance(each, dict) and "task" in each else each for each in cases]
        declared = Study(**{**study, "cases": lambda _: made})
        assert declared.checked_cases(scale, seed)


def use_verdicts(study: Study, verdicts: list[Verdict], folder: Path) -> None:
    """Do what is done with verdicts: they are printed and saved."""
    for verdict in verdicts:
        f"{verdict.claim} {verdict.verdict} {rests_on(verdict)} {verdict.note}".encode()
    save_verdicts(study, verdicts, "quick", 0, folder / "verdicts.json")


TARGETS = {
    "declarations": Target(make_declaration, use_declaration, ERRORS, STUDY_SUBJECTS, share=20, writes=True),
}
