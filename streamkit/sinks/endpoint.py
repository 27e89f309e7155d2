"""The endpoint that a search sink is given: a host, or a URL without a path."""

from __future__ import annotations

import re

from ..errors import ConfigurationError

__all__ = ["url_of"]


def url_of(endpoint: str, owner: str, wanted: str) -> str:
    """The endpoint as a URL; ConfigurationError where it is none, saying that ``owner`` needs ``wanted``. It quotes nothing."""
    url = endpoint if "://" in endpoint else f"https://{endpoint}"
    if not re.fullmatch(r"https?://[^/\s?#@]+/?", url):
        raise ConfigurationError(f"{owner} needs {wanted}, without a path and without credentials")
    return url
