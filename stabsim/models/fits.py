"""Which law of the registry given weights and biases come from, at which gain, and how well they fit it.

The law is the one that is not rejected at `LEVEL`, by the values, the largest singular value or the variances of rows
and columns together (`stabsim.models.goodness`): of several the most likely one, or "unclear" where it is not `SURE`
times as likely as each other one; "none" where all are rejected, as of trained nets. Weights that are all equal, a
multiple of the identity, or of an orthogonal matrix, are so to within rounding: there is nothing to test, and no
p-value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from stabsim.initializers import INITIALIZERS
from stabsim.models import goodness
from stabsim.models.layers import Dense, Floats, Layer, Recurrent

if TYPE_CHECKING:
    import pandas

    from stabsim.models.model import Model

LEVEL = 0.001  # at which a law is rejected
SURE = 1000.0  # times as likely as all others a law is that is named
ROUNDING = 1e-3  # of squared singular values of an orthogonal matrix
EXACT = 1e-5  # relative error of the scale of a law without chance
NONE, UNCLEAR = "none", "unclear"  # no law fits; there are too few values to tell
EXACT_LAWS = ("constant", "identity", "orthogonal")


@dataclass(frozen=True)
class Fit:
    """What is known of one matrix of weights or vector of biases.

    Attributes
    ----------
    place, tensor, gate : str
        Where it stands; "weight", "bias", "recurrent_weight" or "recurrent_bias"; the gate of a cell, or "".
    fans : (int, int)
        Of the matrix, or of that whose bias it is.
    values : array
        As given.
    """

    place: str
    tensor: str
    gate: str
    fans: tuple[int, int]
    values: Floats

    @cached_property
    def _wide(self) -> Floats:
        return np.asarray(self.values, np.float64)

    @cached_property
    def std(self) -> float:
        """Return the root mean square: all laws have mean 0."""
        return math.sqrt(float(np.mean(self._wide**2)))

    @cached_property
    def orthogonality(self) -> float:
        """Return how far squared singular values are from their mean, relative to it; NaN of vectors and zeros."""
        if self._wide.ndim != 2 or min(self._wide.shape) < 2 or self.std == 0:
            return math.nan
        return float(np.max(np.abs(self._squares / self._squares.mean() - 1)))

    @cached_property
    def _squares(self) -> Floats:
        """Return the squared singular values, the largest last."""
        wide = self._wide if self._wide.shape[0] >= self._wide.shape[1] else self._wide.T
        return np.asarray(np.linalg.eigvalsh(wide.T @ wide))

    @cached_property
    def p_values(self) -> dict[str, float]:
        """Return the p-value of each law that has one."""
        return {law: goodness.p_value(law, self._wide) for law in goodness.FAMILIES}

    @cached_property
    def p_spectra(self) -> dict[str, float]:
        """Return the p-value of the largest singular value, by law; NaN of biases and small matrices."""
        return self._of_matrix(lambda law, w: goodness.p_spectrum(law, w, float(self._squares[-1])))

    @cached_property
    def p_scales(self) -> dict[str, float]:
        """Return the p-value of one variance in all rows and columns, by law; NaN of biases and small matrices."""
        return self._of_matrix(goodness.p_scale)

    def _of_matrix(self, p_value: Callable[[str, Floats], float]) -> dict[str, float]:
        if self._wide.ndim != 2:
            return dict.fromkeys(goodness.FAMILIES, math.nan)
        return {law: p_value(law, self._wide) for law in goodness.FAMILIES}

    @cached_property
    def evidence(self) -> dict[str, float]:
        """Return the logarithm of the likelihood of each law, whatever the scale."""
        return {law: family.evidence(self._wide) for law, family in goodness.FAMILIES.items()}

    @cached_property
    def law(self) -> str:
        """Return the law that it fits, `NONE` or `UNCLEAR`."""
        if np.all(self._wide == self._wide.flat[0]) and (self._wide.size > 1 or self.std == 0):
            return "constant"
        if self._is_identity:
            return "identity"
        if self.orthogonality < ROUNDING:
            return "orthogonal"
        kept = [law for law in goodness.FAMILIES if self.fits(law)]
        return most_likely(kept, self.evidence) if kept else NONE

    def fits(self, law: str, level: float = LEVEL) -> bool:
        """Return whether a law of independent values is not rejected by the tests that there are, all together."""
        found = [p for p in (self.p_values[law], self.p_spectra[law], self.p_scales[law]) if not math.isnan(p)]
        return all(p * len(found) >= level for p in found)

    @property
    def _is_identity(self) -> bool:
        if self._wide.ndim != 2 or min(self._wide.shape) < 2 or self._wide[0, 0] == 0:
            return False
        return bool(np.all(self._wide == self._wide[0, 0] * np.eye(*self._wide.shape)))

    @cached_property
    def scale(self) -> float:
        """Return what the registry's law has as its standard deviation: of the identity, the diagonal."""
        return abs(float(self._wide[0, 0])) if self.law == "identity" else self.std

    @cached_property
    def relative_error(self) -> float:
        """Return the standard error of the logarithm of the scale."""
        if self.law in EXACT_LAWS:
            return EXACT
        family = goodness.FAMILIES.get("normal" if self.law == UNCLEAR else self.law)
        kurtosis = family.kurtosis if family else float(np.mean(self._wide**4)) / self.std**4
        return math.sqrt((kurtosis - 1) / (4 * self._wide.size))

    @property
    def gain(self) -> float:
        """Return the scale times sqrt(fan_in)."""
        return self.scale * math.sqrt(self.fans[0])

    @cached_property
    def nearest(self) -> tuple[str, float]:
        """Return the initializer of this law whose standard deviation is nearest, and the ratio of the two."""
        if self.law in (NONE, UNCLEAR):
            return "", math.nan
        if self.law == "constant" and self.std == 0:
            return "zeros", math.nan
        found = {name: self.scale / std for name, std in self._expected() if std > 0}
        name = min(found, key=lambda each: abs(math.log(found[each])), default="")
        return name, found.get(name, math.nan)

    def _expected(self) -> Iterator[tuple[str, float]]:
        """Yield initializers of this law, and the standard deviation that they say."""
        for name, entry in INITIALIZERS.items():
            law = entry.make()
            if self.tensor.endswith("weight") and law.law == self.law:
                yield name, abs(law.weight_std(*self.fans))
            elif self.tensor.endswith("bias") and law.bias_law == self.law and law.bias_gain:
                yield name, law.bias_std(self.fans[0], 0.0)

    def _known(self, by_law: dict[str, float]) -> float:
        """Return a p-value of its law, of none and of several the largest."""
        return by_law.get(self.law, max(by_law.values()) if self.law in (NONE, UNCLEAR) else math.nan)

    def row(self) -> dict[str, object]:
        """Return its row of the table."""
        name, ratio = self.nearest
        spread = math.exp(1.96 * self.relative_error)
        return {
            "place": self.place,
            "tensor": self.tensor,
            "gate": self.gate,
            "fan_in": self.fans[0],
            "fan_out": self.fans[1],
            "mean": float(self._wide.mean()),
            "std": self.std,
            "law": self.law,
            "gain": self.gain,
            "gain_low": self.gain / spread,
            "gain_high": self.gain * spread,
            "initializer": name,
            "ratio": ratio,
            "p_value": self._known(self.p_values),
            "p_spectrum": self._known(self.p_spectra),
            "p_scale": self._known(self.p_scales),
            **{f"p_{law}": p for law, p in self.p_values.items()},
            "orthogonality": self.orthogonality,
        }


def most_likely(laws: Sequence[str], evidence: Mapping[str, float]) -> str:
    """Return the law that is `SURE` times as likely as each other one, or `UNCLEAR`.

    Examples
    --------
    >>> most_likely(["normal", "uniform"], {"normal": -3.0, "uniform": -11.0})
    'normal'
    >>> most_likely(["normal", "uniform"], {"normal": -10.0, "uniform": -11.0})
    'unclear'
    """
    first, *others = sorted(laws, key=evidence.__getitem__, reverse=True)
    return UNCLEAR if others and evidence[first] - evidence[others[0]] < math.log(SURE) else first


def of_layer(layer: Layer) -> list[Fit]:
    """Return what is known of the weights and biases of a layer."""
    if isinstance(layer, Dense):
        parts = (("weight", layer.weight), ("bias", layer.bias))
        return [Fit(layer.place, name, "", layer.fans, v) for name, v in parts if v is not None]
    if not isinstance(layer, Recurrent):
        return []
    state = (layer.fans[1], layer.fans[1])
    tensors = (
        ("weight", layer.weight, layer.fans),
        ("recurrent_weight", layer.recurrent_weight, state),
        ("bias", layer.bias, layer.fans),
        ("recurrent_bias", layer.recurrent_bias, state),
    )
    return [
        Fit(layer.place, name, gate, fans, v)
        for name, matrices, fans in tensors
        for gate, v in zip(layer.gates, matrices, strict=False)  # of biases there may be none
    ]


def table(model: Model) -> pandas.DataFrame:
    """Return the table of `Model.fits`."""
    import pandas

    return pandas.DataFrame([fit.row() for layer in model.layers for fit in of_layer(layer)])
