"""Process Amazon Kinesis streams: correct under failure, fast, and honest about what it guarantees."""

from .errors import DecodeError, Reject, Retry, SinkError, StreamkitError, Unavailable
from .handler import lambda_handler
from .policy import Block, Divert, Park
from .processor import RecordProcessor
from .record import Record
from .sinks.base import Refusal, Sink, Write

__all__ = [
    "Block",
    "DecodeError",
    "Divert",
    "Park",
    "Record",
    "RecordProcessor",
    "Refusal",
    "Reject",
    "Retry",
    "Sink",
    "SinkError",
    "StreamkitError",
    "Unavailable",
    "Write",
    "lambda_handler",
]
