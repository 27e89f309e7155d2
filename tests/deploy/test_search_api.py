"""What deploy/search-api.yaml promises beyond what every template does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.validate import HERE, transformed


@pytest.fixture(scope="module")
def routes() -> dict[str, dict[str, Any]]:
    """By their keys."""
    resources = json.loads(transformed(HERE / "search-api.yaml"))["Resources"].values()
    found = [one["Properties"] for one in resources if one["Type"] == "AWS::ApiGatewayV2::Route"]
    return {one["RouteKey"]: one for one in found}


def test_a_preflight_needs_no_signature_and_everything_else_needs_what_was_chosen(
    routes: dict[str, dict[str, Any]],
) -> None:
    # API Gateway takes the route that says most: of OPTIONS this one, of the rest the other.
    assert sorted(routes) == ["$default", "OPTIONS /{proxy+}"]
    assert routes["OPTIONS /{proxy+}"]["AuthorizationType"] == "NONE"
    assert routes["$default"]["AuthorizationType"] == {"Ref": "Authorization"}
    assert len({json.dumps(one["Target"]) for one in routes.values()}) == 1, "the function answers both"
