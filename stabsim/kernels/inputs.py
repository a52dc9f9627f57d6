"""What goes into a net: the user's samples, or standard normals."""

from __future__ import annotations

import numpy as np

from stabsim.kernels import blocks, philox
from stabsim.kernels.compile import kernel


@kernel()
def choice(place, samples, seed, net):
    """Return a number from ``place`` to ``samples - 1``, all equally likely: one step of a shuffle."""
    k0 = np.uint32(seed)
    k1 = np.uint32(seed >> np.uint64(32))
    word = philox.philox(np.uint32(place), np.uint32(0), np.uint32(net), philox.SAMPLE_CHOICE, k0, k1)[0]
    return place + np.int64((np.uint64(word) * np.uint64(samples - place)) >> np.uint64(32))


@kernel()
def choose_rows(given, out, seed, net):
    """Copy rows of ``given`` drawn without replacement; all of them, in order, if as many are asked for."""
    samples = given.shape[0]
    batch = out.shape[0]
    order = np.arange(samples)
    for b in range(batch):
        if batch < samples:
            j = choice(b, samples, seed, net)
            order[b], order[j] = order[j], order[b]
        blocks.copy(given[order[b]], out[b])
