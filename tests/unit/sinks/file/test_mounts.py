"""Which file systems a direct write may go to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from telemetryd.sinks.file import mounts

MOUNTS = b"""\
22 27 0:21 / /proc rw,relatime - proc proc rw
30 27 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
31 30 0:44 / /mnt/efs rw,relatime shared:2 - nfs4 127.0.0.1:/ rw,vers=4.1
32 30 0:45 / /mnt/a\\040-\\040ext4 rw - fuse.sshfs host:/ rw
33 30 0:46 / /tmp rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("device", "kind"),
    [
        ((259, 1), b"ext4"), ((0, 44), b"nfs4"), ((0, 45), b"fuse.sshfs"), ((0, 46), b"tmpfs"),
        ((0, 4), b""), ((59, 1), b""),
    ],
)  # fmt: skip
def test_the_type_is_that_of_the_line_with_the_device(device: tuple[int, int], kind: bytes) -> None:
    assert mounts.type_of(b"%d:%d" % device, MOUNTS) == kind


def test_a_file_of_the_kernel_is_not_local_and_one_in_memory_is() -> None:
    assert not mounts.is_local(Path("/proc").stat().st_dev)
    assert not mounts.is_local(os.makedev(4095, 4095))
    shared = Path("/dev/shm")  # noqa: S108 - looked at, not used
    if shared.exists():
        assert mounts.is_local(shared.stat().st_dev)


def test_where_the_mounts_can_not_be_read_nothing_is_local(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path.stat().st_dev
    for place in (tmp_path / "missing", tmp_path):
        monkeypatch.setattr(mounts, "_MOUNTS", str(place))
        assert not mounts.is_local(device)
