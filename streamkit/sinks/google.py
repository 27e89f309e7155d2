"""Credentials of Google for a function on AWS, without a key: the function's own role is what Google trusts.

``GOOGLE_CREDENTIALS`` holds the JSON that ``gcloud iam workload-identity-pools create-cred-config --aws`` writes. There is no
secret in it, so an environment variable may have it. The role's credentials, which Lambda gives
the function, sign a request that Google sends to AWS to learn who asks; for that it gives a token of an hour, and then another.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any

from ..errors import ConfigurationError

__all__ = ["VARIABLE", "credentials"]

VARIABLE = "GOOGLE_CREDENTIALS"
_SCOPES = ("https://www.googleapis.com/auth/bigquery", "https://www.googleapis.com/auth/cloud-platform")


def credentials() -> Any:
    """Those that ``GOOGLE_CREDENTIALS`` describes; none for an emulator; else None: the application's default ones.

    All who ask in this container get the same ones, and so one token an hour serves all of them.

    ConfigurationError where the variable holds something else, a service account's key among it: that is a secret.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return _of_nobody() if os.environ.get("BIGQUERY_EMULATOR_HOST") else None
    return _described(text)


@lru_cache(maxsize=4)
def _described(text: str) -> Any:
    try:
        info = json.loads(text)
    except ValueError:
        # Not the text itself: it may be a key that somebody has put there.
        raise ConfigurationError(f"{VARIABLE} is no JSON: {_HOW}") from None
    kind = info.get("type") if isinstance(info, dict) else None
    if kind != "external_account":
        what = "a service account's key, which is a secret" if kind == "service_account" else "something else"
        raise ConfigurationError(f"{VARIABLE} holds {what}: {_HOW}")
    from google.auth.aws import Credentials
    from google.auth.exceptions import GoogleAuthError

    try:
        made = Credentials.from_info(info)  # type: ignore[no-untyped-call]  # google-auth's fault
    except (GoogleAuthError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{VARIABLE} describes no AWS identity ({type(error).__name__}): {_HOW}") from None
    return made.with_scopes(_SCOPES)


def _of_nobody() -> Any:
    from google.auth.credentials import AnonymousCredentials

    return AnonymousCredentials()  # type: ignore[no-untyped-call]  # google-auth's fault


_HOW = "it takes what `gcloud iam workload-identity-pools create-cred-config --aws` writes (docs/deploying.md)"
