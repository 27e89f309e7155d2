"""`streamkit check` has nothing against the functions of processors/ as the templates deploy them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..cli.process import ended

ROOT = Path(__file__).resolve().parents[2]
QUEUE = "arn:aws:sqs:eu-west-1:123456789012:audit"
GIVEN = {
    "Stage": "dev",
    "Name": "orders",
    "CodeBucket": "code",
    "CodeKey": "key",
    "DeadLettersCodeKey": "key",
    "Stream": "arn:aws:kinesis:eu-west-1:123456789012:stream/orders",
    "Key": "arn:aws:kms:eu-west-1:123456789012:key/5f3c",
}
ROWS = {"BigQueryTable": "project.shop.orders"}
FUNCTIONS = {
    "bigquery": ("bigquery", ROWS),
    "bigquery, parking": ("bigquery", {**ROWS, "RetriesBy": "park"}),
    "bigquery, by a topic": ("bigquery", {**ROWS, "RetriesBy": "topic"}),
    "bigquery, blocking": ("bigquery", {**ROWS, "RetriesBy": "none"}),
    "bigquery-exactly-once": ("bigquery_exactly_once", {**ROWS, "RetriesBy": "none"}),
    "cloudsearch": (
        "cloudsearch",
        {"SearchEndpoint": "doc-x.eu-west-1.cloudsearch.amazonaws.com", "SearchDomain": "x", "DocumentId": "id"},
    ),
    "opensearch": (
        "opensearch",
        {
            "SearchEndpoint": "search-x-abc.eu-west-1.es.amazonaws.com",
            "SearchDomain": "x",
            "SearchIndex": "orders",
            "IndexTemplate": "{}",
            "DocumentVersion": "updated_at",
        },
    ),
    "graph": (
        "graph",
        {
            "GraphUrl": "neo4j+s://graph.example.com",
            "GraphUser": "streamkit",
            "GraphPasswordSecret": "routes-password",
            "GraphNodes": json.dumps([{"labels": ["Order"], "key": {"id": "id"}, "properties": {"*": ""}}]),
        },
    ),
    "opensearch, with parameters": (
        "opensearch",
        {
            "SearchEndpoint": "search-x-abc.eu-west-1.es.amazonaws.com",
            "SearchDomain": "x",
            "SearchIndex": "orders",
            "ParametersPath": "shop/orders",
            "ParametersKey": "arn:aws:kms:eu-west-1:123456789012:key/9a1b",
        },
    ),
    "fanout": ("fanout", {"Routes": json.dumps([{"name": "audit", "to": QUEUE}]), "Targets": QUEUE}),
}


#: Those that have a template of their own, with its function and its parameters.
BESIDE = {
    "objects": ("Objects", {"Bucket": "uploads", "Stream": GIVEN["Stream"]}),
    "logs": ("Logs", {"SearchEndpoint": "search-x-abc.eu-west-1.es.amazonaws.com", "SearchDomain": "x"}),
}


@pytest.mark.parametrize("name", [*FUNCTIONS, *BESIDE])
def test_there_is_neither_error_nor_warning(name: str) -> None:
    if name in BESIDE:
        module, template = name, f"deploy/{name}.yaml"
        function, settings = BESIDE[name]
        parameters = {key: GIVEN[key] for key in ("Stage", "CodeBucket", "CodeKey", "Key")} | settings
    else:
        template, function = "deploy/function.yaml", "Processor"
        module, settings = FUNCTIONS[name]
        parameters = GIVEN | {"Function": name.partition(",")[0]} | settings
    options = [part for key, value in parameters.items() for part in ("--parameter", f"{key}={value}")]

    done = ended(
        ROOT,
        *("check", f"processors.{module}:handler", "--template", template, "--function", function),
        *("--region", "eu-west-1", *options),
    )

    found = [line for line in done.stdout.splitlines() if not line.startswith("note: ")]
    assert (done.returncode, found) == (0, []), done.stderr
    assert done.stderr.startswith("0 errors, 0 warnings")
    assert "nothing that was read allows it" not in done.stdout
