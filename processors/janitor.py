"""Deletes old versions of functions and layers, and nothing that is used. Deploy it with the handler
``processors.janitor.handler``, behind a schedule of EventBridge (``rate(1 day)``), and not behind a stream.

Every run is a dry one, which only reports, unless the event has ``{"dry_run": false}`` and the deployment ``JANITOR_DELETE=yes``.
The other variables, what an event may narrow, and the permissions that it needs are in docs/janitor.md.
"""

from __future__ import annotations

from streamkit.janitor.janitor import Janitor

__all__ = ["handler"]

handler = Janitor()
