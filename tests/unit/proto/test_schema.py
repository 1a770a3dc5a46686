"""JSON Schemas: the committed ones are those of the types, and well-formed in themselves."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import telemetryd
from telemetryd_proto import flat_tables, schema
from telemetryd_proto.events import RECORD_TYPES
from telemetryd_proto.flat import COLUMNS
from telemetryd_proto.records import Report

ROOT = Path(__file__).parents[3]
COMMITTED = ROOT / "proto" / "schema"
NAMES = sorted(schema.render())
TABLES = sorted(flat_tables.render())


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def event_schema() -> dict[str, Any]:
    return schema.generate()["event.schema.json"]


def test_a_schema_for_events_and_for_each_request_and_answer() -> None:
    assert NAMES == [
        "error-report.schema.json",
        "event.schema.json",
        "flat.schema.json",
        "next-event.schema.json",
        "register-request.schema.json",
        "register-response.schema.json",
        "subscription-request.schema.json",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_schema_is_current(name: str) -> None:
    committed = (COMMITTED / name).read_text(encoding="utf-8")
    assert committed == schema.render()[name], (
        f"proto/schema/{name} is not what the types say; write schema.render() there again"
    )


def test_no_schema_is_left_over() -> None:
    assert sorted(path.name for path in COMMITTED.iterdir()) == sorted([*NAMES, *TABLES])


@pytest.mark.parametrize("name", TABLES)
def test_the_committed_tables_are_current(name: str) -> None:
    assert (COMMITTED / name).read_text(encoding="utf-8") == flat_tables.render()[name], (
        "make schema"
    )


@pytest.mark.parametrize("name", TABLES)
def test_each_table_has_all_columns_in_order(name: str) -> None:
    found = re.findall(r'^  [`"](\w+)[`"] ', flat_tables.render()[name], re.MULTILINE)
    assert found == [*COLUMNS] * (len(found) // len(COLUMNS))
    assert found


def test_the_schema_of_a_row_has_the_same_columns_as_the_tables() -> None:
    document = schema.generate()["flat.schema.json"]
    assert document["required"] == [*document["properties"]] == [*COLUMNS]
    for name, kind, nullable in flat_tables.columns():
        assert document["properties"][name]["description"]
        known = json.dumps(document["properties"][name])
        assert ('"null"' in known) is nullable
        json_type = {str: '"string"', float: '"number"', int: '"integer"'}[kind]
        assert json_type in known or '"enum"' in known


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_declares_its_draft_and_refers_to_what_it_defines(name: str) -> None:
    document = json.loads(schema.render()[name])
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["$id"] == f"urn:telemetryd:{name.removesuffix('.schema.json')}"
    assert document["type"] == "object"
    targets = {f"#/$defs/{key}" for key in document.get("$defs", {})}
    assert set(references(document)) == targets


def test_text_and_documents_agree() -> None:
    documents = json.loads(json.dumps(schema.generate()))
    assert {name: json.loads(text) for name, text in schema.render().items()} == documents


def test_every_event_type_has_its_record_in_the_event_schema() -> None:
    rules = {
        rule["if"]["properties"]["type"]["const"]: rule["then"]["properties"]["record"]["$ref"]
        for rule in event_schema()["allOf"]
    }
    assert rules == {name: f"#/$defs/{record.__name__}" for name, record in RECORD_TYPES.items()}


def test_an_event_needs_a_type_and_may_be_of_an_unknown_one() -> None:
    document = event_schema()
    assert document["required"] == ["type"]
    assert document["properties"]["type"] == {"type": "string"}
    assert document["properties"]["record"] == {}


def test_members_have_their_wire_names_and_descriptions_are_one_paragraph() -> None:
    definitions = event_schema()["$defs"]
    assert "maxMemoryUsedMB" in definitions["ReportMetrics"]["properties"]
    assert definitions["Report"]["required"] == ["requestId"]
    assert definitions["Report"]["description"] == (Report.__doc__ or "").split("\n")[0]
    for definition in definitions.values():
        assert not re.search(r"\n|  ", definition["description"])


def _series(later: int) -> str:
    """The versions that go together: 0.1 is followed by 0.2."""
    major, minor, _ = telemetryd.__version__.split(".")
    return f"{major}.{int(minor) + later}"


def test_the_protocol_package_takes_its_version_from_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    proto = tomllib.loads((ROOT / "proto" / "pyproject.toml").read_text(encoding="utf-8"))
    source = proto["tool"]["hatch"]["version"]
    text = (ROOT / "proto" / source["path"]).read_text(encoding="utf-8")
    assert re.findall(source["pattern"], text) == [telemetryd.__version__]
    assert proto["project"]["requires-python"] == project["requires-python"]
    assert proto["project"]["dependencies"] == [
        need for need in project["dependencies"] if need.startswith("msgspec")
    ]
    assert f"telemetryd-proto>={_series(0)},<{_series(1)}" in project["dependencies"]


def test_the_protocol_package_ships_the_projects_licence() -> None:
    assert (ROOT / "proto" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
