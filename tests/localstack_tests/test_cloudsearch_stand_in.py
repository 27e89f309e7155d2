"""The CloudSearch stand-in, as boto3's own client sees it."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError
from cloudsearch import CloudSearchServer

FIELDS = {
    "name": "text",
    "iata": "literal",
    "elevation": "int",
    "score_of_five": "double",
    "opened": "date",
    "place": "latlon",
    "tags": "literal-array",
    "notes": "text-array",
}


@pytest.fixture(scope="module")
def domain() -> Iterator[CloudSearchServer]:
    with CloudSearchServer(FIELDS, suggesters={"names": "name"}) as server:
        yield server


@pytest.fixture
def server(domain: CloudSearchServer) -> CloudSearchServer:
    domain.reset()
    return domain


def connect(endpoint: str) -> Any:
    return boto3.client(
        "cloudsearchdomain",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture
def client(server: CloudSearchServer) -> Iterator[Any]:
    client = connect(server.endpoint)
    yield client
    client.close()


def add(doc_id: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "add", "id": doc_id, "fields": fields}


def delete(doc_id: str) -> dict[str, Any]:
    return {"type": "delete", "id": doc_id}


def upload(client: Any, *operations: Any, body: bytes | None = None) -> Any:
    if body is None:
        body = json.dumps(operations).encode()
    return client.upload_documents(documents=body, contentType="application/json")


def refused(client: Any, *operations: Any, body: bytes | None = None) -> tuple[int, str]:
    with pytest.raises(client.exceptions.DocumentServiceException) as error:
        upload(client, *operations, body=body)
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["message"]


def search(client: Any, query: str, **parameters: Any) -> Any:
    return client.search(query=query, **parameters)


def found(client: Any, query: str, **parameters: Any) -> set[str]:
    return {hit["id"] for hit in search(client, query, **parameters)["hits"]["hit"]}


def structured(client: Any, query: str, **parameters: Any) -> set[str]:
    return found(client, query, queryParser="structured", **parameters)


AIRPORTS = (
    add("DEN", name="Denver Intl", iata="DEN", elevation=5434, opened="1995-02-28T00:00:00Z", tags=["hub", "west"]),
    add("APA", name="Centennial, near Denver", iata="APA", elevation=5885, place="39.57,-104.85", tags=["west"]),
    add("JFK", name="John F Kennedy Intl", iata="JFK", elevation=13, score_of_five=3.5, notes=["big", "by the sea"]),
)


def test_uploads_are_counted_and_visible_at_once(client: Any, server: CloudSearchServer) -> None:
    answer = upload(client, *AIRPORTS, delete("nowhere"))
    assert (answer["status"], answer["adds"], answer["deletes"]) == ("success", 3, 1)
    assert search(client, "matchall", queryParser="structured")["hits"]["found"] == 3
    assert upload(client, delete("APA"))["deletes"] == 1
    assert structured(client, "matchall") == {"DEN", "JFK"}
    assert [upload.operations for upload in server.uploads][1] == (("delete", "APA"),)


def test_an_add_replaces_the_whole_document(client: Any, server: CloudSearchServer) -> None:
    upload(client, *AIRPORTS)
    upload(client, add("DEN", name="Stapleton"))
    assert server.documents()["DEN"] == {"name": "Stapleton"}


def test_simple_queries_search_the_text_fields(client: Any) -> None:
    upload(client, *AIRPORTS)
    assert found(client, "denver") == {"DEN", "APA"}
    assert found(client, "denver intl") == {"DEN"}
    assert found(client, "intl -denver") == {"JFK"}
    assert found(client, '"by the sea"') == {"JFK"}
    hits = search(client, "denver", **{"return": "name"}, sort="elevation desc", size=1)["hits"]
    assert (hits["found"], hits["hit"]) == (2, [{"id": "APA", "fields": {"name": ["Centennial, near Denver"]}}])


def test_structured_queries(client: Any) -> None:
    upload(client, *AIRPORTS)
    assert structured(client, "name:'denver'") == {"DEN", "APA"}
    assert structured(client, "(and name:'denver' elevation:[5500,})") == {"APA"}
    assert structured(client, "(or iata:'JFK' iata:'DEN')") == {"DEN", "JFK"}
    assert structured(client, "(not (term field=tags 'west'))") == {"JFK"}
    assert structured(client, "(prefix field=name 'Kenn')") == {"JFK"}
    assert structured(client, "(phrase field=name 'near denver')") == {"APA"}
    assert structured(client, "(near field=name distance=2 'john kennedy')") == {"JFK"}
    assert structured(client, "opened:{,'2000-01-01T00:00:00Z']") == {"DEN"}
    assert structured(client, "matchall", filterQuery="elevation:{13,}") == {"DEN", "APA"}
    assert found(client, "name:denver AND elevation:[5500 TO *]", queryParser="lucene") == {"APA"}


def test_facets_stats_highlights_and_pages(client: Any) -> None:
    upload(client, *AIRPORTS)
    answer = search(
        client,
        "denver",
        facet='{"tags": {"size": 1}}',
        stats='{"elevation": {}}',
        highlight='{"name": {}}',
        sort="elevation asc",
        size=1,
        start=1,
    )
    assert answer["facets"]["tags"]["buckets"] == [{"value": "west", "count": 2}]
    assert (answer["stats"]["elevation"]["count"], answer["stats"]["elevation"]["sum"]) == (2, 11319.0)
    assert (answer["hits"]["found"], answer["hits"]["start"]) == (2, 1)
    assert answer["hits"]["hit"][0]["highlights"] == {"name": "Centennial, near <em>Denver</em>"}


def test_suggestions_complete_a_text_field_from_its_beginning(client: Any) -> None:
    upload(client, *AIRPORTS)
    suggest = client.suggest(query="denv", suggester="names")["suggest"]
    # And not "Centennial, near Denver".
    assert suggest["found"] == 1
    assert [(s["id"], s["suggestion"]) for s in suggest["suggestions"]] == [("DEN", "Denver Intl")]
    with pytest.raises(client.exceptions.SearchException):
        client.suggest(query="denv", suggester="nobody")


def test_a_cursor_goes_through_all_that_is_found(client: Any) -> None:
    upload(client, *AIRPORTS)
    cursor, pages = "initial", []
    for _ in range(4):
        hits = search(client, "matchall", queryParser="structured", sort="elevation desc", size=1, cursor=cursor)[
            "hits"
        ]
        cursor = hits["cursor"]
        pages.append([hit["id"] for hit in hits["hit"]])
    assert pages == [["APA"], ["DEN"], ["JFK"], []]


def test_structured_queries_look_in_the_fields_of_the_options(client: Any) -> None:
    upload(client, add("X1", name="Denver"), add("X2", iata="Denver"))
    names, codes = '{"fields": ["name"]}', '{"fields": ["iata"]}'
    assert structured(client, "(term 'Denver')", queryOptions=names) == {"X1"}
    assert structured(client, "(term 'Denver')", queryOptions=codes) == {"X2"}


def test_brackets_in_quotes_are_a_text_and_no_range(client: Any) -> None:
    upload(client, add("X1", iata="[a,z]"), add("X2", iata="m"))
    assert structured(client, "iata:'[a,z]'") == {"X1"}
    assert structured(client, "(term field=iata '[a,z]')") == {"X1"}


def test_places_are_found_in_a_box(client: Any) -> None:
    upload(client, add("X1", place="39.86,-104.67"), add("X2", place="40.64,-73.78"))
    assert structured(client, "place:['41,-106','39,-104']") == {"X1"}


def test_highlights_are_marked_as_they_are_asked_for(client: Any) -> None:
    upload(client, add("X1", name="<b> Denver"))
    options = '{"name": {"format": "text", "max_phrases": 2, "pre_tag": "[[", "post_tag": "]]"}}'
    (hit,) = search(client, "denver", highlight=options)["hits"]["hit"]
    assert hit["highlights"] == {"name": "<b> [[Denver]]"}


def test_searches_by_get_are_the_same(client: Any, server: CloudSearchServer) -> None:
    upload(client, *AIRPORTS)
    status, answer = get(server, "/2013-01-01/search?q=matchall&q.parser=structured&size=0")
    assert (status, answer["hits"]["found"]) == (200, 3)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (add("x", nickname="y"), "'nickname' is not configured"),
        (add("x", name=None), "'name' is null"),
        (add("x", tags=["a", None]), "'tags' is null"),
        (add("x", name=["a", "b"]), "'name' must have array type"),
        (add("x", name=True), "'name' is neither"),
        (add("x", name={"a": 1}), "'name' is neither"),
        (add("x", name="bell \x07"), "'name' has a character"),
        (add("x", name="half \ud83d"), "'name' has a character"),
        (add("x", name="\uffff"), "'name' has a character"),
        (add("x", tags=["ok", "\x00"]), "'tags' has a character"),
        (add("x", elevation="high"), "Invalid int value 'high'"),
        (add("x", elevation=2**63), "Invalid int"),
        (add("x", elevation=1.5), "Invalid int"),
        (add("x", score_of_five="1e999"), "Invalid double"),
        (add("x", opened="yesterday"), "Invalid date"),
        (add("x", opened="1999-02-31T00:00:00Z"), "Invalid date"),
        (add("x", place="91,0"), "Invalid latlon"),
        (add("x", place="north"), "Invalid latlon"),
        (add("x", iata="x" * 4097), "Invalid literal"),
        (add("x", tags=["t"] * 1001), "more than 1000 values"),
        (add("x", name="x" * 1024 * 1024), "at most 1048576 bytes"),
        (add("x", **{f"f{n}": 1 for n in range(201)}), "at most 200 fields"),
        (add("x"), "at least one field"),
        ({"type": "add", "id": "x"}, "at least one field"),
        (add("a b", name="y"), "id is 1 to 128"),
        (add("é", name="y"), "id is 1 to 128"),
        (add("x\n", name="y"), "id is 1 to 128"),
        (add("", name="y"), "id is 1 to 128"),
        (add("x" * 129, name="y"), "id is 1 to 128"),
        (add(7, name="y"), "id is 1 to 128"),
        ({"type": "merge", "id": "x"}, "type is add or delete"),
        (["add"], "is a JSON object"),
        (add("good", name="again"), "More than one operation"),
        (delete("good"), "More than one operation"),
    ],
)
def test_one_bad_document_refuses_the_batch(client: Any, server: CloudSearchServer, bad: Any, reason: str) -> None:
    status, message = refused(client, add("good", name="fine"), bad)
    assert status == 400
    assert reason in message
    assert "near operation with index 2" in message
    assert server.documents() == {}


def test_ids_may_hold_any_character_that_the_service_allows(client: Any, server: CloudSearchServer) -> None:
    doc_id = "aZ9_-=#;:/?@&" + "x" * 115
    upload(client, add(doc_id, name="long"))
    assert set(server.documents()) == {doc_id}
    upload(client, delete(doc_id))
    assert server.documents() == {}


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[", b"[]", b"[NaN]", b"\xff\xfe", b"[" * 100_000, b'"text"', b"[" + b"9" * 5000 + b"]"]
)
def test_a_body_that_is_no_batch_is_refused(client: Any, body: bytes) -> None:
    assert refused(client, body=body)[0] == 400


def test_a_batch_over_5_mb_is_refused(client: Any, server: CloudSearchServer) -> None:
    documents = [add(str(n), name="x" * 1_000_000) for n in range(6)]
    assert refused(client, *documents)[0] == 413
    assert upload(client, *documents[:5])["adds"] == 5
    assert len(server.documents()) == 5


@pytest.mark.parametrize(
    "parameters",
    [
        {"query": "(and", "queryParser": "structured"},
        {"query": "(and name:'x'", "queryParser": "structured"},
        {"query": "matchall matchall", "queryParser": "structured"},
        {"query": "(frobnicate 'x')", "queryParser": "structured"},
        {"query": "nickname:'x'", "queryParser": "structured"},
        {"query": "(not " * 5000, "queryParser": "structured"},
        {"query": "'", "queryParser": "structured"},
        {"query": "elevation:[high,low]", "queryParser": "structured"},
        {"query": "x", "queryParser": "dismax"},
        {"query": "x", "facet": "[" * 5000},
        {"query": "x", "facet": '{"nickname": {}}'},
        {"query": "x", "sort": "name"},
        {"query": "x", "sort": "nickname asc"},
        {"query": "x", "size": 10_001},
        {"query": "x", "start": 10_000},
        {"query": "x", "start": -1},
        {"query": "x", "cursor": "initial", "start": 0},
        {"query": "x", "cursor": "bm9uZQ=="},
        {"query": "x", "cursor": "no cursor"},
        {"query": "x", "highlight": '{"iata": {}}'},
        {"query": "x", "highlight": '{"name": {"colour": "red"}}'},
        {"query": "place:'39,-104'", "queryParser": "structured"},
        {"query": "place:['39,-106','41,-104']", "queryParser": "structured"},
        {"query": "x", "queryOptions": '{"fields": ["nickname"]}'},
    ],
)
def test_a_bad_search_is_refused(client: Any, parameters: dict[str, Any]) -> None:
    upload(client, *AIRPORTS)
    with pytest.raises(client.exceptions.SearchException) as error:
        client.search(**parameters)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert error.value.response["Error"]["Code"] == "SearchException"


@pytest.mark.parametrize("status", [403, 404, 429, 503, 507, 509])
def test_it_fails_when_told_to_and_recovers(client: Any, server: CloudSearchServer, status: int) -> None:
    server.fail(status, times=2)
    assert refused(client, *AIRPORTS)[0] == status
    assert refused(client, *AIRPORTS)[0] == status
    assert server.documents() == {}
    assert upload(client, *AIRPORTS)["adds"] == 3
    assert [upload.status for upload in server.uploads] == [status, status, 200]


def test_it_drops_connections_when_told_to(client: Any, server: CloudSearchServer) -> None:
    server.fail(drop=True)
    with pytest.raises(ConnectionClosedError):
        upload(client, add("lost", name="x"))
    server.fail(drop=True, after=True)
    with pytest.raises(ConnectionClosedError):
        upload(client, add("kept", name="x"))
    assert set(server.documents()) == {"kept"}


def test_another_process_can_tell_it_to_fail_and_read_what_came(client: Any, server: CloudSearchServer) -> None:
    assert post(server, "/_admin/fail", b'{"status": 507}')[0] == 200
    assert post(server, "/_admin/fail", b'{"frobnicate": 1}')[0] == 400
    assert refused(client, delete("x"))[0] == 507
    server.fail(507, times=100)
    assert post(server, "/_admin/recover", b"")[0] == 200
    assert upload(client, delete("x"))["deletes"] == 1
    status, answer = get(server, "/_admin/uploads")
    assert (status, answer["uploads"][0]["operations"]) == (200, [["delete", "x"]])
    assert post(server, "/_admin/reset", b"")[0] == 200
    assert server.uploads == []


def test_requests_that_are_none_of_the_service(server: CloudSearchServer) -> None:
    path = "/2013-01-01/documents/batch"
    assert get(server, "/favicon.ico")[0] == 404
    assert get(server, path)[0] == 405
    assert post(server, path, b"[]", **{"Content-Type": "application/xml"})[0] == 415
    assert post(server, path, b"[]", **{"Content-Type": "application/json", "Content-Length": "many"})[0] == 411
    assert post(server, path, b"[]", **{"Content-Type": "application/json", "Content-Length": "999999999"})[0] == 413


def test_a_field_that_the_service_does_not_allow_is_refused() -> None:
    for name, kind in (("score", "int"), ("Name", "text"), ("name", "string"), ("at", "latlon-array"), ("9", "int")):
        with pytest.raises(ValueError, match="no such field"):
            CloudSearchServer({name: kind})
    with pytest.raises(ValueError, match="needs a text field"):
        CloudSearchServer({"iata": "literal"}, suggesters={"codes": "iata"})


def test_a_dynamic_field_stands_for_every_name_that_no_longer_one_matches() -> None:
    with CloudSearchServer({"name": "text", "*_i": "int", "size_*": "double", "*": "literal"}) as server:
        client = connect(server.endpoint)
        assert upload(client, add("a", name="x y", big_i=7, size_cm=1.5, colour="red"))["adds"] == 1
        assert structured(client, "(and big_i:[7,7] size_cm:[1,2] colour:'red')") == {"a"}
        assert "Invalid int" in refused(client, add("b", big_i="many"))[1]
        # As long as the other pattern, and first in the alphabet.
        assert upload(client, add("c", size_1_i=1))["adds"] == 1
        client.close()


def test_ids_are_searched_by_their_field(client: Any) -> None:
    upload(client, *AIRPORTS)
    assert structured(client, "(or _id:'DEN' _id:'JFK' _id:'nowhere')") == {"DEN", "JFK"}
    assert structured(client, "(term field=_id 'APA')") == {"APA"}


def test_a_field_that_is_not_returned_is_not_in_hits(client: Any, server: CloudSearchServer) -> None:
    upload(client, *AIRPORTS)
    server.unreturned.add("iata")
    hits = search(client, "_id:'DEN'", queryParser="structured")["hits"]["hit"]
    server.unreturned.clear()
    assert [("iata" in hit["fields"], "name" in hit["fields"]) for hit in hits] == [(False, True)]


def test_searches_see_documents_after_the_latency(client: Any, server: CloudSearchServer) -> None:
    server.latency = 0.5
    upload(client, *AIRPORTS)
    assert structured(client, "matchall") == set()
    time.sleep(0.6)
    assert structured(client, "matchall") == {"DEN", "APA", "JFK"}
    upload(client, delete("DEN"))
    assert structured(client, "_id:'DEN'") == {"DEN"}
    assert set(server.documents()) == {"APA", "JFK"}


def test_of_two_operations_within_a_second_the_earlier_wins_where_it_is_told_to(
    client: Any, server: CloudSearchServer
) -> None:
    server.same_second = True
    upload(client, add("a", name="first"), add("b", name="first"))
    upload(client, delete("a"))
    assert set(server.documents()) == {"a", "b"}
    time.sleep(1.1)
    upload(client, delete("a"))
    assert set(server.documents()) == {"b"}


def test_a_failure_may_be_meant_for_large_batches_only(client: Any, server: CloudSearchServer) -> None:
    server.fail(507, over=1000)
    assert upload(client, add("a", name="x"))["adds"] == 1
    assert refused(client, add("b", name="x" * 1000))[0] == 507
    assert upload(client, add("b", name="x" * 1000))["adds"] == 1


def test_searches_fail_when_told_to(client: Any, server: CloudSearchServer) -> None:
    server.fail(509, of="search")
    with pytest.raises(client.exceptions.SearchException):
        search(client, "x")
    assert search(client, "x")["hits"]["found"] == 0
    with pytest.raises(ValueError, match="no such request"):
        server.fail(509, of="suggest")


def test_the_configuration_service_tells_the_fields_and_their_state(server: CloudSearchServer) -> None:
    configuration = boto3.client(
        "cloudsearch",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
        config=Config(retries={"total_max_attempts": 1}),
    )

    def described() -> dict[str, tuple[str, str]]:
        fields = configuration.describe_index_fields(DomainName="stand-in")["IndexFields"]
        return {
            one["Options"]["IndexFieldName"]: (one["Options"]["IndexFieldType"], one["Status"]["State"])
            for one in fields
        }

    assert described() == {name: (kind, "Active") for name, kind in FIELDS.items()}
    with pytest.raises(configuration.exceptions.ResourceNotFoundException):
        configuration.describe_index_fields(DomainName="nowhere")
    server.fail(500, of="configuration")
    with pytest.raises(ClientError):
        described()
    server.configure("later", "int", state="RequiresIndexDocuments")
    try:
        assert described()["later"] == ("int", "RequiresIndexDocuments")
    finally:
        del server.fields["later"], server.states["later"]
        configuration.close()
    assert len(server.described) == 4


def test_it_runs_as_a_process_of_its_own() -> None:
    script = Path(__file__).parents[2] / "localstack" / "cloudsearch.py"
    command = [sys.executable, str(script), "--fields", "name=text,iata=literal"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            client = connect(process.stdout.readline().strip())
            assert upload(client, add("DEN", name="Denver", iata="DEN"))["adds"] == 1
            assert found(client, "denver") == {"DEN"}
            client.close()
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


def test_the_domain_that_tests_share_is_one_of_airports(cloudsearch_endpoint: str) -> None:
    client = connect(cloudsearch_endpoint)
    upload(client, add("of-this-test", name="Nowhere Field", iata="ZZZ", latitude=39.5, longitude=-104))
    assert structured(client, "(and iata:'ZZZ' latitude:[39,40])") == {"of-this-test"}
    client.close()


def get(server: CloudSearchServer, path: str) -> tuple[int, Any]:
    return request(server, "GET", path, None, {})


def post(server: CloudSearchServer, path: str, body: bytes, **headers: str) -> tuple[int, Any]:
    return request(server, "POST", path, body, headers)


def request(
    server: CloudSearchServer, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
