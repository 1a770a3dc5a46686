"""The floors of coverage: each package has its own, and one that falls below fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import floors

FLOORS = {("daemon",): 50, ("daemon/core", "daemon/more"): 100}


def page(covered: int, of: int, branches: int = 0) -> dict[str, object]:
    return {
        "summary": {
            "covered_lines": covered, "num_statements": of,
            "covered_branches": branches, "num_branches": branches,
        }
    }  # fmt: skip


def test_a_file_counts_for_the_innermost_package() -> None:
    files = {
        "daemon/a.py": page(1, 4),
        "daemon/core/b.py": page(3, 3, 2),
        "daemon/more/d.py": page(0, 5),
        "daemon/c.py": page(2, 4),
    }
    found = floors.covered(files, FLOORS)
    assert found == {("daemon",): 37.5, ("daemon/core", "daemon/more"): 50.0}


def test_a_package_without_a_floor_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"elsewhere/a\.py"):
        floors.covered({"elsewhere/a.py": page(1, 1)}, FLOORS)


@pytest.mark.parametrize(("done", "status"), [(4, 0), (3, 1)])
def test_below_its_floor_a_package_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    done: int,
    status: int,
) -> None:
    monkeypatch.setattr(floors, "FLOORS", {("daemon",): 100})
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"files": {"daemon/a.py": page(done, 4)}}))
    assert floors.main(report) == status
    assert ("TOO LITTLE" in capsys.readouterr().out) is bool(status)


def test_every_package_of_the_source_has_a_floor() -> None:
    root = Path(__file__).parents[2]
    for path in (*root.glob("daemon/**/*.py"), *root.glob("proto/telemetryd_proto/*.py")):
        assert floors.packages_of(str(path.relative_to(root)), floors.FLOORS)
