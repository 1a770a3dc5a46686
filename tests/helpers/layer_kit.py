"""Builds, unpacks and houses the layer for its tests."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "layer" / "build.py"
BUILD_LIMIT = 3600
FILES = 1024
"""A limit that many hosts have, and that buildah gives to the build of an image."""
HERE = {"amd64": "x86_64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
CACHE = Path(
    os.environ.get("TELEMETRYD_LAYER_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "telemetryd-layer"
)


def build(arch: str, out: Path, *options: str) -> Path:
    """The zip for `arch`: the one in $TELEMETRYD_LAYER_DIST, else one built in `out`.

    No process of the build may open more than FILES at once.
    """
    finished = Path(os.environ.get("TELEMETRYD_LAYER_DIST", "")) / f"telemetryd-layer-{arch}.zip"
    if "TELEMETRYD_LAYER_DIST" in os.environ and not options:
        return finished
    limited = ["sh", "-c", f'ulimit -n {FILES} 2>&-; exec "$@"', "sh"]
    command = [*limited, sys.executable, str(BUILD), "--arch", arch, "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"the layer can't be built:\n{done.stderr}", pytrace=False)
    return out / f"telemetryd-layer-{arch}.zip"


def unpack(zipped: Path, opt: Path) -> Path:
    """Unpack a layer, modes and all."""
    with zipfile.ZipFile(zipped) as packed:
        packed.extractall(opt)
        for entry in packed.infolist():
            (opt / entry.filename).chmod(entry.external_attr >> 16 & 0o777)
    return opt


def debootstrap(release: str, arch: str = "") -> Path:
    """A minimal Debian, kept in the cache; one of another architecture is unpacked, not set up."""
    place = CACHE / "roots" / f"{release}{arch}"
    finished = place.with_name(f"{place.name}.finished")
    place.parent.mkdir(parents=True, exist_ok=True)
    with alone(place):
        if not finished.exists():
            shutil.rmtree(place, ignore_errors=True)
            options = [f"--arch={arch}", "--foreign"] if arch else []
            command = ["debootstrap", "--variant=minbase", *options, release, str(place)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.fail(f"debootstrap {release} failed:\n{done.stdout[-2000:]}", pytrace=False)
            finished.touch()
    return place


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """No other suite of this user's, which has the same cache, is at `place` at the same time."""
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def certificate(directory: Path) -> Path:
    """A key with a certificate that signs itself, for 127.0.0.1; by the openssl command."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    key, public = directory / "key.pem", directory / "public.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=telemetryd test", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(public)),
        ],
        check=True,
        capture_output=True,
    )
    both = directory / "certificate.pem"
    both.write_bytes(key.read_bytes() + public.read_bytes())
    return both
