"""The meaning of the answer to a body without lines, for `telemetryd check --probe`.

The request is like any other of the sink: URL, headers, token, compression, and the format's body
for no lines. There is no other request that every server understands: many refuse HEAD and
OPTIONS, or answer them without a look at the token. A server may also refuse a body without lines,
by 400 or 422 or as its vendor documents it: then it has accepted everything else.
"""

from __future__ import annotations

from telemetryd.sinks._posting import TOO_LARGE
from telemetryd.sinks.http.answers import Reply
from telemetryd.sinks.http.formats import Format


def judge(form: Format, reply: Reply) -> str:
    """Return what the answer proves. Raises SinkError where lines would not be delivered."""
    refusal = form.judge(reply).refusal
    status = reply.answer.status
    if refusal is None:
        return f"{reply.authority} is reachable, and accepts a body without lines ({status})"
    if refusal.code == TOO_LARGE:
        raise refusal
    return (
        f"{reply.authority} is reachable, and refuses a body without lines ({status}); "
        "whether it takes lines is unknown"
    )
