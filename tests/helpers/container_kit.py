"""Builds images with buildah and runs them with podman, in a storage of its own.

The base image is $TELEMETRYD_BASE_IMAGE, else the Dockerfile's own, else, where that can't be
pulled, a stand-in: a Debian by debootstrap with this machine's Python, certificates and pip
settings. The stand-in proves the Dockerfile; what the public image does is for a machine that has
it.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from helpers.layer_kit import CACHE as LAYER_CACHE

ROOT: Final = Path(__file__).parents[2]
CACHE: Final = Path(
    os.environ.get("TELEMETRYD_CONTAINER_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "telemetryd-container"
)
_STORAGE: Final = ("--root", str(CACHE / "storage"), "--runroot", str(CACHE / "run"))
_ENVIRONMENT: Final = {**os.environ, "STORAGE_DRIVER": "overlay"}
_STAND_IN: Final = "localhost/telemetryd-base:stand-in"
_PACKAGES: Final = (
    # what a Python that was built elsewhere may link to, besides Debian's own
    "python3", "python3-venv", "ca-certificates", "zlib1g", "libssl3", "libffi8", "libbz2-1.0",
    "liblzma5", "libsqlite3-0", "libreadline8", "libuuid1",
)  # fmt: skip
_PULL_SECONDS: Final = 60

SMALL: Final = ("--memory", "128m", "--cpus", "0.0714")
"""A function of 128 MB: 1/14 of a processor."""


def require() -> None:
    """Fail the tests, saying what is missing: no one asks for them and wants them skipped."""
    missing = [tool for tool in ("buildah", "podman", "runc", "nsenter") if not shutil.which(tool)]
    if missing:
        packages = " ".join({"nsenter": "util-linux"}.get(tool, tool) for tool in missing)
        pytest.fail(
            f"not installed: {', '.join(missing)}; e.g. apt-get install {packages}", pytrace=False
        )
    if os.geteuid() != 0:
        pytest.fail("images are built and run as root: sudo make container-test", pytrace=False)


def buildah(*arguments: object) -> str:
    """What buildah prints; the end of its errors if it fails."""
    return _run("buildah", *_STORAGE, *arguments)


def _run(*command: object, seconds: float | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        env=_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    if done.returncode != 0:
        end = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        pytest.fail(f"{' '.join(map(str, command))}\n{end}", pytrace=False)
    return done.stdout.strip()


def base_image() -> str:
    """The name of an image to build in."""
    named = os.environ.get("TELEMETRYD_BASE_IMAGE")
    return named or _pulled(ROOT / "Dockerfile", "BASE_IMAGE") or _stand_in()


def function_image(base: str) -> str:
    """The name of an image that functions are made of: as `base_image`, or `base` itself."""
    named = os.environ.get("TELEMETRYD_FUNCTION_IMAGE")
    file = ROOT / "examples/container-function/Dockerfile"
    if found := named or _pulled(file, "FUNCTION_IMAGE"):
        return found
    container = buildah("from", "--pull-never", base)
    buildah("config", "--env", "LAMBDA_TASK_ROOT=/var/task", "--workingdir", "/var/task", container)
    buildah("commit", "--rm", container, "localhost/telemetryd-function:stand-in")
    return "localhost/telemetryd-function:stand-in"


def _pulled(dockerfile: Path, argument: str) -> str:
    """The image that is the default of `argument`, empty if it can't be had."""
    text = dockerfile.read_text()
    (image,) = re.findall(rf"^ARG {argument}=(\S+)", text, re.MULTILINE)
    command = ["buildah", *_STORAGE, "pull", image]
    try:
        subprocess.run(
            command, env=_ENVIRONMENT, capture_output=True, check=True, timeout=_PULL_SECONDS
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        print(f"{image} can't be pulled: a stand-in takes its place", file=sys.stderr)
        return ""
    return str(image)


def _stand_in() -> str:
    known = ["buildah", *_STORAGE, "inspect", "--type", "image", _STAND_IN]
    done = subprocess.run(known, env=_ENVIRONMENT, capture_output=True, check=False)
    return _STAND_IN if done.returncode == 0 else _make_stand_in()


def _make_stand_in() -> str:
    if not shutil.which("debootstrap"):
        pytest.fail(
            "no base image: none can be pulled, and debootstrap, which would make one, is not "
            "installed (apt-get install debootstrap)",
            pytrace=False,
        )
    root = CACHE / "bookworm"
    if not (root / "usr/bin/python3").exists():
        shutil.rmtree(root, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        included = f"--include={','.join(_PACKAGES)}"
        _run("debootstrap", "--variant=minbase", included, "bookworm", root)
    container = buildah("from", "scratch")
    mounted = Path(buildah("mount", container))
    try:
        _run("cp", "--archive", f"{root}/.", mounted)
        _add_python(mounted)
        for file in ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf"):
            if Path(file).exists():
                shutil.copy(file, mounted / file[1:])
    finally:
        buildah("umount", container)
    path = f"{sys.base_prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    buildah("config", "--env", f"PATH={path}", container)
    buildah("commit", "--rm", container, _STAND_IN)
    return _STAND_IN


def _add_python(mounted: Path) -> None:
    """Our own Python, at its own path: what it compiled for the layer here is used there too."""
    prefix = Path(sys.base_prefix)
    if prefix == Path("/usr"):
        return
    leave_out = shutil.ignore_patterns("site-packages", "test", "__pycache__", "*.a")
    place = mounted / prefix.relative_to("/")
    shutil.copytree(prefix, place, symlinks=True, ignore=leave_out)
    (place / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages").mkdir()


def build(
    tag: str, context: Path, *, target: str = "", file: Path | None = None, **arguments: str
) -> str:
    """Build an image; its name. The layer's stages come from, and go to, the cache of this user."""
    LAYER_CACHE.mkdir(parents=True, exist_ok=True)
    name = f"localhost/{tag}"
    options = [option for k, v in arguments.items() for option in ("--build-arg", f"{k}={v}")]
    if target:
        options += ["--target", target]
    if file:
        options += ["--file", str(file)]
    buildah(
        "build", "--isolation", "chroot", "--format", "docker", "--layers",
        "--volume", f"{LAYER_CACHE}:{LAYER_CACHE}", *options, "--tag", name, context,
    )  # fmt: skip
    return name


def config(image: str) -> dict[str, Any]:
    """What the image says about how to run it."""
    found: dict[str, Any] = json.loads(buildah("inspect", "--type", "image", image))
    settings: dict[str, Any] = found["Docker"]["config"]
    return settings


@contextmanager
def files_of(image: str) -> Iterator[Path]:
    """The image's file system, to read."""
    container = buildah("from", "--pull-never", image)
    try:
        yield Path(buildah("mount", container))
    finally:
        buildah("rm", container)


def podman(*options: str, image: str, arguments: Sequence[str] = ()) -> list[str]:
    """The command that runs `image`: read-only but for a small /tmp, as root of nothing."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return [
        "podman", *_STORAGE, "--runtime", "runc", "--cgroup-manager", "cgroupfs",
        "--log-level", "fatal",
        "run", "--rm", "--pull", "never", "--ulimit", f"nofile={files}:{files}",
        "--ulimit", "nproc=1000:1000", "--read-only", "--tmpfs", "/tmp:size=64m",  # noqa: S108 - the container's
        "--cap-drop", "all", *options, image, *arguments,
    ]  # fmt: skip


def podman_environment(more: Mapping[str, str]) -> dict[str, str]:
    """The environment for `podman`."""
    return {**_ENVIRONMENT, **more}


def of_container(container: str, *command: str) -> str:
    """What `podman COMMAND CONTAINER` prints."""
    options = (*_STORAGE, "--runtime", "runc", "--cgroup-manager", "cgroupfs")
    return _run("podman", *options, "--log-level", "fatal", *command, container)
