"""An account's functions and layers in one region, as Lambda tells of them; and the deletion of one version of either."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any, Literal

from ..aws import code_of
from ..errors import StreamkitError
from .calls import Calls
from .plan import LayerVersion, Reason, Uses, Version, is_number

__all__ = ["NOT_FOUND", "Account", "Outcome"]

#: What became of a version that was to be deleted.
Outcome = Literal["deleted", "refused", "replica", "gone"]

#: What Lambda calls that there is no such thing.
NOT_FOUND = "ResourceNotFoundException"


class Account:
    """Everything raises what the calls raise; and StreamkitError for an answer that is not understood: then nothing is known."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def functions(self) -> dict[str, str]:
        """Name → ARN."""
        return {
            _text(one, "FunctionName"): _text(one, "FunctionArn")
            for one in self._calls.pages("list_functions", "Functions", MaxItems=50)
        }

    def tags(self, arn: str) -> Mapping[str, str]:
        tags = self._calls("list_tags", Resource=arn).get("Tags")
        if not isinstance(tags, dict):
            raise StreamkitError("list_tags: the answer has no Tags")
        return tags

    def versions(self, function: str) -> list[Version]:
        """All of a function's, ``$LATEST`` among them."""
        pages = self._calls.pages("list_versions_by_function", "Versions", FunctionName=function, MaxItems=50)
        return [_version(one) for one in pages]

    def everybodys_layers(self) -> Iterator[tuple[str, Version]]:
        """Each function's name with each of its versions, of all functions: whoever names a layer uses it."""
        for one in self._calls.pages("list_functions", "Functions", FunctionVersion="ALL", MaxItems=50):
            yield _text(one, "FunctionName"), _version(one)

    def mappings(self) -> dict[str, set[str]]:
        """The name of each function that an event source mapping calls → the versions, or aliases, that it calls."""
        found: dict[str, set[str]] = {}
        for one in self._calls.pages("list_event_source_mappings", "EventSourceMappings", MaxItems=100):
            name, qualifier = _function_of(_text(one, "FunctionArn"))
            found.setdefault(name, set()).add(qualifier)
        return found

    def uses(self, function: str, mapped: Set[str]) -> Uses:
        """Who uses a function's versions; ``mapped``: what mappings call of it."""
        aliased: set[str] = set()
        for alias in self._calls.pages("list_aliases", "Aliases", FunctionName=function, MaxItems=50):
            aliased.add(_text(alias, "FunctionVersion"))
            aliased.update((alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {})
        pages = self._calls.pages(
            "list_provisioned_concurrency_configs", "ProvisionedConcurrencyConfigs", FunctionName=function, MaxItems=50
        )
        provisioned = {_function_of(_text(one, "FunctionArn"))[1] for one in pages}
        return Uses(aliased, mapped, provisioned)

    def is_used_now(self, function: str, arn: str, number: str) -> Reason | None:
        """Why this version is to be kept, asked anew; a mapping by the version's own ARN."""
        qualified = f"{arn}:{number}"
        pages = self._calls.pages(
            "list_event_source_mappings", "EventSourceMappings", FunctionName=qualified, MaxItems=100
        )
        # Whatever is listed for a version's own ARN calls it.
        mapped = {number} if any(True for _ in pages) else set()
        return self.uses(function, mapped).reason(number)

    def is_permitted(self, function: str, number: str) -> bool:
        """Whether somebody was permitted to call this version by its number: a bucket, a topic, another account."""
        return self._has_policy("get_policy", FunctionName=function, Qualifier=number)

    def delete_version(self, function: str, number: str) -> Outcome:
        """Delete one version. Without a number Lambda would delete the function, so nothing is asked without."""
        if not is_number(number):
            raise ValueError(f"a version to delete is a number; got {number!r}")
        try:
            self._calls("delete_function", FunctionName=function, Qualifier=number)
        except Exception as error:
            code = code_of(error)
            if code == "ResourceConflictException":
                return "refused"
            if code == NOT_FOUND:
                return self._gone()
            if code == "InvalidParameterValueException" and "replicated function" in str(error):
                return "replica"
            raise
        return "deleted"

    def layers(self) -> list[str]:
        return [_text(one, "LayerName") for one in self._calls.pages("list_layers", "Layers", MaxItems=50)]

    def layer_versions(self, layer: str) -> list[LayerVersion]:
        pages = self._calls.pages("list_layer_versions", "LayerVersions", LayerName=layer, MaxItems=50)
        return [LayerVersion(_number(one, "Version"), _text(one, "LayerVersionArn")) for one in pages]

    def layer_bytes(self, layer: str, number: int) -> int | None:
        """None where somebody has deleted it meanwhile."""
        try:
            found = self._calls("get_layer_version", LayerName=layer, VersionNumber=number)
        except Exception as error:
            if code_of(error) == NOT_FOUND:
                return None
            raise
        return _number(found.get("Content"), "CodeSize")

    def is_shared(self, layer: str, number: int) -> bool:
        """Whether another account was permitted to use this layer's version."""
        return self._has_policy("get_layer_version_policy", LayerName=layer, VersionNumber=number)

    def delete_layer_version(self, layer: str, number: int) -> None:
        """Lambda does not say whether it was there."""
        self._calls("delete_layer_version", LayerName=layer, VersionNumber=number)

    def _gone(self) -> Outcome:
        # Made twice, the first may have done it.
        return "deleted" if self._calls.tries > 1 else "gone"

    def _has_policy(self, operation: str, **arguments: Any) -> bool:
        import json

        try:
            text = self._calls(operation, **arguments).get("Policy")
        except Exception as error:
            if code_of(error) == NOT_FOUND:
                return False
            raise
        try:
            return bool(json.loads(text)["Statement"])
        except (ValueError, KeyError, TypeError):
            # Something is there.
            return True


def _version(one: Any) -> Version:
    layers = one.get("Layers") or [] if isinstance(one, dict) else []
    return Version(_text(one, "Version"), _number(one, "CodeSize"), tuple(_text(layer, "Arn") for layer in layers))


def _function_of(arn: str) -> tuple[str, str]:
    """The name and the qualifier in a function's ARN, which may have none."""
    parts = arn.split(":")
    if len(parts) not in (7, 8) or parts[5] != "function" or not parts[6]:
        raise StreamkitError("an event source mapping, or provisioned concurrency, is of no function's ARN")
    return parts[6], parts[7] if len(parts) == 8 else "$LATEST"


def _text(one: Any, name: str) -> str:
    value = one.get(name) if isinstance(one, dict) else None
    if not isinstance(value, str) or not value:
        raise StreamkitError(f"an answer of Lambda's has an entry without {name}")
    return value


def _number(one: Any, name: str) -> int:
    value = one.get(name) if isinstance(one, dict) else None
    if not isinstance(value, int):
        raise StreamkitError(f"an answer of Lambda's has an entry without {name}")
    return value
