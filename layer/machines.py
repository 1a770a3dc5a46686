"""The two architectures Lambda has, under the names that each tool has for them."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from layer.problem import BuildError

GLIBC = (2, 26)
"""No file of the layer may need a newer C library: Amazon Linux 2 has this one, 2023 has 2.34."""


@dataclass(frozen=True)
class Machine:
    """One architecture."""

    name: str
    """AWS's name, that of the zip."""
    cpu: str
    """The first part of a target triple."""
    openssl: str
    """The target of OpenSSL's Configure."""
    elf: int
    """`e_machine` of its ELF files."""
    wheel: str
    """The last part of a wheel's platform tag."""

    @property
    def glibc_target(self) -> str:
        """The compiler's target for what is linked against glibc."""
        return f"{self.cpu}-linux-gnu.{GLIBC[0]}.{GLIBC[1]}"

    @property
    def musl_target(self) -> str:
        """The compiler's target for what is linked statically."""
        return f"{self.cpu}-linux-musl"

    @property
    def triple(self) -> str:
        """Return the name of the machine for configure scripts."""
        return f"{self.cpu}-linux-gnu"


MACHINES = {
    "x86_64": Machine("x86_64", "x86_64", "linux-x86_64", 62, "x86_64"),
    "arm64": Machine("arm64", "aarch64", "linux-aarch64", 183, "aarch64"),
}


def this_machine() -> Machine:
    """The architecture the build runs on. Raises BuildError."""
    name = {"amd64": "x86_64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    if name not in MACHINES:
        raise BuildError(f"this machine is {name}; the layer can be built on x86_64 and arm64")
    return MACHINES[name]
