"""The client: requests in, answers out, over connections that it keeps."""

from __future__ import annotations

from telemetryd.clock import Clock
from telemetryd.http_client.messages import Answer, HttpOptions, Request
from telemetryd.log import DaemonLog


class HttpClient:
    """Sends requests over connections that are kept for the next ones. For one loop."""

    def __init__(self, clock: Clock, log: DaemonLog, *, options: HttpOptions) -> None:
        self._clock = clock
        self._log = log
        self._options = options

    @property
    def awaits_answer(self) -> bool:
        """True if a request is fully sent and only its answer is missing.

        To cut it off now risks that it is sent twice. Who may choose waits some 100 ms longer.
        """
        return False

    async def send(self, request: Request, *, limit: float) -> Answer:
        """Return the answer to `request`, whatever its status, within `limit` seconds.

        Raises HttpError. A cancelled call leaves no connection and no task.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Close all connections; requests on their way fail. May be called twice."""
