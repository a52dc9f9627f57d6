"""A model: one given net, read from another library, with its weights or the laws that they are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim.initializers import Initializer
from stabsim.models.layers import Dense, Layer, Nonlinearity, Normalizer, Recurrent, Stage, said, stages
from stabsim.network import Network

if TYPE_CHECKING:
    import pandas

    from stabsim.models.ensemble import Reading
    from stabsim.models.passes import ModelTrace


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """One given net: its layers, with their weights or with the laws that a description tells.

    `stabsim.from_torch` and `stabsim.from_keras` make it; printed, a line a layer.

    Attributes
    ----------
    layers : tuple
        Of `stabsim.models.layers`, in their order. Layers of a net are counted as everywhere: 0 is the input, and
        layer l has the l-th weights with all that follows them up to the next; of a recurrent net they are time steps.
    notes : tuple of str
        What was left out or taken otherwise, a line each.

    Raises
    ------
    ValueError
        If there are no weights, or a layer does not fit the one below.
    """

    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not any(isinstance(layer, Dense | Recurrent) for layer in self.layers):
            raise ValueError("there is no layer with weights to read: none is fully connected or recurrent")
        width, below = 0, ""
        for layer in self.layers:
            wanted = width
            if isinstance(layer, Normalizer):
                wanted = layer.width
            elif not isinstance(layer, Nonlinearity):
                wanted = layer.fans[0]
            if below and wanted != width:
                raise ValueError(f"{layer.place} takes {wanted} units, but {below} gives {width}")
            if isinstance(layer, Recurrent) and not self.recurrent:
                before = below or self.layers[0].place
                raise ValueError(f"{layer.place} is recurrent behind {before}, which is not: read the two apart")
            width = wanted if isinstance(layer, Normalizer | Nonlinearity) else layer.fans[1]
            below = layer.place if width else ""

    def __repr__(self) -> str:
        """Return the layers and notes, one a line."""
        lines = [f"  {layer.place}: {said(layer)}" for layer in self.layers]
        return "\n".join(["Model", *lines, *(f"  note: {note}" for note in self.notes)])

    @property
    def recurrent(self) -> bool:
        """Return whether its first layer is recurrent, so that layers of the net are time steps."""
        return isinstance(self.layers[0], Recurrent)

    @property
    def weighted(self) -> bool:
        """Return whether it has weights, and not laws alone."""
        return all(weight is not None and len(weight) for weight in self._weights)

    @property
    def _weights(self) -> list[Any]:
        return [layer.weight for layer in self.layers if isinstance(layer, Dense | Recurrent)]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Return layers 0, 1, ... of a feedforward net."""
        return stages(self.layers)

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the units of every layer, the input's first; of a recurrent net, of the input and the state."""
        fans = [layer.fans for layer in self.layers if isinstance(layer, Dense | Recurrent)]
        return (fans[0][0], *(after for _, after in fans))

    @cached_property
    def fits(self) -> pandas.DataFrame:
        """Return which law each matrix of weights and vector of biases fits, a row each.

        Columns: ``place``; ``tensor``; ``gate`` of a cell; ``fan_in``, ``fan_out``; ``mean`` and ``std`` of its values,
        ``std`` being the root mean square; ``law`` of the registry, the most likely one that fits, "none", or "unclear"
        where it is not 1000 times as likely as each other one that fits, as of few values; ``gain``, std times
        sqrt(fan_in), with its 95% interval ``gain_low``, ``gain_high``; ``initializer``, of that law, whose standard
        deviation is nearest, and ``ratio`` of the two; ``p_value`` of that law (of "none" and "unclear", the largest);
        ``p_spectrum``, of the largest singular value, and ``p_scale``, of one variance in all rows and columns, if
        values are independent; ``p_normal``, ``p_uniform``, ``p_truncated_normal``; ``orthogonality``, how far squared
        singular values are from equal ones. See `stabsim.models.fits`.
        """
        from stabsim.models import fits

        self._need_weights("fits")
        return fits.table(self)

    @cached_property
    def _reading(self) -> Reading:
        from stabsim.models import ensemble

        return ensemble.read(self)

    @property
    def network(self) -> Network:
        """Return the ensemble of which it is a member, as far as a `Network` expresses it: see `ensemble`.

        Raises
        ------
        ValueError
            If it expresses it not: what stands in the way.
        """
        return self._reading.network

    def ensemble(
        self,
        *,
        weights: str | Initializer | None = None,
        bias_std: float | None = None,
        steps: int | None = None,
    ) -> Network:
        """Return the ensemble of nets of its widths, activation, normalization and laws.

        Parameters
        ----------
        weights : str or Initializer, optional
            The law of the weights, instead of the one that they fit; biases are then 0 unless it sets them.
        bias_std : float, optional
            Of the biases, instead of what they fit.
        steps : int, optional
            Time steps of a recurrent net, which torch modules do not tell.

        Raises
        ------
        TypeError, ValueError
            If a `Network` does not express it, or weights fit no law: what stands in the way.

        Notes
        -----
        The last layer is left out where it has another activation or normalization than the others, as readouts
        mostly have; `left_out` says so.
        """
        from stabsim.models import ensemble

        return ensemble.read(self, weights=weights, bias_std=bias_std, steps=steps).network

    @property
    def left_out(self) -> tuple[str, ...]:
        """Return what `network` leaves out of the model, or has otherwise, a line each."""
        return self._reading.notes

    def trace(
        self,
        inputs: Any = None,
        *,
        output_gradient: Any = None,
        batch: int = 1,
        steps: int | None = None,
        seed: int = 0,
    ) -> ModelTrace:
        """Return every tensor of the net with its own weights, forward and backward, as PyTorch computes them.

        In float32, or float64 where any weight is.

        Parameters
        ----------
        inputs : array (samples, widths[0]) or (samples, steps, widths[0]), or a data set's name, optional
            Standard normal ones unless given.
        output_gradient : array (samples, widths[-1]), optional
            By what leaves the last layer or time step; standard normal unless given.
        batch, steps : int
            Samples, and time steps, where inputs are not given.
        seed : int
            Of what is drawn.

        Returns
        -------
        ModelTrace
            A `stabsim.Trace`, on which `stabsim.what_stops` works.

        Raises
        ------
        TypeError, ValueError
            If an argument is not allowed, or the model has no weights or more than one recurrent layer.

        Examples
        --------
        >>> weight = np.array([[0.5, -1.0], [2.0, 0.0]])
        >>> model = Model((Dense("first", (2, 2), weight), Nonlinearity("second", "relu")))
        >>> model.trace([[1.0, 1.0]], output_gradient=[[1.0, 1.0]]).weight_gradient[1]
        array([[1., 0.],
               [1., 0.]])
        """
        from stabsim.models import passes, recurrent_passes, samples

        self._need_weights("trace")
        x = samples.inputs_of(self, inputs, batch, steps, seed)
        gradient = samples.gradient_of(self, output_gradient, len(x), seed)
        if self.recurrent:
            (layer,) = self.layers
            assert isinstance(layer, Recurrent)
            return recurrent_passes.run(layer, x, gradient)
        return passes.run(self.stages, x, gradient)

    def table(
        self,
        inputs: Any = None,
        *,
        output_gradient: Any = None,
        batch: int = 1,
        steps: int | None = None,
        seed: int = 0,
    ) -> pandas.DataFrame:
        """Return the quantities of the net with its own weights: quantity, layer, value.

        Those of ``stabsim.simulate(...).table``, with the same names and layers; variances and kurtoses are over
        samples and units. The arguments are those of `trace`.

        Examples
        --------
        >>> model = Model((Dense("first", (2, 2), np.eye(2)), Nonlinearity("second", "relu")))
        >>> table = model.table([[1.0, -1.0]])
        >>> table[table.quantity == "activation_zero_fraction"].value.tolist()
        [0.0, 0.5]
        """
        from stabsim.models import statistics

        seen = self.trace(inputs, output_gradient=output_gradient, batch=batch, steps=steps, seed=seed)
        return statistics.table(seen)

    def compare(
        self,
        *,
        nets: int = 1000,
        network: Network | None = None,
        inputs: Any = None,
        batch: int = 32,
        steps: int | None = None,
        seed: int = 0,
        quantities: Sequence[str] | None = None,
    ) -> pandas.DataFrame:
        """Return where the given net stands within its ensemble, a row a quantity and layer.

        Columns: quantity, layer, ``value`` of the net; ``low``, ``median`` and ``high`` of the nets drawn, between the
        first and the last of which 95% of these lie (of the ensemble somewhat less: between the ends of 20 nets 90%, of
        1000 nets 95%); ``percentile``, the share of the nets drawn that are below, ties being halved, and
        ``percentile_low``, ``percentile_high``, the 95% interval (Wilson's) of that of the ensemble; ``nets``. All get
        the same inputs and the same gradient at the last layer of the ensemble: a readout that this has not is left
        out.

        Parameters
        ----------
        nets : int
            Of the ensemble, at least 20.
        network : Network, optional
            The ensemble; `network` unless given.
        inputs, batch, steps, seed
            As in `trace`; of inputs all samples are taken.
        quantities : sequence of str, optional
            Names; all that there are unless given.

        Raises
        ------
        TypeError, ValueError
            If an argument is not allowed, or there is no ensemble.
        """
        from stabsim.models import comparison

        self._need_weights("compare")
        return comparison.compare(self, nets, network, inputs, batch, steps, seed, quantities)

    def _need_weights(self, what: str) -> None:
        if not self.weighted:
            raise ValueError(f"{what}: the model was read from a description, which has laws but no weights")

    @property
    def precision(self) -> str:
        """Return "float64" where any weight is, else "float32"."""
        weights = [w for each in self._weights for w in (each if isinstance(each, tuple) else (each,))]
        return "float64" if any(w.dtype == np.float64 for w in weights) else "float32"
