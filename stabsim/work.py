"""Work: the chunks that the cases of a study are done in, the same wherever and whenever they are done.

The nets of a case are cut into the chunks of its plan. All chunks but a shorter last one are stored under a key
that does not name the number of nets, so that a run with more nets reads them. A shorter last chunk would overlap
the whole one that takes its place then, so it is stored under a key of its own, which names its range.
"""

from __future__ import annotations

import itertools
import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from stabsim.checks import brief
from stabsim.moments import Sums
from stabsim.plan import Plan
from stabsim.store import Store, task_key
from stabsim.study import Case
from stabsim.versions import CHUNK_VERSION, RECORD_VERSION, STREAM_VERSION

_VERSIONS = {"stream": STREAM_VERSION, "record": RECORD_VERSION, "format": CHUNK_VERSION}  # as a task names them

MOST_SHARDS = 1_000_000

Item = TypeVar("Item")

_SHARD = re.compile(r"([0-9]+)/([0-9]+)", re.ASCII)


def chunks_directory(out: Path, study: str) -> Path:
    """Return where the chunks of a study are stored."""
    return out / "results" / study / "chunks"


class Chunk(NamedTuple):
    """Nets ``first`` .. ``last - 1`` of a case, stored in the folder of the canonical JSON ``text``."""

    text: str
    first: int
    last: int

    def path(self, store: Store) -> Path:
        """Return where it is stored, or would be."""
        return store.path(task_key(self.text), self.first, self.last)

    def read(self, store: Store) -> Sums | None:
        """Return the sums, if the store holds them whole."""
        arrays = store.read(task_key(self.text), self.first, self.last)
        return None if arrays is None else Sums.from_arrays(arrays)

    def write(self, store: Store, sums: Sums) -> None:
        """Store the sums; the lock must be held."""
        store.write(store.task(self.text), self.first, self.last, sums.to_arrays())


@dataclass(frozen=True)
class Work:
    """A case, and the chunks that it is done in: the same wherever and whenever it is done."""

    case: Case

    @cached_property
    def plan(self) -> Plan:
        """Return how the task is run."""
        return Plan(self.case.task)

    @cached_property
    def chunks(self) -> tuple[Chunk, ...]:
        """Return the chunks in their order."""
        # What the task leaves to the version of the package is named too: no version reads what another one cut.
        common = json.loads(self.case.task.identity) | {
            "chunk_nets": self.plan.chunk_nets,
            "format": CHUNK_VERSION,
            "quantities": [quantity.name for quantity in self.case.task.table_quantities],
        }
        whole = _canonical(common)
        return tuple(
            Chunk(
                whole if last - first == self.plan.chunk_nets else _canonical(common | {"range": [first, last]}),
                first,
                last,
            )
            for first, last in self.plan.chunks(self.case.nets)
        )


def newer(text: str) -> bool:
    """Return whether a task is of a later version of the package, which alone knows what its chunks hold.

    >>> newer('{"format":1}'), newer('{"format":2}')
    (False, True)
    """
    held = json.loads(text)
    return isinstance(held, dict) and any(_later(held.get(name), version) for name, version in _VERSIONS.items())


def _later(held: object, version: int) -> bool:
    return isinstance(held, int) and held > version


def _canonical(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


class Shard(NamedTuple):
    """One of several parts that the work of studies is dealt out to, numbered from 1; each is run on its own.

    Examples
    --------
    >>> Shard.of("2/3").deal("abcdefg")
    ['b', 'e']
    >>> Shard.of("4/3")
    Traceback (most recent call last):
    ValueError: shard='4/3' must be I/N, such as 1/8: 1 <= I <= N <= 1000000
    """

    number: int
    shards: int

    def __str__(self) -> str:
        return f"{self.number}/{self.shards}"

    @classmethod
    def of(cls, text: str) -> Shard:
        """Return what "I/N" says.

        Raises
        ------
        ValueError
            If it says nothing of the kind.
        """
        match = _SHARD.fullmatch(text) if isinstance(text, str) and len(text) < 16 else None
        shard = cls(int(match[1]), int(match[2])) if match else cls(0, 0)
        if not 1 <= shard.number <= shard.shards <= MOST_SHARDS:
            raise ValueError(f"shard={brief(text)} must be I/N, such as 1/8: 1 <= I <= N <= {MOST_SHARDS}")
        return shard

    def deal(self, items: Iterable[Item]) -> list[Item]:
        """Return every ``shards``-th item: those of all shards together are all items, each once."""
        return list(itertools.islice(items, self.number - 1, None, self.shards))

    def has(self, name: str) -> bool:
        """Return whether what goes by a name, and is in one piece, falls to this shard."""
        return zlib.crc32(name.encode()) % self.shards == self.number - 1
