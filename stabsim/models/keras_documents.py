"""Keras' JSON documents: read, and held to be a chain of layers."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from typing import Any

from stabsim import checks


def document_of(description: Any) -> Mapping[str, Any]:
    """Return the description as a mapping: of a text of JSON, or of the file at a path."""
    if isinstance(description, Mapping):
        return description
    if not isinstance(description, str | os.PathLike):
        raise TypeError(
            f"description must be the text of model.to_json(), a path or a mapping, not {checks.brief(description)}"
        )
    text = description
    if not isinstance(text, str) or not text.lstrip().startswith(("{", "[")):
        path = checks.path("description", description)
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except UnicodeDecodeError:
            raise ValueError(f"{path} is no text: of a .keras or .h5 file, save model.to_json() as .json") from None
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise ValueError(
                f"description must be JSON, as of model.to_json(), or the path of a file with it, not "
                f"{checks.brief(path)}"
            ) from None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"description must be JSON, as of model.to_json(): {checks.reason(error)}") from None
    if not isinstance(document, dict):
        raise ValueError(f"description must be a JSON object, as of model.to_json(), not {checks.brief(document)}")
    return document


def check_chain(layers: list[Mapping[str, Any]]) -> None:
    """Refuse a functional model whose layers do not follow each other."""
    for number, each in enumerate(layers):
        nodes = each.get("inbound_nodes") or []
        if not isinstance(nodes, list):
            raise ValueError(f"inbound_nodes of {place_of(number, each)} must be a list, not {checks.brief(nodes)}")
        before = sorted(set(_sources(nodes)))
        wanted = [_name(layers[number - 1])] if number else []
        if nodes and (len(nodes) > 1 or before != wanted):
            raise ValueError(
                f"layers must be a chain: {place_of(number, each)} takes {', '.join(before) or 'nothing'}, not the "
                f"layer before it"
            )


def _sources(nodes: Any) -> list[str]:
    """Return the names of the layers that a node takes: of Keras 3 in its tensors, of Keras 2 in nested lists."""
    if isinstance(nodes, Mapping):
        history = nodes.get("keras_history")
        if isinstance(history, list) and history:
            return [checks.named(str(history[0]))]
        return [name for each in nodes.values() for name in _sources(each)]
    if isinstance(nodes, list):
        if len(nodes) >= 3 and isinstance(nodes[0], str) and isinstance(nodes[1], int):
            return [checks.named(nodes[0])]
        return [name for each in nodes for name in _sources(each)]
    return []


def _name(layer: Mapping[str, Any]) -> str:
    return checks.named(str(layer.get("name", layer["config"].get("name"))))


def place_of(number: int, layer: Mapping[str, Any]) -> str:
    """Return where a layer stands, with its name."""
    name = layer["config"].get("name", layer.get("name"))
    return f"layers[{number}]" + (f" ({checks.named(name)})" if isinstance(name, str) else "")
