"""The page: what was gathered, as one HTML document with its style, script and figures inside."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from stabsim import __version__
from stabsim.ledger import statements
from stabsim.provenance import command
from stabsim.report.gather import RUN, SHIPPED, Found, Gathered, Shown
from stabsim.report.pictures import Picture
from stabsim.study import Verdict
from stabsim.versions import VERSIONS

# What a verdict begins with, the mark that stands for it without color, and what it is called.
KINDS = {"holds": ("✓", "holds"), "when": ("◐", "holds when"), "fails": ("✗", "fails"), "none": ("○", "not tested yet")}
ORIGINS = {RUN: "runs in this folder", SHIPPED: "ledger of paper-scale runs"}

# Of the parameters of a run, in the order in which they are shown; more, from later versions, go behind.
_LABELS = {
    "cases": "Cases", "nets": "Nets", "nets_of_a_case": "Nets of a case", "depths": "Depths", "widths": "Widths",
    "activations": "Activations", "weights": "Initializers", "bias_stds": "Standard deviations of biases",
    "cells": "Cells", "normalizations": "Normalizations", "skips": "Residual connections", "batches": "Batches",
    "samplers": "Samplers", "precisions": "Precisions", "clippings": "Clippings", "loss_scales": "Loss scales",
    "devices": "Devices", "data": "Data",
}  # fmt: skip
_USUAL = {"bias_stds": [0.0], "cells": ["feedforward"], "loss_scales": [1.0], "batches": [1]}  # and not worth a line
_LISTED = 8  # numbers; more are told as a range

_MINUS = "\N{MINUS SIGN}"
_HERE = Path(__file__).resolve().parent
_LONG = re.compile(r"[0-9]+\.[0-9]{6,}")
_PLAIN = re.compile(r"[A-Za-z0-9_]+")


def render(found: Gathered) -> str:
    """Return the page, the same text for the same values."""
    style, script = (_text(name) for name in ("style.css", "script.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    pictures = [picture for study in found.studies for picture in study.pictures]
    origins = sorted({each.origin for entries in found.claims.values() for each in entries})
    return _environment().get_template("page.html").render(
        found=found, style=Markup(style), script=Markup(script), digest=digest, kinds=KINDS, origins=origins,
        origin_words=ORIGINS, counts={origin: _counts(found, origin) for origin in origins}, letters=_letters(found),
        number={picture.name: place for place, picture in enumerate(pictures, 1)}, pictures=len(pictures),
        names=_names(found), shown={study.name for study in found.studies}, version=__version__, versions=VERSIONS,
    )  # fmt: skip


@cache
def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    found.filters |= {
        "number": number, "interval": interval, "size": size, "kind": kind, "condition": condition,
        "anchor": anchor, "caption": caption, "breakable": breakable,
    }  # fmt: skip
    found.globals |= {"statements": statements, "parameters": parameters, "versions_of": versions_of, "run_of": run_of}
    return found


@cache
def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def number(value: float) -> Markup:
    """Return a number in six digits as it is printed: a real minus, powers of ten as such, nothing for NaN.

    >>> number(0.25), number(2.5e12), number(float("nan")), number(float("inf"))
    (Markup('0.25'), Markup('2.5 × 10<sup>12</sup>'), Markup(''), Markup('∞'))
    """
    if math.isnan(value):
        return Markup("")
    if math.isinf(value):
        return Markup("∞" if value > 0 else f"{_MINUS}∞")
    digits, _, power = f"{value:.6g}".partition("e")
    spelled = Markup("{} × 10<sup>{}</sup>").format(digits, int(power)) if power else Markup(digits)
    return spelled.replace("-", _MINUS)


def interval(verdict: Verdict) -> Markup:
    """Return a 95% interval in brackets; an end that is not known is a question mark, and none where both are not."""
    low, high = number(verdict.ci_low), number(verdict.ci_high)
    if not (low or high):
        return Markup("")
    return Markup('<span class="end">[{},</span> <span class="end">{}]</span>').format(low or "?", high or "?")


def size(count: int) -> str:
    """Return a number of bytes in the unit that it is read in.

    >>> size(27), size(626_000)
    ('27 B', '626 kB')
    """
    for unit, each in (("B", 1), ("kB", 1000)):
        if count < 1000 * each:
            return f"{count / each:.0f} {unit}"
    return f"{count / 1e6:.1f} MB"


def kind(verdict: Verdict) -> str:
    """Return which of ``KINDS`` a verdict is of."""
    return verdict.verdict if verdict.verdict in KINDS else "when"


def condition(verdict: Verdict) -> str:
    """Return when a claim holds; nothing where it always or never does."""
    return verdict.verdict.removeprefix("holds when ") if kind(verdict) == "when" else ""


def anchor(name: str, what: str) -> str:
    """Return the id of an element: a name as it is where that is a word, or else a digest of it.

    >>> anchor("gains", "study"), anchor("a b", "study")
    ('study-gains', 'study-x-c8687a08aa5d')
    """
    if _PLAIN.fullmatch(name):
        return f"{what}-{name}"
    return f"{what}-x-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:12]}"


def breakable(name: str) -> Markup:
    """Return a name that may go on in the next line behind each of its underscores.

    >>> breakable("batch_norm")
    Markup('batch_<wbr>norm')
    """
    return Markup("_<wbr>").join(name.split("_"))


def caption(picture: Picture, study: Shown) -> str:
    """Return what is said below a figure: its caption, or the study's title where it has none."""
    return picture.caption or f"{study.title or study.name or picture.name} ({picture.name})."


def run_of(study: Shown) -> list[tuple[str, str]]:
    """Return what is known of the run that reached the verdicts."""
    if study.run is None:
        return []
    held = study.run.document
    seed, device = held.get("seed"), held.get("device", "cpu")
    told = [("Scale", study.run.scale)]
    told += [("Seed", str(seed))] if isinstance(seed, int) else []
    told += [("Device", str(device))] if "parameters" not in held or device != "cpu" else []
    if isinstance(seed, int) and isinstance(device, str):
        told.append(("Command", command(study.name, study.run.scale, seed, device)))
    return told


def parameters(study: Shown) -> list[tuple[str, str]]:
    """Return the parameters that a run has left, with their values in words."""
    held = _mapping(study, "parameters")
    labels = _LABELS | {name: name.replace("_", " ").capitalize() for name in held if name not in _LABELS}
    shown = [name for name in labels if name in held and held[name] != _USUAL.get(name)]
    return [(labels[name], _values(held[name])) for name in shown]


def versions_of(study: Shown) -> list[tuple[str, str]]:
    """Return the versions that a run has left."""
    return [(name, str(value)) for name, value in _mapping(study, "versions").items()]


def _mapping(study: Shown, name: str) -> Mapping[str, Any]:
    found = study.run.document.get(name) if study.run else None
    return found if isinstance(found, dict) else {}


def _values(values: Any) -> str:
    """Return values in words: many numbers as a range, many names by what stands in front of their parameters.

    >>> _values([1, 2]), _values(list(range(1, 20))), _values(["relu", "tanh"]), _values(4096)
    ('1, 2', '19 values from 1 to 19', 'relu, tanh', '4,096')
    >>> _values(["he_normal", *(f"normal(gain={gain})" for gain in range(20))])
    'he_normal, normal (20 of them)'
    """
    each = values if isinstance(values, list) else [values]
    numbers = [value for value in each if isinstance(value, int | float)]
    if len(each) <= _LISTED:
        return ", ".join(map(_plain, each))
    if len(numbers) == len(each):
        return f"{len(each)} values from {_plain(min(numbers))} to {_plain(max(numbers))}"
    names = Counter(_plain(value).partition("(")[0] for value in each)
    return ", ".join(f"{name} ({count} of them)" if count > 1 else name for name, count in names.items())


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return f"{value:,}"
    return _LONG.sub(lambda found: f"{float(found[0]):.6g}", str(value))


def _counts(found: Gathered, origin: str) -> dict[str, int]:
    """Return how many verdicts of each kind an origin has, and how many claims none."""
    counts = dict.fromkeys(KINDS, 0)
    for entries in found.claims.values():
        own = [each for each in entries if each.origin == origin]
        for each in own:
            counts[kind(each.entry.verdict)] += 1
        counts["none"] += not own
    return counts


def _letters(found: Gathered) -> dict[str, list[tuple[str, Sequence[Found]]]]:
    letters: dict[str, list[tuple[str, Sequence[Found]]]] = {}
    for claim, entries in found.claims.items():
        letters.setdefault(claim[0], []).append((claim, entries))
    return letters


def _names(found: Gathered) -> list[str]:
    """Return every study that the page has something of."""
    of_claims: Iterable[str] = (each.entry.study for entries in found.claims.values() for each in entries)
    return sorted({*of_claims, *(study.name for study in found.studies if study.name)})
