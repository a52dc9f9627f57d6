"""What another process does for an engine: a range of nets, if it runs the same code.

A chunk is a pure function of its task and of the code: `Parcel.key` names both, so that it may be run anywhere, and
again where it is lost.
"""

from __future__ import annotations

import functools
import hashlib
import json
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stabsim.engines.base import EngineError

if TYPE_CHECKING:
    from stabsim.moments import Sums
    from stabsim.plan import Plan

PLANS = 8  # that a process keeps, each with what was compiled of it
STUDY_MODULES = "stabsim_study_"  # files of studies, which other processes do not import

_PACKAGE = Path(__file__).resolve().parent.parent


class OtherCodeError(EngineError):
    """A process runs other code, whose numbers may differ."""


class Parcel(NamedTuple):
    """A plan as bytes, which are unpacked where they are run, and what its chunks are known by."""

    key: str
    data: bytes
    code: dict[str, str]

    @classmethod
    def of(cls, plan: Plan) -> Parcel:
        """Pack a plan, with the functions that a study has of its own."""
        import cloudpickle

        modules = [module for name, module in list(sys.modules.items()) if name.startswith(STUDY_MODULES)]
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
        try:
            data = cloudpickle.dumps(plan)
        finally:
            for module in modules:
                cloudpickle.unregister_pickle_by_value(module)
        named = f"{json.dumps(code(), sort_keys=True)}\n{plan.task.identity}"
        return cls(hashlib.sha256(named.encode()).hexdigest()[:32], data, code())

    def run(self, first: int, last: int, place: str = "this process") -> Sums:
        """Simulate nets ``first`` .. ``last - 1`` on one thread.

        Raises
        ------
        OtherCodeError
            If this process runs other code than the one that packed; ``place`` is what it is called.
        """
        if told := differences(self.code, code()):
            raise OtherCodeError(f"{place} runs other code: {told}")
        (sums,) = _unpacked(self.data).run([(first, last)], 1)
        return sums


@functools.lru_cache(PLANS)
def _unpacked(data: bytes) -> Plan:
    plan: Plan = pickle.loads(data)
    return plan


@functools.cache
def code() -> dict[str, str]:
    """Return the versions of all that the bits of a result depend on, but for the processor.

    Sums are reordered into vectors whose width is the processor's, so two kinds of processors may differ in bits.
    """
    import numba
    import numpy
    import scipy

    import stabsim
    from stabsim.versions import VERSIONS

    libraries = {module.__name__: module.__version__ for module in (stabsim, numba, numpy, scipy)}
    versions = {f"version of {name}": str(number) for name, number in VERSIONS.items()}
    python = ".".join(map(str, sys.version_info[:2]))
    return {"python": python, **libraries, **versions, "sources of stabsim": _source_hash()}


def differences(here: dict[str, str], there: dict[str, str]) -> str:
    """Return what differs between two processes' code, in one line.

    Examples
    --------
    >>> differences({"numpy": "2.4.0", "scipy": "1.16"}, {"numpy": "2.3.5", "scipy": "1.16"})
    'numpy 2.3.5 there, 2.4.0 here'
    """
    names = dict.fromkeys([*here, *there])
    differing = [name for name in names if here.get(name) != there.get(name)]
    return "; ".join(f"{name} {there.get(name)} there, {here.get(name)} here" for name in differing)


def _source_hash() -> str:
    """Return the first 16 hex digits of a SHA-256 of all sources, but for studies, which come with their tasks."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        name = path.relative_to(_PACKAGE)
        if name.parts[0] != "studies":
            digest.update(name.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
