"""Parameters from AWS AppConfig, through its Data API: a document that is deployed, checked and rolled back as a whole.

Needs boto3: ``pip install kinesis-streamkit[aws]``; Lambda's runtime carries it. The role needs
``appconfig:StartConfigurationSession`` and ``appconfig:GetLatestConfiguration`` on
``application/<id>/environment/<id>/configuration/<id>``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ..aws import Clients, code_of, retried
from ..errors import ConfigurationError, StreamkitError
from .source import Found, Source
from .tree import found_in
from .unlogged import unlogged

__all__ = ["AppConfig"]

# Seconds between two requests of a session, as AppConfig has them.
_SHORTEST_POLL, _LONGEST_POLL = 15, 86_400


class _Session(msgspec.Struct):
    """``token``: for the next request, once; empty after one without an answer: it is not known whether it was used."""

    token: str = ""
    poll_at: float = float("-inf")
    asked_at: float = float("-inf")
    document: Mapping[str, Any] | None = None
    version: str = ""


class AppConfig(Source):
    """The JSON object of a configuration profile: ``{"limit": 10, "db": {"host": "…"}}`` has ``limit`` and ``db/host``; a feature
    flag is ``<flag>/enabled``, and its attributes ``<flag>/<attribute>``.

    Each is named by its id or its name; ``streamkit check`` can look for permissions by ids only. ``poll``: seconds between two
    requests, at least; AppConfig may ask for more. ``secrets``: all of it is read with ``config.secret`` only. ``client`` is
    boto3's, ``clock`` the wall clock or a test's own.
    """

    def __init__(
        self,
        application: str,
        environment: str,
        profile: str,
        *,
        poll: int = _SHORTEST_POLL,
        secrets: bool = False,
        client: Any = None,
        region: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not _SHORTEST_POLL <= poll <= _LONGEST_POLL:
            raise ConfigurationError(
                f"poll is {_SHORTEST_POLL} to {_LONGEST_POLL:,} seconds, as AppConfig has it; got {poll!r}"
            )
        self.application, self.environment, self.profile = application, environment, profile
        self._poll = poll
        self._are_secrets = secrets
        self._region = region
        self._now = clock
        self._clients = Clients("appconfigdata", "AppConfig", client, session=True)
        self._session = _Session()

    @property
    def label(self) -> str:
        return f"AppConfig {self.application}/{self.environment}/{self.profile}"

    def close(self) -> None:
        self._clients.close()

    def fetch(self, names: Sequence[str], *, deadline: float) -> Mapping[str, Found]:
        session = self._session
        now = self._now()
        if session.document is None or not session.asked_at <= now < session.poll_at:
            # A thread that was frozen in here with this session does not meet the next one, which begins anew.
            self._session = msgspec.structs.replace(session, token="", poll_at=float("-inf"))
            with unlogged():
                session = self._polled(session, now, deadline)
            self._session = session
        assert session.document is not None  # Without one, _polled raises.
        found = found_in(session.document, names, session.version)
        if self._are_secrets:
            found = {name: msgspec.structs.replace(one, is_secret=True) for name, one in found.items()}
        return found

    def _polled(self, session: _Session, now: float, deadline: float) -> _Session:
        # A token is sent once: it is not known whether a request without an answer has used it up.
        tokens = iter([session.token] if session.token else [])
        is_new = False

        def ask() -> tuple[Mapping[str, Any], bytes]:
            nonlocal is_new
            token = next(tokens, "")
            if token:
                try:
                    return self._latest(token, deadline)
                except Exception as error:
                    # It is used up or over a day old.
                    if code_of(error) != "BadRequestException":
                        raise
            is_new = True
            return self._latest(self._begun(deadline), deadline)

        answer, content = retried(deadline, ask)
        document, version = session.document, session.version
        # Empty is "as before"; but of a session that has just begun there is no before.
        if content:
            document, version = _document(content, self.label), f"version {answer.get('VersionLabel') or '?'}"
        elif is_new or document is None:
            raise StreamkitError(f"{self.label} has nothing deployed, or its content is empty")
        seconds = max(int(answer.get("NextPollIntervalInSeconds") or 0), 0)
        return _Session(answer["NextPollConfigurationToken"], now + seconds, now, document, version)

    def _begun(self, deadline: float) -> str:
        answer = self._client(deadline).start_configuration_session(
            ApplicationIdentifier=self.application,
            EnvironmentIdentifier=self.environment,
            ConfigurationProfileIdentifier=self.profile,
            RequiredMinimumPollIntervalInSeconds=self._poll,
        )
        token: str = answer["InitialConfigurationToken"]
        return token

    def _latest(self, token: str, deadline: float) -> tuple[Mapping[str, Any], bytes]:
        answer = self._client(deadline).get_latest_configuration(ConfigurationToken=token)
        with answer["Configuration"] as body:
            return answer, body.read()

    def _client(self, deadline: float) -> Any:
        return self._clients.until(deadline, self._region)


def _document(content: bytes, label: str) -> Mapping[str, Any]:
    document: Any = None
    try:
        document = msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise StreamkitError(f"{label} is no JSON object: parameters are the members of one")
    return document
