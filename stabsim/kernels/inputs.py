"""What goes into a net: the user's samples, or standard normals."""

from __future__ import annotations

import numpy as np

from stabsim.kernels import blocks, philox
from stabsim.kernels.compile import kernel
from stabsim.kernels.views import stretch


@kernel()
def draw(place, seed, net, epoch, purpose):
    """Return 32 random bits."""
    k0 = np.uint32(seed)
    k1 = np.uint32(seed >> np.uint64(32))
    return philox.philox(np.uint32(place), np.uint32(epoch), np.uint32(net), purpose, k0, k1)[0]


@kernel()
def choice(place, samples, seed, net, epoch, purpose):
    """Return a number from ``place`` to ``samples - 1``, all equally likely: one step of a shuffle (Fisher & Yates)."""
    word = draw(place, seed, net, epoch, purpose)
    return place + np.int64((np.uint64(word) * np.uint64(samples - place)) >> np.uint64(32))


@kernel()
def chosen(samples, batch, seed, net):
    """Return the numbers of ``batch`` samples drawn without replacement, in front of the others."""
    order = np.arange(samples)
    for b in range(batch if batch < samples else 0):
        j = choice(b, samples, seed, net, 0, philox.SAMPLE_CHOICE)
        order[b], order[j] = order[j], order[b]
    return order


@kernel()
def choose_rows(given, out, seed, net):
    """Copy rows of ``given`` drawn without replacement; all of them, in order, if as many are asked for."""
    order = chosen(given.shape[0], out.shape[0], seed, net)
    for b in range(out.shape[0]):
        blocks.copy(given[order[b]], out[b])


@kernel()
def choose_sequences(given, batch, out, seed, net):
    """Copy rows of ``given`` in the same way, each the inputs of all time steps: to ``out`` (steps * batch, inputs)."""
    order = chosen(given.shape[0], batch, seed, net)
    steps, width = out.shape[0] // batch, out.shape[1]
    for b in range(batch):
        row = given[order[b]]
        for t in range(steps):
            blocks.copy(stretch(row, t * width, width), out[t * batch + b])
