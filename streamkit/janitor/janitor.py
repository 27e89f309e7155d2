"""The janitor's run: functions in random order, then layers, until all is done or the time is up.

1. List the event source mappings of the region, then the functions. Where either is not known whole, nothing is deleted.
2. For each function, in random order: list its versions and who uses them, and judge. Where any of it is not known, nothing of
   the function is deleted.
3. Before each deletion ask once more who uses the version. Lambda's own refusal is one more reason to keep it.
4. List all versions of all functions for the layers that they use, then judge each layer, in random order.

There is no stored state: runs that end early have each come to other functions. A third of the time is the layers'.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Callable, Set
from typing import Any

from ..aws import Clients, code_of
from ..errors import StreamkitError
from ..health import answer_to
from ..metrics import setting
from ..metrics.report import function_name
from ..reason import reason
from ..warm import Container
from .account import NOT_FOUND, Account
from .calls import Calls, OutOfTime
from .options import Options, options_of
from .plan import LayerVersion, Version, judge, judge_layer
from .report import Part, Report

__all__ = ["Janitor"]

log = logging.getLogger("streamkit")

# Seconds that are kept back for the report.
_MARGIN = 3.0
# Seconds that a run may take where nobody says, as Lambda has it at most.
_LONGEST = 900.0


class Janitor:
    """The function: ``handler = Janitor()``.

    ``client`` is boto3's of Lambda, and ``rate`` the calls a second whatever the environment says: for tests and for functions
    of your own.
    """

    def __init__(self, client: Any = None, *, rate: float | None = None) -> None:
        self._clients = Clients("lambda", "the janitor", client)
        self._rate = rate
        self._container = Container()

    def __call__(self, event: Any = None, context: Any = None) -> dict[str, Any]:
        """What was deleted, or would be, as docs/janitor.md has it; the same goes to the log as a line of JSON.

        ConfigurationError for options that are wrong. StreamkitError where the functions or their mappings can't be listed:
        nothing was deleted then. To a ping of streamkit's own it answers what that asks for.
        """
        if (answer := answer_to(event, self._container)) is not None:
            return answer
        options = options_of(event)
        remaining: Callable[[], float] | None = getattr(context, "get_remaining_time_in_millis", None)
        seconds = _LONGEST if remaining is None else remaining() / 1000
        report = Report(dry_run=options.dry_run)
        calls = Calls(self._clients, time.monotonic() + seconds - _MARGIN, self._rate or options.rate)
        run = _Run(calls, options, report)
        try:
            run.run()
        finally:
            sys.stdout.write(report.line(function_name(context), time.time(), metrics=setting() != ("off", "")))
            sys.stdout.flush()
        return report.as_dict()


class _Run:
    def __init__(self, calls: Calls, options: Options, report: Report) -> None:
        self._calls = calls
        self._account = Account(calls)
        self._options = options
        self._report = report
        # Versions that are deleted, or would be: whose layers nobody uses any more.
        self._doomed: set[tuple[str, str]] = set()

    def run(self) -> None:
        report, calls = self._report, self._calls
        end = calls.deadline
        try:
            if self._options.layers:
                calls.deadline -= (end - time.monotonic()) / 3
            are_done = self._functions()
            calls.deadline = end
            report.is_complete = (not self._options.layers or self._layers()) and are_done
        finally:
            report.throttles = calls.throttles

    def _functions(self) -> bool:
        """Whether all were looked at."""
        part = self._report.functions
        try:
            mappings = self._account.mappings()
            functions = self._account.functions()
        except OutOfTime:
            log.warning("janitor: the time was up before all functions were listed; nothing was deleted")
            return False
        except Exception as error:
            part.fail("*", reason(error))
            raise StreamkitError(
                f"the functions and their event source mappings can't be listed, so nothing was deleted: {reason(error)}"
            ) from error
        part.seen = len(functions)
        names = [name for name in functions if self._options.choice.has_name(name)]
        part.excluded = part.seen - len(names)
        random.shuffle(names)

        def clean(name: str) -> None:
            try:
                self._function(name, functions[name], mappings.get(name, set()))
            except Exception as error:
                if code_of(error) != NOT_FOUND or not self._is_gone(name):
                    raise
                part.keep("gone", name)

        return _each(names, part, clean)

    def _function(self, name: str, arn: str, mapped: Set[str]) -> None:
        part, account, options = self._report.functions, self._account, self._options
        if options.choice.needs_tags and not options.choice.has_tags(account.tags(arn)):
            part.excluded += 1
            return
        # All of it is known before the first is deleted.
        verdicts = judge(account.versions(name), account.uses(name, mapped), options.keep_versions)
        for verdict in verdicts:
            if verdict.kept is None:
                self._delete(name, arn, verdict.version)
            else:
                part.keep(verdict.kept)
            part.versions += 1

    def _is_gone(self, name: str) -> bool:
        """Whether somebody has deleted the function meanwhile, and it is not something of it that can't be found."""
        try:
            self._account.versions(name)
        except Exception as error:
            if code_of(error) == NOT_FOUND:
                return True
            raise
        return False

    def _delete(self, name: str, arn: str, version: Version) -> None:
        """Delete a version, if nobody has come to use it meanwhile."""
        part, account = self._report.functions, self._account
        called = f"{name}:{version.number}"
        if account.is_permitted(name, version.number):
            part.keep("permitted", called)
            return
        if self._options.dry_run:
            part.find(called, version.bytes)
        elif (why := account.is_used_now(name, arn, version.number)) is not None:
            part.keep(why, called)
            return
        else:
            outcome = account.delete_version(name, version.number)
            if outcome != "deleted":
                part.keep(outcome, called)
                return
            part.find(called, version.bytes)
            part.delete(version.bytes)
            log.info("janitor: deleted %s, %d bytes", called, version.bytes)
        self._doomed.add((name, version.number))

    def _layers(self) -> bool:
        part, account = self._report.layers, self._account
        try:
            layers = account.layers()
            used = {
                arn
                for name, version in account.everybodys_layers()
                if (name, version.number) not in self._doomed
                for arn in version.layers
            }
        except OutOfTime:
            log.warning("janitor: the time was up before it was known which layers are used; none was deleted")
            return False
        except Exception as error:  # noqa: BLE001  # The functions are done, and their report counts.
            part.fail("*", reason(error))
            log.error("janitor: it is not known which layers are used, and none was deleted: %s", reason(error))
            return False
        part.seen = len(layers)
        names = [name for name in layers if self._options.choice.has_layer(name)]
        part.excluded = part.seen - len(names)
        random.shuffle(names)
        return _each(names, part, lambda name: self._layer(name, used))

    def _layer(self, name: str, used: Set[str]) -> None:
        part = self._report.layers
        verdicts = judge_layer(self._account.layer_versions(name), used, self._options.keep_layer_versions)
        for version, kept in verdicts.items():
            if kept is None:
                self._delete_layer(name, version)
            else:
                part.keep(kept)
            part.versions += 1

    def _delete_layer(self, name: str, version: LayerVersion) -> None:
        part, account = self._report.layers, self._account
        called = f"{name}:{version.number}"
        if account.is_shared(name, version.number):
            part.keep("shared", called)
            return
        size = account.layer_bytes(name, version.number)
        if size is None:
            part.keep("gone", called)
            return
        if not self._options.dry_run:
            account.delete_layer_version(name, version.number)
            part.delete(size)
            log.info("janitor: deleted the layer %s, %d bytes", called, size)
        part.find(called, size)


def _each(names: list[str], part: Part, clean: Callable[[str], None]) -> bool:
    """Clean one after another. Whether the time was enough for all; one that fails stops no other."""
    for n, name in enumerate(names):
        try:
            clean(name)
        except OutOfTime:
            part.left = len(names) - n
            log.warning("janitor: the time is up; %d are left for the next run", part.left)
            return False
        except Exception as error:  # noqa: BLE001  # Whatever it is, it is this one's.
            part.fail(name, reason(error))
            log.error("janitor: %s is left as it is: %s", _shown(name), reason(error))
        else:
            part.done += 1
    part.left = 0
    return True


def _shown(name: str) -> str:
    """A name as a log takes it: Lambda's have no such characters, whatever an answer says."""
    return name.encode("unicode_escape").decode()[:200]
