"""The environment variables of a deployed function, while its processor is made."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from .deployment import Home
from .unknown import is_known

__all__ = ["LARGEST", "function_environment"]

#: Lambda's limit for all variables together, in bytes.
LARGEST = 4096
# What a program needs of the machine that it runs on; everything else here is not there in Lambda.
_KEPT = frozenset(
    (
        *("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "VIRTUAL_ENV"),
        *("LD_LIBRARY_PATH", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "COVERAGE_PROCESS_START"),
    )
)
_KEPT_PREFIXES = ("PYTHON", "AWS_", "LC_")


@contextmanager
def function_environment(variables: Mapping[str, str], home: Home) -> Iterator[None]:
    """``os.environ`` as the function has it: ``variables``, the region, and of this shell only what a program needs to run.

    So a variable that only this shell has is missing here too, as it will be there.
    """
    before = dict(os.environ)
    kept = {
        name: value
        for name, value in before.items()
        if name.upper() in _KEPT or name.upper().startswith(_KEPT_PREFIXES)
    }
    if is_known(home.region):
        kept |= {"AWS_REGION": home.region, "AWS_DEFAULT_REGION": home.region}
    _set({**kept, **variables})
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)
