"""The report's page as text: what it holds, that nothing of it is taken for HTML, and what bad files do."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import urllib.parse
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas
import pytest

from stabsim import __version__, ledger
from stabsim.cli import main
from stabsim.ledger import shipped, statements
from stabsim.provenance import command, parsed_command, versions
from stabsim.report import gather, pictures, write_report
from stabsim.sealing import sealed_document
from tests.reports import EVIL, ROWS, VERDICTS, cases, make_folder

Call = Callable[..., tuple[int, str, str]]
VOID = {"meta", "link", "img", "input", "wbr"}


class Page(HTMLParser):
    """The elements of a page: (name, attributes, text of all inside), in their order; each must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.open: list[int] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len(dict(attributes)) == len(attributes)
        self.elements.append((name, {key: value or "" for key, value in attributes}, []))
        if name not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, name: str) -> None:
        assert self.elements[self.open.pop()][0] == name

    def handle_data(self, data: str) -> None:
        for place in self.open:
            self.elements[place][2].append(data)

    def find(self, name: str, /, **wanted: str) -> list[tuple[dict[str, str], str]]:
        return [
            (attributes, " ".join("".join(text).split()))
            for each, attributes, text in self.elements
            if each == name
            and all(value in attributes.get(key.strip("_"), "").split() for key, value in wanted.items())
        ]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("a folder"))


@pytest.fixture
def copy(out: Path, tmp_path: Path) -> Path:
    shutil.copytree(out, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run ``stabsim report``; return exit status, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["report", *map(str, arguments)])
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    return run


def text_of(out: Path, *studies: str) -> str:
    write_report(out, studies=studies)
    return (out / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(out: Path) -> Page:
    return Page(text_of(out))


# --- what the page holds -------------------------------------------------------------------------------


def test_every_claim_is_there_with_every_verdict(page: Page) -> None:
    claims = {attributes["id"]: text for attributes, text in page.find("tbody", class_="claim")}
    assert list(claims) == [f"claim-{claim}" for claim in statements()]
    for claim, statement in statements().items():
        assert " ".join(statement.split()) in claims[f"claim-{claim}"]
    rows = page.find("tr", class_="verdict")
    of_claims = [attributes for attributes, _ in rows if "data-from" in attributes]
    from_ledger = sum(map(len, shipped().values()))
    assert sum(attributes["data-from"] == "shipped" for attributes in of_claims) == from_ledger
    with_statement = [v for found in VERDICTS.values() for v in found if v.claim in statements()]
    assert sum(attributes["data-from"] == "run" for attributes in of_claims) == len(with_statement)
    of_studies = [text for attributes, text in rows if "data-from" not in attributes]
    assert len(of_studies) == sum(map(len, VERDICTS.values()))
    assert sum("X01 has no statement" in text for text in of_studies) == 1


def test_numbers_are_printed_as_such(page: Page) -> None:
    found = {text for _, text in page.find("span", class_="value")}
    assert "\N{MINUS SIGN}2.5 × 10\N{MINUS SIGN}7" in found and "" in found
    intervals = {text for _, text in page.find("span", class_="interval")}
    assert (
        "[0.95, 1.05]" in intervals
        and "[\N{MINUS SIGN}3 × 10\N{MINUS SIGN}7, \N{MINUS SIGN}2 × 10\N{MINUS SIGN}7]" in intervals
    )


def test_a_run_says_how_it_was_made(page: Page) -> None:
    ((_, text),) = page.find("section", id_="study-tiny")
    for told in (
        "Scale: quick", "Seed: 7", "stabsim run tiny --scale quick --seed 7", "Cases: 4", "Nets: 1,000",
        "Widths: 8, 16", "Depths: 2", "Activations: relu", "Initializers: glorot_normal, he_normal",
        "Precisions: float32", f"stabsim {__version__}", *(f"{name} {value}" for name, value in versions().items()),
    ):  # fmt: skip
        assert told.replace(": ", "") in text.replace(": ", ""), told


def test_figures_are_with_their_study_caption_and_data(page: Page, out: Path) -> None:
    figures = {attributes["id"]: text for attributes, text in page.find("figure")}
    assert list(figures) == ["figure-harmful", "figure-tiny", "figure-tiny_tails", "figure-tiny_more"]
    assert [text.partition(".")[0] for text in figures.values()] == [f"Figure {place}" for place in (1, 2, 3, 4)]
    images = page.find("img")
    assert [attributes["alt"] for attributes, _ in images][:2] == [
        EVIL,
        "Mean square against layers, plotted for the tiny study.",
    ]
    for attributes, _ in images:
        assert attributes["src"].startswith("data:image/svg+xml,") and int(attributes["width"]) > 400
    drawn = urllib.parse.unquote(images[1][0]["src"].partition(",")[2])
    assert drawn.split() == (out / "figures" / "tiny.svg").read_text().split()
    ((link, name),) = [found for found in page.find("a") if found[0].get("download") == "tiny_tails.csv.gz"]
    assert name == "tiny_tails.csv.gz"
    rows = gzip.decompress(base64.b64decode(link["href"].partition(",")[2]))
    assert rows == (out / "figures" / "tiny_tails.csv").read_bytes()
    assert pandas.read_csv(io.BytesIO(rows)).equals(ROWS)


def test_the_page_needs_nothing_but_itself(page: Page) -> None:
    for name, attributes, _ in page.elements:
        for key in ("src", "href", "action", "data", "srcset", "poster"):
            if address := attributes.get(key):
                assert address.startswith(("#", "data:")), (name, address[:50])
        assert not any(key.startswith("on") for key in attributes)
    ((policy, _),) = [found for found in page.find("meta") if "http-equiv" in found[0]]
    ((_, script),) = [(attributes, "".join(text)) for name, attributes, text in page.elements if name == "script"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy["content"] and f"script-src 'sha256-{digest}';" in policy["content"]
    ((_, style),) = page.find("style")
    assert "url(" not in style and "@import" not in style


def test_ids_are_unique_links_lead_somewhere_and_headings_are_in_order(page: Page) -> None:
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for _, attributes, _ in page.elements:
        for target in [
            *attributes.get("href", "").split("#")[1:][: attributes.get("href", "").startswith("#")],
            *attributes.get("aria-labelledby", "").split(),
            *attributes.get("for", "").split(),
        ]:
            assert target in ids, target
    levels = [int(name[1]) for name, _, _ in page.elements if re.fullmatch("h[1-6]", name)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    assert all(attributes.get("scope") for name, attributes, _ in page.elements if name == "th")
    assert [len(page.find(name)) for name in ("main", "header", "nav", "footer")] == [1, 1, 1, 1]


def test_texts_of_a_study_are_never_html(page: Page, out: Path) -> None:
    assert len(page.find("script")) == 1 and not [found for found in page.find("img") if found[0]["src"] == "x"]
    assert any(text == EVIL for _, text in page.find("h3"))
    assert sum(EVIL in text for _, text in page.find("p", class_="note")) == 1
    assert "<script>document" not in (out / "report.html").read_text()


# --- the same bytes, another place, some studies ---------------------------------------------------------


def test_the_same_files_give_the_same_bytes(out: Path, copy: Path) -> None:
    assert text_of(out) == text_of(out) == text_of(copy)
    again = make_folder(copy)
    assert text_of(again) == text_of(out)


def test_studies_can_be_chosen(out: Path, copy: Path, call: Call) -> None:
    (copy / "report.html").unlink(missing_ok=True)
    status, printed, errors = call("--out", copy, "--output", copy / "pages" / "one.html", "tiny")
    assert (status, errors) == (0, "") and "2 figures" in printed and not (copy / "report.html").exists()
    page = Page((copy / "pages" / "one.html").read_text())
    assert [attributes["id"] for attributes, _ in page.find("tbody", class_="claim")] == ["claim-A01", "claim-A02"]
    assert {attributes["data-study"] for attributes, _ in page.find("section", class_="study")} == {"tiny"}
    assert not page.find("select", name="from")  # there is nothing to choose between
    status, _, errors = call("--out", out, "tinny")
    assert status == 2 and "unknown study 'tinny'; known, nearest first: tiny, " in errors and errors.count("\n") == 1


def test_a_study_of_the_ledger_alone_can_be_chosen(out: Path) -> None:
    name = next(entry.study for entries in shipped().values() for entry in entries)
    found = gather(out, [name])
    assert not found.studies and not found.problems
    assert {each.entry.study for entries in found.claims.values() for each in entries} == {name}


def test_a_folder_without_anything_has_the_ledger(tmp_path: Path, call: Call) -> None:
    status, _, errors = call("--out", tmp_path)
    assert status == 0 and errors.count("\n") == 1 and "no results and no figures" in errors
    page = Page((tmp_path / "report.html").read_text())
    assert len(page.find("tbody", class_="claim")) == len(statements())
    assert not page.find("section", class_="study")


# --- files that cannot be used ---------------------------------------------------------------------------


def broken(call: Call, out: Path, *named: str) -> Page:
    """Write the page, which must name each of these problems, as standard error must, a line each."""
    status, _, errors = call("--out", out)
    page = Page((out / "report.html").read_text())
    assert status == 1 and errors.count("\n") == len(named)
    notes = " ".join(text for _, text in page.find("aside", class_="notes"))
    for text in named:
        assert text in errors and text in notes
    return page


def test_damaged_verdicts_are_named_and_the_rest_is_shown(copy: Path, call: Call) -> None:
    path = copy / "results" / "tiny" / "verdicts.json"
    path.write_text(path.read_text().replace("giraffes", "gazelles"))
    page = broken(call, copy, "damaged or edited")
    assert len(page.find("figure")) == 4 and "gazelles" not in (copy / "report.html").read_text()


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"[]", b"{}", b"[" * 10**5, b'{"study": "tiny", "scale": "quick", "verdicts": 3}']
)
def test_verdicts_that_are_none_are_named(copy: Path, call: Call, data: bytes) -> None:
    (copy / "results" / "tiny" / "verdicts.json").write_bytes(data)
    assert len(broken(call, copy, "verdicts.json cannot be used").find("figure")) == 4


@pytest.mark.parametrize(
    "more",
    [
        {"parameters": [EVIL], "versions": EVIL, "seed": "7", "device": [1], "title": 3},
        {"parameters": {EVIL: [EVIL, None, {}], "widths": {"a": [1]}}, "versions": {EVIL: EVIL}, "seed": 2**64 - 1},
        {"parameters": {}, "versions": {}, "seed": 10**30, "device": EVIL},
        {},
    ],
)
def test_what_else_a_file_of_verdicts_holds_may_be_anything(copy: Path, more: dict[str, object]) -> None:
    document = {"study": "tiny", "scale": "paper", "verdicts": []} | more
    (copy / "results" / "tiny" / "verdicts.json").write_bytes(sealed_document(document))
    page = Page(text_of(copy))
    ((_, text),) = page.find("section", id_="study-tiny")
    assert "paper" in text and len(page.find("script")) == 1
    assert (str(2**64 - 1) in text) == (more.get("seed") == 2**64 - 1)


def test_a_run_without_parameters_says_so(copy: Path) -> None:
    path = copy / "results" / "tiny" / "verdicts.json"
    document = {
        key: value
        for key, value in json.loads(path.read_text()).items()
        if key not in ("parameters", "versions", "sha256")
    }
    path.write_bytes(sealed_document(document))
    assert "no parameters" in Page(text_of(copy)).find("section", id_="study-tiny")[0][1]


def test_a_run_that_has_not_judged_yet_is_no_failure(copy: Path, call: Call) -> None:
    (copy / "results" / "tiny" / "verdicts.json").unlink()
    status, _, errors = call("--out", copy)
    assert (status, errors) == (0, "")
    text = Page((copy / "report.html").read_text()).find("section", id_="study-tiny")[0][1]
    assert "stabsim run tiny writes them" in text


def test_a_figure_of_another_run_says_so(copy: Path) -> None:
    before = text_of(copy)
    assert "is of another run" not in before
    shutil.rmtree(copy / "results")
    judged = make_folder(copy / "again", "paper")
    shutil.move(judged / "results", copy / "results")
    assert text_of(copy).count("is of another run: scale quick, seed 7, device cpu") == 4


def test_without_its_csv_a_figure_is_shown_and_that_is_said(copy: Path, call: Call) -> None:
    (copy / "figures" / "tiny.csv").unlink()
    page = broken(call, copy, "figures/tiny.csv cannot be used: No such file")
    assert "without data" in page.find("figure", id="figure-tiny")[0][1]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg",
        b"<html/>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><svg/>',
        "<?xml version='1.0' encoding='utf-16'?><!DOCTYPE a [<!ENTITY b 'c'>]><svg/>".encode("utf-16"),
        b"\xff\xfe\0",
        b"<?xml version='1.0' encoding='nothing'?><a/>",
    ],
)
def test_a_damaged_svg_leaves_the_png(copy: Path, call: Call, data: bytes) -> None:
    (copy / "figures" / "tiny.svg").write_bytes(data)
    page = broken(call, copy, "figures/tiny.svg cannot be used")
    sources = [attributes["src"].partition(",")[0] for attributes, _ in page.find("img")]
    assert sources.count("data:image/webp;base64") == 1 and len(sources) == 4


@pytest.mark.parametrize("cut", [0, 8, 40, 5000])
def test_a_figure_without_any_whole_picture_is_named(copy: Path, call: Call, cut: int) -> None:
    (copy / "figures" / "tiny.svg").unlink()
    path = copy / "figures" / "tiny.png"
    path.write_bytes(path.read_bytes()[:cut])
    page = broken(call, copy, "figures/tiny.svg cannot be used", "figures/tiny.png cannot be used")
    assert len(page.find("img")) == 3 and "This figure cannot be shown." in page.find("section", id_="study-tiny")[0][1]


def test_huge_files_are_named_and_left_out(copy: Path, call: Call) -> None:
    for kind in ("svg", "png", "csv"):
        os.truncate(copy / "figures" / f"tiny.{kind}", pictures.LARGEST + 1)
    broken(call, copy, *(f"figures/tiny.{kind} cannot be used: its 32 MiB are more" for kind in ("svg", "png", "csv")))
    assert (copy / "report.html").stat().st_size < 5e6


def test_a_png_that_is_much_smaller_is_taken_pixel_by_pixel(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    from PIL import Image

    path = copy / "figures" / "tiny.svg"
    path.write_text(path.read_text().replace("</svg>", f"<!--{'x' * 300_000}--></svg>"))
    shown = pictures.picture(copy / "figures", "tiny")
    assert shown.source.startswith("data:image/webp") and shown.caption.startswith("Mean square")
    assert shown.width == pictures.picture(copy / "figures", "tiny_tails").width
    seen = Image.open(io.BytesIO(base64.b64decode(shown.source.partition(",")[2]))).convert("RGB")
    drawn = Image.open(copy / "figures" / "tiny.png").convert("RGB")
    assert np.array_equal(np.asarray(seen), np.asarray(drawn))
    monkeypatch.setattr(pictures, "_MOST_PIXELS", 1000)
    assert "pixels are more" in pictures.picture(copy / "figures", "tiny").problems[0]


@pytest.mark.parametrize(
    "name",
    ["two words", EVIL.replace("/", "|"), "α", "a#?%22", ".b", "-", b"\xff\xfe".decode(errors="surrogateescape")],
)
def test_odd_names_are_names(copy: Path, name: str) -> None:
    for kind in ("svg", "png", "pdf", "csv"):
        (copy / "figures" / f"tiny.{kind}").rename(copy / "figures" / f"{name}.{kind}")
    svg = copy / "figures" / f"{name}.svg"
    svg.write_text(svg.read_text().replace(command("tiny", "quick", 7), ""))
    page = Page(text_of(copy))
    assert len(page.find("figure")) == 4 - name.startswith(".") and len(page.find("script")) == 1
    others = [text for attributes, text in page.find("section", class_="study") if attributes["data-study"] == ""]
    assert len(others) == (not name.startswith("."))


def test_figures_are_of_the_study_with_the_longest_name_unless_they_say(copy: Path) -> None:
    for path in sorted((copy / "figures").glob("*.svg")):
        path.write_text(re.sub("stabsim run [^<]*", "", path.read_text()))
    assert {study.name: [each.name for each in study.pictures] for study in gather(copy).studies} == {
        "harmful": ["harmful"], "tiny": ["tiny", "tiny_tails"], "tiny_more": ["tiny_more"],
    }  # fmt: skip


def test_folders_that_are_none_are_named(tmp_path: Path, call: Call) -> None:
    for name in ("results", "figures"):
        (tmp_path / name).write_text("")
    broken(call, tmp_path, "results cannot be read", "figures cannot be read")


def test_a_package_without_a_ledger_shows_the_runs(copy: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    statements()
    monkeypatch.setattr(ledger, "_PACKAGE", copy)
    assert len(broken(call, copy, "comes without a ledger").find("figure")) == 4


def test_an_empty_name_is_none(out: Path, call: Call) -> None:
    status, _, errors = call("--out", out, "--output", "")
    assert status == 2 and errors.count("\n") == 1 and "is the name of no file" in errors


@pytest.mark.parametrize("output", ["results", "results/tiny/verdicts.json/a.html", "/proc/a.html"])
def test_a_page_that_cannot_be_written_is_named_in_one_line(copy: Path, call: Call, output: str) -> None:
    status, _, errors = call("--out", copy, "--output", copy / output)
    assert status in (1, 2) and errors.count("\n") == 1 and Path(output).name in errors


def test_a_page_that_is_there_stays_whole_when_the_disk_is_full(
    copy: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = text_of(copy)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    status, _, errors = call("--out", copy)
    assert status == 1 and errors.count("\n") == 1 and "No space left" in errors
    assert (copy / "report.html").read_text() == before and not list(copy.glob(".*"))


# --- what a run leaves --------------------------------------------------------------------------------------


def test_the_command_of_a_run_is_read_back() -> None:
    for given in (("tiny", "quick", 0, "cpu"), ("a_b", "paper", 2**64 - 1, "cuda")):
        found = parsed_command(command(*given))
        assert found is not None and tuple(found.values()) == (given[0], given[1], str(given[2]), given[3])
    for text in (
        "",
        "stabsim",
        "stabsim run",
        "stabsim run tiny --scale",
        "stabsim run tiny --scale quick --seed x",
        EVIL,
        "stabsim run tiny --scale quick --threads 2",
        "rm -r tiny --scale quick",
    ):
        assert parsed_command(text) is None


def test_figures_hold_the_command_that_made_them(out: Path) -> None:
    for kind in ("svg", "png", "pdf"):
        data = (out / "figures" / f"tiny_tails.{kind}").read_bytes()
        assert b"stabsim run tiny --scale quick --seed 7" in data and b"plotted for the tiny study" in data


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_and_links_in_circles_are_named(copy: Path, call: Call) -> None:
    for path in (copy / "figures" / "tiny.csv", copy / "results" / "tiny" / "verdicts.json"):
        path.unlink()
        os.mkfifo(path)
    (copy / "results" / "tiny_more" / "verdicts.json").unlink()
    os.symlink("verdicts.json", copy / "results" / "tiny_more" / "verdicts.json")
    broken(
        call, copy, "tiny.csv cannot be used: it is no file", "verdicts.json cannot be read: it is no file", "tiny_more"
    )


def test_parameters_are_of_the_cases() -> None:
    from stabsim.provenance import parameters

    found = parameters(cases())
    assert found["nets_of_a_case"] == [100, 200, 300, 400] and found["nets"] == 1000
    assert "normalizations" not in found and found["devices"] == ["cpu"]
    assert parameters(cases()[:1])["weights"] == ["he_normal"]
