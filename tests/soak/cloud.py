"""moto in a process of its own, made fit for a soak: one request at a time, and FIFO queues that keep the order of a group.

    python -m tests.soak.cloud HOST PORT

moto's stores are not safe for threads (a message sent while another one is deleted can be lost), so a request runs alone; one
that waits for messages lets others in. Its FIFO queues let a later message of a group pass one that comes again, and forget a
deduplication id with its message; here they do neither, as SQS does not.
"""

from __future__ import annotations

import copy
import logging
import sys
import threading
import time
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.sqs.models import Queue, SQSBackend, _filter_message_attributes
from werkzeug.serving import run_simple

_DEDUPLICATION_SECONDS = 300.0
_BETWEEN_LOOKS = 0.05

_turn = threading.Lock()
_seen: dict[tuple[str, str], float] = {}
_add_message = Queue.add_message


def _take(queue: Any, count: int, visibility_timeout: int) -> list[Any]:
    """Up to ``count`` visible messages in the order of the queue, of a FIFO group none behind one that is in flight."""
    now = time.time() * 1000
    taken: list[Any] = []
    blocked: set[str] = set()
    for message in queue._messages:
        if len(taken) == count:
            break
        if message.group_id in blocked:
            continue
        if message.visible_at > now or message.delayed_until > now:
            if queue.fifo_queue:
                blocked.add(message.group_id)
            continue
        taken.append(message)
    for message in taken:
        message.mark_received(visibility_timeout=visibility_timeout)
    return taken


def _receive(
    self: Any,
    queue_name: str,
    count: int,
    wait_seconds_timeout: int,
    visibility_timeout: int,
    message_attribute_names: list[str] | None = None,
) -> list[Any]:
    queue = self.get_queue(queue_name)
    give_up_at = time.monotonic() + float(wait_seconds_timeout or 0)
    while not (taken := _take(queue, count, visibility_timeout)) and time.monotonic() < give_up_at:
        _turn.release()
        try:
            time.sleep(_BETWEEN_LOOKS)
        finally:
            _turn.acquire()
    copies = [copy.copy(message) for message in taken]
    for one in copies:
        _filter_message_attributes(one, message_attribute_names or [])
    return copies


def _add(self: Any, message: Any) -> None:
    if self.fifo_queue:
        now, key = time.monotonic(), (self.name, message.deduplication_id)
        if now - _seen.get(key, -_DEDUPLICATION_SECONDS) < _DEDUPLICATION_SECONDS:
            return
        if len(_seen) > 100_000:
            for old in [old for old, at in _seen.items() if now - at >= _DEDUPLICATION_SECONDS]:
                del _seen[old]
        _seen[key] = now
    with self._messages_lock:
        self._messages.append(message)


def _delete(self: Any, receipt_handle: str) -> None:
    # By the last receipt only, as of a FIFO queue: what came again meanwhile is not deleted.
    for place, message in enumerate(self._messages):
        if message.receipt_handle == receipt_handle:
            del self._messages[place]
            return


class _OneAtATime:
    def __init__(self, application: Any) -> None:
        self._application = application

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        with _turn:
            answer = self._application(environ, start_response)
            try:
                return list(answer)
            finally:
                if hasattr(answer, "close"):
                    answer.close()


class _Handler(MotoRequestHandler):  # type: ignore[misc]  # moto ships no types.
    # Connections stay open: making one costs as much as a request.
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1


def main(host: str, port: int) -> None:
    SQSBackend.receive_message = _receive
    Queue.add_message = _add
    Queue.delete_message = _delete
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = _OneAtATime(DomainDispatcherApplication(create_backend_app))
    run_simple(host, port, application, threaded=True, request_handler=_Handler)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
