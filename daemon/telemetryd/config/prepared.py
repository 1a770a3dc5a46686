"""`python -m telemetryd.config.prepared FILE` prints the file as the layer's launcher reads it.

That is one variable for each key, NAME=VALUE, each ended by a NUL. The launcher puts them into the
environment, where they are read without TOML and need no parser in C. The file must be valid for
Lambda, and must mean the same in this form.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any, Final

from telemetryd import toml_file
from telemetryd.config.load import load
from telemetryd.config.sources import CONFIG_VARIABLE, PREFIX
from telemetryd.errors import EXIT_CONFIG, EXIT_OK, ConfigError

_PLAIN: Final = re.compile(r"[a-z_]+")
MOST_BYTES: Final = 64 * 1024
"""As layer/c/prepared.c has it."""


def prepare(file: str) -> tuple[bytes, tuple[str, ...]]:
    """Return the variables for the keys of `file`, and warnings. Raises ConfigError."""
    loaded = load({CONFIG_VARIABLE: file}, default_paths=(), mode="lambda")
    table = toml_file.read(file)
    keys = [key for key, origin in loaded.origins.items() if origin == file]
    variables = {PREFIX + key.upper().replace(".", "__"): _text(_value(table, key)) for key in keys}
    again = load(variables, default_paths=(), mode="lambda")
    if again.config != loaded.config:
        raise _refusal(file, "variables with its values would not mean the same")
    entries = [f"{name}={text}".encode() for name, text in variables.items()]
    if any(b"\0" in entry for entry in entries):
        raise _refusal(file, "a value has a NUL")
    prepared = b"".join(entry + b"\0" for entry in entries)
    if len(prepared) > MOST_BYTES:
        raise _refusal(file, f"{len(prepared)} bytes are more than {MOST_BYTES}")
    return prepared, again.warnings


def _refusal(file: str, reason: str) -> ConfigError:
    return ConfigError((f"{file}: can't be prepared: {reason}",))


def _value(table: Any, key: str) -> object:
    """Return the value of a dotted key, none of whose parts has a dot."""
    for part in key.split("."):
        table = table[part]
    return table


def _text(value: object) -> str:
    """Return a value as it is written in a variable; a list as the launcher can read it, too."""
    if isinstance(value, list) and all(isinstance(v, str) and _PLAIN.fullmatch(v) for v in value):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def main(arguments: Sequence[str]) -> int:
    """Print the variables to standard output, all else to standard error. Return the status."""
    (file,) = arguments
    try:
        prepared, warnings = prepare(file)
    except ConfigError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return EXIT_CONFIG
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    sys.stdout.buffer.write(prepared)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
