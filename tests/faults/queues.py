"""The rows of the queues: three messages meet a fault, and those that were not confirmed are sent again when it is over."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from streamkit.queues.base import Message
from streamkit.queues.sns import SnsTopic
from streamkit.queues.sqs import SqsQueue

from .cells import Cell, Fault, Row
from .dialects import AWS_SINKS, Dialect
from .sinks import AND_WHAT_FOLLOWS, TOLD, Exchange

__all__ = ["QUEUES", "QueueRow"]

REFUSED = "refused"
ONLY_THE_REST = "only what was not taken is refused"
AND_WHAT_FOLLOWS = "what was not taken, and what follows it in its group, is refused"
