"""Parameters from AWS Systems Manager's Parameter Store.

Needs boto3: ``pip install kinesis-streamkit[aws]``; Lambda's runtime carries it. The role needs ``ssm:GetParameters`` on
``parameter/<path>/*``; for hierarchies ``ssm:GetParametersByPath`` on ``parameter/<path>`` and what is below; and ``kms:Decrypt``
on the key of SecureStrings, where that is not AWS's own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..aws import Clients, from_environment, retried
from ..errors import ConfigurationError, StreamkitError
from .source import Found, Source, check_name, is_hierarchy
from .unlogged import unlogged

__all__ = ["SsmParameters"]

# SSM takes so many names a call, and gives so many a page.
_MOST = 10
# Of one hierarchy. More is a path that was not meant: all of an account has 10,000 standard parameters.
_MOST_PAGES = 200


class SsmParameters(Source):
    """The parameters under ``path``: with ``SsmParameters("/shop/orders")`` the name ``db/password`` is
    ``/shop/orders/db/password``.

    Names are asked for by ten a call, hierarchies page by page; SecureStrings are decrypted by SSM. What is answered by several
    calls may be of several moments: what has to change together belongs into one parameter, as JSON. ``client`` is boto3's;
    by default one is made on first use.
    """

    def __init__(self, path: str, *, client: Any = None, region: str | None = None) -> None:
        self._path: str | None = _checked(path)
        self._variable = ""
        self._region = region
        self._clients = Clients("ssm", "SsmParameters", client, session=True)

    @classmethod
    def from_env(cls, name: str, *, client: Any = None, region: str | None = None) -> SsmParameters:
        """The path that the environment variable ``name`` holds, read on first use."""
        source = cls("/", client=client, region=region)
        source._path, source._variable = None, name
        return source

    @property
    def path(self) -> str:
        """Without a slash at its end; ConfigurationError where the environment variable that should hold it does not."""
        if self._path is None:
            self._path = _checked(from_environment(self._variable, "SsmParameters", "a path, as /shop/orders,"))
        return self._path

    @property
    def label(self) -> str:
        return f"SSM {self._path}" if self._path is not None else f"SSM (the path in {self._variable})"

    def close(self) -> None:
        self._clients.close()

    def fetch(self, names: Sequence[str], *, deadline: float) -> Mapping[str, Found]:
        found: dict[str, Found] = {}
        single = [name for name in names if not is_hierarchy(name)]
        with unlogged():
            for start in range(0, len(single), _MOST):
                found |= self._named(single[start : start + _MOST], deadline)
            for name in names:
                if is_hierarchy(name):
                    found |= self._under(name, deadline)
        return found

    def _named(self, names: list[str], deadline: float) -> dict[str, Found]:
        by_place = {f"{self.path}/{name}": name for name in names}
        answer = retried(
            deadline, lambda: self._client(deadline).get_parameters(Names=list(by_place), WithDecryption=True)
        )
        listed = [*(one["Name"] for one in answer["Parameters"]), *answer["InvalidParameters"]]
        if set(listed) != by_place.keys():
            raise StreamkitError(
                f"SSM has answered for {len(set(listed))} of the {len(by_place)} parameters that it was asked for"
            )
        return {by_place[one["Name"]]: _found(one) for one in answer["Parameters"]}

    def _under(self, name: str, deadline: float) -> dict[str, Found]:
        place = f"{self.path}/{name.removesuffix('/')}"
        found: dict[str, Found] = {}
        more: dict[str, str] = {}
        for _ in range(_MOST_PAGES):
            answer = retried(
                deadline,
                lambda more=more: self._client(deadline).get_parameters_by_path(  # type: ignore[misc]  # mypy can't type its default.
                    Path=place, Recursive=True, WithDecryption=True, MaxResults=_MOST, **more
                ),
            )
            found |= {name + one["Name"].removeprefix(f"{place}/"): _found(one) for one in answer["Parameters"]}
            # A page may be empty, and not the last.
            if not answer.get("NextToken"):
                return found
            more = {"NextToken": answer["NextToken"]}
            if time.monotonic() >= deadline:
                raise StreamkitError(f"the time was up before all pages of {place} were read")
        raise StreamkitError(f"there are over {_MOST_PAGES * _MOST:,} parameters under {place}: name a longer path")

    def _client(self, deadline: float) -> Any:
        return self._clients.until(deadline, self._region)


def _found(parameter: Mapping[str, Any]) -> Found:
    return Found(parameter["Value"], parameter["Type"] == "SecureString", f"version {parameter['Version']}")


def _checked(path: str) -> str:
    if not path.startswith("/"):
        raise ConfigurationError(f"a path of SSM begins with a slash, as /shop/orders; got {path!r}")
    path = path.removesuffix("/")
    if path:
        check_name(path[1:])
    return path
