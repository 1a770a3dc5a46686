"""In a network of its own, as current Lambda environments show it: platform and sandbox apart.

The platform is at 169.254.100.1, the sandbox at 169.254.100.6, and telemetry is sent to the latter.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

TESTS = Path(__file__).parents[1]
PLATFORM, SANDBOX, NOBODYS = "169.254.100.1", "169.254.100.6", "203.0.113.9"
NETWORK = f"""
set -e
ip link set lo up
ip addr add {PLATFORM}/32 dev lo
ip addr add {SANDBOX}/32 dev lo
mount --bind "$1" /etc/hosts
shift
exec "$@"
"""
PLAY = """
import sys
sys.path.insert(0, sys.argv[1])
from helpers.lifecycle import settings, until
from helpers.scripted_platform import *

def begin(request):  # it may be read before INVOKE, and only what stands behind it counts then
    return b'{"type":"platform.start","record":{"requestId":"%b"}}\\n' % request.encode()

path, platform_at, sandbox_at = sys.argv[2:]
variables = file_sink(path) | settings(FLUSH__STRATEGY="invocation")
with ScriptedPlatform(variables, host=platform_at) as platform:
    platform.register()
    call = platform.expect(TELEMETRY)
    if sandbox_at:
        telemetry = platform.dial(call, sandbox_at)
    call.answer(200, b'"OK"')
    for request in "ab":
        call = platform.expect(NEXT)
        call.invoke(request, seconds=900)
        if sandbox_at:
            telemetry.sendall(begin(request) + line(1) + runtime_done(request))
    platform.expect(NEXT).shutdown()
    platform.finish()
    assert platform.ledger()["figures"]["connections_foreign"] == 0
    print("\\n".join(platform.printed))
"""


def play(tmp_path: Path, hosts: str, sandbox_at: str) -> tuple[str, bytes]:
    """Two invocations; what telemetryd printed, and what arrived."""
    missing = [tool for tool in ("unshare", "ip", "mount") if not shutil.which(tool)]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root, util-linux and iproute2 {missing or ''}")
    (tmp_path / "hosts").write_text(hosts)
    arrived = tmp_path / "arrived"
    play = [sys.executable, "-c", PLAY, str(TESTS), str(arrived), PLATFORM, sandbox_at]
    enter = ["unshare", "--net", "--mount", "sh", "-c", NETWORK, "sh", str(tmp_path / "hosts")]
    done = subprocess.run([*enter, *play], check=False, capture_output=True, text=True)
    if "unshare failed" in done.stderr:
        pytest.skip(f"needs leave to make namespaces: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout, arrived.read_bytes() if arrived.exists() else b""


def test_telemetry_arrives_by_default(tmp_path: Path) -> None:
    """Nothing is configured but a sink."""
    printed, arrived = play(tmp_path, f"{SANDBOX} sandbox.localdomain sandbox\n", SANDBOX)
    assert arrived.count(b"line 1") == 2
    assert '"level":"warning"' not in printed


def test_a_name_that_is_no_address_of_ours_is_told(tmp_path: Path) -> None:
    """One line names it, and why nothing comes; both invocations are served."""
    printed, arrived = play(tmp_path, f"{NOBODYS} sandbox.localdomain\n", "")
    assert arrived == b""
    warnings = [line for line in printed.splitlines() if '"level":"warning"' in line]
    assert [NOBODYS in line for line in warnings if "sandbox_not_ours" in line] == [True]
    assert any('"no_connection"' in line for line in warnings)
