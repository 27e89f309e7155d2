"""Putting records into a stream, in the order of each key: ``Producer``. docs/producing.md says what it promises."""

from __future__ import annotations

from .future import PutFuture, Receipt
from .producer import Producer
from .spread import InOrder, Spread, spread_of

__all__ = ["InOrder", "Producer", "PutFuture", "Receipt", "Spread", "spread_of"]
