"""An index on its bad days, through a proxy that does harm: what the caller gets, how soon, and what is said of it."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from streamkit.local.context import RealContext
from streamkit.search.api import SearchApi
from streamkit.search.cloudsearch import CloudSearchIndex
from streamkit.search.fields import Fields
from streamkit.search.opensearch import OpenSearchIndex
from tests.sinks.aws_proxy import Answer, AwsProxy, Request

from .airports import DECLARED, FIELDS, ask, fill_opensearch

if TYPE_CHECKING:
    from cloudsearch import CloudSearchServer

#: A request that is harmed, and its answer where it has one.
Harm = Callable[[Request], Answer | None]
SECRET = "swordfish"


def status(code: int) -> Harm:
    """An answer of this status, in which the index says more than anybody should read."""

    def act(request: Request) -> Answer:
        kind = "SearchException" if "2013-01-01" in request.path else "search_phase_execution_exception"
        body = f'{{"message": "{SECRET}", "status": {code}, "error": {{"type": "{kind}", "reason": "{SECRET}"}}}}'
        return code, {"Content-Type": "application/json", "x-amzn-ErrorType": kind}, body.encode()

    return act


def half(request: Request) -> Answer:
    code, headers, body = request.forward()
    return code, headers, body[: len(body) // 2]


@contextmanager
def hanging(proxy: AwsProxy) -> Iterator[None]:
    """An index that answers when the block ends, and not before: whoever has an answer within has not waited for it."""
    is_over = threading.Event()

    def act(request: Request) -> Answer:
        is_over.wait(120)
        return request.forward()

    proxy.always = act
    try:
        yield
    finally:
        is_over.set()


def lost(request: Request) -> None:
    """No answer: the connection ends."""


@pytest.fixture(params=["cloudsearch", "opensearch"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def proxy(kind: str, domain: CloudSearchServer, opensearch: str) -> Iterator[AwsProxy]:
    proxy = AwsProxy(domain.endpoint if kind == "cloudsearch" else opensearch)
    yield proxy
    proxy.close()


@contextmanager
def api_over(proxy: AwsProxy, kind: str, fields: Fields = FIELDS, **options: Any) -> Iterator[SearchApi]:
    index: Any = (
        CloudSearchIndex(proxy.endpoint, fields, suggester="names")
        if kind == "cloudsearch"
        else OpenSearchIndex(proxy.endpoint, "airports", fields, suggests_by="name.keyword")
    )
    yield SearchApi(fields, index, **options)
    index.close()


@pytest.mark.parametrize("harm", [lost, status(500), status(503), status(429)])
def test_one_failure_is_not_seen(proxy: AwsProxy, kind: str, harm: Harm) -> None:
    with api_over(proxy, kind) as api:
        proxy.script = [harm]

        assert ask(api, q="denver", sort="iata").ids == ["APA", "DEN"]
        assert len(proxy.requests) == 2


@pytest.mark.parametrize("harm", [lost, status(500), status(503), status(504), status(429)])
@pytest.mark.parametrize("path", ["/search", "/suggest"])
def test_an_index_that_does_not_answer_is_a_503_that_says_when_to_ask_again(
    proxy: AwsProxy, kind: str, harm: Harm, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with api_over(proxy, kind) as api:
        proxy.always = harm

        answer = ask(api, path, q="denver")

    assert (answer.status, int(answer.headers["Retry-After"]) > 0) == (503, True)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json == {"error": "the index does not answer now; ask again later"}
    assert SECRET not in caplog.text
    assert "denver" not in caplog.text
    assert len(proxy.requests) == 2, "a second try, and no more"


@pytest.mark.parametrize("harm", [status(400), status(403), status(404)])
def test_an_index_that_does_not_take_it_is_a_502_and_the_log_says_what_to_do(
    proxy: AwsProxy, kind: str, harm: Harm, caplog: pytest.LogCaptureFixture
) -> None:
    with api_over(proxy, kind) as api, caplog.at_level(logging.ERROR, "streamkit"):
        proxy.always = harm

        answer = ask(api, q="denver")

    assert (answer.status, SECRET in answer.body) == (502, False)
    said = [record.getMessage() for record in caplog.records if record.name == "streamkit"]
    assert len(said) == 1
    assert "?" in said[0] or "allow its role" in said[0]
    assert SECRET not in said[0]
    assert len(proxy.requests) == 1, "it would say the same again"


def test_an_answer_that_breaks_off_is_no_answer_with_nothing_found(proxy: AwsProxy, kind: str) -> None:
    with api_over(proxy, kind) as api:
        proxy.always = half

        # Its length is that of the half, so that it is JSON alone that breaks off.
        assert ask(api, q="denver").status == 503


def test_an_index_that_hangs_costs_the_time_that_it_is_given(proxy: AwsProxy, kind: str) -> None:
    with api_over(proxy, kind, timeout=2.0) as api, hanging(proxy):
        began = time.monotonic()

        assert ask(api, q="denver").status == 503
        # Much room, for a machine that has other things to do: the index would hang for longer.
        assert 1 < time.monotonic() - began < 60


def test_the_functions_own_time_out_rules(proxy: AwsProxy, kind: str) -> None:
    # How long exactly is shown with the deadline that an index is given (test_http.py).
    with api_over(proxy, kind, timeout=300.0) as api, hanging(proxy):
        began = time.monotonic()

        assert ask(api, q="denver", context=RealContext(3.0)).status == 503
        assert time.monotonic() - began < 60


def test_an_index_that_is_down_is_left_alone_for_a_while_and_then_asked_again(proxy: AwsProxy, kind: str) -> None:
    with api_over(proxy, kind) as api:
        proxy.always = status(503)
        for _ in range(5):
            assert ask(api, q="denver").status == 503
        asked = len(proxy.requests)

        assert asked == 3, "after three without an answer nobody is asked"
        assert ask(api, "/health").status == 200
        proxy.always = Request.forward
        until = time.monotonic() + 10
        while (answer := ask(api, q="denver")).status == 503 and time.monotonic() < until:
            time.sleep(0.1)

        assert answer.status == 200


def test_a_domain_with_other_fields_than_were_declared_is_a_502_that_names_the_field_in_the_log(
    domain: CloudSearchServer, caplog: pytest.LogCaptureFixture
) -> None:
    # CloudSearch holds no value that is not of its field's type, so that one which is not shows how the domain is set up.
    proxy = AwsProxy(domain.endpoint)
    for wrong in ({"name": "int"}, {"tags": "literal"}):
        caplog.clear()
        with api_over(proxy, "cloudsearch", Fields({**DECLARED, **wrong})) as api:
            answer = ask(api, filter__iata="DEN")
        assert answer.status == 502
        assert f"the field {next(iter(wrong))} " in caplog.text
        assert "Denver" not in caplog.text + answer.body
    proxy.close()


def test_a_field_that_the_domain_does_not_have_is_named_in_the_log(
    domain: CloudSearchServer, caplog: pytest.LogCaptureFixture
) -> None:
    fields = Fields({**DECLARED, "runways": "int"})
    with closing(CloudSearchIndex(domain.endpoint, fields)) as index:
        answer = ask(SearchApi(fields, index), q="denver", filter__state="CO", sort="-runways")

    assert answer.status == 502
    (said,) = [record.getMessage() for record in caplog.records if record.name == "streamkit"]
    assert "it names 'runways': has the domain each as FIELDS has it" in said
    assert "denver" not in said
    assert "state" not in said


def test_a_suggester_that_the_domain_does_not_have_is_named_in_the_log(
    domain: CloudSearchServer, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(CloudSearchIndex(domain.endpoint, FIELDS, suggester="nosuch")) as index:
        answer = ask(SearchApi(FIELDS, index), "/suggest", q="denver")

    assert answer.status == 502
    assert "has the domain a suggester 'nosuch', which is what SUGGEST names?" in caplog.text
    assert "denver" not in caplog.text


def test_suggestions_that_the_index_does_not_take_are_a_502_and_the_log_has_what_suggest_names(
    proxy: AwsProxy, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with api_over(proxy, kind) as api:
        proxy.always = status(400)

        assert ask(api, "/suggest", q="denver").status == 502

    assert f"'{'names' if kind == 'cloudsearch' else 'name.keyword'}', which" in caplog.text
    assert "SUGGEST" in caplog.text
    assert SECRET not in caplog.text


def test_one_document_of_another_form_costs_its_field_and_no_other_hit(
    opensearch: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("STREAMKIT_METRICS", "emf")
    documents = [
        {"iata": "AAA", "name": "good", "elevation": 1, "opened": "1995-02-28T12:00:00Z", "place": "39.86,-104.67"},
        {"iata": "BBB", "name": ["swordfish", "twice"], "elevation": [1, 2], "place": ["1,2", "3,4"]},
        {
            "iata": "CCC",
            "name": "good",
            "elevation": [3, 4],
            "opened": ["1995-02-28T12:00:00Z", "2001-01-01T00:00:00Z"],
        },
    ]
    fill_opensearch(opensearch, "misfits", documents)
    with closing(OpenSearchIndex(opensearch, "misfits", FIELDS)) as index, caplog.at_level(logging.ERROR, "streamkit"):
        answer = ask(SearchApi(FIELDS, index), sort="iata")

    assert answer.status == 200
    assert [hit["fields"] for hit in answer.json["hits"]] == [
        {
            "iata": "AAA",
            "name": "good",
            "elevation": 1,
            "opened": "1995-02-28T12:00:00Z",
            "place": {"lat": 39.86, "lon": -104.67},
        },
        {"iata": "BBB"},
        {"iata": "CCC", "name": "good"},
    ]
    said = [record.getMessage() for record in caplog.records if record.name == "streamkit"]
    assert len(said) == 4, "one a field"
    digest = hashlib.sha256(b"BBB").hexdigest()[:12]
    assert (
        "the field elevation has several values: declare it as int-array. It is left out of 2 hits: the first has an id of "
        f"which the SHA-256 begins with {digest}" in said
    )
    assert "swordfish" not in caplog.text
    assert json.loads(capsys.readouterr().out)["search.left_out"] == 5


def test_a_type_that_the_index_itself_refuses_is_a_502(opensearch: str, caplog: pytest.LogCaptureFixture) -> None:
    with closing(OpenSearchIndex(opensearch, "airports", Fields({"city": "int"}))) as index:
        answer = ask(SearchApi(Fields({"city": "int"}), index), sort="city")

    assert answer.status == 502
    assert "the search index can't be asked" in caplog.text


def test_a_part_of_the_hits_is_none(opensearch: str) -> None:
    def part(request: Request) -> Answer:
        code, headers, body = request.forward()
        return code, headers, body.replace(b'"failed":0', b'"failed":1')

    proxy = AwsProxy(opensearch)
    proxy.always = part
    with api_over(proxy, "opensearch") as api:
        assert ask(api, q="denver").status == 503
    proxy.close()
