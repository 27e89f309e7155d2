"""A function with streamkit: ``python with_streamkit.py EVENT`` prints its answer and the orders that it parsed."""

import json
import sys
from typing import Any

from streamkit import Record, RecordProcessor, lambda_handler

orders: list[Any] = []


class Orders(RecordProcessor):
    name = "orders"

    def process(self, record: Record) -> None:
        orders.append(record.json())


handler = lambda_handler(Orders)

if __name__ == "__main__":
    answer = handler(json.loads(sys.argv[1]), None)
    print(json.dumps([answer, orders]), flush=True)
