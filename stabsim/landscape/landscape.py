"""``Landscape``: the loss of fully connected nets as a function of all their parameters, with exact derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim import checks
from stabsim.activations import Activation, activation
from stabsim.activations.compiled import block
from stabsim.kernels import hessian, hessian_vector, losses, surface
from stabsim.kernels.pointers import addresses
from stabsim.landscape.surface import check_points
from stabsim.losses import loss_of
from stabsim.network import Network
from stabsim.threads import check_memory, count_threads, spread
from stabsim.training import Regression, Trained, train
from stabsim.training.data import check_plain, given_arrays
from stabsim.training.trainer import named

Floats = NDArray[np.float64]

FEW = 10**6  # points x samples x parameters that one thread sees to


class Landscape:
    """The loss of fully connected nets on given data, at any points of the space of their parameters.

    A point is a vector: of each layer W (fan_in, fan_out), row after row, and behind it b (fan_out,). All methods take
    points (..., P) and keep the leading axes; numbers are float64, and do not depend on threads or on other points.

    Parameters
    ----------
    network : Network
        Widths and activation, which must have a second derivative; of weights and biases only `draw` makes use.
    data : pair of arrays or Regression
        Inputs (samples, widths[0]) and targets (samples, widths[-1]); of a regression, the draw of seed 0 and net 0.
    loss : str, default "mean_squared_error"
        Mean over samples and outputs. Or "softmax_cross_entropy" (targets are probabilities, one-hot rows say; mean
        over samples) or "logistic" (targets from 0 to 1; mean over samples and outputs).
    output_activation : str or Activation, default "linear"
        f of the last layer, in the place of the network's.
    train_biases : bool, default True
        Whether biases are parameters; without, there are none.
    threads : int, optional
        As many as there are processors, unless told.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed: its name, its value and what is allowed.

    Notes
    -----
    The second derivative is taken where it exists: that of ReLU is 0. Sources: Pearlmutter 1994 (products with
    vectors), Bishop 1992 (exact Hessian), Schraudolph 2002 (Gauss-Newton part).

    Examples
    --------
    >>> network = Network((2, 3, 1), "tanh", "lecun_normal")
    >>> surface = Landscape(network, ([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]], [[1.0], [0.0], [1.0]]))
    >>> points = surface.draw(nets=5)
    >>> surface.parameters, surface.loss(points).shape, surface.hessian(points).shape
    (13, (5,), (5, 13, 13))
    """

    def __init__(
        self,
        network: Network,
        data: Regression | tuple[Any, Any],
        loss: str = "mean_squared_error",
        output_activation: str | Activation = "linear",
        train_biases: bool = True,
        threads: int | None = None,
    ) -> None:
        check_plain("network", network)
        if not isinstance(train_biases, bool):
            raise TypeError(f"train_biases must be True or False, not {checks.brief(train_biases)}")
        if not train_biases and network.bias_std > 0:
            raise ValueError(f"train_biases=False has no biases, but the network has bias_std={network.bias_std!r}")
        if isinstance(data, Regression):
            data = data.draw(seed=0, net=0)
        self.network, self.train_biases = network, train_biases
        self.loss_function = loss_of(loss)
        self.output_activation = named("output_activation", output_activation, Activation, activation)
        self.inputs, self.targets = (side[0] for side in given_arrays(data, network))
        self.loss_function.check(self.targets)
        self.threads = count_threads(threads)
        ends = np.cumsum([(fan_in + train_biases) * fan_out for fan_in, fan_out in network.fans])
        self.layers = tuple(slice(int(a), int(b)) for a, b in zip([0, *ends[:-1]], ends, strict=True))
        activations = network.activation, self.output_activation
        loops = [block(each, "float64", order) for each in activations for order in (0, 1)]
        compiled = [(loop, surface.LOOP) for loop in loops]
        compiled.append((losses.compiled(self.loss_function.function), losses.SIGNATURE))
        self._functions = compiled  # kept as long as there are addresses of them
        self._problem = np.array(network.widths, np.int64), np.int64(train_biases), addresses(compiled)
        ones = np.ones((len(self.inputs), int(train_biases)))
        self._data = np.ascontiguousarray(np.hstack([self.inputs, ones])), np.ascontiguousarray(self.targets)

    @property
    def parameters(self) -> int:
        """Return how many parameters there are, P."""
        return self.layers[-1].stop

    @property
    def samples(self) -> int:
        """Return how many samples the data has."""
        return len(self.inputs)

    def __repr__(self) -> str:
        return (
            f"Landscape({self.network!r}, {self.samples} samples, loss={str(self.loss_function)!r}, "
            f"output_activation={str(self.output_activation)!r}, parameters={self.parameters})"
        )

    def draw(self, nets: int, seed: int = 0) -> Floats:
        """Return points (nets, P): net i as `stabsim.training.train` starts it with that seed, in float64."""
        start = train(
            self.network, nets=nets, steps=0, data=(self.inputs[:1], self.targets[:1]), seed=seed, record=(0,),
            quantities=("loss",), output_activation=self.output_activation, keep_weights=True, precision="float64",
        )  # fmt: skip
        return self.points(start)[:, 0]

    def points(self, trained: Trained) -> Floats:
        """Return the points (nets, steps, P) at which nets of `stabsim.training.train` were recorded.

        Raises
        ------
        TypeError, ValueError
            If their widths are others, or their weights were not kept.
        """
        if not isinstance(trained, Trained):
            raise TypeError(f"trained must be what stabsim.training.train returns, not {checks.brief(trained)}")
        if trained.network.widths != self.network.widths:
            raise ValueError(f"trained must have widths {self.network.widths}, not {trained.network.widths}")
        check_plain("trained.network", trained.network)
        kept = []
        for layer in range(1, self.network.depth + 1):
            weights = trained.weights(layer)
            kept.append(weights.reshape(*weights.shape[:2], -1))
            if self.train_biases:
                kept.append(trained.biases(layer))
        return np.concatenate(kept, axis=-1, dtype=np.float64)

    def weights(self, points: ArrayLike, layer: int) -> Floats:
        """Return W of a layer, (..., fan_in, fan_out), of 1 to the depth."""
        fan_in, fan_out = self.network.fans[checks.whole_number("layer", layer, 1, self.network.depth) - 1]
        start = self.layers[layer - 1].start
        found = check_points(points, self.parameters)
        return found[..., start : start + fan_in * fan_out].reshape(*found.shape[:-1], fan_in, fan_out)

    def biases(self, points: ArrayLike, layer: int) -> Floats:
        """Return b of a layer, (..., fan_out) or, without biases, (..., 0)."""
        fan_in, fan_out = self.network.fans[checks.whole_number("layer", layer, 1, self.network.depth) - 1]
        start, stop = self.layers[layer - 1].start, self.layers[layer - 1].stop
        return check_points(points, self.parameters)[..., start + fan_in * fan_out : stop]

    def loss(self, points: ArrayLike, samples: ArrayLike | None = None) -> Floats:
        """Return the loss (...), of all samples or of those with numbers ``samples``: (rows,) or (..., rows)."""
        return self._evaluate(points, samples, slopes=False)[0]

    def gradient(self, points: ArrayLike, samples: ArrayLike | None = None) -> Floats:
        """Return the gradient (..., P), of all samples or of those with numbers ``samples``: (rows,) or (..., rows)."""
        return self._evaluate(points, samples, slopes=True)[1]

    def loss_and_gradient(self, points: ArrayLike, samples: ArrayLike | None = None) -> tuple[Floats, Floats]:
        """Return both, in the time that the gradient takes."""
        return self._evaluate(points, samples, slopes=True)

    def hessian(self, points: ArrayLike) -> Floats:
        """Return the exact second derivatives (..., P, P).

        Raises
        ------
        MemoryError
            If they do not fit into memory: then `hessian_vector` does without.
        """
        return self._hessians(points, True)

    def gauss_newton(self, points: ArrayLike) -> Floats:
        """Return the Gauss-Newton part (..., P, P): J^T C J, C being the Hessian of the loss by the outputs."""
        return self._hessians(points, False)

    def hessian_vector(self, points: ArrayLike, vectors: ArrayLike, *, gauss_newton: bool = False) -> Floats:
        """Return Hessians, or Gauss-Newton parts, times vectors: points (..., P) and vectors (..., P) broadcast."""
        at, along = check_points(points, self.parameters), check_points(vectors, self.parameters, "vectors")
        shape = np.broadcast_shapes(at.shape, along.shape)
        along = np.array(np.broadcast_to(along, shape), order="C").reshape(-1, self.parameters)
        at = (at if at.size == self.parameters else np.array(np.broadcast_to(at, shape), order="C")).reshape(
            -1, self.parameters
        )
        out = np.empty_like(along)
        kernel, chosen = hessian_vector.products(), self._chosen(None, ())

        def piece(first: int, last: int) -> None:
            here = at if len(at) == 1 else at[first:last]
            kernel(*self._problem, *self._data, chosen, here, along[first:last], not gauss_newton, out[first:last])

        spread(piece, len(along), self._workers(len(along), self.samples))
        return out.reshape(shape)

    def outputs(self, points: ArrayLike) -> Floats:
        """Return the outputs (..., samples, widths[-1])."""
        at = check_points(points, self.parameters)
        flat = at.reshape(-1, self.parameters)
        out = np.empty((len(flat), *self.targets.shape))
        kernel = surface.responder()

        def piece(first: int, last: int) -> None:
            kernel(*self._problem, self._data[0], flat[first:last], out[first:last])

        spread(piece, len(flat), self._workers(len(flat), self.samples))
        return out.reshape(*at.shape[:-1], *self.targets.shape)

    def accuracy(self, points: ArrayLike) -> Floats:
        """Return the share of samples (...) whose largest output is the largest target; one output: its side of 1/2."""
        outputs = self.outputs(points)
        if outputs.shape[-1] == 1:
            middle = 0.0 if self.loss_function.name == "logistic" else 0.5
            right = (outputs[..., 0] > middle) == (self.targets[:, 0] > 0.5)
        else:
            right = outputs.argmax(axis=-1) == self.targets.argmax(axis=-1)
        return np.asarray(right.mean(axis=-1))

    def _evaluate(self, points: ArrayLike, samples: ArrayLike | None, slopes: bool) -> tuple[Floats, Floats]:
        at = check_points(points, self.parameters)
        flat = at.reshape(-1, self.parameters)
        chosen = self._chosen(samples, at.shape[:-1])
        loss, gradient = np.empty(len(flat)), np.empty((len(flat) * slopes, self.parameters * slopes))
        kernel = surface.evaluator()

        def piece(first: int, last: int) -> None:
            rows = chosen if len(chosen) == 1 else chosen[first:last]
            kernel(*self._problem, *self._data, rows, flat[first:last], loss[first:last], gradient[first:last])

        spread(piece, len(flat), self._workers(len(flat), chosen.shape[1]))
        return loss.reshape(at.shape[:-1]), gradient.reshape(at.shape) if slopes else gradient

    def _hessians(self, points: ArrayLike, whole: bool) -> Floats:
        at = check_points(points, self.parameters)
        flat = at.reshape(-1, self.parameters)
        check_memory(f"{len(flat)} Hessians of {self.parameters} parameters", 8 * flat.size * self.parameters, "points")
        out = np.empty((*flat.shape, self.parameters))
        kernel, chosen = hessian.hessian(), self._chosen(None, ())

        def piece(first: int, last: int) -> None:
            kernel(*self._problem, *self._data, chosen, flat[first:last], whole, out[first:last])

        spread(piece, len(flat), self._workers(len(flat), self.samples * self.parameters))
        return out.reshape(*at.shape, self.parameters)

    def _workers(self, points: int, rows: int) -> int:
        """Return how many threads are worth starting, which takes 0.2 ms; gradients take that of `FEW` numbers."""
        return self.threads if points * rows * self.parameters > FEW else 1

    def _chosen(self, samples: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Return the numbers of samples (1 or points, rows)."""
        if samples is None:
            return np.arange(self.samples)[np.newaxis]
        found = np.asarray(samples)
        if found.dtype.kind not in "iu" or found.ndim == 0 or found.size == 0 or found.shape[:-1] not in ((), shape):
            allowed = "(rows,)" if shape == () else f"(rows,) or {(*shape, 'rows')}".replace("'", "")
            raise ValueError(f"samples must be whole numbers {allowed}, not {checks.brief(samples)}")
        if found.min() < 0 or found.max() >= self.samples:
            raise ValueError(f"samples must be from 0 to {self.samples - 1}, not {found.min()} to {found.max()}")
        return np.ascontiguousarray(found.reshape(-1, found.shape[-1]), np.int64)
