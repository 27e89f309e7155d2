"""Google's credentials without a key: the exchange as google-auth makes it, with a server in Google's place."""

from __future__ import annotations

import json
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, unquote

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from streamkit import Record, RecordProcessor, lambda_handler
from streamkit.errors import ConfigurationError
from streamkit.sinks import google
from streamkit.sinks.bigquery import BigQuerySink
from streamkit.testing import kinesis_event

if TYPE_CHECKING:
    from local_bigquery import BigQueryServer

AWS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_REGION": "eu-west-1"}


class Google:
    """Google's token service, service accounts, and BigQuery: each notes what it is asked, and BigQuery is a real stand-in's."""

    def __init__(self, bigquery_endpoint: str) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        google = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                google.asked.append((self.path, self.headers.get("Authorization", ""), body))
                if self.path == "/v1/token":
                    answer = {
                        "access_token": "of-the-role",
                        "expires_in": 3600,
                        "token_type": "Bearer",
                        "issued_token_type": "t",
                    }
                elif self.path.endswith(":generateAccessToken"):
                    answer = {"accessToken": "of-the-account", "expireTime": "2099-01-01T00:00:00Z"}
                else:
                    headers = {"Content-Type": "application/json"}
                    request = urllib.request.Request(bigquery_endpoint + self.path, gunzipped(body), headers)
                    answer = json.load(urllib.request.urlopen(request))
                content = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def configuration(self) -> dict[str, Any]:
        """As gcloud writes it, but for the addresses."""
        return {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/aws",
            "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
            "token_url": f"{self.url}/v1/token",
            "service_account_impersonation_url": f"{self.url}/v1/projects/-/serviceAccounts/writer:generateAccessToken",
            "credential_source": {
                "environment_id": "aws1",
                "regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15",
            },
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def gunzipped(body: bytes) -> bytes:
    import gzip

    return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body


@pytest.fixture
def service(bigquery_server: BigQueryServer) -> Iterator[Google]:
    service = Google(bigquery_server.endpoint)
    yield service
    service.close()


def test_a_function_writes_as_the_account_that_its_role_may_be(
    service: Google, bigquery_server: BigQueryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client: Any = bigquery.Client(
        project=bigquery_server.project,
        credentials=cast(Any, AnonymousCredentials)(),
        client_options={"api_endpoint": bigquery_server.endpoint},
    )
    dataset = f"keyless_{uuid.uuid4().hex}"
    client.create_dataset(dataset)
    table = f"{client.project}.{dataset}.orders"
    client.create_table(bigquery.Table(table, schema=[bigquery.SchemaField("n", "INTEGER")]))
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(google.VARIABLE, json.dumps(service.configuration()))
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", service.url)

    class Orders(RecordProcessor):
        name = "orders"
        warehouse = BigQuerySink(table)
        another = BigQuerySink(table)

        def process(self, record: Record) -> Any:
            yield self.warehouse.row(record.json())
            yield self.another.row(record.json())

    handler = lambda_handler(Orders)
    try:
        assert handler(kinesis_event([{"n": 1}, {"n": 2}])) == {"batchItemFailures": []}
        assert handler(kinesis_event([{"n": 3}], shard_id="shardId-000000000001")) == {"batchItemFailures": []}
    finally:
        handler.close()

    assert sorted(row.n for row in client.query_and_wait(f"SELECT n FROM {table}")) == [1, 1, 2, 2, 3, 3]
    client.close()
    token, impersonation, *inserts = service.asked
    # What proves who asks is a request to AWS that the function's own credentials have signed, and no credentials of it.
    form = parse_qs(token[2].decode())
    signed = json.loads(unquote(form["subject_token"][0]))
    headers = {header["key"]: header["value"] for header in signed["headers"]}
    assert signed["url"].startswith("https://sts.eu-west-1.amazonaws.com?Action=GetCallerIdentity")
    assert "Credential=AKIDEXAMPLE/" in headers["Authorization"]
    assert "not-a-secret" not in token[2].decode()
    assert impersonation[1] == "Bearer of-the-role"
    assert "https://www.googleapis.com/auth/bigquery" in json.loads(impersonation[2])["scope"]
    assert [(path.rsplit("/", 1)[1].partition("?")[0], authorization) for path, authorization, _ in inserts] == [
        ("insertAll", "Bearer of-the-account")
    ] * 4, "the token is kept for its hour, for both sinks"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "no JSON"),
        ("[]", "something else"),
        ('{"type": "authorized_user", "refresh_token": "SECRET"}', "something else"),
        ('{"type": "service_account", "private_key": "SECRET"}', "a key, which is a secret|key, which is a secret"),
        ('{"type": "external_account", "credential_source": {"file": "SECRET"}}', "describes no AWS identity"),
        ('{"type": "external_account"}', "describes no AWS identity"),
    ],
)
def test_what_is_no_such_configuration_is_told_without_a_word_of_it(
    text: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(google.VARIABLE, text)

    with pytest.raises(ConfigurationError, match=told) as error:
        google.credentials()

    assert "SECRET" not in f"{error.value!r}{error.value.__cause__!r}"
    assert "create-cred-config --aws" in str(error.value)


def test_without_it_the_defaults_of_the_application_hold_and_an_emulator_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(google.VARIABLE, raising=False)
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST", raising=False)
    assert google.credentials() is None
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:1")
    assert isinstance(google.credentials(), AnonymousCredentials)
