"""Keeps containers of functions warm. Deploy it with the handler ``processors.warmer.handler``, behind a schedule of EventBridge
(``rate(5 minutes)``), and not behind a stream. Set up by

    TARGETS    required: JSON, function → how many of its containers, {"streamkit-dev-flights:live": 3}
    HOLD       milliseconds that each ping holds its container, so that the next one meets another; 75 by default

It needs ``lambda:InvokeFunction`` on each. The functions answer before they make or import anything for records: docs/warm.md
has what that saves, and what provisioned concurrency does better.
"""

from __future__ import annotations

from streamkit.warmer import Warmer

__all__ = ["handler"]

handler = Warmer()
