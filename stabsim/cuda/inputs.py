"""What goes into nets of the device: the user's samples, chosen as `kernels/inputs.py` chooses them."""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from stabsim.cuda import shim
from stabsim.cuda.matrices import share_out
from stabsim.cuda.shim import cuda
from stabsim.kernels import inputs, philox

# The samples (samples, units), and of each net the places that were swapped, the samples chosen and the inputs.
Choice = namedtuple("Choice", "given swapped chosen z")


@shim.kernel
def choose_rows(first, seed, choice):
    """Copy rows drawn without replacement; all of them, in order, if as many are asked for.

    The processor goes through a shuffle whose step b swaps the samples at places b and j, and takes what comes to place
    b. Who was at place j before is found by going back through the steps that came there: no order of all samples is
    kept.
    """
    net = cuda.blockIdx.x
    given, z, swapped, chosen = choice.given, choice.z[net], choice.swapped[net], choice.chosen[net]
    samples, batch = given.shape[0], z.shape[0]
    for b in range(cuda.threadIdx.x, batch, cuda.blockDim.x):
        swapped[b] = b
        if batch < samples:
            number = np.uint32(first + net)
            swapped[b] = inputs.choice(np.int64(b), np.int64(samples), seed, number, 0, philox.SAMPLE_CHOICE)
    cuda.syncthreads()
    for b in range(cuda.threadIdx.x, batch, cuda.blockDim.x):
        place, step = swapped[b], b
        while step > 0:
            step -= 1
            if swapped[step] == place:
                place = step
        chosen[b] = place
    cuda.syncthreads()
    row, step, column, stride = share_out(batch, z.shape[1])
    for i in range(row, batch, step):
        for j in range(column, z.shape[1], stride):
            z[i, j] = given[chosen[i], j]
