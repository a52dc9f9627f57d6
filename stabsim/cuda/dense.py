"""The dense sampler of the device: W is drawn there, products are the library's."""

from __future__ import annotations

import numpy as np

from stabsim.cuda import shim
from stabsim.cuda.batch import Batches, Wave
from stabsim.cuda.orthogonal import make_semi_orthogonal
from stabsim.cuda.plans import Plan
from stabsim.cuda.weight_gradients import Factors, Formed, record_formed, record_of_one_sample
from stabsim.kernels import philox

ENOUGH = 512  # nets of a wave: weights are kept where memory has room for as many with them


class DenseWeights:
    """The weights of a wave, of which all layers are kept, or one at a time."""

    def __init__(self, wave: Wave, kept: bool) -> None:
        self._wave, self._kept, task = wave, kept, wave.plan.task
        sizes = [fan_in * fan_out for fan_in, fan_out in task.network.fans]
        self._room = [shim.empty(wave.nets * size, task.dtype) for size in (sizes if kept else [max(sizes)])]
        formed = task.weight_gradients and task.batch > 1
        self._dw = shim.empty(wave.nets * max(sizes) if formed else 0, task.dtype)

    def _weights(self, l: int) -> shim.Array:
        """Return W (nets, fan_in, fan_out)."""
        return self._wave.part(self._room[l - 1 if self._kept else 0], *self._wave.plan.task.network.fans[l - 1])

    def prepare(self, l: int) -> None:
        """Draw W."""
        wave, w = self._wave, self._weights(l)
        law, scale = wave.plan.task.network.weights.law, wave.plan.problem.weight_scale[l]
        if law == "orthogonal":
            wave.draw("normal", w, philox.WEIGHT, l, 1)
            make_semi_orthogonal(w, float(scale))
        else:
            wave.draw(law, w, philox.WEIGHT, l, scale)

    def factors(self, l: int) -> tuple[shim.Array, shim.Array]:
        """Return z and W."""
        return self._wave.z[l - 1], self._weights(l)

    def recall(self, l: int) -> None:
        """Draw W again, unless all are kept, or it is there still."""
        if not self._kept and l < len(self._wave.plan.task.network.fans):
            self.prepare(l)

    def pull_back(self, l: int, ds: shim.Array, dz: shim.Array) -> None:
        """Write dz = ds W^T."""
        shim.multiply_by_transposed(ds, self._weights(l), dz)

    def weight_gradient(self, l: int, ds: shim.Array) -> None:
        """Form dW, but for a single sample's, and record what is wanted of it."""
        wave, dtype, z = self._wave, self._wave.plan.task.dtype, self._wave.z[l - 1]
        numbers = np.int64(l), wave.ask, wave.place
        if wave.plan.task.batch == 1:
            wave.launch(record_of_one_sample(dtype), max(z.shape[2], ds.shape[2]), *numbers, Factors(z, ds))
            return
        dw = wave.part(self._dw, z.shape[2], ds.shape[2])
        shim.multiply(z.transpose(0, 2, 1), ds, dw)
        wave.launch(record_formed(dtype), dw[0].size, *numbers, Formed(dw))


def bytes_of_weights(plan: Plan, kept: bool) -> int:
    """Return what W and dW take of a net."""
    task = plan.task
    sizes = [fan_in * fan_out for fan_in, fan_out in task.network.fans]
    formed = task.weight_gradients and task.batch > 1
    copied = 2 * (task.network.weights.law == "orthogonal")  # as rows of frames, and by the library again
    return task.dtype.itemsize * ((sum(sizes) if kept else max(sizes)) + (formed + copied) * max(sizes))


class Dense(Batches):
    """Nets of a plan, W drawn.

    Parameters
    ----------
    plan : Plan
        Of a task that the CPU's dense sampler runs, without features.
    """

    def __init__(self, plan: Plan) -> None:
        several = plan.task.backward and plan.task.network.depth > 1
        kept = several and ENOUGH * bytes_of_weights(plan, True) <= shim.free_memory()
        super().__init__(plan, lambda wave: DenseWeights(wave, kept), bytes_of_weights(plan, kept))
