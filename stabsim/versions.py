"""The versions of all that outlives a process; docs/formats.md says what is in each file.

Each is raised when what it covers changes, and a change of any of them is listed in CHANGELOG.md. tests/test_formats.py
holds today's code against files that each version has written.
"""

from __future__ import annotations

STREAM_VERSION = 1  # the random numbers: raise it when any net changes by more than rounding
RECORD_VERSION = 3  # the numbers of a net that are summed: raise it when one changes its meaning, or all are more
CHUNK_VERSION = 1  # the layout of a chunk's file and the names of its arrays
TABLE_VERSION = 1  # the columns of `Result.table` and its CSV, their order, types and meaning
VERDICTS_VERSION = 1  # verdicts.json
LEDGER_VERSION = 1  # data/claims.csv

# The first three are part of every stored chunk's identity: a raised one finds no chunk that was stored before.
VERSIONS = {
    "stream": STREAM_VERSION,
    "record": RECORD_VERSION,
    "chunk": CHUNK_VERSION,
    "table": TABLE_VERSION,
    "verdicts": VERDICTS_VERSION,
    "ledger": LEDGER_VERSION,
}
