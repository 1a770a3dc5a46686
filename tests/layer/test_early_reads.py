"""What the launcher has the kernel read early is what the interpreter reads at a start.

On a file system of its own that reads nothing ahead, so that a page is in memory only if somebody
asked for it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.lifecycle import until
from helpers.scripted_platform import NEXT, TELEMETRY, ScriptedPlatform

PAGE = mmap.PAGESIZE
MISSED = {"next": 0.005, "up": 0.05}
"""Of the pages that are read until then, as many may be read while the interpreter waits."""
SURPLUS = 1.5
"""As many times the pages that are read may be fetched: a few long ranges are faster than many."""


@contextmanager
def disk(directory: Path) -> Iterator[Path]:
    """An ext4 on a loop device without read-ahead."""
    image, place = directory / "image", directory / "disk"
    with image.open("wb") as file:
        file.truncate(128 * 1024 * 1024)
    place.mkdir()
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True, capture_output=True)
    attach = ["losetup", "--find", "--show", "--direct-io=on", str(image)]
    done = subprocess.run(attach, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"needs a loop device: {done.stderr.strip()}")
    device = done.stdout.strip()
    try:
        subprocess.run(["blockdev", "--setra", "0", device], check=True)
        subprocess.run(["mount", device, str(place)], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", str(place)], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@pytest.fixture
def cold(opt: Path, tmp_path: Path) -> Iterator[Path]:
    """The layer's two programs on such a disk."""
    tools = [tool for tool in ("losetup", "mkfs.ext4", "blockdev") if not shutil.which(tool)]
    if os.geteuid() != 0 or tools:
        pytest.skip(f"needs root, and util-linux and e2fsprogs {tools or ''}")
    with disk(tmp_path) as place:
        for program in ("extensions/telemetryd", "telemetryd/telemetryd"):
            (place / program).parent.mkdir()
            shutil.copy(opt / program, place / program)
        os.sync()
        yield place


def forget(path: Path) -> None:
    """Drop a file from the page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert pages(path) == set()


def pages(path: Path) -> set[int]:
    """The numbers of a file's pages that are in memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    size = path.stat().st_size
    count = -(-size // PAGE)
    found = ctypes.create_string_buffer(count)
    with path.open("rb") as file:
        address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    assert libc.mincore(address, size, found) == 0
    libc.munmap(address, size)
    return {number for number in range(count) if found.raw[number] & 1}


def fetched(place: Path) -> set[int]:
    """The pages the launcher asks for; what it asks them for can't be started."""
    interpreter = place / "telemetryd" / "telemetryd"
    interpreter.chmod(0o644)
    forget(interpreter)
    command = (str(place / "extensions" / "telemetryd"),)
    with ScriptedPlatform({}, command=command) as platform:
        platform.register()
        call = platform.expect(NEXT)
        until(lambda: idle(place))
        found = pages(interpreter)
        call.shutdown()
        platform.finish(status=0)
    interpreter.chmod(0o755)
    return found


def idle(place: Path) -> bool:
    """True if the disk has nothing left to do."""
    device = place.stat().st_dev
    reads = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/inflight").read_text()
    return reads.split() == ["0", "0"]


def read(place: Path) -> dict[str, set[int]]:
    """The pages the interpreter has read at `next` and when it is up, without the launcher."""
    interpreter = place / "telemetryd" / "telemetryd"
    forget(interpreter)
    with ScriptedPlatform({}, command=(str(interpreter),)) as platform:
        platform.register()
        call = platform.expect(TELEMETRY)  # the last call that it waits for
        found = {"next": pages(interpreter)}
        call.answer(200, b'"OK"')
        call = platform.expect(NEXT)
        until(lambda: platform.log("started"))
        found["up"] = pages(interpreter)
        call.shutdown()
        platform.finish()
    return found


def test_what_is_read_at_a_start_is_what_is_fetched(cold: Path) -> None:
    """A page that it has to wait for by itself costs what several modules do."""
    early, needed = fetched(cold), read(cold)
    assert len(needed["next"]) > 300
    for what, most in MISSED.items():
        missed = sorted(needed[what] - early)
        shown = ", ".join(f"{number * PAGE:#x}" for number in missed)
        assert len(missed) <= most * len(needed[what]), f"not among until_{what}: {shown}"
    assert len(early) <= SURPLUS * len(needed["up"])


def test_where_nothing_can_be_fetched_it_starts_all_the_same(opt: Path, tmp_path: Path) -> None:
    """A file that may be executed but not read."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root, and setpriv of util-linux")
    for directory in (tmp_path, *tmp_path.parents[:-2]):
        directory.chmod(0o755)
    place = tmp_path / "opt"
    shutil.copytree(opt, place)
    (place / "telemetryd" / "telemetryd").chmod(0o711)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    command = (*nobody, str(place / "extensions" / "telemetryd"))
    with ScriptedPlatform({}, command=command) as platform:
        platform.register()
        platform.subscribe()
        platform.expect(NEXT).shutdown()
        platform.finish()
        platform.ledger()
