"""The spectrum of a Hessian that is too large to be formed, by stochastic Lanczos quadrature."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim import checks
from stabsim.landscape.lanczos import PROBE, lanczos, normals, one_point, products_at
from stabsim.landscape.surface import Surface, check_surface
from stabsim.task import LARGEST_SEED
from stabsim.threads import single_threaded_blas

Floats = NDArray[np.float64]

STEPS = 80  # of Lanczos, unless told: the outer eigenvalues of nets have converged by then
_FINEST = float(np.finfo(np.float64).eps)


class OverProbes(NamedTuple):
    """A mean over probes, with its standard error and Student's 95% interval: NaN where there is one probe only."""

    estimate: Any
    std_error: Any
    ci_low: Any
    ci_high: Any


class Share(NamedTuple):
    """A share of eigenvalues, with Student's 95% interval over probes, and bounds that the number of steps sets.

    ``low`` and ``high`` are the ends of such intervals of what the quadrature bounds the share by, probe by probe:
    they hold for any number of steps, and are far apart where the point lies among eigenvalues that have not been
    resolved.
    """

    estimate: float
    std_error: float
    ci_low: float
    ci_high: float
    low: float
    high: float


def spectral_density(
    surface: Surface, point: ArrayLike, *, probes: int = 10, steps: int | None = None, seed: int = 0
) -> SpectralDensity:
    """Return the spectrum of the Hessian at a point by stochastic Lanczos quadrature.

    Parameters
    ----------
    surface : Surface
        What has a Hessian, such as a `Landscape`.
    point : array (parameters,)
        Where.
    probes : int
        Random vectors; 10 unless told. Probe i is a function of the seed and i.
    steps : int, optional
        Of Lanczos, up to the number of parameters: `STEPS` unless told, or that number if it is less.
    seed : int
        Of the probes; 0 unless told.

    Returns
    -------
    SpectralDensity
        Nodes and weights of each probe, moments, shares and the density, each with its error.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or the Hessian is not finite.
    MemoryError
        If the vectors of all probes and steps do not fit into memory.

    Notes
    -----
    v^T f(H) v, v uniform on the sphere, has the mean tr f(H) / P over probes, and is to m steps of Lanczos the sum of
    w_j f(x_j) of a Gauss quadrature (Golub & Meurant 1994; Ubaru, Chen & Saad 2017, SIAM J. Matrix Anal. Appl. 38;
    of deep nets Ghorbani, Krishnan & Xiao 2019, arXiv:1901.10159, Papyan 2018, arXiv:1811.07062). All vectors are
    kept and made orthogonal to each other, so that no node is a copy of another.

    Examples
    --------
    >>> class Saddle:
    ...     parameters = 4
    ...
    ...     def hessian_vector(self, points, vectors):
    ...         return vectors * [2.0, 1.0, -1.0, -2.0]
    >>> found = spectral_density(Saddle(), [0.0, 0.0, 0.0, 0.0], probes=1000)
    >>> share = found.share_below(0.0)
    >>> bool(share.ci_low < 0.5 < share.ci_high), abs(found.moment(2).estimate - 2.5) < 0.1
    (True, True)
    """
    check_surface(surface, ("hessian_vector",))
    point = one_point(surface, "point", point)
    size = surface.parameters
    probes = checks.whole_number("probes", probes)
    steps = min(STEPS, size) if steps is None else checks.whole_number("steps", steps, 1, size)
    starts = normals(probes, size, checks.whole_number("seed", seed, 0, LARGEST_SEED), PROBE)
    return SpectralDensity(size, *lanczos(products_at(surface, point), starts, steps))


@dataclass(frozen=True)
class SpectralDensity:
    """A spectrum as random vectors see it.

    Parameters
    ----------
    parameters : int
        P, the number of eigenvalues.
    diagonal, beside : array (probes, steps)
        Tridiagonal matrices of Lanczos; the last column of ``beside`` would begin the next step.
    """

    parameters: int
    diagonal: Floats
    beside: Floats

    @cached_property
    def _quadrature(self) -> tuple[Floats, Floats]:
        steps = self.diagonal.shape[1]
        matrices = self.diagonal[:, :, np.newaxis] * np.eye(steps)
        row = np.arange(steps - 1)
        matrices[:, row + 1, row] = self.beside[:, :-1]  # eigh reads the lower half
        with single_threaded_blas():
            values, vectors = np.linalg.eigh(matrices)
        return values, vectors[:, 0] ** 2

    @property
    def nodes(self) -> Floats:
        """Return the nodes (probes, steps), rising: estimates of eigenvalues, the outer ones first of all."""
        return self._quadrature[0]

    @property
    def weights(self) -> Floats:
        """Return the weights (probes, steps): 1 in sum for each probe."""
        return self._quadrature[1]

    @property
    def band(self) -> float:
        """Return P eps times the largest abs(node): what is nearer to 0 is neither negative nor positive."""
        return self.parameters * _FINEST * float(np.abs(self.nodes).max())

    def truncated(self, steps: int) -> SpectralDensity:
        """Return what fewer steps would have given: how much changes says how far off the quadrature may be."""
        kept = checks.whole_number("steps", steps, 1, self.diagonal.shape[1])
        return SpectralDensity(self.parameters, self.diagonal[:, :kept], self.beside[:, :kept])

    def moment(self, order: int) -> OverProbes:
        """Return the mean of eigenvalue^order, tr(H^order) / P; the quadrature is exact up to order 2 steps - 1."""
        power = checks.whole_number("order", order, 1, 2 * self.diagonal.shape[1] - 1)
        return _over_probes(np.sum(self.weights * self.nodes**power, axis=1))

    def share_below(self, value: float) -> Share:
        """Return the share of eigenvalues below a value.

        The bounds are those of Chebyshev, Markov and Stieltjes: below node k lies at least the weight of the nodes
        before it, and at most that and its own (Szego 1939, Orthogonal Polynomials, 3.41).
        """
        value = checks.number("value", value)
        below = self.nodes < value
        estimate = np.sum(self.weights * below, axis=1)
        number = below.sum(axis=1)[:, np.newaxis]
        place = np.arange(self.nodes.shape[1])
        least = np.sum(self.weights * (place < number - 1), axis=1)
        most = np.sum(self.weights * (place <= number), axis=1)
        low, high = _over_probes(least).ci_low, _over_probes(np.minimum(most, 1.0)).ci_high
        return Share(*_over_probes(estimate), max(low, 0.0), min(high, 1.0))

    def negative_share(self) -> Share:
        """Return the share of eigenvalues below -`band`."""
        return self.share_below(-self.band)

    def zero_share(self) -> OverProbes:
        """Return the weight of nodes within `band` of 0, which is where a null space shows once it is resolved."""
        return _over_probes(np.sum(self.weights * (np.abs(self.nodes) <= self.band), axis=1))

    def density(self, grid: ArrayLike, width: float) -> OverProbes:
        """Return the density on a grid, each eigenvalue being spread as a normal law.

        Parameters
        ----------
        grid : array (n,)
            Where.
        width : float
            Standard deviation of that law, in units of eigenvalues: about what is between two neighboring nodes, or
            lone nodes show instead of a density; at least eps times the largest abs(node).

        Returns
        -------
        OverProbes
            Of shape (n,): of the *smoothed* density. See `truncated` for what more steps may change.
        """
        where = checks.rows("grid", grid, "(n,)", ())
        finest = _FINEST * float(np.abs(self.nodes).max())  # no node is known any better
        width = checks.number("width", width, max(finest, float(np.finfo(np.float64).tiny)))
        values = np.empty((len(self.nodes), len(where)))
        for place, (nodes, weights) in enumerate(zip(self.nodes, self.weights, strict=True)):
            with np.errstate(over="ignore"):  # what is that far away is 0
                distance = (where[:, np.newaxis] - nodes) / width
                values[place] = np.exp(-0.5 * distance**2) @ weights
        return _over_probes(values / (width * math.sqrt(2 * math.pi)))


def _over_probes(values: Floats) -> OverProbes:
    """Return the mean over the first axis."""
    from scipy.special import stdtrit

    number = len(values)
    mean = values.mean(axis=0)
    error = values.std(axis=0, ddof=1) / math.sqrt(number) if number > 1 else np.full_like(mean, np.nan)
    half = float(stdtrit(max(number - 1, 1), 0.975)) * error
    found = (mean, error, mean - half, mean + half)
    return OverProbes(*(found if np.ndim(mean) else map(float, found)))
