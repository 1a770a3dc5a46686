"""Writes docs/configuration.md from the structs, so that it lists the keys that exist.

    python -m telemetryd.config.document > docs/configuration.md

A key's meaning is the `description` of its type or the docstring below it.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
import textwrap
from collections.abc import Callable, Iterable

import msgspec
from msgspec.structs import FieldInfo

from telemetryd.config.explain import note, spell_out, toml_value, unwrap
from telemetryd.config.reader import section_type
from telemetryd.config.schema import Config
from telemetryd.config.sources import CONFIG_VARIABLE, DEFAULT_PATHS
from telemetryd.config.suggest import variable
from telemetryd.sinks.base import SinkConfig
from telemetryd.sinks.registry import BUILT_IN, GROUP, sink_class

EXAMPLE = """\
[telemetry]
types = ["platform", "function"]

[telemetry.buffering]
timeout_ms = 25

[sinks.archive]
type = "file"
path = "/tmp/telemetry-{function}.ndjson"
queue_max_bytes = 33_554_432

[dead_letter]
path = "/tmp/telemetry-dead-letter.ndjson"
"""

_INTRODUCTION = f"""\
# Configuration

Every key has a default, except those of sinks marked "required". Each of these places overrides the
one before:

1. the defaults in the tables below;
2. a TOML file: the one that `{CONFIG_VARIABLE}` names, otherwise the first existing one of
   {" and ".join(f"`{path}`" for path in DEFAULT_PATHS)};
   without one the file that the layer was [built with](layer.md#with-your-settings-inside), if any;
3. environment variables `TELEMETRYD_<SECTION>__<KEY>`, with two underscores where the key has a
   dot: `{variable("telemetry.buffering.timeout_ms")}=25`,
   `{variable("sinks.archive.type")}=file`, `{variable("fail_closed")}=true`.

`telemetryd check` prints the configuration in effect and the origin of each value, with secrets
masked. If the configuration is invalid, it exits with 78 and lists every problem: an unknown key or
variable, a value outside its limits, keys that conflict.

In Lambda a fault does not stop the function. The log names it, and the key gets its default. Some
keys decide where lines of a sink go, or which lines. A fault in one of them turns the sink off, so
its data never goes elsewhere. All sinks are off, also those of variables, if
`TELEMETRYD_CONFIG` names a file that is missing or can't be read: it may have [rules of
`redact`](redaction.md#what-goes-wrong).

```toml
{EXAMPLE}```

In the file, values need their TOML type: `port = "4243"` is an error. In variables, write numbers
and `true`/`false` as they are. Write lists with commas (`platform,function`) or as a JSON or TOML
array, and tables as JSON or TOML. Names of variables are case-insensitive. Every variable that
begins with `TELEMETRYD_` must name a key. The exceptions are variables that Kubernetes and
`docker --link` set for a service named telemetryd ([signals.md](signals.md#the-environment)).

The file must be a regular file of at most 256 KiB. `SIGHUP` makes `telemetryd listen` read it
again; [signals.md](signals.md#reload) says which keys change at once.
"""

_SINKS = f"""\
## `[sinks.<name>]`

One section for each destination. Choose its name: up to 40 lower-case letters, digits and single
underscores. Without any section, telemetryd adds a sink named `default`. In Lambda it is `emf`. In
`listen` it is `stdout` if standard output is a terminal, otherwise `null`; a warning says so. Other
packages add types through the entry-point group `{GROUP}`. These keys exist for every type:
"""


def render() -> str:
    """Return the whole document in Markdown."""
    parts = [_INTRODUCTION, "## Top level\n", table(Config)]
    for field in msgspec.structs.fields(Config):
        if field.encode_name == "sinks":
            parts += [_SINKS, table(SinkConfig), *_sink_types()]
            parts += _sections(SinkConfig, "sinks.<name>")
        elif (section := section_type(field)) is not None:
            parts += _section(section, field.encode_name)
    return "\n".join(parts)


def _section(cls: type[msgspec.Struct], path: str) -> Iterable[str]:
    yield f"## `[{path}]`\n"
    title, *rest = inspect.cleandoc(cls.__doc__ or "").split("\n\n", 1)
    purpose = title.partition(": ")[2].replace("\n", " ")
    yield "\n\n".join([purpose[:1].upper() + purpose[1:], *rest]) + "\n"
    yield table(cls)
    yield from _sections(cls, path)


def _sections(cls: type[msgspec.Struct], path: str) -> Iterable[str]:
    for field in msgspec.structs.fields(cls):
        if (section := section_type(field)) is not None:
            yield from _section(section, f"{path}.{field.encode_name}")


def _sink_types() -> Iterable[str]:
    for name in BUILT_IN:
        sink = sink_class(name)
        summary = inspect.cleandoc(sys.modules[sink.__module__].__doc__ or "").split("\n\n")[0]
        purpose = summary.partition(": ")[2].replace("\n", " ")
        yield f'### `type = "{name}"`\n'
        yield purpose[:1].upper() + purpose[1:] + "\n"
        own = table(sink.Config, without=SinkConfig)
        yield own or "No further keys.\n"


def table(
    cls: type[msgspec.Struct],
    without: type[msgspec.Struct] | None = None,
    unit_of: Callable[[str], str] | None = None,
) -> str:
    """Return the keys of `cls` as a table; of those of `without`, only what `cls` has changed.

    `unit_of` returns the unit of a key, for a column of units. Empty: there is no key.
    """
    inherited = _fields_unchanged(cls, without) if without else set()
    docstrings = _docstrings(cls)
    rows = [
        f"| `{field.encode_name}` |{_unit(field, unit_of)} {_limits(field)} | {_default(field)} "
        f"| {_cell(_meaning(field, docstrings))} |"
        for field in msgspec.structs.fields(cls)
        if (section_type(field) is None or field.default is None)
        and field.name not in inherited
        and field.name != "sinks"
    ]
    if not rows:
        return ""
    header = ["| Key | Allowed | Default | Meaning |", "|---|---|---|---|"]
    if unit_of is not None:
        header = ["| Key | Unit | Allowed | Default | Meaning |", "|---|---|---|---|---|"]
    return "\n".join([*header, *rows]) + "\n"


def _unit(field: FieldInfo, unit_of: Callable[[str], str] | None) -> str:
    return "" if unit_of is None else f" {unit_of(field.encode_name)} |"


def _fields_unchanged(cls: type[msgspec.Struct], base: type[msgspec.Struct]) -> set[str]:
    """Return names of the fields that `cls` has from `base` as they are, default and all."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(base)}
    return {
        field.name
        for field in msgspec.structs.fields(cls)
        if field.name in defaults and field.default == defaults[field.name]
    }


def _limits(field: FieldInfo) -> str:
    if field.encode_name == "type":
        return ", ".join(toml_value(name) for name in BUILT_IN) + ", or one of another package"
    if section_type(field) is not None:
        return "a section"
    text = spell_out(field.type)
    for meta in unwrap(field.type)[1]:
        if field.encode_name.endswith("_bytes") and meta.ge is not None and meta.le is not None:
            text = f"{number_of_bytes(meta.ge)} to {number_of_bytes(meta.le)}"
    source = note(field.type)
    return _cell(f"{text} ({source})" if source else text)


def _default(field: FieldInfo) -> str:
    if field.required:
        return "required"
    if field.default is None:
        return "not set"
    if field.default is msgspec.NODEFAULT:  # a table, which is made for each
        return f"`{_cell(toml_value(field.default_factory()))}`"
    text = f"`{_cell(toml_value(field.default))}`"
    if field.encode_name.endswith("_bytes") and field.default:
        return f"{text} ({number_of_bytes(field.default)})"
    return text


def number_of_bytes(number: float) -> str:
    """Return a size in the largest unit that has no fraction, such as `16 MiB`."""
    unit = "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if number < 1024 or number % 1024:  # noqa: PLR2004 - a KiB
            break
        number, unit = number / 1024, larger
    return f"{number:g} {unit}"


def _meaning(field: FieldInfo, docstrings: dict[str, str]) -> str:
    if field.encode_name == "type":
        return "Which sink this is; its further keys are below."
    described = (meta.description for meta in unwrap(field.type)[1] if meta.description)
    return next(described, "") or docstrings.get(field.name, "")


def _docstrings(cls: type) -> dict[str, str]:
    """Return the docstring below each field, of the class and its bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not issubclass(base, msgspec.Struct) or base is msgspec.Struct:
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for statement, following in itertools.pairwise(body):
            match statement, following:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = inspect.cleandoc(text).replace("\n", " ")
    return found


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render())
