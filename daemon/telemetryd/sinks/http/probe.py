"""The meaning of the answer to a body without lines, for `telemetryd check --probe`.

The request is like any other of the sink: URL, headers, token, compression, and the format's body
for no lines. There is no other request that every server understands: many refuse HEAD and
OPTIONS, or answer them without a look at the token. A server may also refuse a body without lines.
If it does so by 400 or 422, it has accepted everything else.
"""

from __future__ import annotations

from typing import Final

from telemetryd.http_client.messages import Answer
from telemetryd.sinks.http.answers import meaning

_REFUSES_NOTHING: Final = "invalid_request"


def judge(answer: Answer, authority: str, now: float) -> str:
    """Return what the answer proves. Raises SinkError where lines would not be delivered."""
    problem = meaning(answer, authority, now)
    if problem is None:
        return f"{authority} is reachable, and accepts a body without lines ({answer.status})"
    if problem.code == _REFUSES_NOTHING:
        return (
            f"{authority} is reachable, and refuses a body without lines ({answer.status}); "
            "whether it takes lines is unknown"
        )
    raise problem
