"""Reads the sections from the sources one after the other, and notes every fault.

A fault never stops the reading. The key gets its default. So all faults are found in one run, and
the rules between keys are checked on usable values. Lambda runs in spite of faults. Then a sink is
off if a default would send its lines elsewhere, or send lines that it should not get. A fault's
line names the origin of the value, the key, the value (with secrets masked) and what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar, get_args

import msgspec
from msgspec.structs import FieldInfo

from telemetryd.config.schema import Config, DeadLetter, Mode, without_bad_failovers
from telemetryd.config.sources import Path, Sources
from telemetryd.sinks.base import SinkConfig

DEFAULT: Final = "default"

_RULES_UNREAD: Final = (
    "redact: its rules may be in what could not be read, and lines might leave unmasked: in "
    "Lambda every sink is off; fix that, or give the rules in TELEMETRYD_REDACT ([] for none)"
)
_MAX_NAME: Final = 40
_SINK_NAME: Final = (
    "a sink's name must be 1 to 40 lower-case letters, digits and single underscores, and start "
    "with a letter (two underscores separate the parts of an environment variable)"
)
_UNSET: Final = object()

AnyStruct = TypeVar("AnyStruct", bound=msgspec.Struct)

_MAX_PROBLEMS: Final = 100
"""More would not help, and each takes time to write."""
_MAX_SUGGESTED: Final = 20
"""Unknown names that are compared with all that exist, which takes a millisecond each."""


class Reader:
    """Reads one set of sources once; `problems` and `origins` fill as sections are read."""

    def __init__(
        self, sources: Sources, mode: Mode, *, tolerant: bool = False, terminal: bool = False
    ) -> None:
        """Read `sources` for `mode`. For `tolerant` and `terminal` see `load`."""
        self._mode: Mode = mode
        self._tolerant = tolerant
        self._terminal = terminal
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self._unreported = 0
        for problem in sources.problems:
            self._add(problem)
        self.origins: dict[str, str] = {}
        self.sinks: dict[str, type[SinkConfig]] = {}
        """The declared sinks; the base class where the type is not known."""
        self._sources = sources
        self._environment = dict(sources.environment)
        self._values: dict[str, object] = {}
        self._refused: set[str] = set()
        self._unknown: list[Path] = []
        self._astray: set[str] = set()
        self._unmasked = ("redact",) in sources.hidden
        """True if a rule of `redact` may be missing."""
        if self._unmasked and mode == "lambda":  # elsewhere a fault is the end
            self._add(_RULES_UNREAD)

    def config(self) -> Config:
        """Return the configuration, with defaults in place of all that has a problem."""
        table = self._sources.table
        given: dict[str, object] = {}
        fields = msgspec.structs.fields(Config)
        for field in fields:
            if field.name == "sinks":
                given["sinks"] = self._read_sinks(table.get("sinks", {}))
            else:
                self._field(field, (), table, given)
        self._unknown += [(key,) for key in table if key not in _names(fields)]
        return self._apply_rules(Config, (), given) or Config()

    def repair(self, config: Config) -> Config:
        """Return `config` without the sinks whose faults concern where lines go, or which.

        A fault in what must be masked concerns all sinks, and the dead letter.
        """
        if self._unmasked:
            return msgspec.structs.replace(config, sinks={}, dead_letter=DeadLetter())
        sinks = {name: sink for name, sink in config.sinks.items() if name not in self._astray}
        return without_bad_failovers(msgspec.structs.replace(config, sinks=sinks))

    def refuse(self, key: str, text: str) -> None:
        """Add a problem with the value of `key`."""
        self._refuse(key, text)

    def report_unknown(self) -> None:
        """Turn every key and variable that nothing has asked for into a problem."""
        if not (self._unknown or self._environment):
            return
        from telemetryd.config import suggest  # noqa: PLC0415 - for errors only

        keys = set(_keys(Config, ()))
        for name, kind in self.sinks.items():
            keys.update(_keys(kind, ("sinks", name)))
        sections = {key.rpartition(".")[0] for key in keys if "." in key} | {"sinks"}
        for number, path in enumerate(self._unknown):
            key = ".".join(path)
            near = ""
            if number < _MAX_SUGGESTED:
                near = suggest.did_you_mean(key, keys | sections)
                self._leads_astray(path, suggest.closest(key, keys))
                self._hides_sinks(suggest.closest(path[0], sections))
            self._leaves_unmasked(path)
            self._refuse(key, f"unknown key{near}", origin=self._sources.file)
        common = _names(msgspec.structs.fields(SinkConfig))
        for number, (path, given) in enumerate(self._environment.items()):
            text = f"unknown key {'.'.join(path)}"
            leads_astray = False
            if number < _MAX_SUGGESTED:
                text = suggest.unknown_variable(path, keys, sections, common)
                leads_astray = self._leads_astray(path, suggest.closest(".".join(path), keys))
                if path[2:] and self._hides_sinks(suggest.closest(path[0], sections)):
                    leads_astray = True
            leads_astray = self._leaves_unmasked(path) or leads_astray
            if leads_astray or not self._tolerant:
                self._report(f"environment {given.variable}", text)
            elif number < _MAX_SUGGESTED:
                self.warnings.append(self._line(f"environment {given.variable}", text))

    @property
    def all_problems(self) -> tuple[str, ...]:
        """Every problem there is room for, and how many there are besides."""
        if not self._unreported:
            return tuple(self.problems)
        return (*self.problems, f"... and {self._unreported} more problems")

    def _leads_astray(self, path: Path, meant: str) -> bool:
        """Leave out the sink of an unknown key that stands for a missing one that matters.

        `meant` is the key it resembles most. True if the sink is left out.
        """
        if meant == "redact":
            self._unmasked = True
            return True
        name = path[1] if path[0] == "sinks" and path[2:] else ""
        key = meant.removeprefix(f"sinks.{name}.")
        is_set = self.origins.get(meant, DEFAULT) != DEFAULT
        if name not in self.sinks or key == meant or is_set or key in _tuning(self.sinks[name]):
            return False
        self._astray.add(name)
        return True

    def _leaves_unmasked(self, path: Path) -> bool:
        """Note that an unknown key may stand for `redact`, such as `redact.rules`."""
        from telemetryd.config.suggest import closest  # noqa: PLC0415 - for errors only

        is_of_rules = path[0].startswith("redact")
        if is_of_rules and closest(path[0], ("redact", "redact_salt")) != "redact_salt":
            self._unmasked = True
            return True
        return False

    def _hides_sinks(self, meant: str) -> bool:
        """Leave out the default sink where the section of unknown keys was meant to name sinks."""
        if self.sinks or meant != "sinks":
            return False
        self._astray.add("default")
        return True

    def _is_astray(self, cls: type[msgspec.Struct], path: Path) -> bool:
        """True if a key of the section is refused whose default may not stand in for it."""
        prefix = f"{'.'.join(path)}."
        refused = {key.removeprefix(prefix) for key in self._refused if key.startswith(prefix)}
        names = _names(msgspec.structs.fields(cls))
        for hidden in self._sources.hidden:
            if hidden[:-1] == path and hidden[-1] in names:
                refused.add(hidden[-1])
        judged = {
            field.encode_name
            for field in msgspec.structs.fields(cls)
            if (section := section_type(field)) is not None and hasattr(section, "tuning")
        }
        return any(key.partition(".")[0] not in judged for key in refused - _tuning(cls))

    def _section(self, cls: type[AnyStruct], path: Path, table: object) -> AnyStruct | None:
        """Return the struct of one section; None if a key without default is missing or refused."""
        table = self._table(path, table)
        given: dict[str, object] = {}
        fields = msgspec.structs.fields(cls)
        complete = [self._field(field, path, table, given) for field in fields]
        self._unknown += [(*path, key) for key in table if key not in _names(fields)]
        return self._apply_rules(cls, path, given) if all(complete) else None

    def _table(self, path: Path, table: object) -> Mapping[str, object]:
        if isinstance(table, dict):
            return table
        from telemetryd.config.explain import toml_type  # noqa: PLC0415 - for errors only

        key = ".".join(path)
        header = "[sinks.<name>]" if key == "sinks" else f"[{key}]"
        text = f"is a section, not {toml_type(table)}: write {header} above its keys"
        self._refuse(key, text, origin=self._sources.file)
        return {}

    def _field(
        self, field: FieldInfo, path: Path, table: Mapping[str, object], given: dict[str, object]
    ) -> bool:
        """Put the field's value into `given`, if there is one. False where one is indispensable."""
        here = (*path, field.encode_name)
        value: object
        section = section_type(field)
        if section is not None:
            value = self._subsection(field, section, here, table)
            value = _UNSET if value is None else value
        else:
            value = self._leaf(field, here, table.get(field.encode_name, _UNSET))
            if field.name == "tags":
                value = self._with_single_tags(here, value)
        if value is not _UNSET:
            given[field.name] = value
        return value is not _UNSET or not field.required

    def _subsection(
        self, field: FieldInfo, cls: type[msgspec.Struct], path: Path, table: Mapping[str, object]
    ) -> msgspec.Struct | None:
        """Return a section within a section; one that is off unless given is read only if it is."""
        given = any(variable[: len(path)] == path for variable in self._environment)
        if field.default is None and not given and field.encode_name not in table:
            self.origins[".".join(path)] = DEFAULT
            return None
        section = self._section(cls, path, table.get(field.encode_name, {}))
        if field.default is None and hasattr(cls, "tuning") and self._is_astray(cls, path):
            return None
        return section

    def _leaf(self, field: FieldInfo, path: Path, value: object) -> object:
        key = ".".join(path)
        variable = self._environment.pop(path, None)
        if variable is not None:
            from telemetryd.config.values import from_text  # noqa: PLC0415 - as the next ones

            self.origins[key] = f"environment {variable.variable}"
            value = from_text(variable.text, field.type)
        elif value is not _UNSET:
            self.origins[key] = self._sources.file
        elif field.required:
            self._missing(path, field.type)
            return _UNSET
        else:
            self.origins[key] = DEFAULT
            self._values[key] = _default(field)
            return _UNSET
        self._values[key] = value
        try:
            return msgspec.convert(value, field.type, strict=variable is None)
        except msgspec.ValidationError:
            from telemetryd.config.values import must  # noqa: PLC0415 - for errors only

            self._refuse(key, must(field.type, value, strict=variable is None))
            return _UNSET

    def _with_single_tags(self, path: Path, tags: object) -> object:
        """Return `tags` with those that have a variable each, such as TELEMETRYD_TAGS__STAGE."""
        single = [other for other in self._environment if other[:-1] == path]
        if not single:
            return tags
        given = {other[-1]: self._environment.pop(other) for other in single}
        key = ".".join(path)
        self.origins[key] = f"environment {', '.join(each.variable for each in given.values())}"
        merged = dict(tags) if isinstance(tags, dict) else {}
        merged |= {name: each.text for name, each in given.items()}
        self._values[key] = merged
        return merged

    def _apply_rules(
        self, cls: type[AnyStruct], path: Path, given: dict[str, object]
    ) -> AnyStruct | None:
        """Return the struct after its own rules, which reset the keys that they refuse."""
        prefix = "".join(f"{part}." for part in path)
        try:
            struct = cls(**given)
            sources = [getattr(struct, name, tuple) for name in ("shared_problems", "problems")]
            found = [self._rule(prefix, rule) for rules in sources for rule in rules()]
        except Exception as error:  # noqa: BLE001 - the struct may be a third party's
            self._refuse(".".join(path), f"{type(error).__name__}: {error}")
            return None
        # A key that is refused already stands at its default here: there is nothing to add.
        earlier = set(self._refused)
        for key, text in found:
            if prefix + key not in earlier:
                self._refuse((prefix + key).rstrip("."), text)
        keys = {key.partition(".")[0] for key, _ in found} - {"sinks"}  # faulty ones go singly
        fields = [field for field in msgspec.structs.fields(cls) if field.encode_name in keys]
        if any(field.required for field in fields):
            return None
        for field in fields:
            given.pop(field.name, None)
        return cls(**given) if fields else struct

    def _rule(self, prefix: str, rule: str) -> tuple[str, str]:
        """Return the key and the text of a broken rule; the key is "" for the whole section."""
        key, _, text = rule.partition(": ")
        return (key, text) if prefix + key in self.origins else ("", rule)

    def _read_sinks(self, table: object) -> dict[str, SinkConfig]:
        table_is_sound = isinstance(table, dict)
        table = self._table(("sinks",), table)
        in_environment = [path[1] for path in self._environment if path[0] == "sinks" and path[2:]]
        sinks = {}
        for name in dict.fromkeys([*table, *in_environment]):
            sink = self._sink(name, table.get(name, {}))
            if sink is not None:
                sinks[name] = sink
        # What could not be read may have named sinks: the default one would then be a stranger.
        if not self.sinks and not self._sources.problems and table_is_sound:
            sinks["default"] = default = self._default_sink()
            for key in _names(msgspec.structs.fields(default)):
                self.origins[f"sinks.default.{key}"] = DEFAULT
                self._values[f"sinks.default.{key}"] = getattr(default, key)
        return sinks

    def _default_sink(self) -> SinkConfig:
        """Return the sink that runs when none is configured.

        In Lambda it is `emf`, elsewhere `stdout` on a terminal and `null` without one.
        """
        from telemetryd.sinks.registry import sink_class  # noqa: PLC0415 - not before `next`

        kind = "emf" if self._mode == "lambda" else "stdout" if self._terminal else "null"
        return sink_class(kind).Config(type=kind)

    def _sink(self, name: str, given: object) -> SinkConfig | None:
        path = ("sinks", name)
        self.sinks[name] = SinkConfig
        table = self._table(path, given)
        if not _is_sink_name(name):
            self._refuse(".".join(path), _SINK_NAME, origin=self._origin_of_section(path))
        elif table is given and (kind := self._sink_type(path, table)):
            try:
                sink = self._section(kind, path, table)
            except Exception as error:  # noqa: BLE001 - a third party's annotations can be anything
                self._refuse(".".join(path), f"its Config can't be used: {error!r}")
            else:
                self.sinks[name] = kind
                if self._is_astray(kind, path):
                    self._astray.add(name)
                return sink
        # Without a usable type its other keys can't be judged: forget them.
        for other in [other for other in self._environment if other[:2] == path]:
            del self._environment[other]
        return None

    def _sink_type(self, path: Path, table: Mapping[str, object]) -> type[SinkConfig] | None:
        from telemetryd.sinks.registry import (  # noqa: PLC0415 - not before the first `next`
            UnknownSinkType,
            known_types,
            sink_class,
        )

        here = (*path, "type")
        key = ".".join(here)
        variable = self._environment.get(here)
        found = table.get("type", _UNSET) if variable is None else variable.text
        if found is _UNSET:
            self._missing(here, str, f"one of {', '.join(known_types())}")
            return None
        self._values[key] = found
        self.origins[key] = f"environment {variable.variable}" if variable else self._sources.file
        if not isinstance(found, str):
            self._refuse(key, f"must be text: one of {', '.join(known_types())}")
            return None
        try:
            return sink_class(found).Config
        except UnknownSinkType as error:
            from telemetryd.config.suggest import did_you_mean  # noqa: PLC0415 - for errors only

            self._refuse(key, f"{error}{did_you_mean(found, known_types())}")
        except ImportError as error:
            self._refuse(key, f"this sink can't be loaded: {error}")
        return None

    def _missing(self, path: Path, kind: object, choices: str = "") -> None:
        from telemetryd.config.explain import spell_out  # noqa: PLC0415 - for errors only

        # If the file could not be read it may have held the key, and that is reported already.
        if not self._sources.problems:
            origin = self._origin_of_section(path[:-1])
            text = f"required and not set; must be {choices or spell_out(kind)}"
            self._refuse(".".join(path), text, origin=origin)

    def _refuse(self, key: str, text: str, *, origin: str = "") -> None:
        from telemetryd.config.explain import printable, show  # noqa: PLC0415 - for errors only

        self._refused.add(key)
        self._unmasked = self._unmasked or key == "redact"
        origin = origin or self.origins.get(key) or self._origin_of_section(tuple(key.split(".")))
        value = f" = {show(key, self._values[key])}" if key in self._values else ""
        self._report(origin, f"{printable(key)}{value}: {text}" if key else text)

    def _report(self, origin: str, text: str) -> None:
        self._add(self._line(origin, text))

    def _add(self, line: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(line)
        else:
            self._unreported += 1

    @staticmethod
    def _line(origin: str, text: str) -> str:
        from telemetryd.config.explain import printable  # noqa: PLC0415 - for errors only
        from telemetryd.masking import without_secrets  # noqa: PLC0415 - as above

        return f"{printable(origin)}: {printable(without_secrets(text), limit=1000)}"

    def _origin_of_section(self, path: Path) -> str:
        """Return the origin of a section: the file if it is there, else its first variable."""
        table: object = self._sources.table
        for part in path:
            table = table.get(part) if isinstance(table, dict) else None
        if table is not None:
            return self._sources.file or DEFAULT
        for other, given in self._sources.environment.items():
            if other[: len(path)] == path:
                return f"environment {given.variable}"
        return DEFAULT


def _names(fields: Iterable[FieldInfo]) -> list[str]:
    return [field.encode_name for field in fields]


def _keys(cls: type[msgspec.Struct], path: Path) -> Iterable[str]:
    for field in msgspec.structs.fields(cls):
        here = (*path, field.encode_name)
        section = section_type(field)
        if section is not None:
            yield from _keys(section, here)
        elif here != ("sinks",):
            yield ".".join(here)


def section_type(field: FieldInfo) -> type[msgspec.Struct] | None:
    """Return the struct of a field that is a section of its own, also an optional one."""
    for kind in (field.type, *get_args(field.type)):
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return kind
    return None


def _tuning(cls: type[msgspec.Struct]) -> frozenset[str]:
    """Return the keys of a sink, or its section, whose defaults may stand in for faulty values."""
    found: frozenset[str] = getattr(cls, "tuning", frozenset())
    return found


def _default(field: FieldInfo) -> object:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _is_sink_name(name: str) -> bool:
    return (
        len(name) <= _MAX_NAME
        and name.isascii()
        and name == name.lower()
        and name[:1].isalpha()
        and all(part.isalnum() for part in name.split("_"))
    )
