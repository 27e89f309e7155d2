"""What deploy/search-api.yaml promises beyond what every template does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.validate import HERE, transformed
from streamkit.search.found import Misfits
from streamkit.search.misfits import MisfitLog

from .alarms import fires


@pytest.fixture(scope="module")
def routes() -> dict[str, dict[str, Any]]:
    """By their keys."""
    resources = transformed(HERE / "search-api.yaml")["Resources"].values()
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


def test_values_that_are_left_out_of_answers_are_an_alarm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    template = transformed(HERE / "search-api.yaml")
    alarm = template["Resources"]["LeftOutAlarm"]["Properties"]
    default = {"MostLeftOut": template["Parameters"]["MostLeftOut"]["Default"]}

    assert fires(alarm, {"search.left_out": [None, 1, None]}, default), "an answer is a 200 all the same"
    assert not fires(alarm, {"search.left_out": [None, None]}, default)
    assert not fires(alarm, {"search.left_out": [None, 100, 90]}, {"MostLeftOut": 100})

    monkeypatch.setenv("STREAMKIT_METRICS", "emf")
    MisfitLog().tell({"name": Misfits("DEN", "it is wrong")}, None)
    line = json.loads(capsys.readouterr().out)
    (described,) = line["_aws"]["CloudWatchMetrics"]
    assert alarm["Namespace"] == described["Namespace"]
    assert alarm["MetricName"] in {one["Name"] for one in described["Metrics"]}
    assert [one["Name"] for one in alarm["Dimensions"]] == list(described["Dimensions"][0])
    (processor,) = [one["Value"] for one in alarm["Dimensions"] if one["Name"] == "Processor"]
    assert processor == line["Processor"]
