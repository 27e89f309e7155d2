"""Lambda's control plane: moto, behind a proxy that adds what moto lacks and Lambda has.

It pages lists, refuses to delete a version that an alias names, lists mappings by a version's ARN, knows provisioned concurrency
and each version's own policy, and never deletes a function whole. ``harm`` is asked before all that, and may answer in its place.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import boto3
from botocore.config import Config

from ..faults.http_proxy import Answer, HttpProxy, Request

__all__ = ["ACCOUNT", "LambdaService", "answer_of", "error", "package"]

ACCOUNT = "arn:aws:lambda:us-east-1:123456789012"
_ROLE = "arn:aws:iam::123456789012:role/any"
_LISTS = {
    "functions": "Functions",
    "versions": "Versions",
    "aliases": "Aliases",
    "layers": "Layers",
    "event-source-mappings": "EventSourceMappings",
}

Harm = Callable[[Request], Answer | None]


def answer_of(content: Any, status: int = 200) -> Answer:
    return status, {"Content-Type": "application/json"}, json.dumps(content).encode()


def error(status: int, code: str, message: str = "because", **headers: str) -> Answer:
    body = json.dumps({"Type": "User", "Message": message, "message": message}).encode()
    return status, {"Content-Type": "application/json", "x-amzn-ErrorType": code, **headers}, body


def package(size: int) -> bytes:
    """A package of about ``size`` bytes, which differs by size."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("f.py", "#" * size)
    return out.getvalue()


class LambdaService:
    def __init__(self, moto: str) -> None:
        self._moto = moto
        self.proxy = HttpProxy(moto)
        self.proxy.act = self._act
        self.harm: Harm = lambda request: None
        #: ARNs with a qualifier.
        self.provisioned: list[str] = []
        #: ``name:version`` that somebody was permitted to call; moto has one policy for all versions.
        self.permitted: set[str] = set()
        #: ``name:version`` that CloudFront has copies of.
        self.replicas: set[str] = set()
        self.page = 50
        #: Functions that moto does not have: their versions' numbers, which nobody uses, of 1,000 bytes each.
        self.many: dict[str, set[int]] = {}
        #: ``DELETE``s of versions that were done, as ``name:version``; and what was wrong with what was asked.
        self.deleted: list[str] = []
        self.faults: list[str] = []
        self.direct = _client(moto)

    @contextmanager
    def running(self) -> Iterator[LambdaService]:
        with urlopen(HttpRequest(f"{self._moto}/moto-api/reset", method="POST"), timeout=30):
            pass
        iam = boto3.client(
            "iam", endpoint_url=self._moto, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="a"
        )
        iam.create_role(RoleName="any", AssumeRolePolicyDocument="{}")
        iam.close()
        try:
            yield self
        finally:
            self.direct.close()
            self.proxy.close()
            assert self.proxy.errors == []
            assert self.faults == []

    @property
    def endpoint(self) -> str:
        return self.proxy.endpoint

    def client(self) -> Any:
        return _client(self.endpoint)

    def asked(self, method: str, part: str) -> list[str]:
        """The paths of requests that have ``part`` in them."""
        return [one.path for one in self.proxy.seen if one.method == method and part in one.path]

    def function(
        self, name: str, versions: int = 0, layers: list[str] | None = None, tags: dict[str, str] | None = None
    ) -> None:
        self.direct.create_function(
            FunctionName=name,
            Runtime="python3.13",
            Role=_ROLE,
            Handler="f.handler",
            Code={"ZipFile": package(1)},
            Layers=layers or [],
            Tags=tags or {},
        )
        for n in range(versions):
            self.publish(name, n + 2)

    def publish(self, name: str, size: int) -> str:
        self.direct.update_function_code(FunctionName=name, ZipFile=package(size))
        return str(self.direct.publish_version(FunctionName=name)["Version"])

    def layer(self, name: str, versions: int = 1) -> list[str]:
        """The ARNs of its versions."""
        return [
            self.direct.publish_layer_version(LayerName=name, Content={"ZipFile": package(n + 1)})["LayerVersionArn"]
            for n in range(versions)
        ]

    def versions(self, name: str) -> list[str]:
        return [one["Version"] for one in self.direct.list_versions_by_function(FunctionName=name)["Versions"]]

    def sizes(self, name: str) -> dict[str, int]:
        return {
            one["Version"]: one["CodeSize"]
            for one in self.direct.list_versions_by_function(FunctionName=name)["Versions"]
        }

    def layer_versions(self, name: str) -> list[int]:
        return sorted(one["Version"] for one in self.direct.list_layer_versions(LayerName=name)["LayerVersions"])

    def _act(self, request: Request) -> Answer | None:
        return self.harm(request) or self._answer(request)

    def _answer(self, request: Request) -> Answer:
        url = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        parts = [unquote(one) for one in url.path.strip("/").split("/")[1:]]
        if parts[0] == "functions" and len(parts) > 1 and parts[1] in self.many:
            return self._of_many(request, parts, query)
        if request.method == "DELETE" and parts[0] == "functions":
            return self._delete(request, parts[1], query.get("Qualifier"))
        if parts[0] == "functions" and parts[-1] == "policy":
            if f"{parts[1]}:{query['Qualifier']}" in self.permitted:
                return answer_of({"Policy": json.dumps({"Version": "2012-10-17", "Statement": [{"Sid": "s3"}]})})
            return error(404, "ResourceNotFoundException", "The resource you requested does not exist.")
        if parts[-1] == "provisioned-concurrency":
            found = [one for one in self.provisioned if one.split(":")[6] == parts[1]]
            content = {"ProvisionedConcurrencyConfigs": [{"FunctionArn": one} for one in found]}
            return self._page(content, "ProvisionedConcurrencyConfigs", query)
        of = "LayerVersions" if parts[0] == "layers" and parts[-1] == "versions" else _LISTS.get(parts[-1])
        if request.method != "GET" or of is None:
            return request.forward()
        asked, request.path = request.path, url.path
        if query.get("FunctionVersion") == "ALL":
            request.path += "?FunctionVersion=ALL"
        status, headers, body = request.forward()
        request.path = asked
        if status != 200:
            return status, headers, body
        content = json.loads(body)
        if of == "Functions":
            content[of] += [self._version(name, None) for name in self.many]
        if of == "EventSourceMappings" and (arn := query.get("FunctionName")):
            content[of] = [one for one in content[of] if one["FunctionArn"] == arn]
        return self._page(content, of, query)

    def _of_many(self, request: Request, parts: list[str], query: dict[str, str]) -> Answer:
        name, numbers = parts[1], self.many[parts[1]]
        if request.method == "DELETE":
            numbers.remove(int(query["Qualifier"]))
            return 204, {}, b""
        if parts[-1] == "policy":
            return error(404, "ResourceNotFoundException")
        if parts[-1] == "versions":
            made = [self._version(name, None), *(self._version(name, one) for one in sorted(numbers))]
            return self._page({"Versions": made}, "Versions", query)
        of = "Aliases" if parts[-1] == "aliases" else "ProvisionedConcurrencyConfigs"
        return answer_of({of: []})

    def _version(self, name: str, number: int | None) -> dict[str, Any]:
        version = "$LATEST" if number is None else str(number)
        return {"FunctionName": name, "FunctionArn": f"{ACCOUNT}:function:{name}", "Version": version, "CodeSize": 1000}

    def _page(self, content: dict[str, Any], of: str, query: dict[str, str]) -> Answer:
        start, count = int(query.get("Marker", 0)), min(int(query.get("MaxItems", 50)), self.page)
        entries = content[of]
        page: dict[str, Any] = {of: entries[start : start + count]}
        if start + count < len(entries):
            page["NextMarker"] = str(start + count)
        return answer_of(page)

    def _delete(self, request: Request, name: str, qualifier: str | None) -> Answer:
        if not qualifier or not qualifier.isdecimal():
            self.faults.append(f"DELETE {request.path}")
            return error(500, "ServiceException")
        for alias in self.direct.list_aliases(FunctionName=name)["Aliases"]:
            weights = alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
            if qualifier in (alias["FunctionVersion"], *weights):
                return error(409, "ResourceConflictException", "an alias refers to it")
        if f"{name}:{qualifier}" in self.replicas:
            arn = f"{ACCOUNT}:function:{name}:{qualifier}"
            said = f"Lambda was unable to delete {arn} because it is a replicated function."
            return error(400, "InvalidParameterValueException", said)
        answer = request.forward()
        if answer[0] < 300:
            self.deleted.append(f"{name}:{qualifier}")
        return answer


def _client(endpoint: str) -> Any:
    return boto3.client(
        "lambda",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=5),
    )
