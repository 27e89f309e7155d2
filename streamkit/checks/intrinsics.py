"""What the intrinsic functions of a template come to, as far as the template and the parameters' values say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigurationError, StreamkitError
from .deployment import Home
from .nodes import Node
from .unknown import ACCOUNT, PARTITION, REGION, Unknowns, is_known

__all__ = ["Intrinsics", "Resource"]

_NAMES = {
    "AWS::SQS::Queue": "QueueName",
    "AWS::SNS::Topic": "TopicName",
    "AWS::Kinesis::Stream": "Name",
    "AWS::Kinesis::StreamConsumer": "ConsumerName",
    "AWS::DynamoDB::Table": "TableName",
    "AWS::DynamoDB::GlobalTable": "TableName",
    "AWS::Serverless::SimpleTable": "TableName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::Serverless::Function": "FunctionName",
    "AWS::Events::EventBus": "Name",
    "AWS::IAM::Role": "RoleName",
    "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
    "AWS::CloudSearch::Domain": "DomainName",
    "AWS::KMS::Alias": "AliasName",
    "AWS::Logs::LogGroup": "LogGroupName",
}
_ARNS = {
    "AWS::SQS::Queue": ("sqs", ""),
    "AWS::SNS::Topic": ("sns", ""),
    "AWS::Kinesis::Stream": ("kinesis", "stream/"),
    "AWS::DynamoDB::Table": ("dynamodb", "table/"),
    "AWS::DynamoDB::GlobalTable": ("dynamodb", "table/"),
    "AWS::Serverless::SimpleTable": ("dynamodb", "table/"),
    "AWS::S3::Bucket": ("s3", ""),
    "AWS::Lambda::Function": ("lambda", "function:"),
    "AWS::Serverless::Function": ("lambda", "function:"),
    "AWS::Events::EventBus": ("events", "event-bus/"),
    "AWS::KMS::Key": ("kms", "key/"),
}
_FUNCTIONS = ("AWS::Lambda::Function", "AWS::Serverless::Function")
_VARIABLE = re.compile(r"\$\{(!?)([^${}]*)\}")
_LONGEST = 100_000
_NO_VALUE = "AWS::NoValue"


class Resource:
    """A resource of the template."""

    def __init__(self, logical_id: str, node: Node, kind: str) -> None:
        self.logical_id = logical_id
        self.node = node
        self.kind = kind


class Intrinsics:
    """``parameters``: the values given, over the template's defaults. ConfigurationError for one that the template has not."""

    def __init__(self, root: Node, path: str, parameters: Mapping[str, str]) -> None:
        self.path = path
        self.unknowns = Unknowns()
        self._given = dict(parameters)
        self._parameters = _section(root, "Parameters", path)
        self._mappings = _section(root, "Mappings", path)
        self._conditions = _section(root, "Conditions", path)
        self._decided: dict[str, bool | None] = {}
        self._names: dict[str, str] = {}
        for name in parameters:
            if name not in self._parameters and not name.startswith("AWS::"):
                there = ", ".join(self._parameters) or "none"
                raise ConfigurationError(f"{path} has no parameter {name}: there are {there}")
        self.home = Home(
            self._given.get("AWS::Partition", PARTITION),
            self._given.get("AWS::Region", REGION),
            self._given.get("AWS::AccountId", ACCOUNT),
        )
        self.resources: dict[str, Resource] = {}
        for logical_id, node in _section(root, "Resources", path).items():
            kind = node.value.get("Type") if isinstance(node.value, dict) else None
            if kind is None or not isinstance(kind.value, str):
                if not logical_id.startswith("Fn::"):
                    raise StreamkitError(f"{path}:{node.line}: the resource {logical_id} has no Type")
                continue
            condition = node.value.get("Condition")
            if condition is not None and self.condition(condition.value) is False:
                continue
            self.resources[logical_id] = Resource(logical_id, node, kind.value)

    def where(self, node: Node) -> str:
        return f"{self.path}:{node.line}"

    def of_kind(self, *kinds: str) -> list[Resource]:
        return [resource for resource in self.resources.values() if resource.kind in kinds]

    def get(self, node: Node | None, *path: str) -> Node | None:
        """What stands at ``path`` of mappings, opened; None where there is nothing."""
        for name in path:
            if node is None:
                return None
            opened = self.open(node)
            node = opened.value.get(name) if isinstance(opened.value, dict) else None
            if opened.value is not None and not isinstance(opened.value, dict | list) and not is_known(opened.value):
                # All of what would be there is as unknown as that.
                return opened
        if node is None:
            return None
        opened = self.open(node)
        return None if opened.value is None else opened

    def property(self, resource: Resource, *path: str) -> Node | None:
        return self.get(resource.node, "Properties", *path)

    def items(self, node: Node | None) -> list[Node]:
        """The parts of a list, opened; of anything else itself, as AWS takes one for a list of one."""
        if node is None:
            return []
        opened = self.open(node)
        if opened.value is None:
            return []
        parts = opened.value if isinstance(opened.value, list) else [opened]
        return [one for one in map(self.open, parts) if one.value is not None]

    def plain(self, node: Node | None) -> Any:
        """The value with all that is in it: texts, lists, dicts, None."""
        if node is None:
            return None
        opened = self.open(node)
        if isinstance(opened.value, list):
            return [value for value in map(self.plain, opened.value) if value is not None]
        if isinstance(opened.value, dict):
            inner = {name: self.plain(value) for name, value in opened.value.items()}
            return {name: value for name, value in inner.items() if value is not None}
        return opened.value

    def text(self, node: Node | None) -> str:
        """The value where it is a text, empty otherwise."""
        value = None if node is None else self.open(node).value
        return value if isinstance(value, str) else ""

    def open(self, node: Node) -> Node:
        """The node that an intrinsic function stands for, with the line of the function; any other as it is."""
        value = node.value
        if not isinstance(value, dict) or len(value) != 1:
            return node
        ((function, argument),) = value.items()
        if function != "Ref" and not function.startswith("Fn::"):
            return node
        found = self._called(function, argument)
        return (
            Node(found.value, node.line, found.size, found.depth) if isinstance(found, Node) else Node(found, node.line)
        )

    def condition(self, name: Any) -> bool | None:
        """Whether the condition of that name holds; None where it is not known."""
        if not isinstance(name, str):
            return None
        if name not in self._decided:
            self._decided[name] = None  # For one that is about itself.
            node = self._conditions.get(name)
            self._decided[name] = None if node is None else self._holds(node)
        return self._decided[name]

    def name_of(self, resource: Resource) -> str:
        """Its physical name: the one that is given, or a mark."""
        logical_id = resource.logical_id
        if logical_id not in self._names:
            attribute = {"AWS::SQS::Queue": ".QueueName", "AWS::SNS::Topic": ".TopicName"}.get(resource.kind, "")
            made_up = self.unknowns.mark(f"${{{logical_id}{attribute}}}", "named")
            if resource.kind == "AWS::SQS::Queue" and self.text(self.property(resource, "FifoQueue")).lower() == "true":
                made_up += ".fifo"
            self._names[logical_id] = made_up  # For one that is named after itself.
            property_name = _NAMES.get(resource.kind)
            given = self.property(resource, property_name) if property_name else None
            self._names[logical_id] = self.text(given) or made_up
        return self._names[logical_id]

    def arn_of(self, resource: Resource) -> str:
        if resource.kind == "AWS::Kinesis::StreamConsumer":
            stream = self.text(self.property(resource, "StreamARN")) or self.unknowns.mark("a stream")
            return f"{stream}/consumer/{self.name_of(resource)}:1"
        if resource.kind in _ARNS:
            service, prefix = _ARNS[resource.kind]
            return self.home.arn(service, prefix + self.name_of(resource))
        if resource.kind == "AWS::Logs::LogGroup":
            # As CloudFormation gives it: that of all of its log streams.
            return self.home.arn("logs", f"log-group:{self.name_of(resource)}:*")
        if resource.kind == "AWS::IAM::Role":
            return f"arn:{self.home.partition}:iam::{self.home.account}:role/{self.name_of(resource)}"
        if resource.kind == "AWS::IAM::ManagedPolicy":
            return f"arn:{self.home.partition}:iam::{self.home.account}:policy/{self.name_of(resource)}"
        return self.unknowns.mark(f"${{{resource.logical_id}.Arn}}")

    def _called(self, function: str, argument: Node) -> Any:
        if function == "Ref":
            return self._ref(argument)
        if function == "Fn::GetAtt":
            return self._attribute(argument)
        if function == "Fn::Sub":
            return self._substituted(argument)
        if function == "Fn::Join":
            return self._joined(argument)
        if function == "Fn::If":
            return self._chosen(argument)
        if function == "Fn::FindInMap":
            return self._looked_up(argument)
        if function == "Fn::Select":
            return self._selected(argument)
        if function == "Fn::Split":
            return self._split(argument)
        return self._unknown(function, argument)

    def _unknown(self, function: str, argument: Node) -> str:
        shown = argument.value if isinstance(argument.value, str) else f"of line {argument.line}"
        return self.unknowns.mark(f"!{function.removeprefix('Fn::')} {shown}")

    def _ref(self, argument: Node) -> Any:
        name = argument.value
        if not isinstance(name, str):
            return self._unknown("Ref", argument)
        if name == _NO_VALUE:
            return None
        if name in self._given:
            return self._of_type(name, self._given[name])
        pseudo = {
            "AWS::Region": self.home.region,
            "AWS::AccountId": self.home.account,
            "AWS::Partition": self.home.partition,
        }
        if name in pseudo:
            return pseudo[name]
        if name == "AWS::URLSuffix":
            return "amazonaws.com"
        if name in self._parameters:
            default = self.get(self._parameters[name], "Default")
            kind = self.text(self.get(self._parameters[name], "Type"))
            if default is None or kind.startswith("AWS::SSM::Parameter::Value"):
                return self.unknowns.mark(f"${{{name}}}")
            return self._of_type(name, self.text(default))
        resource = self.resources.get(name)
        if resource is not None:
            return self._reference(resource)
        owner = self._owner_of_alias(name)
        if owner is not None:
            return f"{self.arn_of(owner)}:{self.unknowns.mark(name)}"
        return self.unknowns.mark(f"${{{name}}}")

    def _of_type(self, name: str, value: str) -> Any:
        kind = self.text(self.get(self._parameters.get(name), "Type"))
        if kind == "CommaDelimitedList" or kind.startswith("List<"):
            return [Node(one.strip(), 0) for one in value.split(",")]
        return value

    def _reference(self, resource: Resource) -> str:
        if resource.kind == "AWS::SQS::Queue":
            return f"https://sqs.{self.home.region}.amazonaws.com/{self.home.account}/{self.name_of(resource)}"
        if resource.kind in ("AWS::SNS::Topic", "AWS::Kinesis::StreamConsumer", "AWS::IAM::ManagedPolicy"):
            return self.arn_of(resource)
        if resource.kind in ("AWS::Lambda::Alias", "AWS::Lambda::Version"):
            name = self.text(self.property(resource, "FunctionName")).rpartition(":function:")[2].partition(":")[0]
            return self.home.arn("lambda", f"function:{name}:{self.unknowns.mark(resource.logical_id)}")
        if resource.kind in _NAMES or resource.kind == "AWS::KMS::Key":
            return self.name_of(resource)
        return self.unknowns.mark(f"${{{resource.logical_id}}}")

    def _owner_of_alias(self, name: str) -> Resource | None:
        """SAM has ``!Ref Orders.Alias`` for the alias that AutoPublishAlias makes."""
        logical_id, dot, what = name.partition(".")
        resource = self.resources.get(logical_id)
        is_alias = dot and what in ("Alias", "Version") and resource is not None and resource.kind in _FUNCTIONS
        return resource if is_alias else None

    def _attribute(self, argument: Node) -> Any:
        if isinstance(argument.value, list) and len(argument.value) == 2:
            logical_id, attribute = self.text(argument.value[0]), self.text(argument.value[1])
        else:
            logical_id, _, attribute = self.text(argument).partition(".")
        return self._attribute_of(logical_id, attribute)

    def _attribute_of(self, logical_id: str, attribute: str) -> str:
        resource = self.resources.get(logical_id)
        if resource is not None:
            if attribute in ("Arn", "TopicArn", "ConsumerARN", "PolicyArn"):
                return self.arn_of(resource)
            if attribute in ("QueueName", "TopicName", "Name", "KeyId"):
                return self.name_of(resource)
            if attribute in ("QueueUrl", "AliasArn"):
                return self._reference(resource)
        return self.unknowns.mark(f"${{{logical_id}.{attribute}}}")

    def _substituted(self, argument: Node) -> str:
        text, variables = argument, {}
        if isinstance(argument.value, list):
            if len(argument.value) != 2 or not isinstance(argument.value[1].value, dict):
                return self._unknown("Sub", argument)
            text = argument.value[0]
            variables = {name: self.text(node) for name, node in argument.value[1].value.items()}
        if not isinstance(text.value, str):
            return self._unknown("Sub", argument)

        def value_of(found: re.Match[str]) -> str:
            name = found[2].strip()
            if found[1]:
                return "${" + found[2] + "}"
            if name in variables:
                return variables[name]
            is_attribute = "." in name and self._owner_of_alias(name) is None
            value = self._attribute_of(*name.split(".", 1)) if is_attribute else self._ref(Node(name, argument.line))
            return value if isinstance(value, str) else self.unknowns.mark(f"${{{name}}}")

        return self._bounded(_VARIABLE.sub(value_of, text.value), argument)

    def _joined(self, argument: Node) -> str:
        if not isinstance(argument.value, list) or len(argument.value) != 2:
            return self._unknown("Join", argument)
        between, parts = self.text(argument.value[0]), self.items(argument.value[1])
        if not all(isinstance(part.value, str) for part in parts):
            return self._unknown("Join", argument)
        return self._bounded(between.join(part.value for part in parts), argument)

    def _bounded(self, text: str, argument: Node) -> str:
        if len(text) > _LONGEST:
            raise StreamkitError(f"{self.where(argument)}: the text has over {_LONGEST:,} characters")
        return text

    def _chosen(self, argument: Node) -> Any:
        if not isinstance(argument.value, list) or len(argument.value) != 3:
            return self._unknown("If", argument)
        condition, yes, no = argument.value
        holds = self.condition(condition.value)
        if holds is None:
            return self.unknowns.mark(f"!If {self.text(condition)}")
        return self.open(yes if holds else no)

    def _looked_up(self, argument: Node) -> Any:
        if not isinstance(argument.value, list) or len(argument.value) < 3:
            return self._unknown("FindInMap", argument)
        keys = [self.text(key) for key in argument.value[:3]]
        found = self.get(self._mappings.get(keys[0]), keys[1], keys[2]) if all(map(is_known, keys)) else None
        return self.unknowns.mark(f"!FindInMap {'.'.join(keys)}") if found is None else found

    def _selected(self, argument: Node) -> Any:
        if isinstance(argument.value, list) and len(argument.value) == 2:
            index, parts = self.text(argument.value[0]), self.open(argument.value[1])
            if index.isdecimal() and isinstance(parts.value, list) and int(index) < len(parts.value):
                return self.open(parts.value[int(index)])
        return self._unknown("Select", argument)

    def _split(self, argument: Node) -> Any:
        if isinstance(argument.value, list) and len(argument.value) == 2:
            by, text = self.text(argument.value[0]), self.text(argument.value[1])
            if by and text and is_known(text):
                return [Node(part, argument.line) for part in text.split(by)]
        return self._unknown("Split", argument)

    def _holds(self, node: Node) -> bool | None:
        if not isinstance(node.value, dict) or len(node.value) != 1:
            return None
        ((function, argument),) = node.value.items()
        if function == "Condition":
            return self.condition(argument.value)
        parts: list[Node] = argument.value if isinstance(argument.value, list) else [argument]
        if function == "Fn::Equals" and len(parts) == 2:
            one, other = self.plain(parts[0]), self.plain(parts[1])
            if one == other:
                return True
            return False if all(isinstance(side, str) and is_known(side) for side in (one, other)) else None
        decided = [self._holds(part) for part in parts]
        if function == "Fn::Not" and len(decided) == 1:
            return None if decided[0] is None else not decided[0]
        if function in ("Fn::And", "Fn::Or"):
            ends = function == "Fn::Or"
            return ends if ends in decided else None if None in decided else not ends
        return None


def _section(root: Node, name: str, path: str) -> dict[str, Node]:
    node = root.value.get(name)
    if node is None or node.value is None:
        if name == "Resources":
            raise StreamkitError(f"{path} is no template: it has no Resources")
        return {}
    if not isinstance(node.value, dict):
        raise StreamkitError(f"{path}:{node.line}: {name} is a mapping")
    section: dict[str, Node] = node.value
    return section
