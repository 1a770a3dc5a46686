"""lib/: aiobotocore and what it needs, as bytecode, stripped shared objects and pruned data.

Besides, the certificate authorities of botocore, one by one, for the client of telemetryd's own.
"""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from layer import authorities, botocore_data, elf, shell
from layer.cache import HERE, Cache
from layer.machines import Machine
from layer.packages import LINKED, Packages

_AUTHORITIES = "botocore/cacert.pem"
_DATA = (_AUTHORITIES,)
_METADATA = ("Name", "Version", "License", "License-Expression", "Home-page", "Requires-Dist")


def build(
    cache: Cache, machine: Machine, packages: Packages, python: Path, listed: dict[str, Any]
) -> Path:
    """The directory; `python` is layer.cpython's for this machine."""

    def make(work: Path) -> None:
        target, plan = work / "lib", []
        for file in sorted(packages.site.rglob("*")):
            name = file.relative_to(packages.site)
            if file.suffix == ".py" and not _left_out(name, listed["leave_out"]):
                compiled = target / name.with_suffix(".pyc")
                plan.append((str(file), str(compiled), str(name)))
            elif file.suffix == ".so" and name.parts[0] not in listed["leave_out_binaries"]:
                if not _left_out(name, listed["leave_out"]):
                    _write(target / name, elf.stripped(file.read_bytes()))
            elif str(name) in _DATA:
                _write(target / name, file.read_bytes())
            elif file.name == "METADATA":
                _write(target / name, metadata(file.read_text(errors="replace")).encode())
        bundle = (packages.site / _AUTHORITIES).read_bytes()
        for certificate, data in authorities.hashed(bundle).items():
            _write(target / "certificates" / certificate, data)
        for linked in LINKED:
            text = (packages.source(linked) / "PKG-INFO").read_text(errors="replace")
            directory = packages.source(linked).name
            _write(target / f"{directory}.dist-info" / "METADATA", metadata(text).encode())
        services = listed["services"]
        botocore_data.write(packages.site / "botocore/data", target / "botocore/data", services)
        (work / "plan.json").write_text(json.dumps(plan))
        command: list[object] = [
            python / "bin" / "python",
            "-S",
            "-s",
            "-P",
            HERE / "lib_worker.py",
        ]
        env = shell.environment(
            PYTHONHASHSEED="0", PYTHONDONTWRITEBYTECODE="1", PYTHONNODEBUGRANGES="1"
        )
        shell.run([*command, work / "plan.json"], work, env, work / "log")

    own = [Path(__file__)]
    own += [HERE / f"{name}.py" for name in ("lib_worker", "botocore_data", "elf", "authorities")]
    inputs = (*own, HERE / "contents.toml", machine, packages.directory.name, python.name)
    return cache.stage(f"lib-{machine.name}", inputs, make)


def metadata(text: str) -> str:
    """The head of a METADATA file: what `telemetryd version` and vulnerability scanners read."""
    head = text.replace("\r\n", "\n").split("\n\n")[0].splitlines()
    kept = [line for line in head if line.split(":")[0] in ("Metadata-Version", *_METADATA)]
    return "\n".join(kept) + "\n"


def _left_out(name: Path, patterns: list[str]) -> bool:
    module = ".".join((*name.parts[:-1], name.name.split(".")[0])).removesuffix(".__init__")
    return any(fnmatch(module, p) or fnmatch(module, f"{p}.*") for p in patterns)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
