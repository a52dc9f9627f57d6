"""Tensors of other libraries as arrays; the libraries themselves are never imported."""

from __future__ import annotations

from typing import Any

import numpy as np

from stabsim.checks import brief
from stabsim.models.layers import Floats


def array(place: str, name: str, tensor: Any) -> Floats:
    """Return a copy of a torch tensor's values: float64 where it is, float32 of all other real formats.

    Parameters
    ----------
    place, name : str
        Where it stands and what it is, for errors.
    tensor : torch.Tensor
        On any device.

    Raises
    ------
    ValueError
        If it has no values, none of floating point, or such that are not finite.

    Examples
    --------
    >>> array("module[0]", "weight", None)
    Traceback (most recent call last):
    ValueError: weight of module[0] must hold floating-point numbers, not None
    """
    kind = str(getattr(tensor, "dtype", "")).removeprefix("torch.")
    if getattr(tensor, "is_meta", False):
        raise ValueError(f"{name} of {place} is on the meta device, without values: give the module weights first")
    if not kind.startswith(("float", "bfloat")):
        raise ValueError(f"{name} of {place} must hold floating-point numbers, not {kind or brief(tensor)}")
    values = tensor.detach().cpu()
    values = values.to_dense() if getattr(values, "is_sparse", False) else values
    found = np.array((values if kind in ("float32", "float64") else values.float()).numpy())
    if not np.isfinite(found).all():
        where = ", ".join(str(int(i)) for i in np.argwhere(~np.isfinite(found))[0])
        raise ValueError(f"{name} of {place} must be finite, but {name}[{where}] is {found[~np.isfinite(found)][0]}")
    return found
