"""What is in the images, and what is not."""

from __future__ import annotations

import shutil
import stat
import struct
import subprocess
from pathlib import Path

import pytest

import telemetryd
from helpers import container_kit as kit
from helpers.layer_kit import HERE, build

TARGETS = ("layer", "extension", "daemon")
LARGEST = {"layer": 13_000_000, "extension": 30_000_000, "daemon": 35_000_000}
MACHINES = {"x86_64": 62, "arm64": 183}
"""`e_machine` of ELF files."""
LIBRARIES = {
    "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "libutil.so.1",
    "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1",
}  # fmt: skip


def names(root: Path) -> set[str]:
    """Every file, by its path."""
    return {str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir() or p.is_symlink()}


@pytest.mark.parametrize("target", TARGETS)
def test_labels_say_what_it_is(target: str, request: pytest.FixtureRequest) -> None:
    """By the names the OCI image specification gives them."""
    labels = kit.config(request.getfixturevalue(target))["Labels"]
    found = {k.removeprefix("org.opencontainers.image."): v for k, v in labels.items()}
    assert found["version"] == telemetryd.__version__
    assert found["revision"] == "tested"
    assert found["licenses"] == "Apache-2.0"
    assert found["title"].startswith("telemetryd")
    assert found["description"]


@pytest.mark.parametrize("target", TARGETS)
def test_it_is_small(target: str, request: pytest.FixtureRequest, figures: dict[str, str]) -> None:
    """Nothing of the build is left; nothing may be run with the rights of its owner."""
    with kit.files_of(request.getfixturevalue(target)) as root:
        files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
        size = sum(path.stat().st_size for path in files)
        figures[target] = f"{size / 1e6:.1f} MB"
        assert size <= LARGEST[target]
        assert not [path for path in files if path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)]


def test_the_layer_is_the_one_that_make_layer_builds(layer: str, tmp_path: Path) -> None:
    """Byte for byte, with its bill of materials: a container makes no difference."""
    built = build(HERE, tmp_path)
    with kit.files_of(layer) as root:
        assert names(root) == {built.name, f"{built.stem}.cdx.json"}
        assert (root / built.name).read_bytes() == built.read_bytes()


def test_the_extension_image_holds_opt_alone(extension: str) -> None:
    """A copy has one file to start, and its directory."""
    with kit.files_of(extension) as root:
        assert [path.name for path in root.iterdir()] == ["opt"]
        assert {path.name for path in (root / "opt").iterdir()} == {"extensions", "telemetryd"}
        (launcher,) = (root / "opt/extensions").iterdir()
        assert launcher.name == "telemetryd"
        for path in (launcher, root / "opt/telemetryd/telemetryd"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_the_daemon_image_is_no_distribution(daemon: str) -> None:
    """The layer's files, a C library, a user: no shell, no package manager, no other program."""
    with kit.files_of(daemon) as root:
        programs = {
            path.name
            for path in root.rglob("*")
            if path.is_file() and path.stat().st_mode & 0o111 and ".so" not in path.name
        }
        assert programs == {"telemetryd"}
        outside = {name for name in names(root) if not name.startswith("opt/")}
        libraries = {Path(name).name for name in outside if ".so" in name}
        assert libraries <= LIBRARIES
        assert {"libc.so.6", "libm.so.6"} < libraries
        others = {name for name in outside if ".so" not in name}
        assert others == {"etc/passwd", "etc/group", "usr/share/doc/libc6/copyright"}
        assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
        assert (root / "var/lib/telemetryd").stat().st_uid == 65532


def test_the_daemon_runs_as_nobody_in_particular(daemon: str) -> None:
    """A number, so that orchestrators can tell it is not root."""
    settings = kit.config(daemon)
    assert settings["User"] == "65532:65532"
    assert (settings["Entrypoint"], settings["Cmd"]) == (["telemetryd"], ["listen"])
    assert settings["ExposedPorts"] == {"4243/tcp": {}}
    assert settings["StopSignal"] == "SIGTERM"
    assert settings["Healthcheck"]["Test"] == ["CMD", "telemetryd", "health", "--alive"]


def test_the_other_architecture_is_cross_compiled_whole(other_daemon: str) -> None:
    """Every program and library is of that machine, and so none had to run during the build."""
    other = {"x86_64": "arm64", "arm64": "x86_64"}[HERE]
    with kit.files_of(other_daemon) as root:
        heads = [p.read_bytes()[:20] for p in root.rglob("*") if p.is_file()]
        machines = [
            struct.unpack_from("<H", head, 18)[0] for head in heads if head[:4] == b"\x7fELF"
        ]
        assert len(machines) > 10
        assert set(machines) == {MACHINES[other]}


def test_the_other_architecture_runs_on_its_own_libraries(other_daemon: str) -> None:
    """Under qemu's user emulation, which finds nothing but what is in the image."""
    emulator = shutil.which({"x86_64": "qemu-aarch64-static", "arm64": "qemu-x86_64-static"}[HERE])
    if emulator is None:
        pytest.skip("needs qemu-user-static")
    with kit.files_of(other_daemon) as root:
        command = [emulator, "-L", str(root), str(root / "opt/telemetryd/telemetryd"), "version"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"telemetryd {telemetryd.__version__} (CPython ")
