"""A function with powertools: ``python with_powertools.py EVENT`` prints its answer and the orders that it parsed."""

import json
import sys
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.kinesis_stream_event import KinesisStreamRecord

orders: list[Any] = []
processor = BatchProcessor(event_type=EventType.KinesisDataStreams)


def record_handler(record: KinesisStreamRecord) -> None:
    orders.append(record.kinesis.data_as_json())


def handler(event: Any, context: Any) -> Any:
    return process_partial_response(event=event, record_handler=record_handler, processor=processor, context=context)


if __name__ == "__main__":
    answer = handler(json.loads(sys.argv[1]), None)
    print(json.dumps([answer, orders]), flush=True)
