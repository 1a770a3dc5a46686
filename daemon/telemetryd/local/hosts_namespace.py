"""A separate process that makes a mount namespace with a given file as /etc/hosts, and waits.

Run it as `python -I -S hosts_namespace.py FILE`; it needs only the standard library. It prints the
address that `sandbox.localdomain` then resolves to, or `error: REASON`. It ends when its standard
input ends. Without the right to mount it also makes a user namespace, if the kernel allows that.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from pathlib import Path

_NEW_MOUNTS = 0x0002_0000
_NEW_USERS = 0x1000_0000
_BIND = 0x1000
_RECURSIVE_SLAVE = 0x4000 | 0x8_0000

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    """Make a call to the C library. Raises `OSError`."""
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def _unshare() -> None:
    """Leave the namespaces of the parent, for one of mounts, and one of users where needed."""
    user, group = os.getuid(), os.getgid()
    try:
        _call("unshare", _NEW_MOUNTS)
    except PermissionError:
        _call("unshare", _NEW_USERS | _NEW_MOUNTS)
        process = Path("/proc/self")
        # The same numbers inside as outside; a group can be mapped only when groups are fixed.
        (process / "setgroups").write_text("deny")
        (process / "uid_map").write_text(f"{user} {user} 1")
        (process / "gid_map").write_text(f"{group} {group} 1")


def main(hosts: str) -> None:
    """Make the namespace, say so, and stay until the other side lets go."""
    try:
        _unshare()
        # What the machine mounts later shows up here; nothing of ours shows up there.
        _call("mount", None, b"/", None, _RECURSIVE_SLAVE, None)
        _call("mount", os.fsencode(hosts), b"/etc/hosts", None, _BIND, None)
        # As bytes: a name as text needs a codec, which may be out of reach by now.
        found = socket.getaddrinfo(b"sandbox.localdomain", None, socket.AF_INET)
        print(found[0][4][0], flush=True)
    except OSError as error:
        print(f"error: {error.filename or 'lookup'}: {error.strerror}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
