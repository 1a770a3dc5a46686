"""The subjects: telemetryd's layer, its virtual environment, two other extensions."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import telemetryd
import telemetryd_proto
from bench.peers import catalog
from bench.peers.catalog import PeerAbsentError
from telemetryd.config.prepared import prepare

HERE: Final = os.uname().machine.replace("aarch64", "arm64")
LAYER: Final = Path("dist", f"telemetryd-layer-{HERE}.zip")
"""The file that `make layer` writes."""
QUIET_MILLISECONDS: Final = 50.0
"""The time that telemetryd waits at SHUTDOWN for last lines: twice the platform's `timeoutMs`."""
_PEERS: Final = {
    "python": ("python-http-sample", "naive Python (requests, http.server)"),
    "rust": ("rust", "Rust (crate lambda-extension)"),
}
NAMES: Final = ("layer", "layer-file", "layer-built", "venv", "venv-ready", *_PEERS)
"""In the order of the tables."""
_BASE: Final = Path(sys.base_prefix, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}")
_FILE_SINK: Final = {"TYPE": "file", "PATH": "{output}"}


class Subject:
    """An extension, and how it is started."""

    def __init__(
        self,
        title: str,
        executable: Path,
        files: Sequence[Path],
        environment: Mapping[str, str],
        *,
        ours: bool = True,
        has_sink: bool = False,
    ) -> None:
        self.title = title
        self.executable = executable
        self.files = files
        """The files that its start reads, and directories with all their files."""
        self.ours = ours
        """telemetryd says when it is up; others ask for `next` only then."""
        self._environment = dict(environment)
        self._has_sink = has_sink or "TELEMETRYD_CONFIG" in environment
        self._written: list[Path] | None = None

    def environment(self, output: Path, sink: Mapping[str, str] | None = None) -> dict[str, str]:
        """Its variables: a file sink at `output`, or another sink where it is telemetryd."""
        if not self.ours:
            return {"PEER_OUTPUT": str(output), "PEER_PORT": str(_free_port())}
        values = {}
        if not self._has_sink:
            keys = {name: text.format(output=output) for name, text in _FILE_SINK.items()}
            values = {f"TELEMETRYD_SINKS__OUT__{key}": v for key, v in (sink or keys).items()}
        return {"TELEMETRYD_TELEMETRY__PORT": "0", **values, **self._environment}

    def evict(self) -> None:
        """Drop its files from the page cache, but for what another process has mapped."""
        if self._written is None:
            os.sync()  # what is not yet written can't be dropped
            self._written = list(self._all_files())
        for path in self._written:
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)

    def _all_files(self) -> Iterator[Path]:
        for place in self.files:
            for path in place.rglob("*") if place.is_dir() else (place,):
                if path.is_file() and "test" not in path.parts:
                    yield path


def unpack(layer: Path, directory: Path) -> Path:
    """The layer's launcher, unpacked as Lambda would."""
    with zipfile.ZipFile(layer) as packed:
        packed.extractall(directory)
        for entry in packed.infolist():
            (directory / entry.filename).chmod(entry.external_attr >> 16 & 0o777)
    return directory / "extensions" / "telemetryd"


def find(
    layer: Path, directory: Path, wanted: Sequence[str] = NAMES
) -> tuple[dict[str, Subject], dict[str, str]]:
    """The wanted subjects by name, and why one is absent; `directory` is for the layer's files.

    Builds other extensions where they are not built. Raises `bench.peers.catalog.PeerError`.
    """
    found: dict[str, Subject] = {}
    absent: dict[str, str] = {}
    if any(name.startswith("layer") for name in wanted):
        if layer.exists():
            found |= _of_layer(unpack(layer, directory / "opt"), directory)
        else:
            absent["layer"] = f"{layer} is missing: `make layer` builds it"
    found |= _of_virtual_environment()
    for name in (name for name in _PEERS if name in wanted):
        try:
            found[name] = _of_peer(name)
        except PeerAbsentError as error:
            absent[name] = str(error)
    return {name: found[name] for name in NAMES if name in found and name in wanted}, absent


def _of_layer(launcher: Path, directory: Path) -> dict[str, Subject]:
    opt = launcher.parents[1]
    file = directory / "telemetryd.toml"
    file.write_text(f'[sinks.out]\ntype = "file"\npath = "{directory}/telemetry.ndjson"\n')
    named = {"TELEMETRYD_CONFIG": str(file)}
    title = "layer, with a configuration file"
    return {
        "layer": Subject("layer", launcher, [opt], {}),
        "layer-file": Subject(title, launcher, [opt, file], named),
        "layer-built": _built_with(file, opt, directory / "built"),
    }


def _built_with(file: Path, opt: Path, built: Path) -> Subject:
    """Return the layer as a build with that file makes it."""
    shutil.copytree(opt, built)
    (built / "telemetryd" / "prepared").write_bytes(prepare(str(file))[0])
    title = "layer, built with the file"
    return Subject(title, built / "extensions" / "telemetryd", [built], {}, has_sink=True)


def _of_virtual_environment() -> dict[str, Subject]:
    script = Path(sys.prefix, "bin", "telemetryd")
    own = [Path(str(module.__file__)).parent for module in (telemetryd, telemetryd_proto)]
    files = [Path(sys.prefix, "lib"), script, _BASE, *own]
    title = f"virtual environment, Python {sys.version_info[0]}.{sys.version_info[1]}"
    ready = {"TELEMETRYD_LAMBDA__NEXT": "ready"}
    return {
        "venv": Subject(title, script, files, {}),
        "venv-ready": Subject('the same, `lambda.next = "ready"`', script, files, ready),
    }


def _of_peer(name: str) -> Subject:
    folder, title = _PEERS[name]
    peer = catalog.load()[folder]
    peer.prepare()
    executable = peer.extension()
    assert executable is not None
    files = [executable, peer.build / "venv", _BASE] if name == "python" else [executable]
    return Subject(title, executable, files, {}, ours=False)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
