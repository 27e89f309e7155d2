"""The janitor on moto, with what Lambda has and moto lacks in front of it; its bad days too."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import boto3
import pytest

from processors.janitor import handler as deployed
from streamkit.errors import ConfigurationError, StreamkitError
from streamkit.janitor.account import Account
from streamkit.janitor.calls import Calls
from streamkit.janitor.janitor import Janitor

from ..faults.http_proxy import Answer, Request, cut
from .lambda_service import ACCOUNT, Harm, LambdaService, answer_of, error

DELETE = {"dry_run": False}
ALL = ["$LATEST", *(str(n) for n in range(1, 8))]


class Context:
    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int((self._end - time.monotonic()) * 1000)


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEEP_LAYER_VERSIONS", "LAYERS", "INCLUDE", "EXCLUDE", "INCLUDE_TAGS", "EXCLUDE_TAGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JANITOR_DELETE", "yes")
    monkeypatch.setenv("KEEP_VERSIONS", "2")


@pytest.fixture
def clean(service: LambdaService) -> Callable[..., dict[str, Any]]:
    def clean(event: Any = DELETE, seconds: float = 120) -> dict[str, Any]:
        client = service.client()
        try:
            return Janitor(client, rate=500)(event, Context(seconds))
        finally:
            client.close()

    return clean


Clean = Callable[..., dict[str, Any]]


def at(method: str, part: str, answer: Answer | Callable[[Request], Any], times: int = 10**9, query: str = "") -> Harm:
    """Harm the first requests whose path has ``part``."""
    left = [times]

    def harm(request: Request) -> Any:
        if left[0] and request.method == method and part in request.path and query in request.path:
            left[0] -= 1
            return answer(request) if callable(answer) else answer
        return None

    return harm


def map_to(service: LambdaService, moto: str, function: str) -> None:
    sqs = boto3.client(
        "sqs", endpoint_url=moto, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="a"
    )
    sqs.create_queue(QueueName="q")
    sqs.close()
    arn = "arn:aws:sqs:us-east-1:123456789012:q"
    service.direct.create_event_source_mapping(EventSourceArn=arn, FunctionName=function)


class TestOfAFunction:
    def test_old_versions_go_and_their_bytes_are_told(self, service: LambdaService, clean: Clean) -> None:
        service.function("orders", 7)
        sizes = service.sizes("orders")

        report = clean()

        assert service.versions("orders") == ["$LATEST", "6", "7"]
        functions = report["functions"]
        assert (functions["seen"], functions["done"], functions["left"], functions["failures"]) == (1, 1, 0, 0)
        assert (functions["versions"], functions["due"], functions["deleted"]) == (8, 5, 5)
        assert functions["kept"] == {"latest": 1, "newest": 2}
        assert report["bytes_freed"] == report["bytes_due"] == sum(sizes[str(n)] for n in range(1, 6))
        assert report["complete"]

    def test_nothing_goes_in_a_dry_run_which_tells_the_same(self, service: LambdaService, clean: Clean) -> None:
        service.function("orders", 7, layers=service.layer("numpy", 9)[:1])

        dry = clean({})
        assert service.proxy.seen
        assert service.asked("DELETE", "") == []
        assert (dry["functions"]["deleted"], dry["bytes_freed"]) == (0, 0)
        real = clean()

        assert dry["functions"]["due"] == real["functions"]["due"] == real["functions"]["deleted"] == 5
        assert dry["layers"]["due"] == real["layers"]["due"] == real["layers"]["deleted"]
        assert dry["bytes_due"] == real["bytes_freed"] > 0
        assert dry["functions"]["first_due"] == real["functions"]["first_due"] == [f"orders:{n}" for n in range(1, 6)]

    def test_nothing_goes_where_the_deployment_does_not_allow_it(
        self, service: LambdaService, clean: Clean, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service.function("orders", 7)
        monkeypatch.delenv("JANITOR_DELETE")

        with pytest.raises(ConfigurationError, match="JANITOR_DELETE"):
            clean()

        assert service.proxy.seen == []

    def test_both_versions_of_an_alias_are_kept(self, service: LambdaService, clean: Clean) -> None:
        service.function("orders", 7)
        service.direct.create_alias(
            FunctionName="orders",
            Name="live",
            FunctionVersion="2",
            RoutingConfig={"AdditionalVersionWeights": {"4": 0.1}},
        )

        report = clean()

        assert service.versions("orders") == ["$LATEST", "2", "4", "6", "7"]
        assert report["functions"]["kept"]["alias"] == 2

    def test_what_a_mapping_calls_is_kept(self, service: LambdaService, clean: Clean, moto: str) -> None:
        service.function("orders", 7)
        service.direct.create_alias(FunctionName="orders", Name="old", FunctionVersion="1")
        map_to(service, moto, "orders:3")

        report = clean()

        assert service.versions("orders") == ["$LATEST", "1", "3", "6", "7"]
        assert report["functions"]["kept"] == {"latest": 1, "alias": 1, "mapping": 1, "newest": 2}

    def test_what_has_provisioned_concurrency_is_kept(self, service: LambdaService, clean: Clean) -> None:
        service.function("orders", 7)
        service.function("orders-2", 7)
        service.provisioned = [f"{ACCOUNT}:function:orders:3"]

        report = clean()

        assert service.versions("orders") == ["$LATEST", "3", "6", "7"]
        assert service.versions("orders-2") == ["$LATEST", "6", "7"]
        assert report["functions"]["kept"]["provisioned"] == 1

    def test_what_somebody_was_permitted_to_call_by_its_number_is_kept_and_named(
        self, service: LambdaService, clean: Clean
    ) -> None:
        service.function("orders", 7)
        service.permitted = {"orders:3"}

        dry, real = clean({}), clean()

        assert service.versions("orders") == ["$LATEST", "3", "6", "7"]
        for report in (dry, real):
            assert report["functions"]["kept"]["permitted"] == 1
            assert report["functions"]["kept_at_last"] == {"permitted": ["orders:3"]}

    def test_names_and_tags_choose(self, service: LambdaService, clean: Clean, monkeypatch: pytest.MonkeyPatch) -> None:
        service.function("shop-orders", 3, tags={"team": "shop"})
        service.function("shop-stock", 3, tags={"team": "shop", "keep": "all"})
        service.function("shop-web", 3)
        service.function("search", 3, tags={"team": "shop"})
        monkeypatch.setenv("INCLUDE", "shop-*")
        monkeypatch.setenv("INCLUDE_TAGS", '{"team": "shop"}')
        monkeypatch.setenv("EXCLUDE_TAGS", '{"keep": null}')

        report = clean()

        assert service.deleted == ["shop-orders:1"]
        assert (report["functions"]["seen"], report["functions"]["excluded"]) == (4, 3)

    def test_that_has_thousands_of_versions_all_pages_are_read(self, service: LambdaService, clean: Clean) -> None:
        service.many["orders"] = set(range(1, 2_001))
        service.page = 40
        service.function("other")

        report = clean({**DELETE, "keep_versions": 1_900})

        assert service.many["orders"] == set(range(101, 2_001))
        assert report["functions"]["deleted"] == 100
        assert report["bytes_freed"] == 100_000
        # Nothing that was due is beyond what a report may name.
        assert len(report["functions"]["first_due"]) == 100

    @pytest.mark.parametrize("name", ["a/b", "ü%41?x=1#y", "line\nbreak", '"quote"', "dots..", "x" * 140])
    def test_any_name_is_a_name(
        self, service: LambdaService, clean: Clean, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        service.many[name] = {1, 2, 3}

        report = clean()

        assert report["functions"]["failures"] == 0
        assert service.many[name] == {2, 3}
        (line,) = capsys.readouterr().out.splitlines()
        assert json.loads(line)["Janitor"]["functions"]["first_due"] == [f"{name}:1"]


class TestOfALayer:
    def test_old_versions_that_no_version_of_any_function_uses_go(
        self, service: LambdaService, clean: Clean, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        arns = service.layer("numpy", 7)
        service.layer("other", 2)
        # Of a function that is not looked after, by an old version of it alone.
        service.function("orders", 1, layers=[arns[1]])
        service.direct.update_function_configuration(FunctionName="orders", Layers=[arns[3]])
        monkeypatch.setenv("EXCLUDE", "orders")
        monkeypatch.setenv("KEEP_LAYER_VERSIONS", "2")

        report = clean()

        assert service.layer_versions("numpy") == [2, 4, 6, 7]
        assert service.layer_versions("other") == [1, 2]
        layers = report["layers"]
        assert (layers["seen"], layers["versions"], layers["due"], layers["deleted"]) == (2, 9, 3, 3)
        assert layers["kept"] == {"layer in use": 2, "newest": 4}
        assert report["bytes_freed"] > 0

    def test_what_only_versions_used_that_have_gone_goes_with_them(self, service: LambdaService, clean: Clean) -> None:
        arns = service.layer("numpy", 7)
        service.function("orders", 1, layers=[arns[0]])
        service.direct.update_function_configuration(FunctionName="orders", Layers=[])
        for n in range(3):
            service.publish("orders", 10 + n)

        dry = clean({})
        clean()

        assert service.versions("orders") == ["$LATEST", "3", "4"]
        assert service.layer_versions("numpy") == [5, 6, 7]
        assert dry["layers"]["due"] == 4

    def test_what_another_account_may_use_is_kept(self, service: LambdaService, clean: Clean) -> None:
        service.layer("numpy", 5)
        service.direct.add_layer_version_permission(
            LayerName="numpy",
            VersionNumber=1,
            StatementId="all",
            Action="lambda:GetLayerVersion",
            Principal="210987654321",
        )

        report = clean()

        assert service.layer_versions("numpy") == [1, 3, 4, 5]
        assert report["layers"]["kept_at_last"] == {"shared": ["numpy:1"]}

    def test_nothing_goes_where_not_all_functions_are_known(self, service: LambdaService, clean: Clean) -> None:
        service.layer("numpy", 7)
        service.page = 2
        for n in range(3):
            service.function(f"f{n}")
        service.harm = at("GET", "FunctionVersion=ALL", error(403, "AccessDeniedException"), query="Marker")

        report = clean()

        assert service.layer_versions("numpy") == list(range(1, 8))
        assert not report["complete"]
        assert "AccessDenied" in report["layers"]["failed"]["*"]

    def test_they_are_left_alone_where_that_is_asked_for(self, service: LambdaService, clean: Clean) -> None:
        service.layer("numpy", 7)

        report = clean({**DELETE, "layers": False})

        assert report["complete"]
        assert service.asked("GET", "/layers") == []


class TestIncompleteKnowledge:
    def test_of_mappings_keeps_everything(self, service: LambdaService, clean: Clean) -> None:
        service.function("orders", 7)
        service.layer("numpy", 7)
        service.harm = at("GET", "event-source-mappings", error(403, "AccessDeniedException"))

        with pytest.raises(StreamkitError, match=r"nothing was deleted.*AccessDenied"):
            clean()

        assert service.asked("DELETE", "") == []

    @pytest.mark.parametrize("part", ["/orders/aliases", "/orders/provisioned", "/orders/versions", "/orders/policy"])
    def test_of_one_function_keeps_all_of_it_and_the_others_go_on(
        self, service: LambdaService, clean: Clean, part: str
    ) -> None:
        service.function("orders", 7)
        service.function("stock", 7)
        service.harm = at("GET", part, error(403, "AccessDeniedException"))

        report = clean()

        assert service.versions("orders") == ALL
        assert service.versions("stock") == ["$LATEST", "6", "7"]
        assert report["functions"]["failed"].keys() == {"orders"}
        assert "AccessDenied" in report["functions"]["failed"]["orders"]

    @pytest.mark.parametrize("part", ["/orders/aliases", "/orders/versions"])
    def test_of_a_later_page_keeps_all_of_it(self, service: LambdaService, clean: Clean, part: str) -> None:
        service.function("orders", 7)
        service.page = 1
        for n in range(1, 4):
            service.direct.create_alias(FunctionName="orders", Name=f"a{n}", FunctionVersion=str(n))
        service.harm = at("GET", part, error(403, "AccessDeniedException"), query="Marker")

        clean()

        assert service.versions("orders") == ALL

    @pytest.mark.parametrize(
        "answer",
        [
            *(answer_of({}), answer_of({"Versions": None}), answer_of({"Versions": [{"Version": "1"}]})),
            *(answer_of({"Versions": [{"CodeSize": 1}]}), answer_of({"Versions": [], "NextMarker": "same"})),
        ],
    )
    def test_by_an_answer_that_is_not_understood_keeps_all_of_it(
        self, service: LambdaService, clean: Clean, answer: Answer
    ) -> None:
        service.function("orders", 7)
        service.harm = at("GET", "/orders/versions", answer)

        report = clean()

        assert report["functions"]["failures"] == 1
        assert service.versions("orders") == ALL

    @pytest.mark.parametrize("arn", [None, "", "orders", f"{ACCOUNT}:layer:orders:3", f"{ACCOUNT}:function:orders:3:4"])
    def test_by_a_mapping_of_no_function_keeps_everything(
        self, service: LambdaService, clean: Clean, arn: str | None
    ) -> None:
        service.function("orders", 7)
        service.harm = at("GET", "event-source-mappings", answer_of({"EventSourceMappings": [{"FunctionArn": arn}]}))

        with pytest.raises(StreamkitError, match="nothing was deleted"):
            clean()

        assert service.versions("orders") == ALL

    def test_by_answers_that_break_off_keeps_all_of_it(self, service: LambdaService, clean: Clean) -> None:
        service.function("orders", 7)
        service.harm = at("GET", "/orders/aliases", cut)

        report = clean()

        assert report["functions"]["failures"] == 1
        assert service.versions("orders") == ALL


class TestARace:
    def test_with_an_alias_is_lost_by_the_janitor(self, service: LambdaService, clean: Clean) -> None:
        service.function("orders", 7)

        def move(_: Request) -> None:
            service.direct.create_alias(FunctionName="orders", Name="back", FunctionVersion="3")

        service.harm = at("GET", "/policy", move, times=1, query="Qualifier=3")

        report = clean()

        assert service.versions("orders") == ["$LATEST", "3", "6", "7"]
        assert report["functions"]["kept_at_last"] == {"alias": ["orders:3"]}
        assert service.asked("DELETE", "Qualifier=3") == []

    def test_with_an_alias_after_the_last_look_is_decided_by_lambda(self, service: LambdaService, clean: Clean) -> None:
        service.function("orders", 7)

        def move(_: Request) -> None:
            service.direct.create_alias(FunctionName="orders", Name="back", FunctionVersion="3")

        service.harm = at("DELETE", "orders", move, times=1, query="Qualifier=3")

        report = clean()

        assert service.versions("orders") == ["$LATEST", "3", "6", "7"]
        assert report["functions"]["kept_at_last"] == {"refused": ["orders:3"]}
        assert report["functions"]["failures"] == 0
        assert report["functions"]["deleted"] == 4

    def test_with_a_mapping_or_provisioned_concurrency_is_lost_by_the_janitor(
        self, service: LambdaService, clean: Clean, moto: str
    ) -> None:
        service.function("orders", 7)

        def use(_: Request) -> None:
            map_to(service, moto, "orders:3")
            service.provisioned = [f"{ACCOUNT}:function:orders:4"]

        service.harm = at("GET", "/policy", use, times=1, query="Qualifier=3")

        report = clean()

        assert service.versions("orders") == ["$LATEST", "3", "4", "6", "7"]
        # The second was found anew, too: it was judged before.
        assert report["functions"]["kept_at_last"] == {"mapping": ["orders:3"], "provisioned": ["orders:4"]}

    def test_with_somebody_who_deletes_too_frees_nothing(self, service: LambdaService, clean: Clean) -> None:
        service.function("orders", 7)

        def delete(_: Request) -> None:
            service.direct.delete_function(FunctionName="orders", Qualifier="3")

        service.harm = at("DELETE", "orders", delete, times=1, query="Qualifier=3")

        report = clean()

        assert report["functions"]["deleted"] == 4
        assert report["functions"]["kept"]["gone"] == 1
        assert report["functions"]["failures"] == 0

    def test_with_somebody_who_deletes_the_function_is_no_failure(self, service: LambdaService, clean: Clean) -> None:
        service.function("orders", 7)
        service.harm = at("GET", "/orders/versions", error(404, "ResourceNotFoundException"))

        report = clean()

        assert (report["functions"]["done"], report["functions"]["failures"]) == (1, 0)
        assert report["functions"]["kept"] == {"gone": 1}

    def test_where_only_a_part_of_it_is_not_found_is_one_and_nothing_goes(
        self, service: LambdaService, clean: Clean
    ) -> None:
        service.function("orders", 7)
        service.harm = at("GET", "/orders/aliases", error(404, "ResourceNotFoundException"))

        report = clean()

        assert report["functions"]["failures"] == 1
        assert service.versions("orders") == ALL

    def test_with_somebody_who_deletes_a_layers_version_frees_nothing(
        self, service: LambdaService, clean: Clean
    ) -> None:
        service.layer("numpy", 5)

        def delete(_: Request) -> None:
            service.direct.delete_layer_version(LayerName="numpy", VersionNumber=1)

        service.harm = at("GET", "/layers/numpy/versions/1/policy", delete, times=1)

        report = clean()

        assert report["layers"]["kept_at_last"] == {"gone": ["numpy:1"]}
        assert (report["layers"]["deleted"], report["layers"]["failures"]) == (1, 0)


class TestABadDay:
    def test_what_cloudfront_has_copies_of_is_kept_and_named(self, service: LambdaService, clean: Clean) -> None:
        service.function("edge", 7)
        service.replicas = {"edge:1", "edge:4"}

        report = clean()

        assert service.versions("edge") == ["$LATEST", "1", "4", "6", "7"]
        assert report["functions"]["kept_at_last"] == {"replica": ["edge:1", "edge:4"]}
        assert report["functions"]["failures"] == 0

    @pytest.mark.parametrize(
        "answer",
        [error(403, "AccessDeniedException"), error(400, "InvalidParameterValueException"), error(400, "SomethingNew")],
    )
    def test_an_unknown_error_stops_that_function_and_no_other(
        self, service: LambdaService, clean: Clean, answer: Answer
    ) -> None:
        service.function("orders", 7)
        service.function("stock", 7)
        service.harm = at("DELETE", "orders", answer, query="Qualifier=2")

        report = clean()

        assert service.versions("orders") == ["$LATEST", *(str(n) for n in range(2, 8))]
        assert service.versions("stock") == ["$LATEST", "6", "7"]
        assert report["functions"]["failed"].keys() == {"orders"}
        assert report["functions"]["deleted"] == 6

    def test_throttles_are_waited_for_as_long_as_lambda_says(self, service: LambdaService, clean: Clean) -> None:
        service.function("orders", 3)
        times: list[float] = []

        def throttle(_: Request) -> Answer | None:
            times.append(time.monotonic())
            return error(429, "TooManyRequestsException", **{"Retry-After": "1"}) if len(times) <= 2 else None

        service.harm = at("DELETE", "orders", throttle)

        report = clean()

        assert service.deleted == ["orders:1"]
        assert report["throttles"] == 2
        assert [later - sooner >= 1 for sooner, later in pairwise(times)] == [True, True]

    def test_throttles_that_never_end_end_with_the_time(self, service: LambdaService, clean: Clean) -> None:
        service.function("orders", 7)
        service.harm = at("GET", "/orders/aliases", error(429, "TooManyRequestsException"))

        report = clean(seconds=4.5)

        assert not report["complete"]
        assert (report["functions"]["left"], report["functions"]["failures"]) == (1, 0)
        assert service.versions("orders") == ALL
        # They come less and less often.
        assert report["throttles"] < 20

    def test_what_passes_is_tried_again(self, service: LambdaService, clean: Clean) -> None:
        service.function("orders", 7)
        service.harm = at("GET", "/orders/versions", error(500, "ServiceException"), times=2)

        assert clean()["functions"]["deleted"] == 5

    def test_what_does_not_pass_is_given_up(self, service: LambdaService, clean: Clean) -> None:
        service.function("orders", 7)
        service.harm = at("GET", "/orders/versions", error(500, "ServiceException"))

        report = clean()

        assert report["functions"]["failures"] == 1
        assert len(service.asked("GET", "/orders/versions")) == 4

    def test_a_deletion_that_was_throttled_and_meanwhile_done_by_another_is_not_one(
        self, service: LambdaService, clean: Clean
    ) -> None:
        service.function("orders", 4)
        tried: list[str] = []

        def throttle(request: Request) -> Answer | None:
            if not tried:
                tried.append(request.path)
                # Somebody else is at it.
                service.direct.delete_function(FunctionName="orders", Qualifier="1")
                return error(429, "TooManyRequestsException")
            return error(404, "ResourceNotFoundException") if request.path in tried else None

        service.harm = at("DELETE", "orders", throttle)

        report = clean()

        assert report["functions"]["deleted"] == 1
        assert report["functions"]["kept_at_last"] == {"gone": ["orders:1"]}

    def test_a_deletion_whose_answer_was_lost_is_one(self, service: LambdaService, clean: Clean) -> None:
        service.function("orders", 7)

        def lose(request: Request) -> Any:
            service.direct.delete_function(FunctionName="orders", Qualifier="1")
            return error(503, "ServiceException")

        service.harm = at("DELETE", "orders", lose, times=1)
        size = service.sizes("orders")["1"]

        report = clean({**DELETE, "keep_versions": 6})

        assert report["functions"]["deleted"] == 1
        assert report["bytes_freed"] == size

    def test_without_permission_to_list_functions_it_raises_and_its_line_tells(
        self, service: LambdaService, clean: Clean, capsys: pytest.CaptureFixture[str]
    ) -> None:
        service.harm = at("GET", "/functions", error(403, "AccessDeniedException"))

        with pytest.raises(StreamkitError, match="can't be listed"):
            clean()

        assert json.loads(capsys.readouterr().out)["Failures"] == 1


class TestTheTime:
    def test_is_kept_to_and_what_is_left_is_told_and_the_next_runs_do_it(
        self, service: LambdaService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for n in range(6):
            service.many[f"f{n}"] = {1, 2, 3}
        client = service.client()
        runs: list[dict[str, Any]] = []
        first: set[str] = set()
        while not runs or not runs[-1]["complete"]:
            before = {name for name, numbers in service.many.items() if 1 in numbers}
            began = time.monotonic()
            runs.append(Janitor(client, rate=25)({**DELETE, "layers": False}, Context(4.0)))
            assert time.monotonic() - began < 4.0
            if len(runs) == 1:
                first = before - {name for name, numbers in service.many.items() if 1 in numbers}
            assert len(runs) < 20
        client.close()

        assert all(numbers == {2, 3} for numbers in service.many.values())
        assert sum(run["functions"]["deleted"] for run in runs) == 6
        assert runs[0]["functions"]["left"] > 0
        assert runs[0]["functions"]["done"] + runs[0]["functions"]["left"] == 6
        assert first

    def test_is_given_to_other_functions_each_time(self, service: LambdaService) -> None:
        for n in range(30):
            service.many[f"f{n:02}"] = {1}
        orders = set()
        for _ in range(3):
            client = service.client()
            del service.proxy.seen[:]
            Janitor(client, rate=2000)({"layers": False}, Context(60))
            client.close()
            orders.add(tuple(path.split("/")[3] for path in service.asked("GET", "/versions")))

        assert len(orders) == 3
        assert len({frozenset(order) for order in orders}) == 1

    def test_of_the_layers_is_a_third(self, service: LambdaService) -> None:
        service.layer("numpy", 5)
        for n in range(200):
            service.many[f"f{n}"] = {1}
        client = service.client()

        report = Janitor(client, rate=40)(DELETE, Context(9.0))
        client.close()

        assert report["functions"]["left"] > 0
        assert service.layer_versions("numpy") == [3, 4, 5]

    def test_that_is_up_before_all_is_listed_deletes_nothing(self, service: LambdaService, clean: Clean) -> None:
        service.function("orders", 7)

        report = clean(seconds=3.0)

        assert not report["complete"]
        assert report["functions"]["left"] is None
        assert service.versions("orders") == ALL


class TestTheReport:
    def test_is_one_line_of_json_that_cloudwatch_takes_metrics_of(
        self, service: LambdaService, clean: Clean, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "janitor")
        service.function("orders", 7)

        report = clean()

        (text,) = capsys.readouterr().out.splitlines()
        line = json.loads(text)
        assert line["Janitor"] == report
        (described,) = line["_aws"]["CloudWatchMetrics"]
        assert described["Dimensions"] == [["FunctionName"]]
        names = {one["Name"]: one["Unit"] for one in described["Metrics"]}
        assert names["BytesFreed"] == "Bytes"
        assert all(isinstance(line[name], int) for name in names)
        assert line["BytesFreed"] == report["bytes_freed"]
        assert line["VersionsDeleted"] == 5
        assert line["FunctionName"] == "janitor"
        assert abs(line["_aws"]["Timestamp"] / 1000 - time.time()) < 60

    def test_has_no_metrics_where_they_are_off(
        self, clean: Clean, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STREAMKIT_METRICS", "off")

        clean()

        line = json.loads(capsys.readouterr().out)
        assert "_aws" not in line
        assert "Janitor" in line


@pytest.mark.parametrize("number", ["", "$LATEST", "live", "0", "1 ", "../1"])
def test_nothing_but_a_number_is_ever_deleted(number: str, service: LambdaService) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError

    account = Account(Calls(never, time.monotonic() + 10, 10))  # type: ignore[arg-type]  # Nobody is asked.

    with pytest.raises(ValueError, match="a version to delete is a number"):
        account.delete_version("orders", number)


def test_the_deployed_function_is_a_janitor() -> None:
    assert isinstance(deployed, Janitor)
