"""Seals: the SHA-256 of a text file in the file itself, so that no byte of it changes unnoticed.

That of a table is its last line, ``# sha256 <hex>``, and covers everything before it; that of a JSON document is its
last member, ``sha256``, and covers the document without it, in the one spelling that is written.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

_MARK = b"# sha256 "
_SEAL = len(_MARK) + 64 + 1  # bytes of the last line

DAMAGED = "damaged or edited: its bytes are not those of its SHA-256"


def sealed_table(text: bytes) -> bytes:
    r"""Return a table with its seal.

    >>> sealed_table(b"seconds\n0.1\n")[:30]
    b'seconds\n0.1\n# sha256 fb35a8585'
    """
    return text + _MARK + hashlib.sha256(text).hexdigest().encode() + b"\n"


def unsealed_table(data: bytes) -> bytes:
    r"""Return a table without its seal; ValueError says what is wrong with one that is not as it was written.

    >>> unsealed_table(sealed_table(b"seconds\n0.1\n"))
    b'seconds\n0.1\n'
    """
    text, seal = data[:-_SEAL], data[-_SEAL:]
    if not seal.startswith(_MARK):
        raise ValueError("damaged, or of an earlier version: its last line is not '# sha256 ...'")
    if sealed_table(text) != data:
        raise ValueError(DAMAGED)
    return text


def sealed_document(document: dict[str, Any]) -> bytes:
    """Return a document as JSON with its seal; numbers must be finite."""
    seal = hashlib.sha256(_spelled(document)).hexdigest()
    return _spelled(document | {"sha256": seal})


def check_document(data: bytes) -> None:
    r"""Raise ValueError if a document is not as it was written.

    >>> check_document(sealed_document({"verdicts": []}))
    >>> check_document(b'{"verdicts": []}\n')
    Traceback (most recent call last):
    ValueError: of an earlier version: it has no sha256
    """
    try:
        document = json.loads(data)
    except (RecursionError, ValueError):
        raise ValueError(DAMAGED) from None
    if not isinstance(document, dict):
        raise ValueError(DAMAGED)
    if "sha256" not in document:
        raise ValueError("of an earlier version: it has no sha256")
    del document["sha256"]
    if sealed_document(document) != data:
        raise ValueError(DAMAGED)


def _spelled(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
