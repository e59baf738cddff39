"""YAML as people write settings in it: plain values only, nothing that runs, repeats itself or grows when read."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from stages.errors import BadInput

MOST_CHARACTERS = 1_000_000
"""Of a text that is read at all."""

_MOST_DEPTH = 20
_MAPPING, _TIMESTAMP = "tag:yaml.org,2002:map", "tag:yaml.org,2002:timestamp"
_ODD = (yaml.YAMLError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)
"""What PyYAML raises on values that their own tags don't fit, besides its own errors."""


class _Loader(yaml.SafeLoader):
    """Safe, and without aliases, repeated keys, deep nesting and dates."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read")
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise yaml.YAMLError(f"values lie more than {_MOST_DEPTH} deep")
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None) if len(keys) < 1000 else None
        if twice is not None:
            raise yaml.YAMLError(f"the key {shown(twice)} is there twice")
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str, what: str, hint: str) -> Any:  # noqa: ANN401 - whatever the text holds
    """The value that a text holds: dicts, lists, texts, numbers, true, false and null; dates stay texts.

    Args:
        text: The YAML.
        what: What to call it in messages.
        hint: What to do when it cannot be read.

    Raises:
        BadInput: It is no YAML, too long or too deep, repeats a key, or uses aliases or tags.
    """
    if len(text) > MOST_CHARACTERS:
        raise BadInput(f"{what} is {len(text)} characters long", hint=f"give {MOST_CHARACTERS} at most")
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader with less
    except _ODD as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{what} cannot be read: {reason[:200]}", hint=hint) from error


def shown(value: object) -> str:
    """A value as a message shows it: one line, never long, whatever it holds."""
    if isinstance(value, int) and abs(value) > 10**30:
        return "a huge number"
    text = repr(value) if isinstance(value, str | int | float | None) else _outline(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _outline(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_leaf(item) for item in value[:4])}{', …' if len(value) > 4 else ''}]"
    if isinstance(value, dict):
        keys = list(value)[:4]
        return f"{{{', '.join(f'{_leaf(key)}: …' for key in keys)}{', …' if len(value) > 4 else ''}}}"
    return type(value).__name__


def _leaf(value: object) -> str:
    if isinstance(value, list | tuple | dict):
        return "…"
    if isinstance(value, int) and abs(value) > 10**30:
        return "a huge number"
    return repr(value)[:30]
