"""All that the console watches, and what the page's first view shows of it."""

from __future__ import annotations

import argparse
import time
from typing import Any

from ...errors import StreamkitError
from ..connection import masked
from .clients import Clients
from .keys import ParkedKeys
from .queues import Queues
from .readers import Readers
from .runs import Runs
from .streams import Streams
from .watch import Task, Watch

__all__ = ["Overview"]


class Overview:
    """Made from the command's options; ``watch`` is for the command to start and to end. ``speed`` is the watch's."""

    def __init__(self, options: argparse.Namespace, clients: Clients, *, speed: float = 1.0) -> None:
        self.clients = clients
        self._endpoint = ""
        self.streams = Streams(clients, options.streams, options.sample)
        self.readers = Readers(options, clients, self.streams, options.name)
        self.queues = Queues(clients, options.retry_queue, options.dead_letters)
        self.keys = ParkedKeys(clients, options.ledger, options.name)
        self.runs = Runs(options.run)
        self.watch = Watch(self._tasks, clients.sent, speed=speed)

    def view(self) -> dict[str, Any]:
        """What is known, at once: nothing is asked for here, but the watch is told that somebody looks."""
        self.watch.look()
        error = self.watch.error
        return {
            "at": time.time(),
            "endpoint": self.endpoint(),
            "calls_a_second": round(self.watch.calls_a_second(), 1),
            "streams": self.streams.view(error),
            "streams_error": error("streams"),
            "more_streams": self.streams.has_more,
            "readers": self.readers.view(error),
            "queues": self.queues.view(error),
            "queues_error": error("queues"),
            "more_queues": self.queues.has_more,
            "ledgers": self.keys.view(error),
            "runs": self.runs.view(error),
        }

    def endpoint(self) -> str:
        if not self._endpoint:
            try:
                self._endpoint = self.clients.endpoint()
            except StreamkitError as error:
                return masked(str(error))
        return self._endpoint

    def _tasks(self) -> list[Task]:
        return [
            *self.runs.tasks(),
            *self.streams.tasks(),
            *self.queues.tasks(),
            *self.readers.tasks(),
            *self.keys.tasks(),
        ]
