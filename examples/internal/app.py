"""An SQS function that keeps metrics in memory and sends them after each event.

    telemetryd local --handler app.handler --event sqs.json

It returns `batchItemFailures`, so SQS delivers only the messages again that failed. The metrics go
to a file, or to the sink that METRICS_SINK names as JSON. The caller does not wait for them, and
the environment is not frozen before they are sent.
"""

from __future__ import annotations

import json
import os
from typing import Any

from telemetryd.internal import SinkBuffer, flush_on_return

_SINK = json.loads(
    os.environ.get("METRICS_SINK", '{"type": "file", "path": "/tmp/metrics.ndjson"}')
)
metrics = SinkBuffer(**_SINK)


@flush_on_return(metrics.flush)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Take the orders of a batch. One that is broken is reported, and costs the others nothing."""
    failed = []
    for message in event.get("Records", []):
        try:
            order = json.loads(message["body"])
            metrics.write({"metric": "order", "value": order["total"], "id": message["messageId"]})
        except (KeyError, TypeError, ValueError) as error:
            failed.append({"itemIdentifier": message.get("messageId", "")})
            metrics.write({"metric": "failure", "error": type(error).__name__})
    metrics.write({"metric": "batch", "request": context.aws_request_id, "failed": len(failed)})
    return {"batchItemFailures": failed}
