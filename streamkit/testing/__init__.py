"""What a processor's tests need: events, a mapping on a virtual clock, and a queue, a sink, a store of claims and
parameters in memory.

``streamkit.testing.contracts`` has the suites for sinks, queues and stores of your own; it needs pytest.
"""

from .claims import MemoryClaims
from .events import kinesis_event, logs_data, logs_event, s3_event, sns_event, window_event
from .mapping import Crash, EventSourceMapping
from .parameters import MemoryParameters
from .queue import MemoryQueue
from .sink import MemorySink

__all__ = [
    "Crash",
    "EventSourceMapping",
    "MemoryClaims",
    "MemoryParameters",
    "MemoryQueue",
    "MemorySink",
    "kinesis_event",
    "logs_data",
    "logs_event",
    "s3_event",
    "sns_event",
    "window_event",
]
