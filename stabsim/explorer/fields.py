"""The fields of the page: what each is called, how far its slider goes, and what can be picked."""

from __future__ import annotations

from dataclasses import dataclass, field

from stabsim.activations import ACTIVATIONS
from stabsim.arguments import CHOICES, PRECISIONS
from stabsim.explorer.state import MAPPED, NONE
from stabsim.initializers import INITIALIZERS
from stabsim.structures import GATES, NORMALIZATIONS


@dataclass(frozen=True)
class Field:
    """One field of the page, which takes any text; a slider or a list sets it too.

    Parameters
    ----------
    name : str
        Of the `State`.
    label, hint : str
        What it is called, and what else is to be said of it.
    slider : None or (low, high)
        Ends of the slider; the field takes what `state.CHECKS` allows.
    steps : str
        Of the slider: "even", "ratio" (each a little more than the one before), "whole" or "doubled".
    choices : tuple of str
        What can be picked.
    closed : bool
        Whether nothing else is allowed, so that a list is enough.
    words : dict of str
        What a choice is called, if not by its name.
    """

    name: str
    label: str
    hint: str = ""
    slider: tuple[float, float] | None = None
    steps: str = "whole"
    choices: tuple[str, ...] = ()
    closed: bool = False
    words: dict[str, str] = field(default_factory=dict)


FIELDS = (
    Field("activation", "Activation f", "with parameters, too: leaky_relu(slope=0.2)", choices=tuple(ACTIVATIONS)),
    Field("weights", "Initializer", "with parameters, too: he_normal(fan=out)", choices=tuple(INITIALIZERS)),
    Field("gain", "Gain", "deviation of a weight times √fan; empty: the initializer's own", (0.1, 10), "ratio"),
    Field("depth", "Depth", "layers", (1, 200)),
    Field("width", "Width", "units of a layer", (8, 2048), "ratio"),
    Field("bias_std", "Biases", "their standard deviation", (0, 2), "even"),
    Field("batch", "Batch", "samples that go through a net together", (1, 64), "doubled"),
    Field("normalization", "Normalization", "such as batch(epsilon=0)", choices=(NONE, *NORMALIZATIONS)),
    Field("skip", "Residual connections", "such as skip(branch=0.1, layers=2, activation=before)",
          choices=(NONE, "skip", "skip(branch=0.1)", "skip(layers=2, activation=before)")),
    Field("cell", "Cell", "recurrent ones have a time step for each layer", choices=tuple(GATES)),
    Field("nets", "Nets", "more of them: narrower intervals", (16, 4096), "doubled"),
    Field("seed", "Seed", "the same seed draws the same nets"),
    Field("sampler", "Sampler", "", choices=CHOICES, closed=True),
    Field("precision", "Precision", "", choices=PRECISIONS, closed=True),
    Field("share", "Heat map of", "", choices=tuple(MAPPED), closed=True, words=MAPPED),
)  # fmt: skip
SECTIONS = {
    "Network": ("activation", "weights", "gain", "depth", "width"),
    "More of it": ("batch", "bias_std", "normalization", "skip", "cell"),
    "Simulation": ("nets", "seed", "sampler", "precision"),
}
