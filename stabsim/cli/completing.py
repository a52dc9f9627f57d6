"""What shells complete: names of the registries, studies and claims, looked up when a key is pressed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click

Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def _completer(names: Callable[[], Iterable[str]], *, listed: bool = False) -> Completer:
    """Return what completes a name; with ``listed``, the last of several with commas between them."""

    def complete(_context: click.Context, _option: click.Parameter, begun: str) -> list[str]:
        before, comma, last = begun.rpartition(",") if listed else ("", "", begun)
        return [before + comma + name for name in names() if name.startswith(last)]

    return complete


def _activations() -> Iterable[str]:
    from stabsim.activations import ACTIVATIONS

    return ACTIVATIONS


def _initializers() -> Iterable[str]:
    from stabsim.initializers import INITIALIZERS

    return INITIALIZERS


def _normalizations() -> Iterable[str]:
    from stabsim.structures import NORMALIZATIONS

    return NORMALIZATIONS


def _cells() -> Iterable[str]:
    from stabsim.structures import GATES

    return ("feedforward", *GATES)


def _quantities() -> Iterable[str]:
    from stabsim.quantities import QUANTITIES

    return QUANTITIES


def _samplers() -> Iterable[str]:
    from stabsim.samplers import SAMPLERS

    return dict.fromkeys(("auto", *(sampler.name for sampler in SAMPLERS)))


def _precisions() -> Iterable[str]:
    from stabsim.number_formats import FORMATS

    return ("float32", "float64", *FORMATS)


def _clippings() -> Iterable[str]:
    from stabsim.clipping import KINDS

    return KINDS


def _datasets() -> Iterable[str]:
    from stabsim.datasets import DATASETS

    return DATASETS


def _studies() -> Iterable[str]:
    from stabsim.discovery import files

    return files()


def _claims() -> Iterable[str]:
    from stabsim.ledger import statements

    return statements()


activation = _completer(_activations)
weights = _completer(_initializers)
normalization = _completer(_normalizations)
cell = _completer(_cells)
quantities = _completer(_quantities, listed=True)
sampler = _completer(_samplers)
precision = _completer(_precisions)
clipping = _completer(_clippings)
dataset = _completer(_datasets)
study = _completer(_studies)
claim = _completer(_claims)
