"""The janitor on LocalStack, which pages, and has provisioned concurrency: and deletes what an alias names, if it is asked to."""

from __future__ import annotations

import io
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from setup_localstack import docker_answers

from streamkit.janitor.janitor import Janitor

from .conftest import Connect
from .deployment import Deployment

pytestmark = pytest.mark.skipif(docker_answers(), reason="in a container functions are containers")


@pytest.fixture
def deployment(connect: Connect, tmp_path: Path) -> Iterator[Deployment]:
    deployment = Deployment(connect, tmp_path / "journal")
    yield deployment
    deployment.remove()


def publish(functions: Any, name: str, *, layers: list[str]) -> str:
    functions.update_function_configuration(FunctionName=name, Description=uuid.uuid4().hex, Layers=layers)
    functions.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    return str(functions.publish_version(FunctionName=name)["Version"])


def package() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("python/made.py", uuid.uuid4().hex)
    return content.getvalue()


def test_what_is_used_is_kept_and_the_rest_goes(
    deployment: Deployment, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = deployment.functions
    name = deployment.function("cleaned", "told").rsplit(":", 1)[1]
    layer = f"layer-{name}"
    layers = [
        functions.publish_layer_version(LayerName=layer, Content={"ZipFile": package()})["LayerVersionArn"]
        for _ in range(5)
    ]
    # Published one after another, each with a layer of its own as long as there are some.
    made = [publish(functions, name, layers=layers[n : n + 1]) for n in range(9)]
    assert made == [str(n) for n in range(1, 10)]
    functions.create_alias(
        FunctionName=name, Name="live", FunctionVersion="2", RoutingConfig={"AdditionalVersionWeights": {"4": 0.1}}
    )
    functions.put_provisioned_concurrency_config(FunctionName=name, Qualifier="3", ProvisionedConcurrentExecutions=1)
    deployment.trigger(f"{name}:6", deployment.arn(deployment.queue("orders")))
    monkeypatch.setenv("JANITOR_DELETE", "yes")
    monkeypatch.setenv("KEEP_VERSIONS", "2")
    monkeypatch.setenv("KEEP_LAYER_VERSIONS", "1")
    monkeypatch.setenv("INCLUDE", f"{name},{layer}")

    janitor = Janitor(connect("lambda"), rate=200)
    dry = janitor({})
    assert len(functions.list_versions_by_function(FunctionName=name)["Versions"]) == 10
    report = janitor({"dry_run": False})

    left = [one["Version"] for one in functions.list_versions_by_function(FunctionName=name)["Versions"]]
    assert sorted(left) == sorted(["$LATEST", "2", "3", "4", "6", "8", "9"])
    kept = {"latest": 1, "alias": 2, "provisioned": 1, "mapping": 1, "newest": 2}
    assert report["functions"]["kept"] == dry["functions"]["kept"] == kept
    assert report["functions"]["first_due"] == dry["functions"]["first_due"] == [f"{name}:{n}" for n in (1, 5, 7)]
    # Of the layer the versions 1 and 5 were those functions' that have gone, and 5 is the newest.
    numbers = [one["Version"] for one in functions.list_layer_versions(LayerName=layer)["LayerVersions"]]
    assert sorted(numbers) == [2, 3, 4, 5]
    assert report["bytes_freed"] == dry["bytes_due"] > 0
    assert (report["complete"], report["functions"]["failures"], report["layers"]["failures"]) == (True, 0, 0)
