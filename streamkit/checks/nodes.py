"""A template's text as a tree that knows its lines. Nothing is constructed, and what is too much is refused.

YAML is read event by event, so neither depth nor aliases can blow up: a node knows how deep it is and how many nodes it would be
written out. JSON is YAML, but for its tabs.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from ..errors import ConfigurationError, StreamkitError

__all__ = ["Node", "parsed"]

#: CloudFormation's own limit of a template, in bytes.
_LARGEST = 1_048_576
_DEEPEST = 100
#: Aliases written out. A template of 1 MiB without aliases has fewer.
_MOST_NODES = 600_000
_NULLS = ("", "~", "null", "Null", "NULL")
_CORE_TAG = "tag:yaml.org,2002:"
_CORE = frozenset(("str", "int", "float", "bool", "null", "map", "seq", "timestamp"))


class Node(msgspec.Struct, frozen=True):
    """``value``: a text (numbers and booleans as they are written), None, a list of nodes, or a dict from text to node.

    ``line``: from 1; of a value in a mapping, that of its key.
    """

    value: Any
    line: int
    size: int = 1
    depth: int = 1


def parsed(text: str, name: str) -> Node:
    """The tree of a YAML or JSON text. StreamkitError, with its line, where it is none, or is no template's size."""
    try:
        import yaml
    except ImportError:
        raise ConfigurationError("templates need PyYAML: pip install 'kinesis-streamkit[cli]'") from None
    if len(text) > _LARGEST:
        raise StreamkitError(f"{name} has over {_LARGEST:,} bytes, which CloudFormation does not take")
    if text.lstrip().startswith("{") and _is_json(text):
        # No text in JSON holds a tab as it is.
        text = text.replace("\t", " ")
    try:
        root = _Builder(name).built(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = name if mark is None else f"{name}:{mark.line + 1}"
        raise StreamkitError(
            f"{where}: it is no YAML: {getattr(error, 'problem', None) or 'it can not be read'}"
        ) from None
    if root is None or not isinstance(root.value, dict):
        raise StreamkitError(f"{name} is no template: a mapping with Resources is one")
    return root


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


class _Open:
    """A collection that is being read."""

    def __init__(self, event: Any, is_mapping: bool) -> None:
        self.event = event
        self.is_mapping = is_mapping
        self.children: list[Node] = []
        self.are_plain: list[bool] = []


class _Builder:
    def __init__(self, name: str) -> None:
        self._name = name
        self._anchors: dict[str, Node | None] = {}

    def built(self, events: Any) -> Node | None:
        import yaml

        stack: list[_Open] = []
        root: Node | None = None
        documents = 0
        for event in events:
            line = event.start_mark.line + 1
            is_plain = False
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._error(line, "a template is one document")
                continue
            if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                if len(stack) >= _DEEPEST:
                    raise self._too_deep(line)
                if event.anchor is not None:
                    self._anchors[event.anchor] = None
                stack.append(_Open(event, isinstance(event, yaml.MappingStartEvent)))
                continue
            if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                ended = stack.pop()
                line = ended.event.start_mark.line + 1
                node = self._collection(ended, line)
                self._remember(ended.event, node)
            elif isinstance(event, yaml.ScalarEvent):
                is_plain = not event.style and event.implicit[0]
                value = None if is_plain and event.value in _NULLS else event.value
                node = self._tagged(event.tag, Node(value, line), line)
                self._remember(event, node)
            elif isinstance(event, yaml.AliasEvent):
                known = self._anchors.get(event.anchor or "")
                if known is None:
                    raise self._error(line, f"the alias *{event.anchor} is of nothing, or stands within what it is of")
                node = known
            else:
                continue
            if not stack:
                root = node
            else:
                stack[-1].children.append(node)
                stack[-1].are_plain.append(is_plain)
        return root

    def _remember(self, event: Any, node: Node) -> None:
        if event.anchor is not None:
            self._anchors[event.anchor] = node

    def _collection(self, ended: _Open, line: int) -> Node:
        size = 1 + sum(child.size for child in ended.children)
        depth = 1 + max((child.depth for child in ended.children), default=0)
        if size > _MOST_NODES:
            raise self._error(line, f"with its aliases written out it has over {_MOST_NODES:,} nodes")
        if depth > _DEEPEST:
            raise self._too_deep(line)
        value = self._mapping(ended) if ended.is_mapping else ended.children
        return self._tagged(ended.event.tag, Node(value, line, size, depth), line)

    def _mapping(self, ended: _Open) -> dict[str, Node]:
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        pairs = zip(ended.children[::2], ended.children[1::2], ended.are_plain[::2], strict=True)
        for key, value, is_plain in pairs:
            if key.value is None:
                key = Node("", key.line)
            if not isinstance(key.value, str):
                raise self._error(key.line, "a key is a text")
            if key.value == "<<" and is_plain:
                for other in value.value if isinstance(value.value, list) else [value]:
                    if not isinstance(other.value, dict):
                        raise self._error(key.line, "<< takes mappings")
                    merged = {**other.value, **merged}
                continue
            if key.value in own:
                raise self._error(key.line, f"{key.value} is there twice")
            own[key.value] = msgspec.structs.replace(value, line=key.line)
        return {**merged, **own}

    def _tagged(self, tag: str | None, node: Node, line: int) -> Node:
        """A short form, as ``!Ref Orders``, in its long form: ``{"Ref": "Orders"}``."""
        if tag is None or tag == "!":
            return node
        if tag.startswith(_CORE_TAG) and tag.removeprefix(_CORE_TAG) in _CORE:
            return node
        if not tag.startswith("!") or tag.startswith("!!"):
            raise self._error(line, f"the tag {tag[:80]} is none of CloudFormation's")
        name = tag[1:]
        if name == "GetAtt" and isinstance(node.value, str):
            resource, _, attribute = node.value.partition(".")
            node = Node([Node(resource, line), Node(attribute, line)], line, 3, 2)
        function = name if name in ("Ref", "Condition") else f"Fn::{name}"
        return Node({function: msgspec.structs.replace(node, line=line)}, line, node.size + 1, node.depth + 1)

    def _error(self, line: int, what: str) -> StreamkitError:
        return StreamkitError(f"{self._name}:{line}: {what}")

    def _too_deep(self, line: int) -> StreamkitError:
        return self._error(line, f"it is nested over {_DEEPEST} deep")
