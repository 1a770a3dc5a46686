"""The recipes of docs/http.md, run as they stand against strict servers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from helpers.daemon import Daemon, leaf_of, sink
from helpers.lines import events
from helpers.recipes import recipe
from helpers.vendor_servers import AxiomServer, JsonLineServer, LokiServer, VendorServer


@pytest.mark.parametrize(
    ("name", "kind"),
    [("axiom", AxiomServer), ("victorialogs", JsonLineServer), ("loki", LokiServer)],
)
def test_a_recipe_delivers_every_line(tmp_path: Path, name: str, kind: type[VendorServer]) -> None:
    """Only the address is another one."""
    keys = recipe(name)
    data = events(5000, size=290)
    with kind() as server:
        server.token = keys.get("token", "")
        keys["url"] = re.sub(r"https?://[^/]+", server.url, keys["url"])
        settings = {
            key: json.dumps(value) if isinstance(value, dict) else value
            for key, value in keys.items()
        }
        with Daemon(tmp_path, **sink("vendor", type="http", **settings)) as daemon:
            daemon.send(data)
            outcome = daemon.stop()
        assert outcome.sink("vendor")["delivered"] == leaf_of(data)
        assert server.lines == data
        assert server.violations == []
        assert not server.token or server.token not in str(outcome.log)
