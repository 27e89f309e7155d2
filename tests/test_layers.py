"""Dependencies point one way, and a cold start imports nothing that it does not need."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import streamkit
from streamkit.testing import kinesis_event

ROOT = Path(streamkit.__file__).parent

# A module imports from its own layer and those before it. A package's name stands for all its modules.
LAYERS = [
    ["errors", "b64", "version", "wrapper"],
    ["record", "kpl", "pattern", "breaker"],
    [
        *("claims.base", "sinks.base", "queues.base", "checkpoints.base", "progress.base", "plans.base", "marks.base"),
        *("ledgers.base", "cells.base", "positions"),
    ],
    [
        "outcome",
        "policy",
        "processor",
        "deadline",
        "plural",
        "reason",
        "finding",
        "config",
        "outside",
        "sharing",
        "warm",
    ],
    ["heartbeat"],
    [
        *("metrics", "metrics.emf", "metrics.monitoring", "metrics.names", "metrics.otlp", "metrics.report"),
        "metrics.values",
    ],
    # What of it a cold start may import; its other modules come when they are asked for.
    ["correlation", "correlation.context", "correlation.value"],
    [
        *("claim_check", "envelope", "event", "letters", "delivery", "failure", "execution", "redelivery", "parking"),
        *("window", "metrics.metering", "metrics.figures", "metrics.counting"),
    ],
    ["health"],
    ["handler"],
    [
        *(
            "aws",
            "http_body",
            "timely",
            "dynamodb",
            "cells",
            "claims",
            "sinks",
            "queues",
            "checkpoints",
            "progress",
            "ledgers",
            "plans",
            "marks",
        ),
        *("idempotency", "invoke", "config.ssm", "config.appconfig"),
    ],
    ["correlation.opentelemetry"],
    [
        *("fanout", "forward", "gunzip", "janitor", "logs", "objects", "producer", "local", "recovery", "search"),
        *("testing", "recursion", "warmer"),
    ],
    ["loops"],
    ["kcl", "checks"],
    ["packaging", "new", "cli"],
]
CORE = {name for layer in LAYERS[:10] for name in layer}
BACKENDS = ("cells", "claims", "sinks", "queues", "checkpoints", "progress", "ledgers", "plans", "marks")
#: What the core may import from outside the standard library.
CORE_DEPENDENCIES = {"msgspec", "pybase64"}


def module_name(path: Path) -> str:
    """``sinks.base`` for streamkit/sinks/base.py; ``sinks`` for its package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports_of(module: str) -> set[str]:
    """Everything that the module imports, wherever in it: streamkit's own modules as ``.sinks.base``, others by name."""
    path = MODULES[module]
    package = ["streamkit", *path.relative_to(ROOT).parent.parts]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [] if node.level == 0 else package[: len(package) - node.level + 1]
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}".removeprefix("streamkit.")
                found.add(f"streamkit.{inner}" if source.startswith("streamkit") and inner in MODULES else source)
    return {name.removeprefix("streamkit") or "." if name.partition(".")[0] == "streamkit" else name for name in found}


def own_imports_of(module: str) -> set[str]:
    return {name.removeprefix(".") for name in imports_of(module) if name.startswith(".")} - {module}


def layer_of(module: str) -> int:
    for name in (module, module.partition(".")[0]):
        for n, layer in enumerate(LAYERS):
            if name in layer:
                return n
    raise AssertionError(f"streamkit.{module} has no place in LAYERS: give it one")


@pytest.mark.parametrize("module", [name for name in MODULES if name])
class TestEachModule:
    def test_imports_from_its_own_layer_and_those_before_it_only(self, module: str) -> None:
        for other in own_imports_of(module):
            assert other, f"streamkit.{module} imports the package streamkit, which imports nearly everything"
            assert layer_of(other) <= layer_of(module), f"streamkit.{module} imports streamkit.{other}"

    def test_says_what_is_public_and_all_of_it_is_there(self, module: str) -> None:
        imported = importlib.import_module(f"streamkit.{module}")
        holds_nothing = len(ast.parse(MODULES[module].read_text()).body) <= 1
        if holds_nothing:  # A package that is a docstring.
            return

        public = imported.__all__

        assert len(public) == len(set(public))
        assert [name for name in public if not hasattr(imported, name)] == []
        assert [name for name in public if name.startswith("_")] == []


@pytest.mark.parametrize("module", sorted(CORE & MODULES.keys()))
def test_the_core_imports_nothing_of_other_people_but_its_two_dependencies(module: str) -> None:
    others = {name.partition(".")[0] for name in imports_of(module) if not name.startswith(".")}

    assert others - set(sys.stdlib_module_names) <= CORE_DEPENDENCIES


@pytest.mark.parametrize(
    "module", [name for name in MODULES if name.partition(".")[0] in BACKENDS and not name.endswith(".base")]
)
def test_a_backend_imports_only_bases_its_own_package_records_errors_correlation_and_how_services_are_called(
    module: str,
) -> None:
    package = module.partition(".")[0]
    others = {name for name in own_imports_of(module) if name.partition(".")[0] != package}

    assert others <= {f"{name}.base" for name in BACKENDS} | {
        "record",
        "errors",
        "aws",
        "dynamodb",
        "http_body",
        "correlation",
    }


def test_clients_of_aws_are_made_in_one_place_where_an_answer_that_broke_off_is_told() -> None:
    places = [*MODULES.items(), *((path.stem, path) for path in (ROOT.parent / "processors").glob("*.py"))]
    makers = {
        module
        for module, path in places
        if "import boto3" in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("client", "resource")
    }

    assert makers == {"aws"}


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {module: own_imports_of(module) - {""} for module in MODULES if module}

    TopologicalSorter(graph).prepare()  # CycleError names the detour.


def test_the_public_names_are_exactly_these() -> None:
    assert sorted(streamkit.__all__) == sorted(
        [
            *("Record", "RecordProcessor", "Write", "Sink", "Refusal", "lambda_handler"),
            *("Block", "Divert", "Park", "Reject", "Retry", "Unavailable"),
            *("StreamkitError", "DecodeError", "SinkError"),
        ]
    )
    assert all(hasattr(streamkit, name) for name in streamkit.__all__)


def test_types_are_shipped() -> None:
    assert (ROOT / "py.typed").exists()


COLD_START = """
import sys
import msgspec, pybase64
before = set(sys.modules)
import streamkit

class Orders(streamkit.RecordProcessor):
    def process(self, record):
        return None if record.json()["id"] else 7

handler = streamkit.lambda_handler(Orders)
assert handler({event!r}, None) == {{"batchItemFailures": []}}
print("\\n".join(set(sys.modules) - before))
"""
# Each costs a cold start milliseconds, and a batch that goes well needs none of them.
NOT_AT_A_COLD_START = {
    *("boto3", "botocore", "google", "tenacity", "pydantic", "pytest", "urllib3", "requests"),
    *("asyncio", "concurrent", "multiprocessing", "subprocess", "sqlite3"),
    *("dataclasses", "inspect", "json", "hashlib", "_hashlib", "ssl", "socket", "http", "urllib", "email", "uuid"),
}


@pytest.fixture(scope="module")
def cold_start() -> set[str]:
    """The modules that a fresh process has loaded when it has answered its first event."""
    code = COLD_START.format(event=kinesis_event([json.dumps({"id": "a"})]))
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT.parent, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.split())


def test_a_cold_start_imports_only_what_it_needs(cold_start: set[str]) -> None:
    assert "streamkit.handler" in cold_start
    assert {name for name in cold_start if name.partition(".")[0] in NOT_AT_A_COLD_START} == set()


def test_a_cold_start_imports_the_core_and_no_backend(cold_start: set[str]) -> None:
    own = {name.removeprefix("streamkit.") for name in cold_start if name.startswith("streamkit.")}

    assert own <= CORE | set(BACKENDS)
