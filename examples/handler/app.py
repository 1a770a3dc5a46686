"""An example function for the local Lambda: the event chooses what happens.

    {}                               print one line, return it
    {"print": 10000}                 print so many numbered lines ("text" sets their text)
    {"log": "json"}                  log through `logging` (JSON objects with --log-format json)
    {"raise": "no stock"}            raise an exception
    {"sleep": 5}                     sleep; longer than the timeout makes the invocation time out
    {"exit": 3}                      end the runtime process at once

Several keys may be combined; they act in the order above, `sleep` and `exit` last.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any

logger = logging.getLogger("shop")
logger.setLevel(logging.INFO)

print("example handler: loaded")


class OutOfStockError(Exception):
    """The exception that the example raises."""


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Do what the event says."""
    event = event if isinstance(event, dict) else {}
    lines = int(event.get("print", 1))
    text = str(event.get("text", "order accepted"))
    for number in range(lines):
        print(f"{text} i={number}")
    if event.get("log") == "json":
        logger.info("order %s accepted", 7741)
        logger.warning({"stock": {"sku": "A-1", "left": 2}, "message": "stock is low"})
    if "raise" in event:
        raise OutOfStockError(str(event["raise"]))
    time.sleep(float(event.get("sleep", 0)))
    if "exit" in event:
        os._exit(int(event["exit"]))
    return {"lines": lines, "requestId": context.aws_request_id}
