"""What a template refers to and has not: CloudFormation refuses such a template whole, before it makes anything."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from .deployment import Unread
from .nodes import Node

__all__ = ["unresolved"]

_SAM = "AWS::Serverless-2016-10-31"
#: Transforms that make no resource which the template could refer to.
_PLAIN = (_SAM, "AWS::CodeDeployBlueGreen", "AWS::SecretsManager-2020-07-23", "AWS::SecretsManager-2024-09-16")
#: What SAM makes of its own accord begins so.
_MADE_BY_SAM = ("Serverless", "CodeDeployServiceRole")
_SECTIONS = ("Globals", "Conditions", "Resources", "Outputs")
_VARIABLE = re.compile(r"\$\{(?!!)([^${}]*)\}")


def unresolved(root: Node, path: str) -> tuple[Unread, ...]:
    """Each name that `!Ref`, `!GetAtt`, `!Sub` or DependsOn has and the template has not, with its line; once.

    A condition that does not hold saves nothing: names are looked up in all of the template. Where a macro may make resources, it
    is not known what there is, and none is named.
    """
    if _has_macros(root):
        return ()
    resources, parameters = (_names(root, section) for section in ("Resources", "Parameters"))
    roots: tuple[str, ...] = ()
    if _SAM in _transforms(root):
        kinds = {name: _kind(node) for name, node in resources.items()}
        # OrdersRole, OrdersAliaslive, OrdersStream: SAM's names begin with that of what they are made for.
        roots = (*_MADE_BY_SAM, *(name for name, kind in kinds.items() if kind.startswith("AWS::Serverless::")))
    found: dict[str, Unread] = {}
    for section in _SECTIONS:
        for written, name, line, is_attribute in _references(root.value.get(section)):
            there = resources if is_attribute else {**resources, **parameters}
            if name in there or name.startswith(("AWS::", *roots)) or name in found:
                continue
            near = get_close_matches(name, there, n=1)
            advice = f"Write {near[0]}, or add {name}" if near else f"Add {name}, or name what there is"
            kinds_of_name = "resource" if is_attribute else "resource nor parameter"
            what = f"{written} names no {kinds_of_name} of this template: the deployment fails. {advice}"
            found[name] = Unread(what, f"{path}:{line}")
    return tuple(found.values())


def _references(node: Node | None) -> Iterator[tuple[str, str, int, bool]]:
    """As it is written, the name, the line, and whether only a resource can have it."""
    if node is None:
        return
    if isinstance(node.value, list):
        for one in node.value:
            yield from _references(one)
        return
    if not isinstance(node.value, dict):
        return
    for key, value in node.value.items():
        if key == "Ref" and len(node.value) == 1 and isinstance(value.value, str):
            # Orders.Alias is SAM's.
            yield f"!Ref {value.value}", value.value.partition(".")[0], value.line, False
        elif key == "Fn::GetAtt" and (target := _target(value)):
            yield f"!GetAtt {target}", target.partition(".")[0], value.line, True
        elif key == "Fn::Sub":
            yield from _of_sub(value)
        elif key == "DependsOn":
            for one in value.value if isinstance(value.value, list) else [value]:
                if isinstance(one.value, str):
                    yield f"DependsOn: {one.value}", one.value, one.line, True
        if key != "DependsOn":
            yield from _references(value)


def _target(node: Node) -> str:
    """``Orders.Arn``; empty where it is put together at deployment."""
    if isinstance(node.value, list):
        parts = [one.value for one in node.value]
        return ".".join(parts) if parts and all(isinstance(part, str) for part in parts) else ""
    return node.value if isinstance(node.value, str) else ""


def _of_sub(node: Node) -> Iterator[tuple[str, str, int, bool]]:
    text, own = node, dict[str, Any]()
    if isinstance(node.value, list) and len(node.value) == 2:
        text = node.value[0]
        own = node.value[1].value if isinstance(node.value[1].value, dict) else {}
    if not isinstance(text.value, str):
        return
    for variable in _VARIABLE.findall(text.value):
        name = variable.strip()
        if name and name not in own:
            yield f"${{{name}}} of !Sub", name.partition(".")[0], node.line, "." in name


def _names(root: Node, section: str) -> Mapping[str, Node]:
    node = root.value.get(section)
    return node.value if node is not None and isinstance(node.value, dict) else {}


def _kind(node: Node) -> str:
    kind = node.value.get("Type") if isinstance(node.value, dict) else None
    return kind.value if kind is not None and isinstance(kind.value, str) else ""


def _transforms(root: Node) -> list[Any]:
    node = root.value.get("Transform")
    if node is None:
        return []
    return [one.value for one in node.value] if isinstance(node.value, list) else [node.value]


def _has_macros(root: Node) -> bool:
    return any(one not in _PLAIN for one in _transforms(root)) or _has_macro_within(root)


def _has_macro_within(node: Node) -> bool:
    if isinstance(node.value, list):
        return any(map(_has_macro_within, node.value))
    if not isinstance(node.value, dict):
        return False
    return any(
        key.startswith(("Fn::Transform", "Fn::ForEach")) or _has_macro_within(value)
        for key, value in node.value.items()
    )
