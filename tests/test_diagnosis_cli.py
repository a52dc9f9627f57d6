"""``stabsim diagnose``: exit status, what it prints, and what it refuses."""

from __future__ import annotations

import json

import pytest

from stabsim.cli import main

NET = ("diagnose", "--depth", "30", "--width", "32", "--activation", "tanh", "--no-formats")


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    said = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, said.out, said.err


def test_a_stable_network_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, *NET, "--weights", "lecun_normal")
    assert status == 0 and out.startswith("stable: Network(")


def test_one_that_is_not_exits_with_1_and_is_repaired(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys, *NET, "--weights", "lecun_normal(gain=0.5)")
    assert status == 1 and out.startswith("vanishing: Network(")
    assert "repair  " in out and "weights='lecun_normal'" in out and "simulated: stable" in out
    assert "Traceback" not in err


def test_one_that_is_not_decided_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, *NET, "--weights", "lecun_normal", "--nets", "4")
    assert status == 1 and out.startswith("undecided: Network(")


def test_json_is_one_document_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, *NET, "--weights", "lecun_normal(gain=0.5)", "--json")
    document = json.loads(out, parse_constant=lambda name: pytest.fail(name))
    assert status == 1 and document["verdict"] == "vanishing" and document["repair"]["verdict"]["kind"] == "stable"


def test_it_says_the_same_twice(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (call(capsys, *NET, "--weights", "lecun_normal", "--threads", n) for n in ("1", "2"))
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ("--weights", "lecun_normal", "--format", "float17"),
            "unknown format 'float17'; known, nearest first: float16",
        ),
        (("--weights", "lecun_normal", "--format", "float16", "--cell", "lstm"), "does not go with"),
        (("--weights", "lecun"), "unknown initializer 'lecun'"),
        (("--weights", "lecun_normal", "--tolerance", "1"), "tolerance must be a finite number > 1"),
        (("--weights", "lecun_normal", "--nets", "1"), "nets must be an integer from 2"),
        (("--weights", "lecun_normal", "--widths", "3,4"), "give either --depth and --width, or --widths"),
        (("--weights", "lecun_normal", "--jason"), "unknown option '--jason'; known, nearest first: --json"),
        ((), "option --weights is missing"),
    ],
)
def test_bad_usage_exits_with_2_and_one_line(
    arguments: tuple[str, ...], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = call(capsys, *NET, *arguments)
    assert (status, out) == (2, "") and err.count("\n") == 1 and error in err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "diagnose", "--help")
    assert status == 0 and "Examples:\n" in out and "  stabsim diagnose --depth 50 --width 256" in out
