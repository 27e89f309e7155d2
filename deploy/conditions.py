"""A template's conditions, told by its parameters. LocalStack looks into what a condition has left out; AWS does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["without_what_is_left_out"]


def without_what_is_left_out(template: dict[str, Any], parameters: Mapping[str, str]) -> dict[str, Any]:
    """A CloudFormation template without the resources and outputs whose condition does not hold for these parameters."""
    values = {name: str(one["Default"]) for name, one in template["Parameters"].items() if "Default" in one}
    values |= parameters
    conditions: dict[str, Any] = template.get("Conditions", {})

    def holds(one: dict[str, Any]) -> bool:
        return "Condition" not in one or truth(conditions[one["Condition"]])

    def truth(condition: dict[str, Any]) -> bool:
        ((function, arguments),) = condition.items()
        match function:
            case "Condition":
                return truth(conditions[arguments])
            case "Fn::Equals":
                return text(arguments[0]) == text(arguments[1])
            case "Fn::Not":
                return not truth(arguments[0])
            case "Fn::And":
                return all(map(truth, arguments))
            case "Fn::Or":
                return any(map(truth, arguments))
        raise ValueError(f"a condition with {function} is not known here")

    def text(value: Any) -> str:
        match value:
            case {"Ref": name}:
                return values[name]
            case {"Fn::Join": ["", {"Ref": name}]}:
                return values[name].replace(",", "")
        return str(value)

    kept = {part: template[part] for part in ("Resources", "Outputs") if part in template}
    wanted = {part: {name: one for name, one in ones.items() if holds(one)} for part, ones in kept.items()}
    return template | wanted
