"""What one run of the janitor may do: what the deployment allows in the environment, and what the event asks for of that.

An event can only narrow. It deletes where both say so, keeps the higher of both numbers, and looks after what both choose.
"""

from __future__ import annotations

import os
from typing import Annotated, Any

import msgspec

from ..errors import ConfigurationError
from .choice import Choice

__all__ = ["Options", "options_of"]

_Tags = dict[str, str | None]
_Keep = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
#: Versions that are kept by default: the one that runs, and two to go back to.
_KEEP = 3
#: Calls a second by default: a third of what Lambda's control plane takes of an account, so that deployments have the rest.
_RATE = 5.0
_MOST_RATE = 15.0


class Options(msgspec.Struct, frozen=True):
    """``rate`` is in calls a second."""

    dry_run: bool
    keep_versions: int
    keep_layer_versions: int
    layers: bool
    choice: Choice
    rate: float


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    """The event."""

    dry_run: bool = True
    keep_versions: _Keep = 1
    keep_layer_versions: _Keep = 1
    layers: bool = True
    include: list[str] = []
    exclude: list[str] = []
    include_tags: _Tags = {}
    exclude_tags: _Tags = {}


def options_of(event: Any) -> Options:
    """The options of a run by ``event``, and by these variables:

    ==========================  =========================================================================================
    ``JANITOR_DELETE``          ``yes`` allows to delete; without it every run is a dry one
    ``KEEP_VERSIONS``           how many of a function's newest versions are kept; 3 by default, 1 or more
    ``KEEP_LAYER_VERSIONS``     the same of a layer
    ``LAYERS``                  ``no``: layers are left alone
    ``INCLUDE``, ``EXCLUDE``    patterns of names, with commas between
    ``INCLUDE_TAGS``            JSON: tags of functions that are looked after, ``{"team": "search", "old": null}``
    ``EXCLUDE_TAGS``            the same of functions that are not
    ``CALLS_PER_SECOND``        to Lambda; 5 by default, 15 at most
    ==========================  =========================================================================================

    ConfigurationError for a value that is wrong, an event that has anything else, and one that wants to delete where the
    deployment does not allow it. An event of a schedule's own (``detail-type``) asks for nothing: it is a dry run.
    """
    asked = _asked(event)
    allowed = _yes("JANITOR_DELETE", default=False)
    if not asked.dry_run and not allowed:
        raise ConfigurationError(
            'the event has "dry_run": false, and this deployment deletes nothing: '
            "set the environment variable JANITOR_DELETE to yes"
        )
    return Options(
        dry_run=asked.dry_run,
        keep_versions=max(_number("KEEP_VERSIONS"), asked.keep_versions),
        keep_layer_versions=max(_number("KEEP_LAYER_VERSIONS"), asked.keep_layer_versions),
        layers=asked.layers and _yes("LAYERS", default=True),
        choice=Choice(
            [one for one in (_patterns("INCLUDE"), asked.include) if one],
            [*_patterns("EXCLUDE"), *asked.exclude],
            [*_tags("INCLUDE_TAGS").items(), *asked.include_tags.items()],
            [*_tags("EXCLUDE_TAGS").items(), *asked.exclude_tags.items()],
        ),
        rate=_rate(),
    )


def _asked(event: Any) -> _Asked:
    if not event or (isinstance(event, dict) and "detail-type" in event):
        return _Asked()
    try:
        return msgspec.convert(event, _Asked)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"the event is not one of the janitor's: {error}") from None


def _yes(variable: str, *, default: bool) -> bool:
    text = os.environ.get(variable)
    if not text:
        return default
    if text not in ("yes", "no"):
        raise ConfigurationError(f"the environment variable {variable} is yes or no; got {text[:80]!r}")
    return text == "yes"


def _number(variable: str) -> int:
    text = os.environ.get(variable)
    if not text:
        return _KEEP
    try:
        return msgspec.convert(int(text), _Keep)
    except ValueError:
        raise ConfigurationError(
            f"the environment variable {variable} is a whole number, 1 or more; got {text[:80]!r}"
        ) from None


def _rate() -> float:
    text = os.environ.get("CALLS_PER_SECOND")
    try:
        rate = float(text) if text else _RATE
    except ValueError:
        rate = 0.0
    if not 0 < rate <= _MOST_RATE:
        raise ConfigurationError(
            f"the environment variable CALLS_PER_SECOND is a number above 0, {_MOST_RATE:g} at most; got {str(text)[:80]!r}"
        )
    return rate


def _patterns(variable: str) -> list[str]:
    text = os.environ.get(variable)
    if not text:
        return []
    # Without any, INCLUDE would choose everything, which nobody has written.
    if not (found := [one.strip() for one in text.split(",") if one.strip()]):
        raise ConfigurationError(
            f"the environment variable {variable} is patterns with commas between, and has none; got {text[:80]!r}"
        )
    return found


def _tags(variable: str) -> _Tags:
    text = os.environ.get(variable)
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=_Tags)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ConfigurationError(
            f'the environment variable {variable} is a JSON object of tags, {{"team": "search", "old": null}}: {error}'
        ) from None
