"""The heap keeps its pages: what the kernel counts as page faults tells."""

import platform
import subprocess
import sys

import pytest

BLOCKS_COME_AND_GO = """
import resource, sys
from telemetryd.ingest.heap import keep_heap

if sys.argv[1] == "kept":
    keep_heap(16 * 1024 * 1024)

def fill_and_free():
    blocks = [b"".join((b"x", bytearray(262_144))) for _ in range(16)]

for _ in range(3):
    fill_and_free()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    fill_and_free()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    command = [sys.executable, "-c", BLOCKS_COME_AND_GO, mode]
    return int(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these limits")
def test_blocks_that_come_and_go_reuse_the_pages_of_the_heap() -> None:
    assert page_faults("kept") * 10 < page_faults("returned")
