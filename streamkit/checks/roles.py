"""What a function's role may do, by a template."""

from __future__ import annotations

from collections.abc import Callable

from .deployment import Role, Statement, Unread
from .intrinsics import Intrinsics, Resource
from .nodes import Node
from .sam_policies import managed_policy, sam_policy
from .statements import statement_of
from .unknown import is_known

__all__ = ["RoleReader"]

_SERVICE_ROLES = {"Kinesis": "AWSLambdaKinesisExecutionRole", "SQS": "AWSLambdaSQSQueueExecutionRole"}


class RoleReader:
    """``own`` gives a property of a function, Globals included."""

    def __init__(self, template: Intrinsics, own: Callable[..., Node | None]) -> None:
        self._template = template
        self._own = own
        self._statements: list[Statement] = []
        self._unread: list[Unread] = []

    def role(self, function: Resource) -> Role:
        template = self._template
        written = self._own(function, "Role")
        if written is None and function.kind == "AWS::Serverless::Function":
            return self._made_by_sam(function)
        arn = template.text(written)
        where = template.where(written or function.node)
        for resource in template.of_kind("AWS::IAM::Role"):
            if template.arn_of(resource) == arn:
                where = template.where(resource.node)
                self._inline(template.property(resource, "Policies"))
                self._managed(template.property(resource, "ManagedPolicyArns"))
                self._attached(template.name_of(resource))
                self._bounded(template.property(resource, "PermissionsBoundary"))
                break
        else:
            self._leave(f"the role {arn or 'of the function'}", where)
        self._connectors(function)
        return Role(where=where, arn=arn, statements=tuple(self._statements), unread=tuple(self._unread))

    def _made_by_sam(self, function: Resource) -> Role:
        """The role that SAM makes: what its events need, and ``Policies``."""
        template = self._template
        events = template.property(function, "Events")
        self._statements += managed_policy("AWSLambdaBasicExecutionRole", "") or ()
        listed = events.value.values() if events is not None and isinstance(events.value, dict) else ()
        for event in listed:
            kind, here = template.text(template.get(event, "Type")), template.where(event)
            if kind in _SERVICE_ROLES:
                self._statements += managed_policy(_SERVICE_ROLES[kind], here) or ()
            target = template.text(template.get(event, "Properties", "DestinationConfig", "OnFailure", "Destination"))
            self._allow_destination(target, here)
        self._allow_destination(template.text(self._own(function, "DeadLetterQueue", "TargetArn")), "")
        policies = self._own(function, "Policies")
        for policy in template.items(policies):
            self._policy(policy)
        name = f"{function.logical_id}Role"
        self._attached(template.unknowns.mark(f"${{{name}}}"))
        self._bounded(self._own(function, "PermissionsBoundary"))
        self._connectors(function)
        where = template.where(policies or function.node)
        arn = template.unknowns.mark(f"${{{name}.Arn}}")
        return Role(where=where, arn=arn, statements=tuple(self._statements), unread=tuple(self._unread))

    def _allow_destination(self, arn: str, where: str) -> None:
        """SAM lets the function's role send to the destinations that it names."""
        action = {"sqs": "sqs:SendMessage", "sns": "sns:Publish"}.get((arn.split(":") + [""] * 3)[2])
        if action:
            self._statements.append(Statement(effect="Allow", actions=(action,), resources=(arn,), where=where))

    def _policy(self, policy: Node) -> None:
        """One of SAM's ``Policies``: a name or an ARN, one of SAM's own with its parameters, or a document."""
        template = self._template
        where = template.where(policy)
        if isinstance(policy.value, str):
            self._managed_one(policy.value, where)
            return
        if not isinstance(policy.value, dict) or "Statement" in policy.value:
            self._document(policy)
            return
        for name, parameters in policy.value.items():
            values = template.plain(parameters)
            texts = {key: str(value) for key, value in values.items()} if isinstance(values, dict) else {}
            statements = sam_policy(name, texts, template.home, where)
            if statements is None:
                self._leave(f"the policy {name}", where)
            else:
                self._statements += statements

    def _inline(self, policies: Node | None) -> None:
        for policy in self._template.items(policies):
            document = self._template.get(policy, "PolicyDocument")
            if document is None:
                self._leave("an inline policy", self._template.where(policy))
            else:
                self._document(document)

    def _document(self, document: Node) -> None:
        template = self._template
        listed = template.items(template.get(document, "Statement"))
        if not listed:
            self._leave("a policy", template.where(document))
        for node in listed:
            statement = statement_of(template.plain(node), template.where(node))
            if statement is None:
                self._leave("a statement", template.where(node))
            else:
                self._statements.append(statement)

    def _managed(self, policies: Node | None) -> None:
        for policy in self._template.items(policies):
            self._managed_one(self._template.text(policy), self._template.where(policy))

    def _managed_one(self, reference: str, where: str) -> None:
        template = self._template
        for resource in template.of_kind("AWS::IAM::ManagedPolicy"):
            if template.arn_of(resource) == reference:
                self._document_of(resource)
                return
        statements = managed_policy(reference, where)
        if statements is None:
            self._leave(f"the managed policy {reference}", where)
        else:
            self._statements += statements

    def _attached(self, role: str) -> None:
        """Policies that name the role themselves."""
        template = self._template
        for resource in template.of_kind("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
            names = template.plain(template.property(resource, "Roles"))
            if isinstance(names, list) and role in names:
                self._document_of(resource)
            elif isinstance(names, str) and not is_known(names):
                self._leave(f"whom {resource.logical_id} is for", template.where(resource.node))
        for resource in template.of_kind("AWS::IAM::RolePolicy"):
            if template.text(template.property(resource, "RoleName")) == role:
                self._document_of(resource)

    def _document_of(self, resource: Resource) -> None:
        document = self._template.property(resource, "PolicyDocument")
        if document is None:
            self._leave(f"the policy {resource.logical_id}", self._template.where(resource.node))
        else:
            self._document(document)

    def _bounded(self, boundary: Node | None) -> None:
        if boundary is not None:
            self._leave("the permissions boundary", self._template.where(boundary))

    def _connectors(self, function: Resource) -> None:
        template = self._template
        node = template.get(function.node, "Connectors")
        if node is not None:
            self._leave("SAM's connectors", template.where(node))
        for resource in template.of_kind("AWS::Serverless::Connector"):
            self._leave(f"the connector {resource.logical_id}", template.where(resource.node))

    def _leave(self, what: str, where: str) -> None:
        self._unread.append(Unread(what, where))
